"""Refuse a device on which a network finds other keypoints than on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.devices.comparison import (
    MIN_COSINE,
    MIN_COSINE_IN_BYTES,
    MIN_NEAR_SHARE,
    MIN_NEAR_SHARE_IN_BYTES,
    near_share,
    once_a_process,
    require_alike,
)
from veduta.devices.pictures import probe_pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from veduta.devices import Device
    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.loading import Extractor

__all__ = ["require_same_keypoints"]


def require_same_keypoints(
    extractor: Extractor,
    open_reference: Callable[[], Extractor],
    device: Device,
    *,
    in_bytes: bool,
) -> None:
    """Compare keypoints of generated pictures, once in a process for a network on a device.

    Args:
        extractor: on the device.
        open_reference: returns the same extractor on the processor.
        device: the device.
        in_bytes: whether the network computes in eight bits.

    Raises:
        DeviceError: the device fails, or the keypoints differ too much.
    """

    def compare() -> None:
        reference = open_reference()
        shares, cosines = [], []
        for picture in probe_pictures():
            height, width = picture.shape[:2]
            found = extractor.extract(picture, width, height)
            wanted = reference.extract(picture, width, height)
            shares.append(near_share(found.xy, wanted.xy))
            cosines.append(_cosine_at_equal_places(found, wanted))
        limit = MIN_NEAR_SHARE_IN_BYTES if in_bytes else MIN_NEAR_SHARE
        near = "the share of keypoints within one pixel is"
        require_alike(device, "keypoints", near, min(shares), limit)
        limit = MIN_COSINE_IN_BYTES if in_bytes else MIN_COSINE
        alike = "the mean cosine of descriptors at equal places is"
        require_alike(device, "keypoints", alike, min(cosines), limit)

    once_a_process(device, f"keypoints {extractor.identity}", compare)


def _cosine_at_equal_places(a: Keypoints, b: Keypoints) -> float:
    """Return the mean cosine of the descriptors of keypoints that both have; NaN without any."""
    place_of = {tuple(xy): row for row, xy in enumerate(b.xy.tolist())}
    pairs = [
        (row, place_of[place])
        for row, place in enumerate(map(tuple, a.xy.tolist()))
        if place in place_of
    ]
    if not pairs:
        return float("nan")
    rows, others = np.array(pairs).T
    left, right = (
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
        for each in (a.descriptors[rows], b.descriptors[others])
    )
    return float(np.einsum("nd,nd->n", left, right).mean())
