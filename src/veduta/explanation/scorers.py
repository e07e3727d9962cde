"""Scores of changed copies of a photo: all that a method without gradients asks of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.recognize.model import LOGITS
from veduta.text import count

if TYPE_CHECKING:
    from veduta.encoders import Encoder, OnnxEncoder, Projection
    from veduta.recognize.model import Model

__all__ = ["Scorer", "class_scorer", "class_scores", "find_class", "similarity_scorer"]

Scorer = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]
"""A function from N photos, each (h, w, 3) uint8 RGB, to their scores (N,) float64."""


def similarity_scorer(
    encoder: Encoder, descriptor: NDArray[np.floating], projection: Projection | None = None
) -> Scorer:
    """Return the scorer that gives the similarity of photos to a photo that stays as it is.

    Args:
        encoder: any encoder, with or without a spatial output.
        descriptor: (d,) of the other photo, of length one, projected if there is a projection.
        projection: of the index, or None.

    Returns:
        The scorer. Scores are cosines, in [-1, 1].
    """
    fixed = np.asarray(descriptor, dtype=np.float64)

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        descriptors = encoder.encode([encoder.prepare(photo) for photo in photos])
        if projection is not None:
            descriptors = projection.apply(descriptors)
        return descriptors.astype(np.float64) @ fixed

    return scores


def class_scorer(model: Model, class_id: int) -> Scorer:
    """Return the scorer that gives the score of a class, without torch.

    Args:
        model: a recogniser, such as that of a run of `veduta train`; see `open_model`.
        class_id: position of the class in `model.names`.
    """
    return lambda photos: class_scores(model, photos)[:, class_id]


def class_scores(model: Model, photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the scores of all classes of a model, without torch.

    Args:
        model: a recogniser, such as that of a run of `veduta train`; see `open_model`.
        photos: N photos, each (h, w, 3) uint8 RGB.

    Returns:
        (N, C) float64. For a linear model these are its own scores, for a network its logits. A
        network with one output for two classes has that output for the second class, and its
        negative for the first.

    Raises:
        EncoderError: the network fails, or returns infinite or undefined numbers.
    """
    prepared = [model.encoder.prepare(photo) for photo in photos]
    if model.linear is not None:
        return np.asarray(model.linear.scores(model.encoder.encode(prepared)), np.float64)
    network = cast("OnnxEncoder", model.encoder)
    logits = network.class_scores(prepared, LOGITS).astype(np.float64)
    # The exported file of a network with one output has a column of zeros before it.
    if logits.shape[1] == 2 and not logits[:, 0].any():
        logits[:, 0] = -logits[:, 1]
    return logits


def find_class(names: Sequence[str], wanted: str) -> int:
    """Return the position of a class in the classes of a model.

    Args:
        names: of the classes.
        wanted: the name that the user gave.

    Raises:
        QueryError: the model has no such class; the message has the most similar names.
    """
    if wanted in names:
        return list(names).index(wanted)
    nearest = get_close_matches(wanted, names, 3, 0) or list(names[:3])
    raise QueryError(
        f"The model has no class {wanted!r}. Of its {count(len(names), 'class', 'classes')} the "
        f"nearest: {', '.join(map(repr, nearest))}."
    )
