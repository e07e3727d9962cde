"""The losses that training minimises. A new loss is one class in this file.

Every loss is computed in float32, whatever the precision of the network, as the mean over the
photos, pairs or triplets of a batch. `margin`, `scale` and so on are keys of the table `loss` of a
recipe:

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from veduta.errors import RecipeError
from veduta.learn.models.networks import Net, Outputs
from veduta.text import did_you_mean

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe

__all__ = [
    "LOSSES",
    "Needs",
    "TrainingLoss",
    "build_loss",
    "loss_class",
    "mix_up",
    "names_classes",
    "weight_penalty",
]

PROBABILITY_MARGIN = 1e-7
"""Keras keeps probabilities at this distance from 0 and 1 before it takes the logarithm."""

MIN_SQUARED_DISTANCE = 1e-12
"""The slope of the square root is infinite at zero, so squared distances are at least this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a loss needs of the network and of the batches.

    Attributes:
        output: the output of the network: "scores" of the classes, "features" (the embedding), or
            "reconstruction" of the photos by a decoder.
        single_score: the output is one score for two classes, not one score for each class.
        variational: the layer before the decoder is variational.
        labels: the loss compares each photo with its class. Only such a loss allows mix-up.
        groups: the loss compares photos with each other, so a batch should hold several photos of
            each class (`training.per_class`).
        pairs: the loss can also be computed from drawn pairs (`Training.draws_pairs`).
    """

    output: Literal["scores", "features", "reconstruction"]
    single_score: bool = False
    variational: bool = False
    labels: bool = False
    groups: bool = False
    pairs: bool = False


LOSSES: dict[str, type[TrainingLoss]] = {}
"""All losses by name. A subclass of `TrainingLoss` with a name enters itself."""


class TrainingLoss(nn.Module):  # type: ignore[misc]
    """A loss of the outputs of a network. It may have parameters, which are trained too.

    Attributes:
        name: the name in a recipe.
        needs: what the loss needs of the network and of the batches.
        settings: the keys of the table `loss`, besides the name, that the loss uses.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[Needs]
    settings: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            LOSSES[cls.name] = cls

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__()
        self.recipe = recipe

    def forward(self, outputs: Outputs, class_ids: Tensor, photos: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: the outputs for N photos.
            class_ids: (N,) int64.
            photos: (N, 3, H, W) uint8, the input of the network before normalisation.

        Raises:
            RecipeError: the network does not have the output that the loss needs.
        """
        if getattr(outputs, self.needs.output) is None:
            raise self._output_missing()
        with torch.autocast(outputs.features.device.type, enabled=False):
            outputs = Outputs(*(None if one is None else one.float() for one in outputs))
            output = getattr(outputs, self.needs.output)
            return self.compute(output, class_ids, photos, outputs)

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            output: the output that the loss needs, float32.
            class_ids: as for `forward`.
            photos: as for `forward`.
            outputs: all outputs, float32.
        """
        raise NotImplementedError

    def predicted_classes(self, outputs: Outputs) -> Tensor | None:
        """Return the most probable classes, (N,) int64; None if the loss predicts no class."""
        return None

    def _output_missing(self) -> RecipeError:
        remedy = {
            "scores": 'a last layer {dense = "classes"}',
            "features": "layers that end in a vector",
            "reconstruction": "network.decoder, which makes photos from the features",
        }[self.needs.output]
        if self.needs.variational:
            remedy = "a layer {variational = n} and network.decoder"
        return RecipeError(f"{self.recipe.name}: loss.name {self.name!r} needs {remedy}")


class CrossEntropy(TrainingLoss):
    """The cross-entropy of one score for each class."""

    name = "cross-entropy"
    needs = Needs(output="scores", labels=True)
    settings = ("label_smoothing",)

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe, net)
        self.smoothing = recipe.loss.label_smoothing
        self.from_probabilities = net.gives_probabilities

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        count = output.shape[1]
        if count < 2:
            raise RecipeError(
                f"{self.recipe.name}: cross-entropy needs a score for each class, but the last "
                'layer gives one; take {dense = "classes"}, or loss.name = "binary-cross-entropy"'
            )
        if not self.from_probabilities:
            return functional.cross_entropy(output, class_ids, label_smoothing=self.smoothing)
        shares = output / output.sum(dim=1, keepdim=True)
        logarithms = shares.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN).log()
        targets = functional.one_hot(class_ids, count).float()
        targets = targets * (1 - self.smoothing) + self.smoothing / count
        return -(targets * logarithms).sum(dim=1).mean()

    def predicted_classes(self, outputs: Outputs) -> Tensor | None:
        """Return the classes with the largest scores."""
        return None if outputs.scores is None else outputs.scores.argmax(dim=1)


class BinaryCrossEntropy(TrainingLoss):
    """The cross-entropy of one score, which belongs to the second of two classes."""

    name = "binary-cross-entropy"
    needs = Needs(output="scores", single_score=True, labels=True)
    settings = ("label_smoothing",)

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe, net)
        if net.classes != 2:
            raise RecipeError(
                f"{recipe.name}: binary-cross-entropy tells two classes apart, but there are "
                f'{net.classes}; take loss.name = "cross-entropy" and {{dense = "classes"}}'
            )
        self.smoothing = recipe.loss.label_smoothing
        self.from_probabilities = net.gives_probabilities

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        if output.shape[1] != 1:
            raise RecipeError(
                f"{self.recipe.name}: binary-cross-entropy needs one score, but the last layer "
                f"gives {output.shape[1]}; take {{dense = 1}}"
            )
        targets = class_ids.float()[:, None] * (1 - self.smoothing) + self.smoothing / 2
        if self.from_probabilities:
            probabilities = output.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
            return functional.binary_cross_entropy(probabilities, targets)
        return functional.binary_cross_entropy_with_logits(output, targets)

    def predicted_classes(self, outputs: Outputs) -> Tensor | None:
        """Return 1 where the second class is more probable, else 0."""
        if outputs.scores is None:
            return None
        return (outputs.scores[:, 0] > (0.5 if self.from_probabilities else 0)).long()


class Contrastive(TrainingLoss):
    """The contrastive loss of drawn pairs, or of all pairs of a batch."""

    name = "contrastive"
    needs = Needs(output="features", groups=True, pairs=True)
    settings = ("margin",)

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe, net)
        self.margin = recipe.loss.margin
        self.drawn_pairs = recipe.training.draws_pairs

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        if self.drawn_pairs:
            first, second = output[0::2], output[1::2]
            same = class_ids[0::2] == class_ids[1::2]
        else:
            one, other = torch.triu_indices(len(output), len(output), 1, device=output.device)
            first, second = output[one], output[other]
            same = class_ids[one] == class_ids[other]
        squared = (first - second).square().sum(dim=1)
        distances = squared.clamp(min=MIN_SQUARED_DISTANCE).sqrt()
        apart = functional.relu(self.margin - distances).square()
        if self.drawn_pairs:
            return 0.5 * torch.where(same, squared, apart).mean()
        # Most pairs of a batch are of different classes. Both kinds get half of the weight, as
        # among drawn pairs.
        kinds = [squared[same], apart[~same]]
        return 0.25 * sum((kind.mean() for kind in kinds if len(kind)), output.sum() * 0)


class _MetricLoss(TrainingLoss):
    """A loss of pytorch-metric-learning, computed from features and classes."""

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe, net)
        self.metric = self.make_metric(recipe, net)

    def make_metric(self, recipe: Recipe, net: Net) -> Any:
        """Return the loss of the library."""
        raise NotImplementedError

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        loss: Tensor = self.metric(output, class_ids)
        return loss


class Triplet(_MetricLoss):
    """The triplet loss of all triplets of a batch."""

    name = "triplet"
    needs = Needs(output="features", groups=True)
    settings = ("margin",)

    def make_metric(self, recipe: Recipe, net: Net) -> Any:
        """Return the loss of the library."""
        from pytorch_metric_learning.losses import TripletMarginLoss

        return TripletMarginLoss(margin=recipe.loss.margin)


class SupervisedContrastive(_MetricLoss):
    """The supervised contrastive loss of a batch."""

    name = "supcon"
    needs = Needs(output="features", groups=True)
    settings = ("temperature",)

    def make_metric(self, recipe: Recipe, net: Net) -> Any:
        """Return the loss of the library."""
        from pytorch_metric_learning.losses import SupConLoss

        return SupConLoss(temperature=recipe.loss.temperature)


class ArcFace(_MetricLoss):
    """ArcFace: the angles between features and one learned centre for each class."""

    name = "arcface"
    needs = Needs(output="features", labels=True)
    settings: ClassVar[tuple[str, ...]] = ("margin", "scale")

    def make_metric(self, recipe: Recipe, net: Net) -> Any:
        """Return the loss of the library."""
        from pytorch_metric_learning.losses import ArcFaceLoss

        return ArcFaceLoss(**self._options(recipe, net))

    def _options(self, recipe: Recipe, net: Net) -> dict[str, Any]:
        return {
            "num_classes": net.classes,
            "embedding_size": net.feature_size,
            "margin": math.degrees(recipe.loss.margin),
            "scale": recipe.loss.scale,
        }

    def predicted_classes(self, outputs: Outputs) -> Tensor | None:
        """Return the classes with the nearest centres."""
        with torch.autocast(outputs.features.device.type, enabled=False):
            return self.metric.get_logits(outputs.features.float()).argmax(dim=1)


class SubCentreArcFace(ArcFace):
    """ArcFace with several centres for each class, of which the nearest counts."""

    name = "sub-centre-arcface"
    settings = ("margin", "scale", "sub_centres")

    def make_metric(self, recipe: Recipe, net: Net) -> Any:
        """Return the loss of the library."""
        from pytorch_metric_learning.losses import SubCenterArcFaceLoss

        options = self._options(recipe, net)
        return SubCenterArcFaceLoss(**options, sub_centers=recipe.loss.sub_centres)


class MeanSquaredError(TrainingLoss):
    """The mean squared difference between a photo and its reconstruction."""

    name = "mse"
    needs = Needs(output="reconstruction")

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        return functional.mse_loss(output, photos.float() / 255)


class VariationalLoss(TrainingLoss):
    """The loss of a variational autoencoder: squared differences and a KL divergence."""

    name = "vae"
    needs = Needs(output="reconstruction", variational=True)
    settings = ("kl_weight",)

    def __init__(self, recipe: Recipe, net: Net) -> None:
        super().__init__(recipe, net)
        self.kl_weight = recipe.loss.kl_weight

    def compute(
        self, output: Tensor, class_ids: Tensor, photos: Tensor, outputs: Outputs
    ) -> Tensor:
        """Return the loss; see `TrainingLoss`."""
        mean, log_variance = outputs.mean, outputs.log_variance
        if mean is None or log_variance is None:
            raise self._output_missing()
        pixels = (output - photos.float() / 255).square().sum(dim=(1, 2, 3))
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        return (pixels + self.kl_weight * divergence).mean()


def loss_class(recipe: Recipe) -> type[TrainingLoss]:
    """Return the class of the loss that a recipe names.

    Args:
        recipe: the recipe.

    Raises:
        RecipeError: there is no such loss.
    """
    name = recipe.loss.name
    if name not in LOSSES:
        advice = did_you_mean(name, LOSSES) or f"known are {', '.join(LOSSES)}"
        raise RecipeError(f"{recipe.name}: no loss is called {name!r}; {advice}")
    return LOSSES[name]


def names_classes(recipe: Recipe) -> bool:
    """Whether the loss of a recipe predicts classes, so that its training has an accuracy.

    Args:
        recipe: the recipe.

    Raises:
        RecipeError: there is no such loss.
    """
    return loss_class(recipe).predicted_classes is not TrainingLoss.predicted_classes


def build_loss(recipe: Recipe, net: Net) -> TrainingLoss:
    """Make the loss of a recipe for a network.

    The first values of its parameters, such as the centres of ArcFace, come from torch's generator.

    Args:
        recipe: the recipe.
        net: the network.

    Raises:
        RecipeError: there is no such loss, or another key of the recipe does not fit it.
    """
    return loss_class(recipe)(recipe, net)


def weight_penalty(net: Net, l1: float, l2: float) -> Tensor | float:
    """Return l1 · Σ|w| + l2 · Σw² over the weights of the layers with `regularised = true`."""
    from veduta.learn.models.layers import regularised_weights

    total: Tensor | float = 0.0
    if l1 or l2:
        for weight in regularised_weights(net):
            total = total + l1 * weight.abs().sum() + l2 * weight.square().sum()
    return total


def mix_up(photos: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mix each photo with another photo of its batch (Zhang et al., mixup, ICLR 2018).

    Everything is drawn from torch's generator of the CPU.

    Args:
        photos: (N, ...) float.
        alpha: above 0. The share λ is drawn once for the batch from Beta(alpha, alpha).

    Returns:
        The mixed photos λ x + (1 - λ) x[others]; others, (N,) int64 rows of the batch; λ.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    others = torch.randperm(len(photos)).to(photos.device)
    return share * photos + (1 - share) * photos[others], others, share
