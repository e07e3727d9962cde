"""The devices by name, and which one the user has chosen.

The environment variable is the one place of the choice for a process. So everything that opens a
model takes the same device, also in the processes that this one starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from veduta.errors import QueryError

__all__ = ["DEVICES", "PROCESSOR", "VARIABLE", "Device", "device_named", "device_of_process"]

VARIABLE = "VEDUTA_DEVICE"
"""The environment variable that names the device of a process."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that runs networks, by an execution provider of ONNX Runtime.

    Attributes:
        name: what the user asks for.
        provider: the execution provider, as ONNX Runtime calls it.
        package: the package with this provider.
        libraries: what must be on the machine besides the package.
        options: of the provider.
        keeps_memory_patterns: whether the provider works with ONNX Runtime's plans of memory.
        most_photos: of one run that several threads share; 1: each call runs by itself.
    """

    name: str
    provider: str
    package: str = "onnxruntime"
    libraries: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    keeps_memory_patterns: bool = True
    most_photos: int = 16

    @property
    def is_processor(self) -> bool:
        """Whether networks run on the processor, without any other provider."""
        return self.name == PROCESSOR.name


PROCESSOR = Device("cpu", "CPUExecutionProvider", most_photos=1)

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        PROCESSOR,
        Device(
            "cuda",
            "CUDAExecutionProvider",
            "onnxruntime-gpu",
            "a driver of NVIDIA, and CUDA and cuDNN of the versions that onnxruntime-gpu names: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'",
            {
                # An exhaustive search of algorithms would begin again with each shape of a batch.
                "cudnn_conv_algo_search": "HEURISTIC",
                # TF32 has 10 bits for a fraction, and descriptors must be those of the processor.
                "use_tf32": "0",
            },
        ),
        Device(
            "coreml",
            "CoreMLExecutionProvider",
            "onnxruntime",
            "macOS 12 or newer",
            {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"},
        ),
        Device(
            "directml",
            "DmlExecutionProvider",
            "onnxruntime-directml",
            "Windows with DirectX 12",
            keeps_memory_patterns=False,
        ),
        Device(
            "openvino",
            "OpenVINOExecutionProvider",
            "onnxruntime-openvino",
            "a processor of Intel, or another device that the package was built for",
            # It runs on the processor: larger batches are not faster, and take more memory.
            most_photos=2,
        ),
    )
}
"""The devices by name."""


def device_named(name: str | None = None) -> Device:
    """Return a device by its name.

    Args:
        name: one of `DEVICES`; None: `$VEDUTA_DEVICE`, or the processor.

    Raises:
        QueryError: no device has that name.
    """
    where = ""
    if name is None:
        name = os.environ.get(VARIABLE) or PROCESSOR.name
        where = f" ({VARIABLE} names it)"
    if name not in DEVICES:
        known = ", ".join(DEVICES)
        raise QueryError(f"no device is called {name[:40]!r}{where}; known are {known}")
    return DEVICES[name]


@contextmanager
def device_of_process(name: str) -> Iterator[None]:
    """Let this process, and those that it starts, take a device unless a call names another one.

    Args:
        name: one of `DEVICES`.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
