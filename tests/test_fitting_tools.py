"""The tools that fit weights ask what searches ask for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from veduta.keypoints import load_extractor, verify_many

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


def test_remembered_verifications_are_those_of_searches() -> None:
    from tools.fit_calibration import VerificationMemory

    extractor = load_extractor("orb")
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    photos = [extractor.extract(pixels[rows:], 160, 120 - rows) for rows in (0, 8, 16)]
    query, *others = photos
    expected = [len(one.inliers) for one in verify_many(query, others, extractor.matching)]
    memory = VerificationMemory()
    told: list[int] = []
    for _ in range(2):  # The second time they are known.
        found = memory.verify_many(query, others, extractor.matching, on_verified=told.append)
        assert [len(one.inliers) for one in found] == expected
    assert told == [1, 2]
    assert len(memory.known) == 2
