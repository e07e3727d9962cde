"""XFeat keypoints: a small network that finds and describes them in one pass.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. The network
is part of the package, in eight bits and in 32. `tools/export_xfeat_eight_bits.py` and
`tools/export_xfeat.py` export it and describe its outputs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from veduta.devices import PROCESSOR, device_named, open_session
from veduta.devices.sessions import errors_of_onnxruntime, shared_photos
from veduta.errors import EncoderError, EncoderUnavailable, readable
from veduta.keypoints.codebook import codebook_digest
from veduta.keypoints.device_probe import require_same_keypoints
from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.matching import Matching, MutualMatching
from veduta.keypoints.working_size import to_full_size
from veduta.photos import resize
from veduta.validation import InvalidValue, read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LONG_SIDE", "MIN_SIMILARITY", "XFeat", "XFeatIn16Bytes", "XFeatIn32Bits"]

_FOLDER = Path(__file__).parent / "models"

LONG_SIDE = 640
MIN_SIMILARITY = 0.82
"""The smallest cosine similarity of two matching keypoints, by the authors."""

_MAX_ENLARGEMENT = 4.0
"""Small photos are not enlarged further, because there is nothing more to see."""

_STRIDE = 32
_CELL = 8
_CHANNELS = 64
_MIN_HEAT = 0.05
"""The threshold of the heatmap that the authors published."""

_MIN_LENGTH = 1e-12
"""A feature shorter than this is not scaled to length one."""

_CUBIC_SHARPNESS = -0.75
"""The parameter of Keys' cubic convolution that PyTorch uses."""


@dataclass(frozen=True, slots=True)
class _Model:
    sha256: str


@dataclass(frozen=True, slots=True)
class _Manifest:
    models: dict[str, _Model]


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """What the network says of a photo, for cells of 8 × 8 pixels and for pixels.

    Attributes:
        features: (h, w, 64).
        reliability: (h, w), 0..1: the probability that a descriptor of this cell is matched
            correctly.
        heat: (H, W), 0..1: the probability that a pixel is a keypoint.
        positions: (n,) of the pixels with at least `_MIN_HEAT` that are the highest around them.
    """

    features: NDArray[np.float32]
    reliability: NDArray[np.float32]
    heat: NDArray[np.float32]
    positions: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class XFeat:
    """The network and its settings. Descriptors are 64 × int8."""

    name: ClassVar[str] = "xfeat"
    long_side: ClassVar[int] = LONG_SIDE
    matching: ClassVar[Matching] = MutualMatching(MIN_SIMILARITY)
    calibration: ClassVar[str | None] = "xfeat"
    default_count: ClassVar[int] = 1024
    stored_bits: ClassVar[int] = 4
    form: ClassVar[str] = ""
    model: ClassVar[str] = "xfeat-int8"
    version: ClassVar[int] = 2

    identity: str
    count: int
    _session: Any = field(repr=False)

    @classmethod
    def load(cls, count: int, threads: int, device: str | None = None) -> Self:
        """Open the network.

        Args:
            count: the largest number of keypoints of a photo.
            threads: processor threads for one call of `extract`.
            device: where the network runs, as for `veduta.load_encoder`.

        Raises:
            DeviceError: the device is not usable here, or gives other keypoints than the processor.
            QueryError: no device has that name.
            EncoderUnavailable: the package came without the model, or the model is damaged.
        """
        path = _FOLDER / f"{cls.model}.onnx"
        try:
            sha256 = read_json(_FOLDER / "manifest.json", _Manifest).models[cls.model].sha256
            model = path.read_bytes()
        except (OSError, InvalidValue, KeyError) as error:
            raise EncoderUnavailable(
                f"{readable(path)}: the model of the keypoints 'xfeat' cannot be read ({error}); "
                "install veduta again"
            ) from error
        if hashlib.sha256(model).hexdigest() != sha256:
            raise EncoderUnavailable(
                f"{readable(path)}: the file is not the one that belongs here; install veduta again"
            )
        where = device_named(device)
        session = open_session(model, threads=threads, device=where)
        settings = {
            "version": cls.version,
            "count": count,
            "long_side": LONG_SIDE,
            "largest_factor": _MAX_ENLARGEMENT,
            "threshold": _MIN_HEAT,
            "weights": sha256,
            **cls.further_settings(),
        }
        extractor = cls(identity("xfeat", **settings), count, session)
        if not where.is_processor:
            require_same_keypoints(
                replace(extractor, count=cls.default_count),
                lambda: cls.load(cls.default_count, threads, PROCESSOR.name),
                where,
                in_bytes=cls.model.endswith("int8"),
            )
        return extractor

    @property
    def shared_photos(self) -> int:
        """How many photos of several threads share a run of the network; 1: none do."""
        return shared_photos(self._session)

    @classmethod
    def further_settings(cls) -> dict[str, str]:
        """Return what else tells the keypoints from those of other settings."""
        return {}

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, most reliable first.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright. It may have been decoded at a reduced size.
            width: of the upright photo at its full size, in pixels.
            height: of the upright photo at its full size, in pixels.

        Raises:
            EncoderError: the network fails.
        """
        maps = self._maps(pixels, *network_size(width, height))
        rows, columns = maps.heat.shape
        positions = maps.positions
        y, x = np.divmod(positions, columns)
        # The authors' sampling gives the last row and the last column the score zero.
        usable = (x < columns - 1) & (y < rows - 1)
        positions, x, y = positions[usable], x[usable], y[usable]
        # Features and reliability belong to the middle of a cell. The authors map pixels to cells
        # in the same way.
        u = x * (columns / _CELL / (columns - 1)) - 0.5
        v = y * (rows / _CELL / (rows - 1)) - 0.5
        scores = maps.heat.reshape(-1)[positions] * _bilinear(maps.reliability, u, v)
        best = np.argsort(-scores, kind="stable")[: self.count]
        descriptors = quantised(_bicubic(maps.features, u[best], v[best]))
        xy = to_full_size(np.stack([x[best], y[best]], axis=1), maps.heat.shape, width, height)
        return Keypoints(xy, descriptors, width, height)

    def _maps(self, pixels: NDArray[np.uint8], width: int, height: int) -> _Maps:
        """Run the network on a photo (H, W, 3), resized to width and height in pixels."""
        photo = resize(_grey(pixels), width, height)
        features, reliability, (heat,), (highest,) = self._run(
            photo, "features", "reliability", "pixels", "highest"
        )
        peaks = np.flatnonzero((heat > _MIN_HEAT) & (heat == highest))
        return _Maps(features, reliability, heat, peaks)

    def _run(self, photo: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float32]]:
        """Return outputs of the network for a photo; raises EncoderError if it fails."""
        try:
            results = self._session.run(list(outputs), {"photos": photo[None]})
        except errors_of_onnxruntime() as error:
            raise EncoderError(
                f"the network of the keypoints {self.name!r} fails on a photo of shape "
                f"{photo.shape} ({' '.join(str(error).split())})"
            ) from error
        return [result[0] for result in results]


class XFeatIn32Bits(XFeat):
    """The network in 32 bits, for indexes that were made with it."""

    default_count: ClassVar[int] = 512
    stored_bits: ClassVar[int] = 8
    model: ClassVar[str] = "xfeat"
    version: ClassVar[int] = 1

    def _maps(self, pixels: NDArray[np.uint8], width: int, height: int) -> _Maps:
        photo = np.ascontiguousarray(resize(pixels, width, height))
        features, reliability, heat = self._run(photo, "features", "reliability", "heatmap")
        return _Maps(features, reliability, heat, np.flatnonzero(heat > _MIN_HEAT))


class XFeatIn16Bytes(XFeat):
    """The same keypoints. An index stores their descriptors in 16 bytes instead of 32.

    The descriptors of a query are as exact as ever.
    """

    form: ClassVar[str] = "16bytes"
    stored_bits: ClassVar[int] = 2

    @classmethod
    def further_settings(cls) -> dict[str, str]:
        """Return the digest of the codebook."""
        return {"codebook": codebook_digest()}


def network_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height, multiples of 32, to which a photo is resized for the network.

    Args:
        width: of the photo, in pixels.
        height: of the photo, in pixels.
    """
    factor = min(LONG_SIDE / max(width, height), _MAX_ENLARGEMENT)
    wide, high = (max(1, round(side * factor / _STRIDE)) * _STRIDE for side in (width, height))
    return wide, high


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean (H, W) of the colours of a photo (H, W, 3), rounded."""
    total = np.add(pixels[..., 0], pixels[..., 1], dtype=np.uint16)
    total += pixels[..., 2]
    total += 1
    total //= 3
    return total.astype(np.uint8)


def _bilinear(
    grid: NDArray[np.float32], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample `grid` (h, w) at columns u and rows v (n,). Outside the grid is zero."""
    h, w = grid.shape
    padded = np.zeros((h + 2, w + 2), np.float32)
    padded[1:-1, 1:-1] = grid
    left, top = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    right_share, low_share = u - left, v - top
    upper = padded[top + 1, left + 1] * (1 - right_share) + padded[top + 1, left + 2] * right_share
    lower = padded[top + 2, left + 1] * (1 - right_share) + padded[top + 2, left + 2] * right_share
    sampled: NDArray[np.float32] = (upper * (1 - low_share) + lower * low_share).astype(np.float32)
    return sampled


def _bicubic(
    features: NDArray[np.float32], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample features (h, w, 64), each scaled to length one, at columns u and rows v (n,).

    Returns (n, 64), of any length. Outside the grid the features are zero.
    """
    h, w = features.shape[:2]
    columns, column_shares = _cubic_taps(u, w)
    rows, row_shares = _cubic_taps(v, h)
    cells = features.reshape(h * w, _CHANNELS)
    lengths = np.sqrt(np.einsum("nc,nc->n", cells, cells))
    taps = (rows[:, :, None] * w + columns[:, None, :]).reshape(len(u), 16)
    shares = (row_shares[:, :, None] * column_shares[:, None, :]).reshape(len(u), 16)
    shares = shares / np.maximum(lengths[taps], _MIN_LENGTH)
    sampled: NDArray[np.float32] = np.einsum("nt,ntc->nc", shares.astype(np.float32), cells[taps])
    return sampled


def _cubic_taps(
    centres: NDArray[np.float64], size: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the four positions (n, 4) around each centre (n,) and their shares, zero outside."""
    first = np.floor(centres).astype(np.intp) - 1
    positions = first[:, None] + np.arange(4)
    distance = np.abs(centres[:, None] - positions)
    a = _CUBIC_SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    shares = np.where(distance <= 1, near, far)
    outside = (positions < 0) | (positions >= size)
    return np.clip(positions, 0, size - 1), np.where(outside, 0, shares)
