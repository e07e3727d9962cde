"""Small labelled galleries without files, for the tests of recognition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tiny import TinyExtractor, scene_keypoints

from veduta.index.calibration import calibration_of
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import Keypoints
from veduta.photos import content_hash
from veduta.recognize import LabelledGallery
from veduta.recognize.methods import RecognitionQuery
from veduta.search.reranking import Gallery

D = 16
CLOSE = {"abs": 1e-3}  # of float16
EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


class Stored:
    """Keypoints by row, each of the scene that is named."""

    def __init__(self, scenes: Sequence[int]) -> None:
        self.scenes = scenes

    def read(self, row: int) -> Keypoints:
        return scene_keypoints(self.scenes[row], row % 16)


def gallery_of(rows: Any, *, content: Sequence[bytes] = (), scenes: Sequence[int] = ()) -> Gallery:
    """Return a gallery without a graph of these descriptors, made to unit length."""
    full = np.array(rows, np.float32)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    kept = full.astype(np.float16)
    content = content or [b"photo %d" % number for number in range(len(kept))]
    table = pa.table(
        {
            "id": pa.array(range(len(kept)), pa.int64()),
            "content": pa.array([content_hash(data) for data in content], pa.binary()),
            "path": pa.array([b"%06d.jpg" % number for number in range(len(kept))], pa.binary()),
        }
    )
    files: Any = Stored(scenes) if scenes else None
    return Gallery(
        Snapshot(1, None, table, kept, *quantise(kept)),
        calibration_of("unknown", "xfeat"),
        files,
        None,
        TinyExtractor.matching,
    )


def crowd(
    classes: int = 6, each: int = 10, others: int = 10, *, seed: int = 0, spread: float = 0.6
) -> tuple[NDArray[np.float64], list[str | None]]:
    """Return descriptors around a centre for each label, then some anywhere, and the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, D))
    labels: list[str | None] = [f"place {row % classes}" for row in range(classes * each)]
    rows = centres[np.arange(classes * each) % classes]
    rows = rows + spread * rng.standard_normal(rows.shape)
    return (
        np.concatenate([rows, rng.standard_normal((others, D))]),
        labels + [None] * others,
    )


def labelled_crowd(*, outsiders: bool = True, **options: Any) -> LabelledGallery:
    rows, labels = crowd(**options)
    return LabelledGallery.of(gallery_of(rows), labels, outsiders=outsiders)


def unit(*values: float) -> NDArray[np.float32]:
    out = np.array(values, np.float32)
    return out / np.float32(np.linalg.norm(out))


def query_of(
    descriptor: NDArray[np.float32],
    linear: Sequence[float],
    without: Sequence[int] = (),
    keypoints: Sequence[Keypoints] = (),
) -> RecognitionQuery:
    return RecognitionQuery(
        descriptor, keypoints, np.array(linear, np.float64), np.array(without, np.intp)
    )
