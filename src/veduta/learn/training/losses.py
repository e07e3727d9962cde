"""What training minimises.

Every loss is computed in float32, whatever the precision of the network, as the mean over the
photos, pairs or triplets of a batch. `{margin, scale, …}` are of the table `loss` of a recipe:

| name | of | formula |
|---|---|---|
| cross-entropy | scores | -Σ t log p, t smoothed by `label_smoothing`; probabilities as Keras' |
| binary-cross-entropy | one score | -t log p - (1 - t) log(1 - p) |
| contrastive | pairs | ½ d² for one class, ½ max(0, `margin` - d)² for two; d Euclidean |
| triplet | triplets | max(0, d⁺ - d⁻ + `margin`), d between features of unit length |
| arcface | features | cross-entropy of `scale` · cos(angle to the centre, + `margin` radians) |
| sub-centre-arcface | features | the same, with the nearest of `sub_centres` centres a class |
| supcon | features | -mean log of the softmax, `temperature`, over the others of the batch |
| mse | pixels | the mean squared difference to the photo |
| vae | pixels | the sum of squared differences + `kl_weight` · KL(q ‖ N(0, 1)) |

Hadsell, Chopra and LeCun (CVPR 2006); Schroff, Kalenichenko and Philbin (CVPR 2015); Deng et al.
(ArcFace, CVPR 2019); Deng et al. (sub-centres, ECCV 2020); Khosla et al. (NeurIPS 2020); Kingma and
Welling (ICLR 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import RecipeError
from veduta.text import did_you_mean

if TYPE_CHECKING:
    from veduta.learn.models.networks import Net, Outputs
    from veduta.learn.recipe import Recipe

__all__ = ["LOSSES", "TrainingLoss", "build_loss", "mix_up", "weight_penalty"]

_EPSILON = 1e-7  # Keras' distance from 0 and 1 of what it takes the logarithm of
_LEAST = 1e-12  # under the root of a distance: its slope at zero is infinite

_ON_SCORES = ("cross-entropy", "binary-cross-entropy")
_WITH_CENTRES = ("arcface", "sub-centre-arcface")
_COMPARING = ("contrastive", "triplet", "supcon")
_RECONSTRUCTING = ("mse", "vae")
LOSSES = (*_ON_SCORES, *_COMPARING, *_WITH_CENTRES, *_RECONSTRUCTING)


class TrainingLoss(nn.Module):  # type: ignore[misc]
    """A loss of a network's outputs; it may hold parameters, which learn along."""

    compares = False  # photos with each other: a batch needs several of a class
    needs: str  # the field of `Outputs` that it looks at

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def forward(self, outputs: Outputs, codes: Tensor, photos: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: of N photos.
            codes: (N,) int64, their classes.
            photos: (N, 3, H, W) uint8, as the network was shown them.

        Raises:
            RecipeError: the network does not give what this loss is of.
        """
        values = getattr(outputs, self.needs)
        if values is None:
            raise self._unfit()
        with torch.autocast(values.device.type, enabled=False):
            loss: Tensor = self.loss(outputs, values.float(), codes, photos)
        return loss

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        """Return the loss of the field `needs`, in float32."""
        raise NotImplementedError

    def guesses(self, outputs: Outputs) -> Tensor | None:
        """Return (N,) int64 the likeliest classes; None where the loss knows of none."""
        values = getattr(outputs, self.needs)
        return None if values is None else self.guessed(values)

    def guessed(self, values: Tensor) -> Tensor | None:
        """Return the guesses of the field `needs`."""
        return None

    def _unfit(self) -> RecipeError:
        remedy = {
            "scores": 'a last layer {dense = "classes"}',
            "features": "layers that end in a vector",
            "reconstruction": "network.decoder, which makes a photo of the features",
            "log_variance": "a layer {variational = n} and network.decoder",
        }[self.needs]
        return RecipeError(
            f"{self.recipe.name}: loss.name {self.recipe.loss.name!r} wants {remedy}"
        )


class _CrossEntropy(TrainingLoss):
    needs = "scores"

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe)
        self.smoothing = recipe.loss.label_smoothing
        self.of_probabilities = net.gives_probabilities

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        if values.shape[1] < 2:
            raise RecipeError(
                f"{self.recipe.name}: cross-entropy wants a score for each class, but the last "
                'layer gives one; take {dense = "classes"}, or loss.name = "binary-cross-entropy"'
            )
        if not self.of_probabilities:
            return functional.cross_entropy(values, codes, label_smoothing=self.smoothing)
        shares = values / values.sum(dim=1, keepdim=True)
        logs = shares.clamp(_EPSILON, 1 - _EPSILON).log()
        wanted = functional.one_hot(codes, values.shape[1]).float()
        wanted = wanted * (1 - self.smoothing) + self.smoothing / values.shape[1]
        return -(wanted * logs).sum(dim=1).mean()

    def guessed(self, values: Tensor) -> Tensor | None:
        return values.argmax(dim=1)


class _BinaryCrossEntropy(TrainingLoss):
    needs = "scores"

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe)
        if net.classes != 2:
            raise RecipeError(
                f"{recipe.name}: binary-cross-entropy tells two classes apart, and there are "
                f'{net.classes}; take loss.name = "cross-entropy" and {{dense = "classes"}}'
            )
        self.smoothing = recipe.loss.label_smoothing
        self.of_probabilities = net.gives_probabilities

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        if values.shape[1] != 1:
            raise RecipeError(
                f"{self.recipe.name}: binary-cross-entropy wants one score, but the last layer "
                f"gives {values.shape[1]}; take {{dense = 1}}"
            )
        wanted = codes.float()[:, None] * (1 - self.smoothing) + self.smoothing / 2
        if self.of_probabilities:
            sure = values.clamp(_EPSILON, 1 - _EPSILON)
            return functional.binary_cross_entropy(sure, wanted)
        return functional.binary_cross_entropy_with_logits(values, wanted)

    def guessed(self, values: Tensor) -> Tensor | None:
        return (values[:, 0] > (0.5 if self.of_probabilities else 0)).long()


class _Contrastive(TrainingLoss):
    needs = "features"
    compares = True

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe)
        self.margin = recipe.loss.margin
        self.in_pairs = recipe.training.pairs > 0

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        if self.in_pairs:
            first, second = values[0::2], values[1::2]
            same = codes[0::2] == codes[1::2]
        else:
            one, other = torch.triu_indices(len(values), len(values), 1, device=values.device)
            first, second = values[one], values[other]
            same = codes[one] == codes[other]
        squared = (first - second).square().sum(dim=1)
        apart = functional.relu(self.margin - squared.clamp(min=_LEAST).sqrt()).square()
        if self.in_pairs:
            return 0.5 * torch.where(same, squared, apart).mean()
        # Of all pairs most are of two classes: each kind counts for half, as among drawn pairs.
        kinds = [squared[same], apart[~same]]
        return 0.25 * sum((kind.mean() for kind in kinds if len(kind)), values.sum() * 0)


class _Metric(TrainingLoss):
    """A loss of pytorch-metric-learning on features and classes."""

    needs = "features"

    def __init__(self, recipe: Recipe, net: Net) -> None:
        from pytorch_metric_learning import losses

        super().__init__(recipe)
        loss = recipe.loss
        self.compares = loss.name in _COMPARING
        centres = {
            "num_classes": net.classes,
            "embedding_size": net.feature_size,
            "margin": math.degrees(loss.margin),
            "scale": loss.scale,
        }
        make: dict[str, Callable[[], Any]] = {
            "triplet": lambda: losses.TripletMarginLoss(margin=loss.margin),
            "supcon": lambda: losses.SupConLoss(temperature=loss.temperature),
            "arcface": lambda: losses.ArcFaceLoss(**centres),
            "sub-centre-arcface": lambda: losses.SubCenterArcFaceLoss(
                **centres, sub_centers=loss.sub_centres
            ),
        }
        self.metric = make[loss.name]()

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        found: Tensor = self.metric(values, codes)
        return found

    def guessed(self, values: Tensor) -> Tensor | None:
        if self.compares:
            return None
        with torch.autocast(values.device.type, enabled=False):
            return self.metric.get_logits(values.float()).argmax(dim=1)


class _Reconstruction(TrainingLoss):
    needs = "reconstruction"

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe)

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        return functional.mse_loss(values, photos.float() / 255)


class _Variational(TrainingLoss):
    needs = "log_variance"

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe)
        self.weight = recipe.loss.kl_weight

    def loss(self, outputs: Outputs, values: Tensor, codes: Tensor, photos: Tensor) -> Tensor:
        if outputs.reconstruction is None or outputs.mean is None:
            raise self._unfit()
        missed = outputs.reconstruction.float() - photos.float() / 255
        pixels = missed.square().sum(dim=(1, 2, 3))
        distance = -0.5 * (1 + values - outputs.mean.float().square() - values.exp()).sum(dim=1)
        return (pixels + self.weight * distance).mean()


_MADE: dict[str, Callable[[Recipe, Net], TrainingLoss]] = {
    "cross-entropy": _CrossEntropy,
    "binary-cross-entropy": _BinaryCrossEntropy,
    "contrastive": _Contrastive,
    "mse": _Reconstruction,
    "vae": _Variational,
    **dict.fromkeys(("triplet", "supcon", *_WITH_CENTRES), _Metric),
}


def build_loss(recipe: Recipe, net: Net) -> TrainingLoss:
    """Return the loss that a recipe names, for a network.

    What it draws to begin with, such as the centres of ArcFace, comes from torch's generator.

    Raises:
        RecipeError: there is no such loss, or the rest of the recipe does not go with it.
    """
    name, training = recipe.loss.name, recipe.training
    if name not in _MADE:
        advice = did_you_mean(name, LOSSES) or f"known are {', '.join(LOSSES)}"
        raise RecipeError(f"{recipe.name}: no loss is called {name!r}; {advice}")
    if training.pairs and name != "contrastive":
        raise RecipeError(
            f"{recipe.name}: training.pairs is for the contrastive loss, not for {name}"
        )
    if training.mixup and name not in (*_ON_SCORES, *_WITH_CENTRES):
        raise RecipeError(
            f"{recipe.name}: training.mixup mixes the answers of two photos, and {name} asks for "
            "none; set it to 0"
        )
    return _MADE[name](recipe, net)


def weight_penalty(net: Net, l1: float, l2: float) -> Tensor | float:
    """Return l1 · Σ|w| + l2 · Σw² over the weights of the layers that say `regularised`."""
    from veduta.learn.models.layers import regularised_weights

    total: Tensor | float = 0.0
    if l1 or l2:
        for weight in regularised_weights(net):
            total = total + l1 * weight.abs().sum() + l2 * weight.square().sum()
    return total


def mix_up(photos: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mix each photo with another one of its batch (Zhang et al., mixup, ICLR 2018).

    Args:
        photos: (N, ...) float.
        alpha: above 0; the share λ comes from Beta(alpha, alpha), one for the batch.

    Returns:
        λ x + (1 - λ) x[others]; others, (N,) int64 places in the batch; λ. All of it is drawn from
        torch's generator of the processor.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    others = torch.randperm(len(photos)).to(photos.device)
    return share * photos + (1 - share) * photos[others], others, share
