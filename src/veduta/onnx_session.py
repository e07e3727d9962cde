"""Open an ONNX model with ONNX Runtime: the one module that imports it.

`veduta.no_telemetry` has switched off its telemetry before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["errors_of_onnxruntime", "open_session", "run_options"]


def open_session(model: bytes | Path, *, threads: int) -> Any:
    """Return an `onnxruntime.InferenceSession` on the processor.

    Args:
        model: the content of an ONNX file, or its path. A path also finds weights in other files.
        threads: processor threads for one run, >= 1.

    Raises:
        Exception: one of `errors_of_onnxruntime`, if it is no model that ONNX Runtime can run.
    """
    import onnxruntime

    # A program that imported ONNX Runtime before Veduta has its telemetry on.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool would occupy the cores that decode the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else os.fspath(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_options() -> Any:
    """Return an `onnxruntime.RunOptions`. If its `terminate` is set, runs with it end soon."""
    import onnxruntime

    return onnxruntime.RunOptions()


def errors_of_onnxruntime() -> tuple[type[Exception], ...]:
    """Return the classes of the errors that opening and running a model raise."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return (*(getattr(state, name) for name in names), RuntimeError, ValueError)
