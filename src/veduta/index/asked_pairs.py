"""The pairs of photos that were verified when a collection asked itself.

An update asks nearly the same questions as the one before (`veduta.index.own_calibration`). So the
consistent matches of their pairs are kept beside the graph, and only new pairs are verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import Matching, verify_many

__all__ = ["ASKED_FILES", "AskedPairs"]

_CONTENTS, _MATCHES = ASKED_FILES = ("asked_contents.npy", "asked_agreeing.npy")

_Pair = tuple[bytes, bytes]
"""The content hashes of a query and of another photo, as NumPy gives them."""


class AskedPairs:
    """Verifies pairs of photos, each once."""

    def __init__(self, known: dict[_Pair, int] | None = None) -> None:
        """Begin with the pairs that are known.

        Args:
            known: pair → consistent matches.
        """
        self._known = known or {}
        self._used: dict[_Pair, int] = {}

    @classmethod
    def read(cls, folder: Path) -> AskedPairs:
        """Read what `write` wrote.

        Args:
            folder: of a graph, whose checksums hold. If it has no such files, no pair is known.
        """
        try:
            contents, matches = (np.load(folder / name) for name in ASKED_FILES)
        except FileNotFoundError:
            return cls()
        return cls(dict(zip(map(tuple, contents.tolist()), matches.tolist(), strict=True)))

    def write(self, folder: Path) -> None:
        """Write the pairs that were counted. Others are not needed any more.

        Args:
            folder: of the graph.

        Raises:
            OSError: a file cannot be written.
        """
        np.save(folder / _CONTENTS, np.array(list(self._used), "S32").reshape(-1, 2))
        np.save(folder / _MATCHES, np.array(list(self._used.values()), np.int32))

    def count_matches(
        self,
        contents: NDArray[np.bytes_],
        row: int,
        others: Sequence[int],
        stored: StoredKeypoints,
        matching: Matching,
    ) -> list[int]:
        """Return the consistent matches of a photo with others (`veduta.keypoints.Verification`).

        Args:
            contents: (n,) S32, the content hashes of all rows.
            row: of the query.
            others: rows of the other photos.
            stored: the keypoints of the index.
            matching: how they are matched.

        Raises:
            IndexDamaged: keypoints cannot be read.
        """
        pairs: list[_Pair] = [(contents[row], contents[other]) for other in others]
        unknown = [at for at, pair in enumerate(pairs) if pair not in self._known]
        if unknown:
            keypoints = [stored.read(others[at]) for at in unknown]
            verified = verify_many(stored.read(row), keypoints, matching)
            for at, verification in zip(unknown, verified, strict=True):
                self._known[pairs[at]] = verification.consistent_matches
        counted = [self._known[pair] for pair in pairs]
        self._used.update(zip(pairs, counted, strict=True))
        return counted
