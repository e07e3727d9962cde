"""The journal of a review loses no step, whatever is killed or damaged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from veduta.errors import DatasetError, VedutaError
from veduta.web import Decision, ReviewJournal

KEEP, DROP = Decision("keep"), Decision("drop")


def opened(folder: Path, paths: tuple[str, ...] = ("a", "b", "c")) -> ReviewJournal:
    return ReviewJournal(folder / "x.journal", folder, paths)


def test_journal_continues_where_it_was(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "tower"), KEEP)])
    journal.set([(("a", "tower"), DROP), (("b", None), Decision("relabel", "gate"))])
    journal.set([(("c", "tower"), DROP)])
    assert journal.undo() == [(("c", "tower"), None)]
    journal.close()

    again = opened(tmp_path)
    assert again.decisions == {("a", "tower"): DROP, ("b", None): Decision("relabel", "gate")}
    assert again.steps == 2
    assert again.last == ("c", "tower")
    assert again.undo() == [(("b", None), None), (("a", "tower"), KEEP)]
    assert again.decisions == {("a", "tower"): KEEP}
    assert again.undo() == [(("a", "tower"), None)]
    assert again.undo() == [] and again.decisions == {} and again.steps == 0
    again.close()


@pytest.mark.parametrize("seed", range(5))
def test_journal_is_what_a_plain_history_says(tmp_path: Path, seed: int) -> None:
    """Beside it a list of whole states, one a step; opened anew between steps now and then."""
    rng = random.Random(seed)
    history: list[dict[tuple[str, str | None], Decision]] = [{}]
    journal = opened(tmp_path)
    for _ in range(120):
        if rng.random() < 0.3:
            journal.undo()
            history = history[:-1] or [{}]
        else:
            chosen = rng.choices([("a", "t"), ("b", "t"), ("c", None)], k=rng.randint(1, 3))
            changes = [
                (key, rng.choice([KEEP, DROP, Decision("relabel", "g"), None])) for key in chosen
            ]
            state = dict(history[-1])
            for key, decision in changes:
                state.pop(key, None)
                if decision is not None:
                    state[key] = decision
            before = journal.steps
            journal.set(changes)
            if journal.steps > before:
                history.append(state)
            assert history[-1] == state, "only a step that changes nothing is no step"
        if rng.random() < 0.1:
            journal.close()
            journal = opened(tmp_path)
        assert journal.decisions == history[-1]
        assert journal.steps == len(history) - 1
    journal.close()


def test_half_a_line_is_cut_off_wherever_it_ends(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "t"), KEEP)])
    whole = journal.file.read_bytes()
    journal.set([(("b", "t\N{CASTLE}"), DROP)])
    journal.close()
    data = journal.file.read_bytes()
    for length in range(len(whole), len(data), 3):
        journal.file.write_bytes(data[:length])
        again = opened(tmp_path)
        assert again.decisions == {("a", "t"): KEEP}
        again.set([(("c", "t"), DROP)])
        again.close()
        final = opened(tmp_path)
        assert final.decisions == {("a", "t"): KEEP, ("c", "t"): DROP}
        final.close()
    for length in range(0, data.index(b"\n"), 7):  # of the first line too
        journal.file.write_bytes(data[:length])
        again = opened(tmp_path)
        assert again.decisions == {} and again.steps == 0
        again.close()


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for name in "abc":
        journal.set([((name, "t"), KEEP)])
    journal.close()
    lines = journal.file.read_bytes().splitlines(keepends=True)
    journal.file.write_bytes(b"".join([*lines[:2], b"\0" * 20 + b"\n", *lines[3:]]))
    with pytest.raises(DatasetError, match=r"x\.journal, line 3: not a journal"):
        opened(tmp_path)
    journal.file.write_bytes(b"".join([*lines[:3], b"\0" * 20 + b"\n"]))
    again = opened(tmp_path)
    assert len(again.decisions) == 2, "a last line that a power failure damaged"
    again.close()


@pytest.mark.parametrize("content", [b"precious", b"precious\n", b'{"a": 1}\n', b"[]\n", b"\0" * 9])
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.journal").write_bytes(content)
    with pytest.raises(DatasetError, match="not a journal of `veduta review`"):
        opened(tmp_path)
    assert (tmp_path / "x.journal").read_bytes() == content


def test_journal_knows_its_dataset(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    ReviewJournal(tmp_path / "j", one, ["a", "b"]).close()
    ReviewJournal(tmp_path / "j", one, ["a", "b", "c"]).close()  # it grew
    ReviewJournal(tmp_path / "j", other, ["b", "a"]).close()  # it moved
    with pytest.raises(DatasetError, match=r"one, not of .*other; name another file with --out"):
        ReviewJournal(tmp_path / "j", other, ["a", "z"])


def test_one_review_at_a_time(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(VedutaError, match="another review is writing"):
        opened(tmp_path)
    journal.close()
    opened(tmp_path).close()


def test_a_step_that_is_not_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "t"), KEEP)])
    before = journal.file.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.set([(("b", "t"), DROP)])
        with pytest.raises(OSError, match="No space"):
            journal.undo()
    assert journal.decisions == {("a", "t"): KEEP} and journal.steps == 1
    assert journal.file.read_bytes() == before
    journal.set([(("b", "t"), DROP)])
    journal.close()
    again = opened(tmp_path)
    assert again.decisions == {("a", "t"): KEEP, ("b", "t"): DROP}
    again.close()


def test_each_step_is_synchronised_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    seen: list[bytes] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append(journal.file.read_bytes())
        assert ("a", "t") not in journal.decisions, "not told before it is on the disk"
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    journal.set([(("a", "t"), KEEP)])
    assert len(seen) == 1 and b'"a"' in seen[0]
    journal.close()


@pytest.mark.parametrize("label", ["", " ", "a ", "a\nb", "a\0", "\ud800", "x" * 301])
def test_labels_that_are_none(label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        Decision("relabel", label)


def test_decisions_hold_together() -> None:
    with pytest.raises(ValueError, match="burn"):
        Decision("burn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="and no other"):
        Decision("keep", "tower")
    with pytest.raises(ValueError, match="and no other"):
        Decision("relabel")
