"""Where networks run: the processor, or a device that ONNX Runtime drives.

`device_named` chooses one. `open_session` opens a model on it, and is the one way to do so.
`veduta.devices.comparison` holds what a device computes against what the processor computes.
"""

from veduta.devices.names import (
    DEVICES,
    PROCESSOR,
    VARIABLE,
    Device,
    device_named,
    device_of_process,
)
from veduta.devices.sessions import available_devices, open_session, require_provider

__all__ = [
    "DEVICES",
    "PROCESSOR",
    "VARIABLE",
    "Device",
    "available_devices",
    "device_named",
    "device_of_process",
    "open_session",
    "require_provider",
]
