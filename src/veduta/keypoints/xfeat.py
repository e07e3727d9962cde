"""XFeat keypoints: a small network that finds and describes them in one pass.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. The network
is in the package; `tools/export_xfeat.py` tells where it comes from and what it gives.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.errors import EncoderUnavailable, readable
from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.resizing import full_size
from veduta.photos import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["XFeat", "load_xfeat"]

FOLDER = Path(__file__).parent / "models"
LONG_SIDE = 640
LARGEST_FACTOR = 4.0  # small photos are not blown up further: there is nothing to see there
STRIDE = 32
CELL = 8
CHANNELS = 64
THRESHOLD = 0.05  # as published
SHORTEST = 1e-12  # length below which a feature is not brought to length one


@dataclass(frozen=True, slots=True, eq=False)
class XFeat:
    """The network and its settings. Descriptors: 64 × int8."""

    identity: str
    count: int
    _session: Any = field(repr=False)
    name: str = "xfeat"
    long_side: int = LONG_SIDE

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return at most `count` keypoints, most reliable first.

        Args:
            pixels: (H, W, 3) RGB, upright, maybe scaled down at decode.
            width, height: of the upright photo at its full size, in pixels.
        """
        photo = np.ascontiguousarray(resize(pixels, *network_size(width, height)))
        outputs = self._session.run(["features", "heatmap", "reliability"], {"photos": photo[None]})
        features, heatmap, reliability = (output[0] for output in outputs)
        rows, columns = heatmap.shape
        found = np.flatnonzero(heatmap > THRESHOLD)
        y, x = np.divmod(found, columns)
        # The authors' sampling gives the last row and the last column the score zero.
        usable = (x < columns - 1) & (y < rows - 1)
        found, x, y = found[usable], x[usable], y[usable]
        # Features and reliability belong to the middle of a cell; this is the authors' map.
        u = x * (columns / CELL / (columns - 1)) - 0.5
        v = y * (rows / CELL / (rows - 1)) - 0.5
        scores = heatmap.reshape(-1)[found] * _bilinear(reliability, u, v)
        best = np.argsort(-scores, kind="stable")[: self.count]
        descriptors = quantised(_bicubic(features, u[best], v[best]))
        xy = full_size(np.stack([x[best], y[best]], axis=1), photo.shape, width, height)
        return Keypoints(xy, descriptors, width, height)


def load_xfeat(count: int, threads: int) -> XFeat:
    """Open the network; `threads` is what one call of `extract` uses.

    Raises:
        EncoderUnavailable: the package came without the model, or it is damaged.
    """
    import onnxruntime

    path = FOLDER / "xfeat.onnx"
    try:
        manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
        wanted = manifest["models"]["xfeat"]["sha256"]
        model = path.read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise EncoderUnavailable(
            f"{readable(path)}: the model of the keypoints 'xfeat' does not read ({error}); "
            "install veduta again"
        ) from error
    if hashlib.sha256(model).hexdigest() != wanted:
        raise EncoderUnavailable(
            f"{readable(path)}: the file is not the one that belongs here; install veduta again"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the cores that decode the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    settings = {
        "version": 1,
        "count": count,
        "long_side": LONG_SIDE,
        "largest_factor": LARGEST_FACTOR,
        "threshold": THRESHOLD,
        "weights": wanted,
    }
    return XFeat(identity("xfeat", **settings), count, session)


def network_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height, multiples of 32, at which the network sees a photo."""
    factor = min(LONG_SIDE / max(width, height), LARGEST_FACTOR)
    wide, high = (max(1, round(side * factor / STRIDE)) * STRIDE for side in (width, height))
    return wide, high


def _bilinear(
    grid: NDArray[np.float32], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample `grid` (h, w) at columns u and rows v (n,); beyond its border it is zero."""
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
    """Sample the features (h, w, 64), each at length one, at columns u and rows v (n,).

    Returns (n, 64), of any length. Beyond the border the features are zero.
    """
    h, w = features.shape[:2]
    columns, column_shares = _taps(u, w)
    rows, row_shares = _taps(v, h)
    cells = features.reshape(h * w, CHANNELS)
    lengths = np.sqrt(np.einsum("nc,nc->n", cells, cells))
    taken = (rows[:, :, None] * w + columns[:, None, :]).reshape(len(u), 16)
    shares = (row_shares[:, :, None] * column_shares[:, None, :]).reshape(len(u), 16)
    shares = shares / np.maximum(lengths[taken], SHORTEST)
    sampled: NDArray[np.float32] = np.einsum("nt,ntc->nc", shares.astype(np.float32), cells[taken])
    return sampled


def _taps(at: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the four positions (n, 4) around each `at` and their shares, zero outside."""
    first = np.floor(at).astype(np.intp) - 1
    positions = first[:, None] + np.arange(4)
    distance = np.abs(at[:, None] - positions)
    a = -0.75  # Keys' cubic convolution, as PyTorch has it
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    shares = np.where(distance <= 1, near, far)
    outside = (positions < 0) | (positions >= size)
    return np.clip(positions, 0, size - 1), np.where(outside, 0, shares)
