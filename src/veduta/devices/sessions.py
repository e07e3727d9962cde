"""Open an ONNX model with ONNX Runtime: the one module that imports it.

`veduta.no_telemetry` has switched off its telemetry before.

ONNX Runtime takes the processor if a provider does not start, and says so in its log only. Veduta
looks at the providers of each session, and refuses.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from pathlib import Path
from typing import Any

from veduta.devices.names import DEVICES, PROCESSOR, Device
from veduta.devices.shared_runs import SharedRuns
from veduta.errors import DeviceError

__all__ = [
    "available_devices",
    "errors_of_onnxruntime",
    "nodes_on_device",
    "open_session",
    "require_provider",
    "run_options",
    "shared_photos",
]

_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"

_loading_libraries = threading.Lock()


def open_session(model: bytes | Path, *, threads: int, device: Device = PROCESSOR) -> Any:
    """Return an `onnxruntime.InferenceSession` on the processor, or `SharedRuns` of one elsewhere.

    Args:
        model: the content of an ONNX file, or its path. A path also finds weights in other files.
        threads: processor threads for one run, >= 1.
        device: that runs the network.

    Raises:
        DeviceError: ONNX Runtime has no provider for the device, or does not start it.
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
    if device.is_processor:
        return onnxruntime.InferenceSession(content, options, providers=[PROCESSOR.provider])
    require_provider(device)
    options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    options.enable_mem_pattern = device.keeps_memory_patterns
    if device.name == "cuda":
        _load_cuda_libraries()
    try:
        session = onnxruntime.InferenceSession(
            content,
            options,
            providers=[(device.provider, dict(device.options)), PROCESSOR.provider],
            # Else an error of the device, now or in a later run, moves the session elsewhere.
            enable_fallback=0,
        )
    except errors_of_onnxruntime() as error:
        if _opens_on_the_processor(content, options):
            raise _does_not_start(device, str(error)) from error
        raise
    if device.provider not in session.get_providers():
        raise _does_not_start(device, "it took the processor instead")
    nodes = nodes_on_device(session, device)
    if nodes is not None and nodes[0] == 0:
        raise DeviceError(
            f"The device {device.name} runs no part of this model. {_the_processor_works()}"
        )
    return SharedRuns(session, device.most_photos)


def require_provider(device: Device) -> None:
    """Refuse a device for which the installed ONNX Runtime has no provider.

    Args:
        device: the device.

    Raises:
        DeviceError: there is none. The message names the package that has it.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device.provider in available:
        return
    if device.package == PROCESSOR.package:
        remedy = f"It comes with {device.package} on {device.libraries}."
    else:
        remedy = (
            "Uninstall its package (onnxruntime, or another that begins so), then: "
            f"pip install {device.package}."
        )
    raise DeviceError(
        f"The installed ONNX Runtime {onnxruntime.__version__} has no {device.provider}, which the "
        f"device {device.name} needs. {remedy} {_the_processor_works()}"
    )


def available_devices() -> list[str]:
    """Return the names of the devices for which the installed ONNX Runtime has a provider.

    Whether such a device is on this machine shows only when a model is opened on it.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return [device.name for device in DEVICES.values() if device.provider in available]


def nodes_on_device(session: Any, device: Device) -> tuple[int, int] | None:
    """Return how many nodes of a model a device runs, and how many there are.

    Args:
        session: on the device.
        device: the device.

    Returns:
        Both numbers; None if this version of ONNX Runtime does not tell, as before 1.24.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    parts = session.get_provider_graph_assignment_info()
    counts = [(part.ep_name, len(part.get_nodes())) for part in parts]
    total = sum(number for _, number in counts)
    if not total:
        return None
    return sum(number for name, number in counts if name == device.provider), total


def shared_photos(session: Any) -> int:
    """Return how many photos of several threads share a run of a session; 1 if none do.

    Args:
        session: from `open_session`.
    """
    return getattr(session, "most_photos", 1)


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


def _opens_on_the_processor(content: bytes | str, options: Any) -> bool:
    """Return whether the device is at fault for a model that did not open, and not the model."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(content, options, providers=[PROCESSOR.provider])
    except errors_of_onnxruntime():
        return False
    return True


def _load_cuda_libraries() -> None:
    """Load CUDA and cuDNN from the packages of NVIDIA, if they are installed."""
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)  # Since 1.21.
    if preload is None:
        return
    # It prints what it does not find. The libraries may be elsewhere, and standard output is for
    # results.
    with _loading_libraries, contextlib.redirect_stdout(io.StringIO()):
        preload()


def _does_not_start(device: Device, reason: str) -> DeviceError:
    first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "")
    return DeviceError(
        f"ONNX Runtime does not start {device.provider} for the device {device.name} "
        f"({first_line.rstrip('.')}). It needs {device.libraries}. {_the_processor_works()}"
    )


def _the_processor_works() -> str:
    return "--device cpu works on every machine."
