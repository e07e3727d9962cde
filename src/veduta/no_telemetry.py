"""Switch off what other libraries would report about the use of the program.

`import veduta` does this before any other module of the package is loaded. So it holds in every
process that uses Veduta, and in the processes that these start.
"""

from __future__ import annotations

import os
import sys

__all__ = ["switch_off_telemetry"]

_VARIABLES = {
    # ONNX Runtime writes a device id and a database of events under the user's cache folder, and
    # looks up a host of its makers. It reads the variable when it is imported.
    "ORT_DISABLE_TELEMETRY": "1",
    # The client of the model hub adds the versions of the installed libraries to its requests.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The head of a Ray cluster reports each hour, and once that it does not report.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
}


def switch_off_telemetry() -> None:
    """Set the variables of the environment and the modules that keep other libraries silent.

    A value that the user has set is replaced: Veduta promises that nothing is sent.
    """
    os.environ.update(_VARIABLES)
    # OpenVINO reports its import to its makers, in a forked process. It works without that module.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
