"""Whether a device computes what the processor computes.

An index does not say on which device its descriptors were made, and photos of several devices are
compared with each other. So a device whose results differ too much is refused. The limits are
between what devices that work differ by and what a fault changes; docs/devices.md has the
measurements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from veduta.devices.names import PROCESSOR, Device
from veduta.errors import DeviceError, EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MIN_COSINE",
    "MIN_COSINE_IN_BYTES",
    "MIN_NEAR_SHARE",
    "MIN_NEAR_SHARE_IN_BYTES",
    "least_cosine",
    "near_share",
    "once_a_process",
    "require_alike",
]

MIN_COSINE = 0.999
"""Of descriptors by a network in 32 or 16 bits."""

MIN_COSINE_IN_BYTES = 0.998
"""Of descriptors by a network in eight bits. Devices round its sums in different places."""

MIN_NEAR_SHARE = 0.98
"""Of the keypoints of a picture: those that have one of the other device within one pixel."""

MIN_NEAR_SHARE_IN_BYTES = 0.9
"""The same for a network in eight bits."""

_NEAR_PIXELS = 1.0

_compared: set[tuple[str, str]] = set()
_comparing = threading.Lock()


def once_a_process(device: Device, identity: str, compare: Callable[[], None]) -> None:
    """Compare a device with the processor, unless this process has done so.

    Args:
        device: the device.
        identity: of what it computes.
        compare: called once; it raises if the device is refused, and then is called again.

    Raises:
        DeviceError: the device fails, or computes something else.
    """
    if device.is_processor:
        return
    with _comparing:
        if (device.name, identity) in _compared:
            return
        try:
            compare()
        except DeviceError:
            raise
        except EncoderError as error:
            raise DeviceError(
                f"The device {device.name} fails on a generated picture: {error}. {_remedy(device)}"
            ) from error
        _compared.add((device.name, identity))


def least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the smallest cosine of two rows that belong together.

    Args:
        a: (n, d) float32, rows of length one.
        b: likewise.
    """
    return float(np.einsum("nd,nd->n", a, b, dtype=np.float64).min())


def near_share(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the share of points that have one of the other list within one pixel, 0..1.

    Args:
        a: (n, 2) float32, x and y in pixels.
        b: (m, 2) likewise.

    Returns:
        The smaller of the shares of both lists; 1 if both are empty.
    """
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    distances = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    shares = [(distances.min(axis=axis) <= _NEAR_PIXELS).mean() for axis in (0, 1)]
    return float(min(shares))


def require_alike(device: Device, what: str, measure: str, value: float, limit: float) -> None:
    """Refuse a device whose results differ too much from those of the processor.

    Args:
        device: the device.
        what: the results, in a few words.
        measure: what was measured, in a few words.
        value: what was found.
        limit: the smallest value that is accepted.

    Raises:
        DeviceError: the value is below the limit, or undefined.
    """
    if not value >= limit:
        raise DeviceError(
            f"The device {device.name} gives other {what} than the processor for a generated "
            f"picture: {measure} {value:.4f}, and {limit:g} is required. {_remedy(device)}"
        )


def _remedy(device: Device) -> str:
    return (
        f"Use --device {PROCESSOR.name}, or another version of {device.package} or of the driver."
    )
