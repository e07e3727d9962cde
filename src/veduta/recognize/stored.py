"""A recogniser kept beside its index, so that what took a while is learned once.

It is derived from the index: another version of the photos or of their labels has another name, and
the file of the old one is removed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from veduta.index import Manifest
from veduta.index.snapshot import snapshot_name
from veduta.photos import content_hash
from veduta.recognize import held_out, linear
from veduta.recognize.confidence import Confidence
from veduta.recognize.labelled import Labelled
from veduta.recognize.linear import Linear
from veduta.recognize.recognizer import Recognizer, check, learn

FOLDER = "recognition"
_FORMAT = 1


def recognizer_of(
    index: Path,
    known: Labelled,
    method: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Recognizer:
    """Return the recogniser of an index, learned now if it is not kept yet.

    Args:
        index: the folder of the index.
        known: its photos with their labels.
        method: one of `METHODS`.
        on_progress: called with (done, total) while it learns.

    Raises:
        QueryError: no method has that name.
    """
    check(method)
    file = index / FOLDER / f"{method}-{_key(index, known)}.npz"
    kept = _read(file, known, method)
    if kept is not None:
        return kept
    learned = learn(known, method, on_progress=on_progress)
    _write(file, learned)
    return learned


def _key(index: Path, known: Labelled) -> str:
    labels = "\n".join(known.names).encode() + known.codes.tobytes() + known.outsiders.tobytes()
    version = snapshot_name(index, Manifest.read(index)).encode()
    graph = b"" if known.gallery.graph is None else b"graph"
    settings = repr((_FORMAT, linear.RIDGE, held_out.MOST, held_out.ENOUGH)).encode()
    return content_hash(settings + version + graph + labels).hex()[:16]


def _read(file: Path, known: Labelled, method: str) -> Recognizer | None:
    """Return what is kept in `file`; None if it is not there or not whole."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            trained = Linear(kept["middle"], kept["shift"], kept["weights"], kept["bias"])
            confidence = Confidence(
                tuple(kept["confidence"].tolist()),
                tuple(kept["thresholds"].tolist()),
                int(kept["questions"]),
            )
            return Recognizer(known, trained, method, confidence, bool(kept["learned"]))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None  # derived data: it is learned again


def _write(file: Path, recognizer: Recognizer) -> None:
    trained = recognizer.linear
    try:
        file.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".draft", delete=False) as draft:
            np.savez(
                draft,
                middle=trained.middle,
                shift=trained.shift,
                weights=trained.weights,
                bias=trained.bias,
                confidence=np.array(recognizer.confidence.weights),
                thresholds=np.array(recognizer.confidence.thresholds),
                questions=np.array(recognizer.confidence.questions),
                learned=np.array(recognizer.learned),
            )
        Path(draft.name).replace(file)
    except OSError:
        return  # an index that may not be written to is recognised with all the same
    for other in file.parent.glob(f"{recognizer.method}-*.npz"):
        if other != file:
            other.unlink(missing_ok=True)
