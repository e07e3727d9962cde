"""Random draws from torch's default generator, the only source of randomness."""

from __future__ import annotations

import torch

__all__ = ["happens", "symmetric", "up_to"]


def happens(probability: float) -> bool:
    """Return whether an event of this probability happens; a certain event needs no draw."""
    return probability >= 1 or (probability > 0 and torch.rand(()).item() < probability)


def symmetric(limit: float) -> float:
    """Return a number drawn uniformly from -limit to limit."""
    return float(limit * (2 * torch.rand(()).item() - 1))


def up_to(limit: float) -> float:
    """Return a number drawn uniformly from 0 to limit."""
    return float(limit * torch.rand(()).item())
