"""The rate and the time left that a long command shows."""

from __future__ import annotations

import pytest

from veduta.cli import progress


def test_a_new_part_of_the_work_has_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    rate = progress._Rate("photos")
    assert rate.note(0, 1000) == ""
    now = 100.0
    assert rate.note(1000, 1000).startswith("10.0 photos/s")
    now = 101.0
    assert rate.note(5, 4000) == "", "it begins anew"
    now = 111.0
    assert rate.note(1005, 4000).startswith("100.0 photos/s, 30 s left")
