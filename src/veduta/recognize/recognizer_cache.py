"""Recognisers kept beside their index, so that each is trained only once.

The name of a file follows from the version of the photos and of their labels. When these change, a
new file is written and the old one is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from veduta.files import atomic_file
from veduta.index import Manifest
from veduta.index.damage import RECOGNISERS_FOLDER
from veduta.index.graph import graph_is_whole, keypoint_facts
from veduta.index.snapshot import snapshot_name
from veduta.npz_file import read_arrays
from veduta.photos import content_hash
from veduta.recognize import held_out, linear
from veduta.recognize.confidence import Confidence
from veduta.recognize.labelled_gallery import LabelledGallery
from veduta.recognize.linear import LinearClassifier
from veduta.recognize.methods import check_method
from veduta.recognize.recognizer import Recognizer, default_confidence, fit_recognizer

__all__ = ["cached_recognizer"]

_FORMAT = 4
_KEY_LETTERS = 16


def cached_recognizer(
    index: Path,
    labelled: LabelledGallery,
    method: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Recognizer:
    """Return the recogniser of an index; it is trained if the cache does not have it.

    Args:
        index: the folder of the index.
        labelled: its photos with their labels.
        method: one of `METHODS`.
        on_progress: called with (done, total) held-out photos while it is trained.

    Returns:
        The recogniser.

    Raises:
        QueryError: no method has that name.
    """
    check_method(method)
    if snapshot_name(index, Manifest.read(index)) != labelled.gallery.snapshot.name:
        # A writer has made a newer version meanwhile, and the cache is for the newest one.
        return fit_recognizer(labelled, method, on_progress=on_progress)
    # Recognisers with and without outsiders have files of their own, so that both stay cached.
    kind = method if len(labelled.outsiders) else f"{method}-labelled"
    file = index / RECOGNISERS_FOLDER / f"{kind}-{_key(index, labelled)}.npz"
    cached = _read(file, labelled, method)
    if cached is not None:
        return cached
    recognizer = fit_recognizer(labelled, method, on_progress=on_progress)
    _write(file, recognizer)
    return recognizer


def _key(index: Path, labelled: LabelledGallery) -> str:
    names = "\n".join(labelled.names).encode()
    labels = names + labelled.class_ids.tobytes() + labelled.outsiders.tobytes()
    labels += labelled.background.tobytes()
    manifest = Manifest.read(index)
    version = snapshot_name(index, manifest).encode()
    keypoints = keypoint_facts(manifest) or ""
    graph = b"" if labelled.gallery.graph is None else b"graph"
    if graph_is_whole(index, manifest):
        graph += b" with all links verified"
    constants = (
        _FORMAT,
        linear.RIDGE,
        held_out.MAX_EXAMPLES_OF_A_KIND,
        held_out.MIN_NAMEABLE_PHOTOS,
        held_out.MIN_UNKNOWN_PHOTOS,
    )
    settings = repr(constants).encode()
    return content_hash(settings + version + graph + keypoints.encode() + labels).hex()[
        :_KEY_LETTERS
    ]


def _arrays(recognizer: Recognizer) -> dict[str, Any]:
    """Return what a file holds; the keys are the names of its arrays."""
    classifier, confidence = recognizer.linear, recognizer.confidence
    return {
        "middle": classifier.mean,
        "shift": classifier.centred_mean,
        "weights": classifier.weights,
        "bias": classifier.bias,
        "confidence": confidence.weights,
        "thresholds": confidence.thresholds,
        "questions": confidence.examples,
        "learned": recognizer.learned,
    }


def _read(file: Path, labelled: LabelledGallery, method: str) -> Recognizer | None:
    """Return the recogniser in `file`; None if it is missing or damaged: it is trained again."""
    try:
        mean, centred_mean, weights, bias, *facts = read_arrays(
            file,
            "middle",
            "shift",
            "weights",
            "bias",
            "confidence",
            "thresholds",
            "questions",
            "learned",
        )
        confidence_weights, thresholds, examples, learned = (fact.tolist() for fact in facts)
    except (OSError, ValueError):
        return None
    if weights.shape != (labelled.gallery.snapshot.dimension, len(labelled.names)):
        return None
    confidence = Confidence(tuple(confidence_weights), tuple(thresholds), examples)
    if not learned:  # the defaults of a newer package may differ from those in the file
        confidence = default_confidence(method, background=len(labelled.background) > 0)
    classifier = LinearClassifier(mean, centred_mean, weights, bias)
    return Recognizer(labelled, classifier, method, confidence, learned)


def _write(file: Path, recognizer: Recognizer) -> None:
    """Write the file if possible; an index that is read-only can still be used."""
    try:
        file.parent.mkdir(exist_ok=True)
        with atomic_file(file, durable=True) as draft, draft.open("wb") as out:
            np.savez(out, **_arrays(recognizer))
        for other in file.parent.glob(f"{file.stem[:-_KEY_LETTERS]}{'?' * _KEY_LETTERS}.npz"):
            if other != file:
                other.unlink(missing_ok=True)
    except OSError:
        return
