"""Descriptors of regions of a photo, from the same pass of the network as that of the whole photo.

A thing that fills a small part of a photo hardly counts in a descriptor of the whole photo. So the
feature map of the network is pooled over each of a few overlapping regions too, in the way in which
it is pooled over the whole photo (regions as in Tolias, Sicre & Jégou, "Particular Object Retrieval
with Integral Max-Pooling of CNN Activations", ICLR 2016).

A network describes a thing at two sizes in two ways, and in a region a thing is seen smaller than
on a query that it fills. So a query that is compared with regions is described at smaller sizes.
This is where most of the accuracy comes from (docs/regions.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from veduta.encoders.embedded import CENTRED, FEATURES, centre_of
from veduta.encoders.pooling import unit
from veduta.encoders.position_shares import embedded_model
from veduta.encoders.region_codes import code_bytes
from veduta.errors import EncoderError
from veduta.photos import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders.embedded import EmbeddedModel
    from veduta.encoders.encoder import Encoder
    from veduta.encoders.onnx_encoder import OnnxEncoder

__all__ = ["REGIONS", "RegionEncoder", "region_box"]

_SIDE = 0.4
"""Length of a region, as a share of the photo's."""

_STARTS = (0.0, 0.3, 0.6)
"""Where regions begin, as shares of the photo's length. Neighbours share a quarter of the area."""

REGIONS = tuple((left, top, _SIDE, _SIDE) for top in _STARTS for left in _STARTS)
"""The regions, row by row: left, top, width, height, as shares of the photo's width and height."""

_QUERY_SHARES = (2 / 3, 1 / 2, 1 / 3)
"""The sizes at which a query is described, as shares of the size of the encoder."""

_VERSION = 1
"""Raised with everything that changes the codes of regions: the regions, the pooling, the code."""


class RegionEncoder:
    """Describes the regions of photos, and queries that are compared with regions.

    Any number of threads may use one at once.

    Attributes:
        facts: what the manifest of an index says of the regions: the version of their codes, their
            number, and the bytes of a code.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder of the whole photos.

        Args:
            encoder: a model of the package, at one size.

        Raises:
            EncoderError: it is another one.
        """
        # A service wraps the encoder. So what it has counts, not its type.
        network = cast("OnnxEncoder", encoder)
        model = embedded_model(network) if hasattr(encoder, "spec") else None
        if model is None or len(network.spec.sizes) != 1:
            raise EncoderError(
                f"encoder {encoder.name!r} has no descriptors of regions. A model of the package "
                "at one size has them, such as 'accurate'."
            )
        self._encoder = network
        self._model: EmbeddedModel = model
        self._centres = [centre_of(network) for network in model.networks]
        size = code_bytes(encoder.dimension)
        self.facts = {"version": _VERSION, "count": len(REGIONS), "bytes": size}

    def describe(
        self, prepared: tuple[NDArray[np.uint8], ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the descriptor of a photo, and those of its regions, from one pass.

        Args:
            prepared: a result of `prepare` of the encoder.

        Returns:
            The descriptor (D,) float32, as `encode` gives it, and those of `REGIONS`, (r, D)
            float32. All have length one.

        Raises:
            EncoderError: the network fails, or returns infinite or undefined numbers.
        """
        (photo,) = prepared
        centred, features = self._encoder.outputs_of(photo, CENTRED, FEATURES)
        return unit(unit(centred[None]))[0], self._pooled(features)

    def describe_query(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the descriptor of a query that is compared with regions.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright.

        Returns:
            (D,) float32 of length one, in the direction of the mean over the sizes.

        Raises:
            EncoderError: the array is no photo, or the network fails.
        """
        (photo,) = self._encoder.prepare(pixels)
        stride = self._encoder.spec.stride
        rows: list[NDArray[np.float32]] = []
        for share in _QUERY_SHARES:
            height, width = (max(1, round(n * share / stride)) * stride for n in photo.shape[:2])
            rows += self._encoder.outputs_of(resize(pixels, width, height), CENTRED)
        total = unit(np.stack(rows)).sum(axis=0, keepdims=True)
        descriptor: NDArray[np.float32] = unit(total)[0]
        return descriptor

    def _pooled(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pool a feature map (C, h, w) over each region, as tools/export_models.py defines it."""
        pooling = self._model.pooling
        height, width = features.shape[1:]
        shares = np.stack(
            [
                np.outer(
                    _covered(height, top, top + region_height),
                    _covered(width, left, left + region_width),
                ).ravel()
                for left, top, region_width, region_height in REGIONS
            ]
        )
        shares /= shares.sum(axis=1, keepdims=True)
        powers = np.maximum(features, np.float32(pooling.eps)) ** np.float32(pooling.p)
        peaks = (shares.astype(np.float32) @ powers.reshape(len(powers), -1).T) ** np.float32(
            1 / self._model.root
        )
        ends = np.cumsum([len(centre) for centre in self._centres])
        parts = np.split(peaks, ends[:-1], axis=1)
        return unit(
            np.concatenate(
                [
                    unit(unit(part) - centre)
                    for part, centre in zip(parts, self._centres, strict=True)
                ],
                axis=1,
            )
        )


def region_box(region: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Return where a region is in a photo: x, y, width, height in pixels.

    Args:
        region: its number in `REGIONS`.
        width: of the photo, in pixels.
        height: of the photo, in pixels.
    """
    left, top, region_width, region_height = REGIONS[region]
    x, y = round(left * width), round(top * height)
    right = max(x + 1, round((left + region_width) * width))
    bottom = max(y + 1, round((top + region_height) * height))
    return x, y, right - x, bottom - y


def _covered(cells: int, start: float, end: float) -> NDArray[np.float64]:
    """Return the share (cells,) of each of some equal intervals of [0, 1] from start to end."""
    edges = np.arange(cells + 1) / cells
    common = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return np.asarray(np.maximum(common, 0) * cells, np.float64)
