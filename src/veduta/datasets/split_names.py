"""The names of splits. No other module lists the words for a split.

The same words are split names in the folder names of a dataset and in the split column of a CSV
file. Upper and lower case are the same.
"""

from __future__ import annotations

__all__ = ["NO_SPLIT", "SPLITS", "split_named"]

NO_SPLIT = ""
"""The split of the rows of a dataset that is not split."""

_WORDS = {
    "query": ("query", "queries"),
    "gallery": ("gallery", "database", "index"),
    "distractor": ("distractor", "distractors"),
    "junk": ("junk",),
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
    "unknown": ("unknown",),
}

SPLITS = tuple(_WORDS)
"""The splits of a dataset.

A `query` is searched for and the `gallery` is searched. A `distractor` is a gallery photo that is
never a right answer. `junk` takes no part. An `unknown` photo is a query that shows none of the
labels: it is used for recognition, and left out of retrieval.
"""

_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}


def split_named(word: str) -> str | None:
    """Return the split that a word stands for, one of `SPLITS`; None if it is no split name."""
    return _SPLIT_OF_WORD.get(word.strip().lower())
