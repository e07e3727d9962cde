"""Explains the answers of a run: the score of a class, or the similarity of two photos."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import LearnError, QueryError, readable
from veduta.explanation.explanation import Explanation
from veduta.explanation.methods import CHANGED_PHOTOS, method_for
from veduta.explanation.scorers import find_class
from veduta.learn.explaining import class_activation, saliency
from veduta.learn.explaining.activation_maps import activation_map
from veduta.learn.explaining.changed_photos import (
    explain_class_by_changes,
    explain_embedding_by_changes,
    no_classes,
)
from veduta.learn.explaining.class_activation import (
    FOR_A_CLASS,
    exact_shares,
    grad_cam,
    has_exact_shares,
)
from veduta.learn.explaining.explained_network import (
    WEIGHTS,
    ExplainedNetwork,
    open_network,
    run_recipe,
)
from veduta.learn.explaining.feature_maps import FeatureLayer, last_convolution, last_map
from veduta.learn.explaining.frozen_run import FrozenRun, open_frozen_run
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE, read_card
from veduta.search.query import photo_name, read_photo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.learn.explaining.gradient_rules import Rule
    from veduta.learn.explaining.network_map import NetworkMap
    from veduta.search.query import PhotoSource

__all__ = ["explain_class", "explain_embedding"]

FOR_A_SIMILARITY = "grad-cam, occlusion, rise"
"""Methods that explain a similarity where there is no exact map."""

EXACT = ("cam", "shares")
"""Two names of the exact map: it is a class activation map, and it consists of shares."""


def _activation_map(
    network: nn.Module, photos: Tensor, target: int, layer: FeatureLayer, rule: Rule
) -> NetworkMap:
    return activation_map(network, photos, target, layer.module, rule)


OnLayer = Callable[[nn.Module, Tensor, int, FeatureLayer], "NetworkMap"]
OnPixels = Callable[[nn.Module, Tensor, int], "NetworkMap"]

ON_LAST_CONVOLUTION: dict[str, OnLayer] = {
    "grad-cam": class_activation.grad_cam,
    "grad-cam++": class_activation.grad_cam_plus_plus,
    "layer-cam": class_activation.layer_cam,
    "eigen-cam": class_activation.eigen_cam,
    "score-cam": class_activation.score_cam,
    "guided-grad-cam": class_activation.guided_grad_cam,
    "pooled-gradients": class_activation.pooled_gradients,
}
ON_LAST_MAP: dict[str, OnLayer] = {
    "activation": partial(_activation_map, rule="gradient"),
    "activation-guided": partial(_activation_map, rule="guided"),
    "activation-rectified": partial(_activation_map, rule="rectified"),
}
ON_PIXELS: dict[str, OnPixels] = {
    "gradient": partial(saliency.saliency_map, rule="gradient"),
    "guided": partial(saliency.saliency_map, rule="guided"),
    "rectified": partial(saliency.saliency_map, rule="rectified"),
    "smoothgrad": saliency.smoothgrad,
    "integrated-gradients": saliency.integrated_gradients,
}


@dataclass(frozen=True, slots=True, eq=False)
class _SeenPhoto:
    """A photo as a run sees it.

    Attributes:
        inputs: what its modules take: (1, 3, S, S), or (1, D) for layers on descriptors.
        box: the part of the photo that the network gets, in pixels.
        shares: from a module of the run, a linear function of its outputs, and the methods that an
            error names, to the exact map.
    """

    inputs: Tensor
    box: tuple[int, int, int, int]
    shares: Callable[[nn.Module, Callable[[Tensor], Tensor], str], NetworkMap]


def explain_class(
    run: str | os.PathLike[str],
    photo: PhotoSource,
    class_name: str | None = None,
    method: str | None = None,
    *,
    name: str | None = None,
) -> Explanation:
    """Explain the score that the network of a run gives a class.

    Args:
        run: the folder of the run.
        photo: a path, or (h, w, 3) uint8 RGB, upright.
        class_name: the class; None: the one with the highest score.
        method: one of `veduta.explanation.METHODS` that explains a class. None: the exact map
            ("cam", or "shares" for layers on an encoder's descriptors) where there is one, else
            "layer-cam", or "occlusion" where no feature map is left to see.
        name: what the result calls the photo; None: its path.

    Returns:
        The map, with the score before a softmax or sigmoid. A network with one unit z has the score
        z for its second class and -z for its first.

    Raises:
        PhotoError: the photo cannot be read.
        LearnError: the run cannot be used.
        EncoderError: the encoder of the run is not available, or is no sum over positions.
        QueryError: the run has no such class or none at all, or the method is unknown or does not
            work with its network.
    """
    run = Path(run)
    chosen = None if method is None else method_for(method, "class").name
    if chosen in CHANGED_PHOTOS:
        return explain_class_by_changes(run, photo, class_name, chosen, name=name)
    started = time.perf_counter()
    opened = _open(run)
    if (layers := opened.scores) is None:
        raise no_classes(run)
    class_id = None if class_name is None else find_class(opened.classes, class_name)
    pixels = read_photo(photo, opened.long_side).pixels
    if chosen is None:
        chosen = _default(opened, layers, pixels, exact="cam", other="layer-cam")
    if chosen in CHANGED_PHOTOS:
        return explain_class_by_changes(run, photo, class_name, chosen, name=name)
    seen = _see(opened, pixels, chosen)
    with torch.no_grad():
        (scores,) = layers(seen.inputs)
    _check_finite(scores, run)
    target = int(scores.argmax()) if class_id is None else class_id
    if chosen in EXACT:
        found = seen.shares(layers, lambda outputs: outputs[:, target], FOR_A_CLASS)
    elif chosen in ON_LAST_MAP:
        found = ON_LAST_MAP[chosen](
            layers, seen.inputs, target, _layer(last_map, layers, seen.inputs)
        )
    elif chosen in ON_PIXELS:
        found = ON_PIXELS[chosen](layers, seen.inputs, target)
    else:
        layer = _layer(last_convolution, layers, seen.inputs)
        found = ON_LAST_CONVOLUTION[chosen](layers, seen.inputs, target, layer)
    return Explanation(
        photo=name or photo_name(photo, "the photo"),
        pixels=pixels,
        map=found.map,
        box=seen.box,
        method=chosen,
        layer=found.layer,
        class_name=opened.classes[target],
        score=float(scores[target]),
        constant=found.constant,
        seconds=time.perf_counter() - started,
        notes=found.notes + _note_of_zeros(found),
    )


def explain_embedding(
    run: str | os.PathLike[str],
    photo: PhotoSource,
    other: PhotoSource,
    method: str | None = None,
    *,
    name: str | None = None,
    other_name: str | None = None,
) -> Explanation:
    """Explain the similarity of two photos: the cosine of their outputs at the cut of a network.

    Args:
        run: the folder of the run.
        photo: a path, or (h, w, 3) uint8 RGB, upright.
        other: the other photo.
        method: "shares", "grad-cam", "occlusion" or "rise". None: "shares" where they are exact,
            else "grad-cam", or "occlusion" where no feature map is left to see.
        name: what the result calls the photo; None: its path.
        other_name: what the result calls the other photo; None: its path.

    Returns:
        The map over the photo; `against` is the map over the other photo.

    Raises:
        PhotoError: a photo cannot be read.
        LearnError: the run cannot be used.
        EncoderError: the encoder of the run is not available, or is no sum over positions.
        QueryError: the method is unknown, or does not work with this network.
    """
    run = Path(run)
    chosen = None if method is None else method_for(method, "similarity").name
    if chosen in CHANGED_PHOTOS:
        return explain_embedding_by_changes(
            run, photo, other, chosen, name=name, other_name=other_name
        )
    opened = _open(run)
    layers = opened.embedding
    pixels = [read_photo(source, opened.long_side).pixels for source in (photo, other)]
    if chosen is None:
        chosen = _default(opened, layers, pixels[0], exact="shares", other="grad-cam")
    if chosen in CHANGED_PHOTOS:
        return explain_embedding_by_changes(
            run, photo, other, chosen, name=name, other_name=other_name
        )
    names = (
        name or photo_name(photo, "the photo"),
        other_name or photo_name(other, "the other photo"),
    )
    started = time.perf_counter()
    seen = [_see(opened, one, chosen) for one in pixels]
    with torch.no_grad():
        features = torch.cat([layers(one.inputs) for one in seen])
    _check_finite(features, run)
    lengths = features.norm(dim=1).clamp(min=torch.finfo(features.dtype).tiny)
    units = features / lengths[:, None]
    explanations = []
    for number, one in enumerate(seen):
        if chosen == "shares":
            # The length of this photo's features is held constant.
            direction = units[1 - number] / lengths[number]
            found = one.shares(layers, partial(torch.mv, vec=direction), FOR_A_SIMILARITY)
        else:
            layer = _layer(last_convolution, layers, one.inputs)
            found = grad_cam(_Similarity(layers, units[1 - number]), one.inputs, 0, layer)
        explanations.append(
            Explanation(
                photo=names[number],
                pixels=pixels[number],
                map=found.map,
                box=one.box,
                method=chosen,
                layer=found.layer,
                similarity=float(units[0].double() @ units[1].double()),
                constant=found.constant,
                notes=found.notes + _note_of_zeros(found),
            )
        )
    seconds = time.perf_counter() - started
    first, second = (replace(one, seconds=seconds) for one in explanations)
    return replace(first, against=second)


class _Similarity(nn.Module):  # type: ignore[misc]
    """The similarity of photos to another one, as the only score of a network."""

    def __init__(self, embedding: nn.Module, other: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.other = other

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, 1)."""
        return functional.normalize(self.embedding(photos)) @ self.other[:, None]


def _open(run: Path) -> ExplainedNetwork | FrozenRun:
    """Open a run; the last one is kept for the next method or photo."""
    files = [run / name for name in (CARD_FILE, RECIPE_FILE, WEIGHTS)]
    stamps = tuple((one.stat().st_mtime_ns, one.stat().st_size) for one in files if one.is_file())
    return _opened(run.absolute(), stamps)


@lru_cache(maxsize=1)
def _opened(run: Path, stamps: tuple[tuple[int, int], ...]) -> ExplainedNetwork | FrozenRun:
    read_card(run)  # says what is wrong with a folder that is no finished run
    recipe = run_recipe(run)
    return open_frozen_run(run, recipe) if recipe.network.encoder else open_network(run)


def _see(
    opened: ExplainedNetwork | FrozenRun, pixels: NDArray[np.uint8], method: str
) -> _SeenPhoto:
    if isinstance(opened, FrozenRun):
        if method != "shares":
            raise QueryError(
                f"{readable(opened.folder)}: the method {method} needs a network that begins with "
                f"a photo, but the layers of this run take the descriptors of the encoder "
                f"{opened.encoder.name}. Methods that work: shares, occlusion, rise."
            )
        frozen, parts = opened, opened.parts(pixels)
        return _SeenPhoto(
            torch.tensor(parts.descriptor[None]),
            parts.box,
            lambda layers, value, _: frozen.shares(parts, layers, value),
        )
    photos = opened.prepare(pixels)

    def shares(layers: nn.Module, value: Callable[[Tensor], Tensor], others: str) -> NetworkMap:
        layer = _layer(last_convolution, layers, photos)
        return exact_shares(layers, photos, value, layer, others=others)

    return _SeenPhoto(photos, opened.box(pixels), shares)


def _default(
    opened: ExplainedNetwork | FrozenRun,
    layers: nn.Module,
    pixels: NDArray[np.uint8],
    exact: str,
    other: str,
) -> str:
    """Return the default method: `exact` or `other`, or one that needs no feature map."""
    if isinstance(opened, FrozenRun):
        return "shares" if opened.has_shares(layers) else CHANGED_PHOTOS[0]
    try:
        layer = _layer(last_convolution, layers, opened.prepare(pixels))
    except QueryError:
        return CHANGED_PHOTOS[0]
    return exact if has_exact_shares(layer) else other


_LAYERS: WeakKeyDictionary[nn.Module, dict[str, FeatureLayer]] = WeakKeyDictionary()
"""The feature layers of opened networks. To find one takes about as long as to run the network."""


def _layer(
    find: Callable[[nn.Module, Tensor], FeatureLayer], network: nn.Module, photos: Tensor
) -> FeatureLayer:
    known = _LAYERS.setdefault(network, {})
    if find.__name__ not in known:
        known[find.__name__] = find(network, photos)
    return known[find.__name__]


def _check_finite(numbers: Tensor, run: Path) -> None:
    if not torch.isfinite(numbers).all():
        raise LearnError(
            f"{readable(run / WEIGHTS)}: the network gives infinite or undefined numbers: its "
            "weights are damaged, or its training failed. Train the run again into a new folder"
        )


def _note_of_zeros(found: NetworkMap) -> tuple[str, ...]:
    if found.map.any():
        return ()
    return ("The map is zero everywhere: by this method, nothing in the photo speaks for it.",)
