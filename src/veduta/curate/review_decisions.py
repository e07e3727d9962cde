"""What can be decided about a photo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["LONGEST_LABEL", "Decision", "Verdict"]

Verdict = Literal["keep", "drop", "relabel"]

LONGEST_LABEL = 300
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Decision:
    """`verdict`, and for a relabelled photo its new label; None otherwise.

    Raises ValueError for another verdict, a missing label or one too many, and for a label that is
    empty, longer than `LONGEST_LABEL` characters, or holds control characters.
    """

    verdict: Verdict
    label: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise ValueError(f"{self.verdict!r} is none of keep, drop, relabel")
        if (self.verdict == "relabel") != (self.label is not None):
            raise ValueError("a relabelled photo, and no other, has a new label")
        if self.label is None:
            return
        if not self.label.strip() or self.label != self.label.strip():
            raise ValueError(f"{self.label!r}: a label is not empty and has no space at either end")
        if len(self.label) > LONGEST_LABEL or _CONTROL.search(self.label):
            raise ValueError(
                f"a label has at most {LONGEST_LABEL} characters, none of them a control character"
            )

    def label_after(self, before: str | None) -> str | None:
        """Return the label of a photo that had `before`; None for one that is dropped."""
        return {"keep": before, "drop": None, "relabel": self.label}[self.verdict]
