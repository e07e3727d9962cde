"""Copies the weights of a file into a network, and tells which parts of both they are.

A file is one of three kinds, which its names show:

    model.safetensors, encoder.safetensors of a run     backbone.network.*, layers.N.*, decoder.N.*
    decoder.safetensors of a run                        N.*
    a backbone of timm or torchvision                   their own names

The layers of a run's file are matched in their order, without those that have no weights (a pool,
noise). They are taken up to the first layer of another kind or shape: the layers behind it would
get other features than those that they were trained on. A backbone is taken as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from veduta.errors import LearnError, RecipeError, readable
from veduta.learn.models.backbones import backbone_tensors
from veduta.learn.models.layers import shape_text
from veduta.learn.models.matched_weights import MatchedWeights
from veduta.learn.models.networks import Net

__all__ = ["WeightsFile", "copy_weights", "read_weights"]

SUFFIX = ".safetensors"
BACKBONE = "backbone.network."
COUNTER = "num_batches_tracked"
"""A number of a batch norm that no output depends on. It is copied and not counted."""

_RUN_NAME = re.compile(r"(backbone\.network\.|layers\.\d+\.|decoder\.\d+\.)")
_DECODER_NAME = re.compile(r"\d+\.")

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        path: the file.
        digest: 16 hex digits, BLAKE3 of its bytes.
        tensors: its tensors by name, on the CPU. The names are those of `Net`, or those of the
            library that a backbone comes from.
    """

    path: Path
    digest: str
    tensors: Tensors

    @property
    def is_of_a_run(self) -> bool:
        """Whether the names are those of `Net`; otherwise it is the file of a backbone."""
        return all(_RUN_NAME.match(name) for name in self.tensors)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer with weights.

    Attributes:
        name: "layers.3" or "decoder.0", by its position in the network.
        kind: the name in a recipe, or "" for a layer of a file.
        names: from "weight" to the name of the tensor.
        shapes: from "weight" to its shape.
    """

    name: str
    kind: str
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    def text(self) -> str:
        """Return the layer with the shape of its largest tensor: "layers.3 (dense, 5 x 32)"."""
        shape = shape_text(max(self.shapes.values(), key=lambda one: (len(one), one)))
        return f"{self.name} ({self.kind}, {shape})" if self.kind else f"{self.name} ({shape})"


def read_weights(path: Path) -> WeightsFile:
    """Read a weights file. Nothing in it is executed.

    Args:
        path: a .safetensors file.

    Raises:
        RecipeError: the name has another ending.
        LearnError: there is no such file, it is damaged or of another format, or a number in it is
            not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from veduta.photos import content_hash

    if path.is_dir():
        raise LearnError(
            f"{readable(path)}: is a folder; name the {SUFFIX} file, or go on from a run with "
            "--from RUN"
        )
    if path.suffix != SUFFIX:
        raise RecipeError(
            f"network.weights is {readable(path)!r}; expected pretrained, none, or the path of a "
            f"{SUFFIX} file. Other formats can hold programs and are not opened: where the file "
            "comes from, save its tensors with safetensors.torch.save_file"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LearnError(
            f"{readable(path)}: the weights cannot be read: {error.strerror or error}; name "
            f"another {SUFFIX} file, or set network.weights to pretrained or none"
        ) from error
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise LearnError(
            f"{readable(path)}: cannot be read as safetensors: {error}. The file is damaged or of "
            "another format: fetch or write it again"
        ) from error
    if not tensors:
        raise LearnError(f"{readable(path)}: holds no weights; name another file")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise LearnError(
                f"{readable(path)}: {readable(name)} holds numbers that are not finite, so the "
                "weights are of no use; name another file"
            )
    if all(_DECODER_NAME.match(name) for name in tensors):
        tensors = {f"decoder.{name}": tensor for name, tensor in tensors.items()}
    return WeightsFile(path, content_hash(content).hex()[:16], tensors)


def copy_weights(
    net: Net, file: WeightsFile, *, new_classes: bool = False, keeps_backbone: bool = False
) -> MatchedWeights:
    """Copy the weights of a file into a network, as far as they fit.

    Args:
        net: the network. Its other weights stay. On torch's meta device only shapes are compared.
        file: the file.
        new_classes: the file is of other classes, so the layer that names them is not taken.
        keeps_backbone: the network keeps its backbone if the file has none.

    Returns:
        What was copied.

    Raises:
        LearnError: the file fits no part of the network, or a part of its backbone only.
    """
    state = {name: one for name, one in net.state_dict().items() if not name.endswith(COUNTER)}
    pairs = _backbone_pairs(net, file, keeps_backbone=keeps_backbone)
    new = [] if pairs or net.backbone is None else [f"backbone ({net.backbone.name}, its own)"]
    unused = _unused_backbone_parts(file, pairs)
    reason, class_layer = "", False
    for part in ("layers", "decoder"):
        own, given = _layers(state, part, _kinds(net, part)), _layers(file.tensors, part)
        count = _common_length(own, given)
        if count < min(len(own), len(given)) and not reason:
            reason = f"{own[count].text()} in the recipe is {given[count].text()} in the file"
        if part == "layers" and new_classes and net.has_scores and count == len(own) > 0:
            count -= 1
            reason = f"{own[count].text()} names the classes, which are others in the file"
        class_layer |= part == "layers" and net.has_scores and count == len(own) > 0
        for layer, other in zip(own[:count], given, strict=False):
            pairs |= {layer.names[key]: other.names[key] for key in layer.names}
        new += [layer.text() for layer in own[count:]]
        unused += [layer.text() for layer in given[count:]]
    if not pairs:
        raise LearnError(
            f"{readable(file.path)}: none of its weights fit the network"
            f"{f': {reason}' * bool(reason)}. Take the file of a network whose first layers are "
            "the same, or start without it"
        )
    for name, tensor in pairs.items():
        if state[name].is_floating_point() and not file.tensors[tensor].is_floating_point():
            raise LearnError(
                f"{readable(file.path)}: {readable(tensor)} holds whole numbers, not weights; name "
                "another file"
            )
    if not next(iter(state.values())).is_meta:
        net.load_state_dict(
            {name: file.tensors[other] for name, other in pairs.items()}, strict=False
        )
    return MatchedWeights(
        digest=file.digest,
        used=len(pairs),
        tensors=len(state),
        new=tuple(new),
        unused=tuple(unused),
        new_classes=new_classes and net.has_scores,
        class_layer=class_layer,
    )


def _backbone_pairs(net: Net, file: WeightsFile, *, keeps_backbone: bool) -> dict[str, str]:
    """Return from the name of a tensor of the backbone to its name in the file.

    Raises:
        LearnError: the backbone and the file do not belong together.
    """
    prefix = BACKBONE if file.is_of_a_run else ""
    given = {
        name.removeprefix(prefix): tensor
        for name, tensor in file.tensors.items()
        if name.startswith(prefix) and not name.endswith(COUNTER)
    }
    if net.backbone is None:
        if given:
            raise LearnError(
                f"{readable(file.path)}: begins with the weights of a backbone "
                f"({readable(min(given))}), but the recipe has none: set network.backbone "
                "to the network that the file belongs to"
            )
        return {}
    if not given:
        if keeps_backbone:
            return {}
        raise LearnError(
            f"{readable(file.path)}: has no weights of the backbone {net.backbone.name}; its "
            "network has no backbone. Take a recipe without network.backbone, or another file"
        )
    tensors = backbone_tensors(
        net.backbone.network, given, f"{readable(file.path)} as weights of {net.backbone.name}"
    )
    return {f"{BACKBONE}{name}": f"{prefix}{name}" for name in tensors}


def _unused_backbone_parts(file: WeightsFile, pairs: Mapping[str, str]) -> list[str]:
    """Return the first parts of the names that a backbone does not take, such as "fc"."""
    taken = set(pairs.values())
    left = [
        readable(name.removeprefix(BACKBONE).partition(".")[0])
        for name in file.tensors
        if name not in taken
        and not name.endswith(COUNTER)
        and not name.startswith(("layers.", "decoder.") if file.is_of_a_run else ())
    ]
    return list(dict.fromkeys(left))


def _kinds(net: Net, part: str) -> list[str]:
    """Return the kinds of the layers of a part, in their positions in the network."""
    if part == "layers":
        return [layer.kind for layer in net.layer_table]
    # A decoder may begin with a reshape that the recipe does not name.
    first = (0 if net.decoder is None else len(net.decoder)) - len(net.decoder_table)
    return ["reshape"] * first + [layer.kind for layer in net.decoder_table]


def _layers(tensors: Tensors, part: str, kinds: Sequence[str] = ()) -> list[_Layer]:
    """Return the layers of a part that have weights, in their order."""
    numbered: dict[int, dict[str, str]] = {}
    for name in tensors:
        found, _, rest = name.partition(".")
        number, _, suffix = rest.partition(".")
        if found != part or not number.isdecimal() or name.endswith(COUNTER):
            continue
        # A convolution with an activation has its weights one module deeper.
        key = ".".join(one for one in suffix.split(".") if not one.isdecimal())
        numbered.setdefault(int(number), {})[key] = name
    return [
        _Layer(
            f"{part}.{number}",
            kinds[number] if kinds else "",
            names,
            {key: tuple(tensors[name].shape) for key, name in names.items()},
        )
        for number, names in sorted(numbered.items())
    ]


def _common_length(own: Sequence[_Layer], given: Sequence[_Layer]) -> int:
    """Return how many of the first layers are the same in both."""
    same = [one.shapes == other.shapes for one, other in zip(own, given, strict=False)]
    return [*same, False].index(False)
