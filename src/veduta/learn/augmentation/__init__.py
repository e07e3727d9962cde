"""Changed copies of training photos: the steps of a recipe's `augment` and of `veduta augment`.

`catalogue` lists the words, and `steps` reads them. `geometry`, `cropping`, `colour`, `noise`,
`blur`, `morphology` and `edges` change photos, and `composing` makes one torchvision transform of
them. `preview` draws a contact sheet, and `augmented_dataset` writes copies into a new dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compose"]


def compose(steps: Sequence[Mapping[str, Any]]) -> Callable[[Tensor], Tensor]:
    """Return a torchvision transform that applies the steps in order.

    It maps a photo, a uint8 tensor (3, H, W), to another of the same shape and type, and never
    changes the photo that it is given. All random numbers come from torch's default generator, so
    `torch.manual_seed` repeats them.

    Args:
        steps: tables of one word of the `catalogue` and its value, such as {"rotation": 40}; True
            stands for its usual value. `probability` beside it is the share of photos that it
            changes.

    Raises:
        RecipeError: there is no such word (a similar one is named), or a value is out of range.
        LearnError: torch or torchvision is not installed.
    """
    from veduta.learn.augmentation.steps import read_steps

    read = read_steps(steps)
    from veduta.learn.augmentation.composing import compose_steps

    transform: Callable[[Tensor], Tensor] = compose_steps(read)
    return transform
