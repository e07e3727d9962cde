"""How much each pixel of a photo changes the score of a class."""

from __future__ import annotations

import math

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

FIRST_STEPS, MOST_STEPS = 32, 128
GAP_SHARE = 0.01
"""The gap that integrated gradients may leave, as a share of the difference of the two scores."""

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
    scales its pixels. The number of steps grows until the sum of the map and the constant are the
    score, except for a gap that a note gives.

    Args:
        module: as for `saliency_map`.
        photos: (1, 3, H, W) float32, as the network takes them.
        target: the number of the class.

    Returns:
        A signed map (H, W) of the pixels; its constant is the score of the blank photo.

    Raises:
        ValueError: a part of the network is in training mode.
    """
    from captum.attr import IntegratedGradients

    scores = score_function(module)
    with torch.inference_mode(mode=False):
        photos = photos.detach().clone()
        blank = photos.mean((2, 3), keepdim=True).expand_as(photos).clone()
        with torch.no_grad():
            score, constant = scores(torch.cat([photos, blank]))[:, target].double().tolist()
        allowed = max(GAP_SHARE * abs(score - constant), SMALL_GAP)
        steps, gap = FIRST_STEPS // 2, math.inf
        while abs(gap) > allowed and steps < MOST_STEPS:
            steps *= 2
            shares = IntegratedGradients(scores).attribute(
                photos, blank, target, n_steps=steps, internal_batch_size=BATCH_PHOTOS
            )
            values = shares[0].double().sum(0).float().numpy()
            gap = score - constant - math.fsum(values.ravel().tolist())
    note = (
        f"Sum and constant differ from the score by {gap:.2g}, after {steps} steps from a blank "
        "photo of the mean colour, whose score is the constant."
    )
    return NetworkMap(values, constant, notes=(note,))


def _scaled_saliency(gradient: Tensor) -> NDArray[np.float32]:
    """(1, 3, H, W) to (H, W) in [0, 1]."""
    return min_max_scaled(gradient[0].abs().amax(0).double().numpy())
