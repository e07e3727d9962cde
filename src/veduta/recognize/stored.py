"""A recogniser kept beside its index, so that what took a while is learned once.

It is derived from the index: another version of the photos or of their labels has another name, and
the file of the old one is removed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from veduta.index import Manifest
from veduta.index.snapshot import snapshot_name
from veduta.index.table import newest_version
from veduta.photos import content_hash
from veduta.recognize import held_out, linear
from veduta.recognize.arrays import read_arrays
from veduta.recognize.confidence import Confidence
from veduta.recognize.labelled import Labelled
from veduta.recognize.linear import Linear
from veduta.recognize.recognizer import Recognizer, check, default_confidence, learn

FOLDER = "recognition"
_FORMAT = 3
_KEY = 16  # letters
_ARRAYS = (
    "middle",
    "shift",
    "weights",
    "bias",
    "confidence",
    "thresholds",
    "questions",
    "learned",
)


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
    version = newest_version(index)
    if version is None or version.number != known.gallery.snapshot.version:
        # A writer has moved on meanwhile: what is learned here must not pass for its version's.
        return learn(known, method, on_progress=on_progress)
    # Side by side, so that whoever asks now with outsiders and now without learns each once.
    kind = method if len(known.outsiders) else f"{method}-labelled"
    file = index / FOLDER / f"{kind}-{_key(index, known)}.npz"
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
    return content_hash(settings + version + graph + labels).hex()[:_KEY]


def _read(file: Path, known: Labelled, method: str) -> Recognizer | None:
    """Return what is kept in `file`; None if it is not there or not whole."""
    try:
        middle, shift, weights, bias, *facts = read_arrays(file, *_ARRAYS)
        answers, thresholds, questions, learned = (fact.tolist() for fact in facts)
    except (OSError, ValueError):
        return None  # derived data: it is learned again
    if weights.shape != (known.gallery.snapshot.dimension, len(known.names)):
        return None
    confidence = Confidence(tuple(answers), tuple(thresholds), questions)
    if not learned:  # general experience comes with the package, and may have grown
        confidence = default_confidence(method)
    return Recognizer(known, Linear(middle, shift, weights, bias), method, confidence, learned)


def _write(file: Path, recognizer: Recognizer) -> None:
    trained, confidence = recognizer.linear, recognizer.confidence
    arrays: list[Any] = [
        trained.middle,
        trained.shift,
        trained.weights,
        trained.bias,
        confidence.weights,
        confidence.thresholds,
        confidence.questions,
        recognizer.learned,
    ]
    written = None
    try:
        file.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".draft", delete=False) as draft:
            written = Path(draft.name)
            np.savez(draft, **dict(zip(_ARRAYS, arrays, strict=True)))
        written.replace(file)
        for other in file.parent.glob(f"{file.stem[:-_KEY]}{'?' * _KEY}.npz"):
            if other != file:
                other.unlink(missing_ok=True)
    except OSError:  # an index that may not be written to is recognised with all the same
        if written is not None:
            written.unlink(missing_ok=True)
