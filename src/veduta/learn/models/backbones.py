"""Networks that others designed, without their classifier: what a recipe's own layers follow."""

from __future__ import annotations

import math
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from veduta.errors import LearnError, RecipeError, readable
from veduta.learn.models.layers import Shape, shape_text
from veduta.text import did_you_mean

__all__ = ["Backbone", "build_backbone"]

# Seconds after which a server counts as not reachable.
PATIENCE = 10

HUB_FILE = "model.safetensors"

# What torchvision's networks call their classifiers.
CLASSIFIERS = ("fc", "classifier", "head", "heads")


class Backbone(nn.Module):  # type: ignore[misc]
    """A network without its classifier.

    `name`: as in the recipe. `entry`: its method that gives what `shape` says of one photo: a map
    (C, h, w) where the network is convolutional, otherwise its own pooled vector (C,).
    `descriptor`: how many numbers of the vector photos are compared by; the others are for layers
    that name classes. 0: all.
    """

    shape: Shape = ()

    def __init__(
        self, name: str, network: nn.Module, entry: str = "forward", *, descriptor: int = 0
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.entry = entry
        self.descriptor = descriptor

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, *shape)."""
        network = self.network if self.entry == "forward" else getattr(self.network, self.entry)
        return network(photos)

    def learns(self, train: str | Sequence[str]) -> None:
        """Let what `train` says learn, and freeze the rest.

        Args:
            train: "all", "none", or beginnings of names of the network's parameters.

        Raises:
            RecipeError: no parameter's name begins so.
        """
        parameters = dict(self.network.named_parameters())
        beginnings = {"all": ("",), "none": ()}.get(train) if isinstance(train, str) else train
        if beginnings is None:
            beginnings = (str(train),)
        for beginning in beginnings:
            if not any(name.startswith(beginning) for name in parameters):
                raise RecipeError(_no_such_parameter(self.name, beginning, parameters))
        for name, parameter in parameters.items():
            parameter.requires_grad_(name.startswith(tuple(beginnings)))
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Frozen parts keep to inference, so that their batch norms do not move, as in Keras."""
        super().train(mode)
        for module in self.network.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(one.requires_grad for one in parameters):
                module.eval()
        return self


def build_backbone(name: str, weights: str, size: int) -> Backbone:
    """Make a backbone, all of which learns.

    Args:
        name: "embedded:NAME", "timm:NAME" or "torchvision:NAME".
        weights: "pretrained", "none" (random), or the path of a .safetensors file.
        size: pixels, the side of the square photos.

    Raises:
        RecipeError: there is no such network, or it does not take photos of that size.
        LearnError: its weights are not to be had; the message names the ways to get some.
    """
    kind, _, model = name.partition(":")
    makers = {"embedded": _embedded, "timm": _timm, "torchvision": _torchvision}
    if kind not in makers or not model:
        raise RecipeError(
            f"network.backbone is {name!r}; wanted is embedded:NAME, timm:NAME, torchvision:NAME, "
            'encoder:NAME for descriptors that are computed once, or "" for none'
        )
    if weights in {"pretrained", "none"}:
        return makers[kind](name, model, weights, size)
    path = Path(weights)
    state = _read(path)
    backbone = makers[kind](name, model, weights, size)
    _load(backbone.network, state, f"{readable(path)} as weights of {name}")
    return backbone


def _embedded(name: str, model: str, weights: str, size: int) -> Backbone:
    from veduta.learn.models.embedded_network import CHANNELS, NETWORKS, TEXTURED, embedded_network

    if model not in NETWORKS:
        raise _unknown(name, model, list(NETWORKS))
    network = embedded_network(model, pretrained=weights == "pretrained")
    descriptor = 2 * CHANNELS if model == TEXTURED else 0
    return _finished(Backbone(name, network, descriptor=descriptor), size)


def _timm(name: str, model: str, weights: str, size: int) -> Backbone:
    import timm

    if not timm.is_model(model.partition(".")[0]):
        raise _unknown(name, model, timm.list_models())
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise RecipeError(f"network.backbone {name}: {error}") from error
    arguments: dict[str, Any] = {"num_classes": 0}
    if weights == "pretrained":
        overlay = {"file": None, "state_dict": None} | _timm_weights(name, config)
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    network = timm.create_model(model, **arguments)
    backbone = Backbone(name, network, "forward_features")
    shape, _ = _outcome(backbone, size)
    if len(shape) != 3 or shape[0] != network.num_features:
        # Tokens, or channels last: the network's own pooling knows what to do with them.
        backbone = Backbone(name, network)
    return _finished(backbone, size)


def _torchvision(name: str, model: str, weights: str, size: int) -> Backbone:
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise _unknown(name, model, known)
    arguments: dict[str, Any] = {}
    if model in {"googlenet", "inception_v3"}:
        # Its published weights want the scale of their first training; the network converts.
        arguments = {
            "aux_logits": False,
            "init_weights": True,
            "transform_input": weights != "none",
        }
    network = models.get_model(model, weights=None, **arguments)
    for classifier in CLASSIFIERS:
        if hasattr(network, classifier):
            setattr(network, classifier, nn.Identity())
    backbone = _finished(Backbone(name, network), size)
    if weights == "pretrained":
        url = models.get_model_weights(model).DEFAULT.url
        _load(network, _downloaded(name, url), f"the published weights of {name}")
    return backbone


def _finished(backbone: Backbone, size: int) -> Backbone:
    """Note the shape that comes out, and drop the parts that have no part in it."""
    backbone.shape, used = _outcome(backbone, size)
    for name, child in list(backbone.network.named_children()):
        if name not in used and any(True for _ in child.parameters()):
            setattr(backbone.network, name, nn.Identity())
    return backbone


def _outcome(backbone: Backbone, size: int) -> tuple[Shape, set[str]]:
    """Return the shape that comes out, and the names of the parts that were used.

    Computed on the meta device: shapes without arithmetic.
    """
    used: set[str] = set()
    hooks = [
        # A list of modules runs through its members alone.
        module.register_forward_hook(lambda *_, name=name: used.add(name))
        for name, child in backbone.network.named_children()
        for module in child.modules()
    ]
    tensors = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    state = {name: torch.empty_like(one, device="meta") for name, one in tensors.items()}
    training = backbone.training
    backbone.eval()
    try:
        out = functional_call(backbone, state, (torch.empty(1, 3, size, size, device="meta"),))
    except (RuntimeError, AssertionError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"network.backbone {backbone.name} does not take photos of {size} x {size} pixels: "
            f"{detail}; change input.size"
        ) from error
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    shape = tuple(out.shape[1:])
    if math.prod(shape) == 0:
        raise RecipeError(
            f"network.backbone {backbone.name} leaves nothing of photos of {size} x {size} pixels; "
            "raise input.size"
        )
    return shape, used


def _timm_weights(name: str, config: Any) -> dict[str, Any]:
    """Return what timm's configuration needs to find the published weights on this machine."""
    if config is None or not (config.hf_hub_id or config.url):
        raise _unavailable(name, "timm knows of none")
    if not config.hf_hub_id:
        return {"state_dict": _downloaded(name, config.url)}
    return {"file": _hub_file(name, config.hf_hub_id)}


def _hub_file(name: str, repository: str) -> str:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return cached
    try:
        # Asked first because it gives up at once; the download tries again for half a minute.
        HfApi().model_info(repository, timeout=PATIENCE)
        return str(hf_hub_download(repository, HUB_FILE))
    # The client lets through whatever its HTTP library raises, and that library has changed.
    except Exception as error:
        raise _unavailable(
            name, f"the hub does not give {HUB_FILE} of {repository} ({_detail(error)})"
        ) from error


def _downloaded(name: str, url: str) -> Mapping[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)
    try:
        if not cached.is_file():
            # torch waits for a silent server without end.
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (of the library)
            urllib.request.urlopen(request, timeout=PATIENCE).close()  # noqa: S310
        state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise _unavailable(name, f"{os.path.basename(url)}: {_detail(error)}") from error
    return state


def _unavailable(name: str, reason: str) -> LearnError:
    return LearnError(
        f"{name}: its pretrained weights are not on this machine, and {reason}. Three ways on: "
        "run once where the hub is reachable; fetch the weights elsewhere and set network.weights "
        "to the path of the .safetensors file; or set network.backbone to "
        '"embedded:efficientnet-lite2", whose weights are in the package '
        '(network.weights = "none" starts from random ones)'
    )


def _read(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise RecipeError(
            f"network.weights is {str(path)!r}; wanted is pretrained, none, or the path of a "
            ".safetensors file"
        )
    try:
        state: Mapping[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LearnError(f"{readable(path)}: does not read as safetensors: {error}") from error
    return state


def _load(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy weights into a network; tensors it has no place for, such as a classifier, are left.

    Raises:
        LearnError: some are missing or of another shape.
    """
    wanted = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    wrong = [
        f"{name} is missing"
        if name not in state
        else f"{name} is {shape_text(state[name].shape)}, not {shape_text(tensor.shape)}"
        for name, tensor in wanted.items()
        if name not in state or state[name].shape != tensor.shape
    ]
    if wrong:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise LearnError(f"{what}: {shown}. It must be a file of the same network")
    network.load_state_dict({name: state[name] for name in wanted}, strict=False)


def _unknown(name: str, model: str, known: Sequence[str]) -> RecipeError:
    library = name.partition(":")[0]
    advice = (
        did_you_mean(model, known, prefix=f"{library}:") or f"known are {', '.join(known[:8])} …"
    )
    return RecipeError(f"network.backbone {name}: there is no such network; {advice}")


def _no_such_parameter(name: str, beginning: str, parameters: Mapping[str, Tensor]) -> str:
    parts = list(dict.fromkeys(one.partition(".")[0] for one in parameters))
    advice = (
        did_you_mean(beginning, [*parts, *parameters]) or f"they begin with {', '.join(parts[:12])}"
    )
    return (
        f'network.train: no parameter of {name} begins with "{beginning}"; {advice} '
        "(or all, or none)"
    )


def _detail(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
