"""Refuse a device that gives other descriptors than the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.devices.comparison import (
    MIN_COSINE,
    MIN_COSINE_IN_BYTES,
    least_cosine,
    once_a_process,
    require_alike,
)
from veduta.devices.pictures import probe_pictures

if TYPE_CHECKING:
    from veduta.devices import Device
    from veduta.encoders.encoder import Encoder

__all__ = ["require_same_descriptors"]


def require_same_descriptors(
    encoder: Encoder, reference: Encoder, device: Device, precision: str
) -> None:
    """Compare descriptors of generated pictures, once in a process for an encoder on a device.

    Args:
        encoder: on the device. It encodes all pictures in one call, so that some share a batch.
        reference: the same encoder on the processor. It encodes one after the other.
        device: the device.
        precision: of the arithmetic, see `veduta.encoders.runtime.Model`.

    Raises:
        DeviceError: the device fails, or the descriptors differ too much.
    """

    def compare() -> None:
        pictures = [reference.prepare(picture) for picture in probe_pictures()]
        wanted = np.concatenate([reference.encode([picture]) for picture in pictures])
        cosine = least_cosine(encoder.encode(pictures), wanted)
        limit = MIN_COSINE_IN_BYTES if precision == "int8" else MIN_COSINE
        require_alike(device, "descriptors", "the smallest cosine is", cosine, limit)

    once_a_process(device, f"encoder {reference.identity}", compare)
