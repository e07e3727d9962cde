"""Draws from torch's default generator, the only source of chance."""

from __future__ import annotations

import torch

__all__ = ["both_ways", "happens", "up_to"]


def happens(probability: float) -> bool:
    """Tell whether something of that probability happens; nothing is drawn where it is sure."""
    return probability >= 1 or (probability > 0 and torch.rand(()).item() < probability)


def both_ways(most: float) -> float:
    """Return a number drawn evenly from -most to most."""
    return float(most * (2 * torch.rand(()).item() - 1))


def up_to(most: float) -> float:
    """Return a number drawn evenly from 0 to most."""
    return float(most * torch.rand(()).item())
