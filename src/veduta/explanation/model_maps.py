"""The score of a class, explained without torch: of a recogniser on descriptors, or of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veduta.encoders.descriptor_parts import has_parts
from veduta.errors import QueryError
from veduta.explanation.class_shares import explain_model_class
from veduta.explanation.methods import METHODS, method_for
from veduta.explanation.perturbation import explain_by_perturbation
from veduta.explanation.scorers import class_scorer, class_scores, find_class
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    from veduta.explanation.explanation import Explanation
    from veduta.explanation.methods import Method
    from veduta.recognize.model import Model
    from veduta.search import PhotoSource

__all__ = ["explain_model"]


def explain_model(
    model: Model,
    photo: PhotoSource,
    class_name: str | None = None,
    *,
    method: str | None = None,
    name: str | None = None,
) -> Explanation:
    """Explain the score that a recogniser gives a class, without torch.

    Args:
        model: from `veduta.recognize.open_model`: a recogniser on descriptors, or that of a run.
        photo: a path, or an (H, W, 3) uint8 RGB array, upright.
        class_name: one of the classes of the model; None: the one with the highest score.
        method: "shares", "occlusion" or "rise". None: "shares", or "occlusion" for a run.
        name: of the photo; None: its path.

    Returns:
        The map over the photo. The score of a run is that before a softmax or sigmoid.

    Raises:
        PhotoError: the photo cannot be read.
        EncoderError: the encoder of the model cannot be explained by that method.
        QueryError: the model has no such class, or the method is unknown or does not explain this
            model.
    """
    chosen = _method(method, model)
    name = name or photo_name(photo, "the photo")
    if chosen.name == "shares":
        return explain_model_class(model, photo, class_name, name=name)
    pixels = read_photo(photo, model.long_side).pixels
    (scores,) = class_scores(model, [pixels])
    class_id = int(scores.argmax()) if class_name is None else find_class(model.names, class_name)
    return explain_by_perturbation(
        chosen.name,
        class_scorer(model, class_id),
        pixels,
        photo=name,
        class_name=model.names[class_id],
        long_side=model.encoder.long_side,
    )


def _method(name: str | None, model: Model) -> Method:
    """Return the method of a name, or the default one for the model."""
    if name is None:
        by_shares = model.linear is not None and has_parts(model.encoder)
        return METHODS["shares" if by_shares else "occlusion"]
    method = method_for(name, "class")
    if method.needs_torch:
        raise QueryError(
            f"The method {method.name} explains networks that `veduta train` trained, and this "
            "model has none. Methods for it: shares, occlusion, rise."
        )
    return method
