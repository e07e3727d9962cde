"""A trained recogniser as a folder of its own, which needs no index.

`model.json` says what it is. The scores of the labels come from plain arrays in `weights.npz`, or
from the encoder's own network where that gives them: `"scores": "logits"`. Whatever trains a head
on the descriptors of an encoder, or a network with classes, can write one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import CollectionError, EncoderMismatch, NotAnIndex, QueryError, readable
from veduta.recognize.arrays import read_arrays
from veduta.recognize.confidence import PRECISIONS, Confidence
from veduta.recognize.linear import Linear
from veduta.recognize.network_scores import LIKELIEST, log_odds
from veduta.recognize.recognition import Recognition, decide
from veduta.recognize.recognizer import PRECISION, Answer, Recognizer
from veduta.search.reranking import Ranking

FORMAT = 1
LOGITS = "logits"
IN_A_RUN = "recognizer"  # the folder's name inside the folder of a training run
_FACTS, _WEIGHTS = "model.json", "weights.npz"
_LINEAR = "linear"

Photo = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Model:
    """A recogniser on one encoder.

    Attributes:
        encoder: makes the descriptors, or the logits.
        names: the C labels.
        linear: the scores of descriptors; None where the encoder's network has an output "logits",
            whose log-odds are the scores.
        confidence: what they are worth; its one feature is the score. With no `questions` it was
            not fitted.
        long_side: pixels that a photo is decoded to at least. An index with keypoints decodes more
            than the encoder needs, which moves a descriptor a little.
    """

    encoder: Encoder
    names: tuple[str, ...]
    linear: Linear | None
    confidence: Confidence
    long_side: int

    @classmethod
    def of(cls, recognizer: Recognizer, encoder: Encoder, long_side: int) -> Model:
        """Return the model of a recogniser by the method "linear"."""
        return cls(
            encoder, recognizer.known.names, recognizer.linear, recognizer.confidence, long_side
        )

    def recognize(self, *queries: Photo, precision: float = PRECISION) -> Recognition:
        """Say what photos of one thing show, or that it is unknown.

        Args:
            queries: paths of one photo, or of several of one thing, recognised together.
            precision: share of the names given that should be right, in [0.5, 0.99].

        Raises:
            PhotoError: a photo cannot be read.
            QueryError: no photo is named, or the precision is not in [0.5, 0.99].
        """
        if not queries:
            raise QueryError("Name at least one photo.")
        pixels = [photos.load(query, at_least=self.long_side).pixels for query in queries]
        scores = self._scores([self.encoder.prepare(photo) for photo in pixels])
        likely = np.argsort(-scores, kind="stable")[:LIKELIEST]
        confidences = self.confidence.of(scores[likely][:, None])
        nothing = np.empty(0)
        answer = Answer(
            tuple(self.names[code] for code in likely.tolist()),
            confidences,
            Ranking(np.empty(0, np.intp), nothing.astype(np.float32), nothing),
        )
        return decide(answer, self.confidence, precision, ())

    def _scores(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float64]:
        """Return (C,): the scores of photos of one thing."""
        if self.linear is not None:
            scores: NDArray[np.float64] = self.linear.scores(self.encoder.encode(prepared))
            return np.asarray(scores.mean(axis=0))
        logits = self.encoder.class_scores(prepared, LOGITS)
        return np.asarray(log_odds(logits.mean(axis=0, keepdims=True))[0])

    def save(self, folder: Path) -> None:
        """Write the model into a new folder; it is there whole or not at all.

        A model that goes by logits names its encoder's file by the way there from `folder`, so that
        the two can be moved together.

        Raises:
            CollectionError: the folder is there already or cannot be written.
        """
        check_new(folder)
        facts = {
            "format": FORMAT,
            "kind": "veduta recogniser",
            "encoder": {"name": self._encoder_name(folder), "identity": self.encoder.identity},
            "scores": LOGITS if self.linear is None else _LINEAR,
            "long_side": self.long_side,
            "names": self.names,
            "confidence": asdict(self.confidence),
        }
        draft = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent)) / folder.name
            draft.mkdir()  # a temporary folder is its owner's alone; a model is handed on
            (draft / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
            if self.linear is not None:
                np.savez(draft / _WEIGHTS, **asdict(self.linear))
            draft.rename(folder)
        except OSError as error:
            raise CollectionError(
                f"{readable(folder)}: cannot be written: {error.strerror or error}"
            ) from error
        finally:
            if draft is not None:
                shutil.rmtree(draft.parent, ignore_errors=True)

    def _encoder_name(self, folder: Path) -> str:
        if self.linear is not None:
            return self.encoder.name
        return Path(os.path.relpath(self.encoder.spec.model, folder)).as_posix()


def check_new(folder: Path) -> None:
    """Raise `CollectionError` if there is something at that place already."""
    if folder.exists():
        raise CollectionError(f"{readable(folder)}: is there already; name a new folder.")


def open_model(folder: Path) -> Model:
    """Open a model folder, or that in the folder of a run of `veduta train`.

    Raises:
        NotAnIndex: there is no model at that place.
        CollectionError: it does not read back.
        EncoderMismatch: its encoder has changed since; EncoderUnavailable: it is not here.
    """
    if (folder / IN_A_RUN / _FACTS).is_file():
        folder = folder / IN_A_RUN
    elif (folder / RUN_MODEL).is_file():
        raise NotAnIndex(
            f"{readable(folder)}: this run has no recogniser: its network gives no scores of "
            "classes. Index labelled photos with it as --encoder, and recognise with --index."
        )
    file = folder / _FACTS
    if not file.is_file():
        raise NotAnIndex(
            f"{readable(folder)}: no model there (wanted a folder with {_FACTS}); "
            "`veduta recognize --index INDEX --export FOLDER` writes one."
        )
    try:
        facts = json.loads(file.read_text("utf-8"))
        if facts["format"] != FORMAT:
            raise CollectionError(
                f"{readable(file)}: format {facts['format']}, but this Veduta reads {FORMAT}"
            )
        name, identity = str(facts["encoder"]["name"]), facts["encoder"]["identity"]
        names = tuple(str(name) for name in facts["names"])
        if not names:
            raise ValueError("it has no names")
        scores = facts.get("scores", _LINEAR)
        if scores not in {_LINEAR, LOGITS}:
            raise ValueError(f"its scores are {scores!r}, not {_LINEAR} or {LOGITS}")
        linear = _linear(folder / _WEIGHTS, len(names)) if scores == _LINEAR else None
        confidence = _confidence(facts["confidence"])
        long_side = int(facts["long_side"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise CollectionError(
            f"{readable(folder)}: the model does not read back ({why}); export it again."
        ) from error
    if linear is None:
        name = os.path.abspath(folder / name)
    encoder = load_encoder(name, threads=os.cpu_count() or 1)
    if encoder.identity != identity:
        raise EncoderMismatch(
            f"{readable(folder)}: made for another version of encoder '{name}' ({identity}; this "
            f"Veduta has {encoder.identity}). Export the model again."
        )
    if linear is None:
        classes = encoder.class_scores([], LOGITS).shape[1]
        if classes != len(names):
            raise CollectionError(
                f"{readable(folder)}: has {len(names)} names, but its network {classes} classes. "
                "Train again."
            )
    elif len(linear.middle) != encoder.dimension:
        raise CollectionError(
            f"{readable(folder)}: made for descriptors of {len(linear.middle)} numbers, but those "
            f"of encoder '{name}' have {encoder.dimension}. Export the model again."
        )
    return Model(encoder, names, linear, confidence, max(long_side, encoder.long_side))


def _linear(file: Path, classes: int) -> Linear:
    middle, shift, weights, bias = read_arrays(file, "middle", "shift", "weights", "bias")
    arrays = (middle, shift, weights, bias)
    wide = middle.size
    if [array.shape for array in arrays] != [(wide,), (wide,), (wide, classes), (classes,)]:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{file.name}: arrays of the shapes {shapes} for {classes} names")
    if not all(array.dtype.kind in "fiu" for array in arrays):
        raise ValueError(f"{file.name}: not all of its arrays hold numbers")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{file.name}: not all of its numbers are finite")
    return Linear(
        middle.astype(np.float32),
        shift.astype(np.float32),
        weights.astype(np.float32),
        bias.astype(np.float64),
    )


def _confidence(facts: dict[str, Any]) -> Confidence:
    weights, thresholds = (
        tuple(float(value) for value in facts[name]) for name in ("weights", "thresholds")
    )
    if len(weights) != 2 or len(thresholds) != len(PRECISIONS):
        raise ValueError("its confidence is not that of a linear recogniser")
    if not np.isfinite([*weights, *thresholds]).all():
        raise ValueError("its confidence is not finite")
    return Confidence(weights, thresholds, int(facts["questions"]))
