"""Classification figures: accuracy, precision, recall, F1, averages, and the confusion matrix.

The rules, once:

- A photo may show none of the classes, and a photo may get no answer. Both are `None`, and
  "unknown" on the matrix. Unknown is no class: it has no precision or recall of its own and is in
  no average. A photo of nothing known that is given a class counts against that class all the same.
- The classes are those that are shown or answered. A class that is answered and never shown counts
  in the macro average with zeros.
- What would divide by zero is 0: the precision of a class never answered, the recall of one never
  shown, the F1 of either. scikit-learn does the same with `zero_division=0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Averages", "ClassFigures", "Classification", "classification_figures"]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: `support` photos show it, `answered` were given it; the others are in [0, 1]."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    answered: int


@dataclass(frozen=True, slots=True)
class Averages:
    """Precision, recall and F1 over all classes, in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Classification:
    """How N photos were classified.

    `accuracy`
        share of right answers; for a photo of none of the classes, no answer is right.
    `balanced_accuracy`
        mean recall of the classes that are shown.
    `macro`, `weighted`
        mean over the classes, plain and weighted by support.
    `micro`
        all classes as one: right answers over all answers, and over all photos of a class.
    `classes`
        in the order of their labels.
    `photos`, `unanswered`
        how many there are, and how many got no answer.
    `cells`
        (P, 3) int64: the entries of the confusion matrix that are not zero, as rows of (number of
        the class shown, number of the class answered, photos). C, the number of classes, stands
        for unknown.
    """

    accuracy: float
    balanced_accuracy: float
    macro: Averages
    weighted: Averages
    micro: Averages
    classes: tuple[ClassFigures, ...]
    photos: int
    unanswered: int
    cells: NDArray[np.int64]

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Return (C + 1, C + 1): how many photos of the row's class were answered the column's.

        Rows and columns are in the order of `classes`; the last row is photos of none of them, the
        last column those without an answer. With very many classes this is large, `cells` is not.
        """
        matrix = np.zeros((len(self.classes) + 1,) * 2, np.int64)
        matrix[self.cells[:, 0], self.cells[:, 1]] = self.cells[:, 2]
        return matrix

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, for `json.dump`.

        `confusion` is a list of objects with the keys `label`, `answer` and `photos`, one for each
        pair that occurs; null is unknown.
        """
        names = [*(row.label for row in self.classes), None]
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "micro": asdict(self.micro),
            "classes": [asdict(row) for row in self.classes],
            "photos": self.photos,
            "unanswered": self.unanswered,
            "confusion": [
                {"label": names[shown], "answer": names[answer], "photos": photos}
                for shown, answer, photos in self.cells.tolist()
            ],
        }


def classification_figures(
    labels: Sequence[str | None], answers: Sequence[str | None]
) -> Classification:
    """Return the figures of N photos.

    `labels`: (N,) what each photo shows, None for none of the classes. `answers`: (N,) what each
    was given, None for no answer.

    Raises `ValueError` for lengths that differ, for no photo, and when all labels and answers are
    None.
    """
    if len(labels) != len(answers) or not labels:
        raise ValueError(f"{len(labels)} labels and {len(answers)} answers")
    names = sorted({name for name in (*labels, *answers) if name is not None})
    if not names:
        raise ValueError("no photo shows a class, and none was given one")
    number: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    number[None] = len(names)
    shown = np.array([number[label] for label in labels], np.int64)
    given = np.array([number[answer] for answer in answers], np.int64)
    right = shown == given

    count = len(names) + 1
    support = np.bincount(shown, minlength=count)[:-1]
    answered = np.bincount(given, minlength=count)[:-1]
    hits = np.bincount(shown[right], minlength=count)[:-1]
    precision = _ratio(hits, answered)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + answered)
    each = np.stack([precision, recall, f1], axis=1)
    total = int(hits.sum())
    pairs, times = np.unique(shown * count + given, return_counts=True)
    return Classification(
        accuracy=float(right.mean()),
        balanced_accuracy=float(recall[support > 0].mean()) if support.any() else 0.0,
        macro=Averages(*each.mean(axis=0).tolist()),
        weighted=Averages(*_ratio(support @ each, np.full(3, support.sum())).tolist()),
        micro=Averages(
            *_ratio(
                np.array([total, total, 2 * total]),
                np.array([answered.sum(), support.sum(), answered.sum() + support.sum()]),
            ).tolist()
        ),
        classes=tuple(
            ClassFigures(
                label=name,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                support=int(support[i]),
                answered=int(answered[i]),
            )
            for i, name in enumerate(names)
        ),
        photos=len(labels),
        unanswered=int(np.count_nonzero(given == len(names))),
        cells=np.stack([pairs // count, pairs % count, times], axis=1),
    )


def _ratio(over: NDArray[Any], under: NDArray[Any]) -> NDArray[np.float64]:
    """Return `over` / `under`, 0 over 0."""
    ratio = np.zeros(over.shape)
    np.divide(over, under, out=ratio, where=under != 0)
    return ratio
