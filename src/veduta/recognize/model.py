"""A trained recogniser as a folder of its own, which needs no index.

`model.json` says what it is, `weights.npz` holds plain arrays. Whatever trains a head on the
descriptors of an encoder can write one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.errors import CollectionError, EncoderMismatch, NotAnIndex, QueryError, readable
from veduta.recognize.arrays import read_arrays
from veduta.recognize.confidence import PRECISIONS, Confidence
from veduta.recognize.linear import Linear
from veduta.recognize.recognition import Recognition, decide
from veduta.recognize.recognizer import PRECISION, Answer, Recognizer
from veduta.search.reranking import Ranking

FORMAT = 1
_FACTS, _WEIGHTS = "model.json", "weights.npz"
_LIKELIEST = 5

Photo = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Model:
    """A recogniser on the descriptors of one encoder.

    Attributes:
        encoder: makes the descriptors.
        names: the C labels.
        linear: its scores.
        confidence: what they are worth; its one feature is the score.
        long_side: pixels that a photo is decoded to at least. An index with keypoints decodes more
            than the encoder needs, which moves a descriptor a little.
    """

    encoder: Encoder
    names: tuple[str, ...]
    linear: Linear
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
        encoder = self.encoder
        pixels = [photos.load(query, at_least=self.long_side).pixels for query in queries]
        described = encoder.encode([encoder.prepare(photo) for photo in pixels])
        scores = self.linear.scores(described).mean(axis=0)
        likely = np.argsort(-scores, kind="stable")[:_LIKELIEST]
        confidences = self.confidence.of(scores[likely][:, None])
        nothing = np.empty(0)
        answer = Answer(
            tuple(self.names[code] for code in likely.tolist()),
            confidences,
            Ranking(np.empty(0, np.intp), nothing.astype(np.float32), nothing),
        )
        return decide(answer, self.confidence, precision, ())

    def save(self, folder: Path) -> None:
        """Write the model into a new folder; it is there whole or not at all.

        Raises:
            CollectionError: the folder is there already or cannot be written.
        """
        check_new(folder)
        facts = {
            "format": FORMAT,
            "kind": "veduta recogniser",
            "encoder": {"name": self.encoder.name, "identity": self.encoder.identity},
            "long_side": self.long_side,
            "names": self.names,
            "confidence": asdict(self.confidence),
        }
        arrays = asdict(self.linear)
        draft = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent)) / folder.name
            draft.mkdir()  # a temporary folder is its owner's alone; a model is handed on
            (draft / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
            np.savez(draft / _WEIGHTS, **arrays)
            draft.rename(folder)
        except OSError as error:
            raise CollectionError(
                f"{readable(folder)}: cannot be written: {error.strerror or error}"
            ) from error
        finally:
            if draft is not None:
                shutil.rmtree(draft.parent, ignore_errors=True)


def check_new(folder: Path) -> None:
    """Raise `CollectionError` if there is something at that place already."""
    if folder.exists():
        raise CollectionError(f"{readable(folder)}: is there already; name a new folder.")


def open_model(folder: Path) -> Model:
    """Open a model folder.

    Raises:
        NotAnIndex: there is no model at that place.
        CollectionError: it does not read back.
        EncoderMismatch: its encoder has changed since; EncoderUnavailable: it is not here.
    """
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
        linear = _linear(folder / _WEIGHTS, len(names))
        confidence = _confidence(facts["confidence"])
        long_side = int(facts["long_side"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise CollectionError(
            f"{readable(folder)}: the model does not read back ({why}); export it again."
        ) from error
    encoder = load_encoder(name, threads=os.cpu_count() or 1)
    if encoder.identity != identity:
        raise EncoderMismatch(
            f"{readable(folder)}: made for another version of encoder '{name}' ({identity}; this "
            f"Veduta has {encoder.identity}). Export the model again."
        )
    if len(linear.middle) != encoder.dimension:
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
        middle.astype(np.float32), shift.astype(np.float32), weights.astype(np.float32),
        bias.astype(np.float64),
    )  # fmt: skip


def _confidence(facts: dict[str, Any]) -> Confidence:
    weights, thresholds = (
        tuple(float(value) for value in facts[name]) for name in ("weights", "thresholds")
    )
    if len(weights) != 2 or len(thresholds) != len(PRECISIONS):
        raise ValueError("its confidence is not that of a linear recogniser")
    if not np.isfinite([*weights, *thresholds]).all():
        raise ValueError("its confidence is not finite")
    return Confidence(weights, thresholds, int(facts["questions"]))
