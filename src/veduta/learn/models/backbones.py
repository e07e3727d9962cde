"""Pretrained networks of other libraries, without their classifiers."""

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

from veduta.errors import LearnError, RecipeError, WeightsUnavailable
from veduta.learn.models.layers import Shape, shape_text
from veduta.text import did_you_mean

__all__ = ["Backbone", "backbone_tensors", "build_backbone", "weights_on_machine"]

TIMEOUT_SECONDS = 10
"""A server that does not answer for this long counts as unreachable."""

HUB_FILE = "model.safetensors"

CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""The names of the classifiers in torchvision's networks."""

MAX_LISTED_NAMES = 8
MAX_LISTED_PARAMETERS = 12
MAX_LISTED_MISMATCHES = 3


class Backbone(nn.Module):  # type: ignore[misc]
    """A network without its classifier.

    Attributes:
        name: the name in a recipe.
        network: the network.
        method: the name of the network's method that computes the output.
        shape: the shape of the output for one photo: a map (C, h, w) of a convolutional network, or
            else a pooled vector (C,).
        descriptor_size: how many numbers of the vector are the descriptor. The others are only for
            layers that classify. 0: all.
    """

    shape: Shape = ()

    def __init__(
        self, name: str, network: nn.Module, method: str = "forward", *, descriptor_size: int = 0
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.method = method
        self.descriptor_size = descriptor_size

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, *shape)."""
        # The call of the module itself, unlike that of its method, runs its hooks.
        if self.method == "forward":
            return self.network(photos)
        return getattr(self.network, self.method)(photos)

    def set_trainable(self, train: str | Sequence[str]) -> None:
        """Choose which parameters are trained, and freeze the others.

        Args:
            train: "all", "none", or the first letters of names of parameters.

        Raises:
            RecipeError: no parameter has such a name.
        """
        parameters = dict(self.network.named_parameters())
        prefixes = {"all": ("",), "none": ()}.get(train) if isinstance(train, str) else train
        if prefixes is None:
            prefixes = (str(train),)
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in parameters):
                raise RecipeError(_unknown_parameter(self.name, prefix, parameters))
        for name, parameter in parameters.items():
            parameter.requires_grad_(name.startswith(tuple(prefixes)))
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen modules stay in eval mode, so that their batch norms do not change.

        Args:
            mode: training mode, or else eval mode.
        """
        super().train(mode)
        for module in self.network.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(one.requires_grad for one in parameters):
                module.eval()
        return self


def build_backbone(name: str, weights: str, size: int) -> Backbone:
    """Make a backbone, all of which is trained.

    Args:
        name: "embedded:NAME", "timm:NAME" or "torchvision:NAME".
        weights: "pretrained", or random: "none", or "later" if the caller copies trained weights
            into it, whose input may have another scale.
        size: the side of the square photos, in pixels.

    Raises:
        RecipeError: there is no such network, or it does not take photos of that size.
        LearnError: the weights are not available; the message names the ways to get them.
    """
    library, _, model = name.partition(":")
    builders = {"embedded": _embedded, "timm": _timm, "torchvision": _torchvision}
    if library not in builders or not model:
        raise RecipeError(
            f"network.backbone is {name!r}; expected embedded:NAME, timm:NAME, torchvision:NAME, "
            'encoder:NAME for descriptors that are computed once, or "" for none'
        )
    return builders[library](name, model, weights, size)


def weights_on_machine(name: str, weights: str) -> bool:
    """Return whether `build_backbone` needs to fetch nothing.

    Args:
        name: as for `build_backbone`.
        weights: as for `build_backbone`.
    """
    library, _, model = name.partition(":")
    if weights != "pretrained" or library not in {"timm", "torchvision"}:
        return True
    if library == "torchvision":
        from torchvision import models

        # An unknown network has nothing to fetch. Building it says what is wrong.
        known = model in models.list_models(module=models)
        return not known or _checkpoint(models.get_model_weights(model).DEFAULT.url).is_file()
    import timm
    from huggingface_hub import try_to_load_from_cache

    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError:
        return True
    if config is not None and config.hf_hub_id:
        return isinstance(try_to_load_from_cache(config.hf_hub_id, HUB_FILE), str)
    return config is not None and bool(config.url) and _checkpoint(config.url).is_file()


def _checkpoint(url: str) -> Path:
    """Return where torch keeps a file that it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)


def _embedded(name: str, model: str, weights: str, size: int) -> Backbone:
    from veduta.learn.models.embedded_network import CHANNELS, NETWORKS, TEXTURED, embedded_network

    if model not in NETWORKS:
        raise _unknown_network(name, model, list(NETWORKS))
    network = embedded_network(model, pretrained=weights == "pretrained")
    descriptor_size = 2 * CHANNELS if model == TEXTURED else 0
    return _with_shape(Backbone(name, network, descriptor_size=descriptor_size), size)


def _timm(name: str, model: str, weights: str, size: int) -> Backbone:
    import timm

    if not timm.is_model(model.partition(".")[0]):
        raise _unknown_network(name, model, timm.list_models())
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
    shape, _ = _trace(backbone, size)
    if len(shape) != 3 or shape[0] != network.num_features:
        # The output has tokens, or channels last, so the network's own pooling is needed.
        backbone = Backbone(name, network)
    return _with_shape(backbone, size)


def _torchvision(name: str, model: str, weights: str, size: int) -> Backbone:
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise _unknown_network(name, model, known)
    arguments: dict[str, Any] = {}
    if model in {"googlenet", "inception_v3"}:
        # The published weights expect another scale of the input. The network converts it.
        arguments = {
            "aux_logits": False,
            "init_weights": True,
            "transform_input": weights != "none",
        }
    network = models.get_model(model, weights=None, **arguments)
    for classifier in CLASSIFIERS:
        if hasattr(network, classifier):
            setattr(network, classifier, nn.Identity())
    backbone = _with_shape(Backbone(name, network), size)
    if weights == "pretrained":
        url = models.get_model_weights(model).DEFAULT.url
        published = _downloaded(name, url)
        network.load_state_dict(
            backbone_tensors(network, published, f"the published weights of {name}"), strict=False
        )
    return backbone


def _with_shape(backbone: Backbone, size: int) -> Backbone:
    """Set the shape of the output, and remove the parts that the output does not depend on."""
    backbone.shape, used = _trace(backbone, size)
    for name, child in list(backbone.network.named_children()):
        if name not in used and any(True for _ in child.parameters()):
            setattr(backbone.network, name, nn.Identity())
    return backbone


def _trace(backbone: Backbone, size: int) -> tuple[Shape, set[str]]:
    """Return the shape of the output, and the names of the parts that were used.

    It runs on the meta device, which has shapes without arithmetic.
    """
    used: set[str] = set()
    hooks = [
        # A list of modules has no forward pass, so its members are watched.
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
            f"network.backbone {backbone.name} has no output for photos of {size} x {size} pixels; "
            "take a larger input.size"
        )
    return shape, used


def _timm_weights(name: str, config: Any) -> dict[str, Any]:
    """Return the settings with which timm finds the published weights on this machine."""
    if config is None or not (config.hf_hub_id or config.url):
        raise _unavailable(name, "timm knows none")
    if not config.hf_hub_id:
        return {"state_dict": _downloaded(name, config.url)}
    return {"file": _hub_file(name, config.hf_hub_id)}


def _hub_file(name: str, repository: str) -> str:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return cached
    try:
        # This request fails at once. The download would try again for half a minute.
        HfApi().model_info(repository, timeout=TIMEOUT_SECONDS)
        return str(hf_hub_download(repository, HUB_FILE))
    # The client passes on the errors of its HTTP library, which differs between versions.
    except Exception as error:
        raise _unavailable(
            name, f"the hub does not give {HUB_FILE} of {repository} ({_detail(error)})"
        ) from error


def _downloaded(name: str, url: str) -> Mapping[str, Tensor]:
    try:
        if not _checkpoint(url).is_file():
            # torch has no timeout for a server that does not answer.
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
        state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise _unavailable(name, f"{os.path.basename(url)}: {_detail(error)}") from error
    return state


def _unavailable(name: str, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{name}: its pretrained weights are not on this machine, and {reason}",
        "Three ways to go on: run once where the hub is reachable; or download the weights "
        "elsewhere and set network.weights to the path of the .safetensors file; or set "
        'network.backbone to "embedded:efficientnet-lite2", whose weights are in the package. '
        '(network.weights = "none" starts from random weights.)',
    )


def backbone_tensors(
    network: nn.Module, state: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Return the tensors of a backbone's file that its network takes.

    Other tensors of the file, such as a classifier, are left out.

    Args:
        network: the network, on any device.
        state: the tensors of the file by name.
        source: what the file is, for messages.

    Raises:
        LearnError: a tensor is missing or has another shape.
    """
    tensors = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    wrong = [
        f"{name} is missing"
        if name not in state
        else f"{name} is {shape_text(state[name].shape)}, not {shape_text(tensor.shape)}"
        for name, tensor in tensors.items()
        if name not in state or state[name].shape != tensor.shape
    ]
    if wrong:
        shown = "; ".join(wrong[:MAX_LISTED_MISMATCHES])
        more = len(wrong) - MAX_LISTED_MISMATCHES
        shown += f"; and {more} more" if more > 0 else ""
        raise LearnError(f"{source}: {shown}. It must be a file of the same network")
    return {name: state[name] for name in tensors}


def _unknown_network(name: str, model: str, known: Sequence[str]) -> RecipeError:
    library = name.partition(":")[0]
    similar = did_you_mean(model, known, prefix=f"{library}:")
    advice = similar or f"known are {', '.join(known[:MAX_LISTED_NAMES])} …"
    return RecipeError(f"network.backbone {name}: there is no such network; {advice}")


def _unknown_parameter(name: str, prefix: str, parameters: Mapping[str, Tensor]) -> str:
    parts = list(dict.fromkeys(one.partition(".")[0] for one in parameters))
    similar = did_you_mean(prefix, [*parts, *parameters])
    advice = similar or f"they begin with {', '.join(parts[:MAX_LISTED_PARAMETERS])}"
    return (
        f'network.train: no parameter of {name} begins with "{prefix}"; {advice} (or all, or none)'
    )


def _detail(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
