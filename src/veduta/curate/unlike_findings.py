"""Findings on a pile: which of its photos are like a few good examples, and which are not.

Most photos are decided by their likeness alone. A photo that is somewhat alike, such as a detail or
a view from elsewhere, is kept if its keypoints match those of an example.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.example_likeness import (
    MIN_KEPT_LIKENESS,
    MIN_KEPT_LIKENESS_IF_MATCHED,
    MIN_MATCHES,
    example_likeness,
)
from veduta.curate.findings import Finding, doubt, photo_finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.curate.described_photos import DescribedPhotos
    from veduta.datasets import Dataset

__all__ = ["unlike_findings"]

_BLOCK_PHOTOS = 4096

_MATCHED_EXAMPLES = 10
"""The nearest examples, with which a photo is matched. The benchmark had no more."""


def unlike_findings(
    dataset: Dataset,
    photos: DescribedPhotos,
    positions: NDArray[np.int64],
    examples: DescribedPhotos,
) -> list[Finding]:
    """Return a finding for each photo that has a descriptor.

    Args:
        dataset: all photos.
        photos: the P readable ones, described.
        positions: (P,) positions of these in the dataset.
        examples: good photos of one thing.

    Raises:
        QueryError: the examples are too few or have nothing in common.
    """
    example_numbers = np.flatnonzero(examples.rows >= 0)
    example_rows = examples.snapshot.take(examples.rows[example_numbers].astype(np.intp))
    matches_with = _MatchesWithExamples(photos, examples)
    with_descriptor = np.flatnonzero(photos.rows >= 0)
    findings = []
    for start in range(0, len(with_descriptor), _BLOCK_PHOTOS):
        block = with_descriptor[start : start + _BLOCK_PHOTOS]
        rows = photos.snapshot.take(photos.rows[block].astype(np.intp))
        likenesses = example_likeness(example_rows, rows).tolist()
        for number, row, likeness in zip(block.tolist(), rows, likenesses, strict=True):
            threshold = MIN_KEPT_LIKENESS
            reason = f"likeness {likeness:.2f} to the examples, where 1 is usual among them"
            if MIN_KEPT_LIKENESS_IF_MATCHED <= likeness < MIN_KEPT_LIKENESS:
                nearest = np.argsort(example_rows @ row)[::-1][:_MATCHED_EXAMPLES]
                matches = matches_with(number, example_numbers[nearest])
                if matches >= MIN_MATCHES:
                    threshold = MIN_KEPT_LIKENESS_IF_MATCHED
                    reason += f", and {matches} details match those of one example"
            keep = likeness >= threshold
            # 0.5 at the threshold. The score falls with the likeness on both sides of it.
            score = 0.5 * threshold / likeness if keep else doubt(threshold / max(likeness, 1e-9))
            finding = photo_finding(dataset, int(positions[number]), "unlike", score, reason)
            findings.append(replace(finding, suggestion="keep") if keep else finding)
    return findings


class _MatchesWithExamples:
    """Counts the keypoints of photos that match those of examples, without any overlay."""

    def __init__(self, photos: DescribedPhotos, examples: DescribedPhotos) -> None:
        from veduta.index.keypoint_files import StoredKeypoints

        self._photos, self._examples = photos, examples
        self._of_photos = StoredKeypoints(photos.index, photos.snapshot)
        self._of_examples = StoredKeypoints(examples.index, examples.snapshot)

    def __call__(self, number: int, example_numbers: NDArray[np.intp]) -> int:
        """Return the number of locally consistent matches with the example that has most."""
        from veduta.keypoints import verify_many

        found = verify_many(
            self._of_photos.read(int(self._photos.rows[number])),
            [self._of_examples.read(int(self._examples.rows[at])) for at in example_numbers],
            self._photos.extractor.matching,
        )
        return max(one.consistent_matches for one in found)
