"""Changed copies of training photos: what a recipe's `augment` and `veduta augment` name.

`catalogue` has the words, `steps` reads them, `geometry`, `framing`, `colour`, `noise`, `blur`,
`morphology` and `edges` do them, `composing` strings them together as a torchvision transform;
`sheet` shows them, `offline` writes copies into a new dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compose"]


def compose(steps: Sequence[Mapping[str, Any]]) -> Callable[[Tensor], Tensor]:
    """Return a torchvision transform that takes the steps in order.

    It maps a photo, a uint8 tensor (3, H, W), to another of that shape and type, and never writes
    into the one it is given. All chance comes from torch's default generator: `torch.manual_seed`
    repeats it.

    Args:
        steps: tables of one word and its value, such as {"rotation": 40}, as `catalogue` lists
            them; True for its usual value. `probability` beside it: how often it is done.

    Raises:
        RecipeError: there is no such word (the nearest is named), or the value is out of range.
        LearnError: torch or torchvision is not installed.
    """
    from veduta.learn.augmentation.steps import read_steps

    read = read_steps(steps)
    from veduta.learn.augmentation.composing import composed

    made: Callable[[Tensor], Tensor] = composed(read)
    return made
