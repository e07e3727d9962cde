"""How much each pixel of a photo changes the score of a class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veduta.learn.explaining.gradient_rules import Rule, photo_gradient, score_function
from veduta.learn.explaining.network_map import NetworkMap, min_max_scaled

__all__ = ["integrated_gradients", "saliency_map", "smoothgrad"]

NOISY_COPIES = 25
NOISE_SHARE = 0.15
"""Standard deviation of the noise, as a share of the range of the photo's values. Smilkov et al.
find 0.1 to 0.2 best."""

BATCH_PHOTOS = 8
"""Photos that go through the network together: more need more memory and save little time."""

FIRST_STRETCHES, STRETCH_STEPS, MOST_STEPS = 4, 8, 144
GAP_SHARE = 0.02
"""The gaps that integrated gradients may leave, as a share of the difference of the two scores."""

SMALL_GAP = 1e-5
"""A gap that is always allowed, because float32 does not know the scores better."""


def saliency_map(
    module: nn.Module, photos: Tensor, target: int, rule: Rule = "gradient"
) -> NetworkMap:
    """Map the absolute gradient of a class's score: the maximum over channels, scaled to [0, 1].

    Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013, with the
    scale of keras-vis' `visualize_saliency`: the smallest value becomes 0 and the largest 1.

    Args:
        module: a network in eval mode, from photos to scores (N, C) before a softmax or sigmoid.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.
        rule: how gradients pass rectifiers, see `ruled_gradient`.

    Returns:
        A map (H, W) of the pixels, without a sum.

    Raises:
        ValueError: a part of the network is in training mode.
    """
    gradient, notes = photo_gradient(module, photos, target, rule)
    return NetworkMap(_scaled_saliency(gradient), notes=notes)


def smoothgrad(module: nn.Module, photos: Tensor, target: int, *, seed: int = 0) -> NetworkMap:
    """Map the mean gradient of noisy copies of a photo, scaled as in `saliency_map`.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.

    Args:
        module: as for `saliency_map`.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.
        seed: the seed of the noise. The state of torch's own generator is kept.

    Returns:
        A map (H, W) of the pixels, without a sum.

    Raises:
        ValueError: a part of the network is in training mode.
    """
    from captum.attr import NoiseTunnel, Saliency

    scores = score_function(module)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
        torch.manual_seed(seed)
        gradient = NoiseTunnel(Saliency(scores)).attribute(
            photos.detach().clone(),
            nt_samples=NOISY_COPIES,
            nt_samples_batch_size=BATCH_PHOTOS,
            stdevs=NOISE_SHARE * float(photos.max() - photos.min()),
            target=target,
            abs=False,
        )
    return NetworkMap(_scaled_saliency(gradient))


def integrated_gradients(module: nn.Module, photos: Tensor, target: int) -> NetworkMap:
    """Map the gradients along the way from a blank photo to the photo, summed over channels.

    Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017. The
    blank photo has the mean colour of the photo, so the map does not depend on how the recipe
    scales its pixels. The sum of the map and the constant are the score, except for a gap that a
    note gives. To make it small, the way is cut into stretches: the one with the largest gap is
    halved until all gaps together are small. Near the blank photo scores change fastest.

    Args:
        module: as for `saliency_map`.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.

    Returns:
        A signed map (H, W) of the pixels; its constant is the score of the blank photo.

    Raises:
        ValueError: a part of the network is in training mode.
    """
    scores = score_function(module)
    with torch.inference_mode(mode=False):
        photos = photos.detach().clone()
        blank = photos.mean((2, 3), keepdim=True).expand_as(photos)
        with torch.no_grad():
            score, constant = scores(torch.cat([photos, blank]))[:, target].double().tolist()
        allowed = max(GAP_SHARE * abs(score - constant), SMALL_GAP)

        def stretch(start: float, end: float) -> _Stretch:
            return _stretch(scores, blank, photos, target, start, end)

        cuts = [number / FIRST_STRETCHES for number in range(FIRST_STRETCHES + 1)]
        stretches = [stretch(start, end) for start, end in pairwise(cuts)]
        steps = FIRST_STRETCHES * STRETCH_STEPS
        while sum(abs(one.gap) for one in stretches) > allowed and steps < MOST_STEPS:
            worst = max(stretches, key=lambda one: abs(one.gap))
            middle = (worst.start + worst.end) / 2
            stretches.remove(worst)
            stretches += [stretch(worst.start, middle), stretch(middle, worst.end)]
            steps += 2 * STRETCH_STEPS
    values = torch.stack([one.shares for one in stretches]).sum(0).float().numpy()
    gap = score - constant - math.fsum(values.ravel().tolist())
    note = (
        f"Sum and constant differ from the score by {gap:.2g}, after {steps} steps from a blank "
        "photo of the mean colour, whose score is the constant."
    )
    return NetworkMap(values, constant, notes=(note,))


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """A part of the way from the blank photo to the photo.

    Attributes:
        start: where it begins; 0 is the blank photo and 1 the photo.
        end: where it ends.
        shares: (H, W) float64: what each pixel adds to the score on this part.
        gap: the change of the score on this part, without the sum of the shares.
    """

    start: float
    end: float
    shares: Tensor
    gap: float


def _stretch(
    scores: Callable[[Tensor], Tensor],
    blank: Tensor,
    photos: Tensor,
    target: int,
    start: float,
    end: float,
) -> _Stretch:
    from captum.attr import IntegratedGradients

    first, last = torch.lerp(blank, photos, start), torch.lerp(blank, photos, end)
    attribution = IntegratedGradients(scores).attribute(
        last, first, target, n_steps=STRETCH_STEPS, internal_batch_size=BATCH_PHOTOS
    )
    shares = attribution[0].double().sum(0)
    with torch.no_grad():
        low, high = scores(torch.cat([first, last]))[:, target].double().tolist()
    return _Stretch(start, end, shares, high - low - float(shares.sum()))


def _scaled_saliency(gradient: Tensor) -> NDArray[np.float32]:
    """(1, 3, H, W) to (H, W) in [0, 1]."""
    return min_max_scaled(gradient[0].abs().amax(0).double().numpy())
