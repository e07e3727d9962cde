"""A trained recogniser as a folder of its own, which needs no index.

`model.json` says what it is, `weights.npz` holds plain arrays. Whatever trains a head on the
descriptors of an encoder can write one.
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
from zipfile import BadZipFile

import numpy as np

from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.errors import CollectionError, EncoderMismatch, NotAnIndex, readable
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
    """

    encoder: Encoder
    names: tuple[str, ...]
    linear: Linear
    confidence: Confidence

    @classmethod
    def of(cls, recognizer: Recognizer, encoder: Encoder) -> Model:
        """Return the model of a recogniser by the method "linear"."""
        return cls(encoder, recognizer.known.names, recognizer.linear, recognizer.confidence)

    def recognize(self, *queries: Photo, precision: float = PRECISION) -> Recognition:
        """Say what photos of one thing show, or that it is unknown.

        Raises:
            PhotoError: a photo cannot be read.
        """
        encoder = self.encoder
        pixels = [photos.load(query, at_least=encoder.long_side).pixels for query in queries]
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
        if folder.exists():
            raise CollectionError(f"{readable(folder)}: is there already; name a new folder.")
        facts = {
            "format": FORMAT,
            "kind": "veduta recogniser",
            "encoder": {"name": self.encoder.name, "identity": self.encoder.identity},
            "names": self.names,
            "confidence": asdict(self.confidence),
        }
        arrays = asdict(self.linear)
        draft = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
            (draft / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
            np.savez(draft / _WEIGHTS, **arrays)
            draft.rename(folder)
        except OSError as error:
            raise CollectionError(
                f"{readable(folder)}: cannot be written: {error.strerror}"
            ) from error
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)


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
        with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
            linear = Linear(*(arrays[name] for name in ("middle", "shift", "weights", "bias")))
        names = tuple(str(name) for name in facts["names"])
        confidence = _confidence(facts["confidence"])
        if linear.weights.shape != (len(linear.middle), len(names)) or not names:
            raise ValueError(f"{len(names)} names for weights of shape {linear.weights.shape}")
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise CollectionError(
            f"{readable(folder)}: the model does not read back ({error}); export it again."
        ) from error
    name, identity = facts["encoder"]["name"], facts["encoder"]["identity"]
    encoder = load_encoder(name, threads=os.cpu_count() or 1)
    if encoder.identity != identity:
        raise EncoderMismatch(
            f"{readable(folder)}: made for another version of encoder '{name}' ({identity}; this "
            f"Veduta has {encoder.identity}). Export the model again."
        )
    return Model(encoder, names, linear, confidence)


def _confidence(facts: dict[str, Any]) -> Confidence:
    weights: Sequence[float] = [float(value) for value in facts["weights"]]
    thresholds: Sequence[float] = [float(value) for value in facts["thresholds"]]
    if len(weights) != 2 or len(thresholds) != len(PRECISIONS):
        raise ValueError("its confidence is not that of a linear recogniser")
    return Confidence(tuple(weights), tuple(thresholds), int(facts["questions"]))
