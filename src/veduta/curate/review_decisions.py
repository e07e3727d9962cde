"""What can be decided about a photo in a review."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from veduta.text import composed

__all__ = ["MAX_LABEL_LETTERS", "Decision", "Verdict"]

Verdict = Literal["keep", "drop", "relabel"]

MAX_LABEL_LETTERS = 300
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about one photo.

    Attributes:
        verdict: keep, drop or relabel.
        label: the new label of a relabelled photo, in the Unicode form NFC; None otherwise.

    Raises:
        ValueError: the verdict is another one; the label is missing or not needed; or it is empty,
            longer than `MAX_LABEL_LETTERS`, or has control characters.
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
        object.__setattr__(self, "label", composed(self.label))
        if not self.label.strip() or self.label != self.label.strip():
            raise ValueError(f"{self.label!r}: a label is not empty and has no space at either end")
        if len(self.label) > MAX_LABEL_LETTERS or _CONTROL_CHARACTERS.search(self.label):
            raise ValueError(
                f"a label has at most {MAX_LABEL_LETTERS} characters, none of them a control "
                "character"
            )

    def label_after(self, before: str | None) -> str | None:
        """Return the label of the photo after the decision; None if it is dropped.

        Args:
            before: its label before the decision.
        """
        return {"keep": before, "drop": None, "relabel": self.label}[self.verdict]
