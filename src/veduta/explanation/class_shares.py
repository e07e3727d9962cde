"""Maps of the score that a linear model gives a class: exact, and without torch.

The score is linear in the descriptor, once this photo's lengths are taken as fixed, so it is a sum
over positions as the descriptor is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.descriptor_parts import descriptor_parts, require_parts
from veduta.errors import QueryError
from veduta.explanation.exact_map import exact_map
from veduta.explanation.scorers import find_class
from veduta.recognize.linear import MIN_LENGTH
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    from veduta.explanation.explanation import Explanation
    from veduta.recognize import Model
    from veduta.search.query import PhotoSource

__all__ = ["explain_model_class"]


def explain_model_class(
    model: Model, photo: PhotoSource, class_name: str | None = None, *, name: str | None = None
) -> Explanation:
    """Return what each position of a photo adds to the score of a class of a linear model.

    Args:
        model: a recogniser whose scores are linear in the descriptor, see
            `veduta.recognize.model.open_model`.
        photo: a path or an (H, W, 3) uint8 RGB array, upright.
        class_name: one of `model.names`. None: the one with the highest score.
        name: of the photo; None: its path, or "the photo".

    Raises:
        PhotoError: the photo cannot be read.
        QueryError: an array is no photo, the model has no such class, or its scores are those of a
            network.
        EncoderError: the encoder's descriptors are no sums over positions (the message names the
            methods that work), or the network fails.
    """
    start = time.perf_counter()
    linear = model.linear
    if linear is None:
        raise QueryError(
            "The method shares explains models that are linear in a descriptor, and the scores of "
            "this model are those of a network. The methods occlusion and rise work with it."
        )
    require_parts(model.encoder)
    class_id = None if class_name is None else find_class(model.names, class_name)
    read = read_photo(photo, model.long_side)
    parts = descriptor_parts(model.encoder, read.pixels)
    scores = linear.scores(parts.descriptor[None])[0]
    if class_id is None:
        class_id = int(scores.argmax())
    # The score is ((x - mean) / length - centred_mean) @ weights + bias.
    weights = linear.weights[:, class_id].astype(np.float64)
    length = max(float(np.linalg.norm(parts.descriptor - linear.mean)), MIN_LENGTH)
    explanation = exact_map(
        name or photo_name(photo, "the photo"),
        read.pixels,
        parts,
        weights / length,
        constant=float(
            linear.bias[class_id] - (linear.mean / length + linear.centred_mean) @ weights
        ),
        class_name=model.names[class_id],
        score=float(scores[class_id]),
    )
    return replace(explanation, seconds=time.perf_counter() - start)
