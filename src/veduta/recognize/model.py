"""A trained recogniser as a folder of its own, which needs no index.

`model.json` says what it is. The scores of the labels come from plain arrays in `weights.npz`, or
from the encoder's own network if `"scores"` is `"logits"`. A program that trains a classifier on
the descriptors of an encoder, or a network with classes, can write such a folder too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.encoders import Encoder, OnnxEncoder, OtherModel, load_named_in_file
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import CollectionError, EncoderMismatch, NotAnIndex, QueryError, readable
from veduta.files import atomic_folder
from veduta.npz_file import read_arrays
from veduta.processor_cores import processor_cores
from veduta.recognize.confidence import Confidence, StoredConfidence
from veduta.recognize.linear import LinearClassifier, comparable
from veduta.recognize.network_scores import MAX_CANDIDATES, log_odds
from veduta.recognize.recognition import Recognition, recognition_of
from veduta.recognize.recognizer import PRECISION, Recognizer
from veduta.recognize.unknown import Answer
from veduta.search.reranking import Ranking
from veduta.validation import read_json

__all__ = ["FORMAT", "IN_A_RUN", "LOGITS", "Model", "check_new", "open_model"]

FORMAT = 1
LOGITS = "logits"
IN_A_RUN = "recognizer"
"""The folder of a model inside the folder of a training run."""

_FACTS, _WEIGHTS = "model.json", "weights.npz"
_LINEAR = "linear"

Photo = str | os.PathLike[str]


class _Format(msgspec.Struct):
    format: int


class _EncoderFacts(msgspec.Struct):
    name: str
    identity: str
    sha256: str | None = None


class _ConfidenceFacts(StoredConfidence, frozen=True):
    weights: tuple[float, float]  # of the score, and the constant


class _ModelFacts(msgspec.Struct):
    """The content of `model.json`."""

    encoder: _EncoderFacts
    long_side: int
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    confidence: _ConfidenceFacts
    scores: Literal["linear", "logits"] = "linear"


@dataclass(frozen=True, slots=True)
class Model:
    """A recogniser on one encoder.

    Attributes:
        encoder: makes the descriptors, or the logits.
        names: the C labels.
        linear: gives the scores of descriptors. None if the encoder's network has an output
            "logits", whose log-odds are the scores.
        confidence: turns a score into a probability. With 0 `examples` it was not fitted.
        long_side: pixels that a photo is decoded to at least. An index with keypoints decodes more
            than the encoder needs, which changes a descriptor a little.
    """

    encoder: Encoder
    names: tuple[str, ...]
    linear: LinearClassifier | None
    confidence: Confidence
    long_side: int

    @classmethod
    def of(cls, recognizer: Recognizer, encoder: Encoder, long_side: int) -> Model:
        """Return the model of a recogniser by the method "linear".

        Args:
            recognizer: the recogniser.
            encoder: the encoder of its index.
            long_side: pixels that its index decodes a photo to.

        Returns:
            The model.
        """
        linear, labelled = recognizer.linear, recognizer.labelled
        if len(labelled.background):
            factors = comparable(labelled.counts)
            linear = replace(
                linear,
                weights=(linear.weights * factors).astype(np.float32),
                bias=linear.bias * factors,
            )
        return cls(encoder, labelled.names, linear, recognizer.confidence, long_side)

    def recognize(self, *queries: Photo, precision: float = PRECISION) -> Recognition:
        """Return what photos of one thing show, or that it is unknown.

        Args:
            *queries: paths of one photo, or of several of one thing, recognised together.
            precision: share of the given names that should be right, in [0.5, 0.99].

        Returns:
            The name, or the reason why it is unknown.

        Raises:
            PhotoError: a photo cannot be read.
            QueryError: no photo is named, or the precision is not in [0.5, 0.99].
        """
        if not queries:
            raise QueryError("Name at least one photo.")
        pixels = [photos.load(query, at_least=self.long_side).pixels for query in queries]
        scores = self._scores([self.encoder.prepare(photo) for photo in pixels])
        likeliest = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        answer = Answer(
            tuple(self.names[class_id] for class_id in likeliest.tolist()),
            self.confidence.probabilities(scores[likeliest][:, None]),
            Ranking(np.empty(0, np.intp), np.empty(0, np.float32), np.empty(0)),
        )
        return recognition_of(answer, self.confidence, precision, ())

    @property
    def _network(self) -> OnnxEncoder:
        """The encoder of a model without linear scores: always the ONNX model of a run."""
        return cast("OnnxEncoder", self.encoder)

    def _scores(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float64]:
        """Return (C,): the scores of photos of one thing."""
        if self.linear is not None:
            scores: NDArray[np.float64] = self.linear.scores(self.encoder.encode(prepared))
            return np.asarray(scores.mean(axis=0))
        logits = self._network.class_scores(prepared, LOGITS)
        return np.asarray(log_odds(logits.mean(axis=0, keepdims=True))[0])

    def save(self, folder: Path) -> None:
        """Write the model into a new folder, which appears complete or not at all.

        A model that uses logits names the file of its encoder by its path relative to `folder`, so
        that the two can be moved together.

        Args:
            folder: a folder that does not exist yet.

        Raises:
            CollectionError: the folder exists or cannot be written.
        """
        check_new(folder)
        sha256 = self.encoder.describe().get("sha256")
        facts = {
            "format": FORMAT,
            "kind": "veduta recogniser",
            "encoder": {
                "name": self._encoder_name(folder),
                "identity": self.encoder.identity,
                **({"sha256": sha256} if sha256 else {}),
            },
            "scores": LOGITS if self.linear is None else _LINEAR,
            "long_side": self.long_side,
            "names": self.names,
            "confidence": msgspec.to_builtins(StoredConfidence.of(self.confidence)),
        }
        try:
            with atomic_folder(folder) as draft:
                (draft / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
                if self.linear is not None:
                    np.savez(
                        draft / _WEIGHTS,
                        middle=self.linear.mean,
                        shift=self.linear.centred_mean,
                        weights=self.linear.weights,
                        bias=self.linear.bias,
                    )
        except OSError as error:
            raise CollectionError(
                f"{readable(folder)}: cannot be written: {error.strerror or error}"
            ) from error

    def _encoder_name(self, folder: Path) -> str:
        if self.linear is not None:
            return self.encoder.name
        return Path(os.path.relpath(self._network.spec.model, folder)).as_posix()


def check_new(folder: Path) -> None:
    """Raise `CollectionError` if `folder` exists."""
    if folder.exists():
        raise CollectionError(f"{readable(folder)}: is there already; name a new folder.")


def open_model(folder: Path) -> Model:
    """Open the folder of a model.

    Args:
        folder: the folder, or that of a run of `veduta train` with a recogniser.

    Returns:
        The model.

    Raises:
        NotAnIndex: the folder holds no model.
        CollectionError: the model is damaged.
        EncoderMismatch: its encoder has changed since it was written.
        EncoderUnavailable: its encoder is not on this machine. It is not fetched, because a
            stranger may have written the model.
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
    facts, linear = _read(folder)
    confidence = facts.confidence.confidence()
    name, identity = facts.encoder.name, facts.encoder.identity
    if linear is None:
        name = os.path.abspath(folder / name)
    try:
        encoder = load_named_in_file(name, facts.encoder.sha256, threads=processor_cores())
    except OtherModel as error:
        raise EncoderMismatch(f"{readable(folder)}: {error}. Export the model again.") from error
    if encoder.identity != identity:
        raise EncoderMismatch(
            f"{readable(folder)}: made for another version of encoder '{name}' ({identity}; this "
            f"Veduta has {encoder.identity}). Export the model again."
        )
    if linear is None:
        classes = encoder.class_scores([], LOGITS).shape[1]
        if classes != len(facts.names):
            raise CollectionError(
                f"{readable(folder)}: has {len(facts.names)} names, but its network {classes} "
                "classes. Train again."
            )
    elif len(linear.mean) != encoder.dimension:
        raise CollectionError(
            f"{readable(folder)}: made for descriptors of {len(linear.mean)} numbers, but those of "
            f"encoder '{name}' have {encoder.dimension}. Export the model again."
        )
    return Model(encoder, facts.names, linear, confidence, max(facts.long_side, encoder.long_side))


def _read(folder: Path) -> tuple[_ModelFacts, LinearClassifier | None]:
    """Return the facts and the classifier of a model, or raise `CollectionError`."""
    file = folder / _FACTS
    try:
        if (version := read_json(file, _Format).format) != FORMAT:
            raise CollectionError(
                f"{readable(file)}: format {version}, but this Veduta reads {FORMAT}"
            )
        facts = read_json(file, _ModelFacts)
        if not np.isfinite([*facts.confidence.weights, *facts.confidence.thresholds]).all():
            raise ValueError(f"{_FACTS}: its confidence is not finite")
        if facts.scores == LOGITS:
            return facts, None
        return facts, _read_weights(folder / _WEIGHTS, len(facts.names))
    except (OSError, ValueError) as error:
        raise CollectionError(
            f"{readable(folder)}: the model does not read back ({error}); export it again."
        ) from error


def _read_weights(file: Path, classes: int) -> LinearClassifier:
    arrays = read_arrays(file, "middle", "shift", "weights", "bias")
    dimension = arrays[0].size
    wanted = [(dimension,), (dimension,), (dimension, classes), (classes,)]
    if [array.shape for array in arrays] != wanted:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{file.name}: arrays of the shapes {shapes} for {classes} names")
    if not all(array.dtype.kind in "fiu" for array in arrays):
        raise ValueError(f"{file.name}: not all of its arrays hold numbers")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{file.name}: not all of its numbers are finite")
    mean, centred_mean, weights, bias = arrays
    return LinearClassifier(
        mean.astype(np.float32),
        centred_mean.astype(np.float32),
        weights.astype(np.float32),
        bias.astype(np.float64),
    )
