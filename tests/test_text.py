"""Text for people: nothing in it disturbs a terminal, and misspelt words get a suggestion."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veduta.errors import readable
from veduta.text import count, did_you_mean, duration, printable


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Café 東京 🙂", "Café 東京 🙂"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x1b[31mred\x7f", r"\x1b[31mred\x7f"),
        ("a\u2028b\u202ec\u2066", r"a\u2028b\u202ec\u2066"),
        ("\x85", r"\x85"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_printable(text: str, wanted: str) -> None:
    assert printable(text) == wanted


@given(st.text(st.characters(codec=None)))
def test_printable_text_is_one_line_of_utf8(text: str) -> None:
    shown = printable(text)
    assert shown.encode() and len(shown.splitlines()) == 1 if text else shown == ""
    categories = {unicodedata.category(character) for character in shown}
    assert not categories & {"Cc", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown


def test_readable_changes_only_what_is_not_utf8() -> None:
    assert readable(b"a\tb/caf\xe9") == "a\tb/caf\\xe9"
    assert readable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert readable("東京") == "東京"


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("xfet", "did you mean 'xfeat'?"),
        ("SIFT", "did you mean 'sift'?"),
        ("mobilenet", "did you mean 'MobileNet'?"),
        ("qqqqqq", ""),
        ("", ""),
    ],
)
def test_did_you_mean(word: str, wanted: str) -> None:
    assert did_you_mean(word, ("xfeat", "sift", "orb", "MobileNet")) == wanted


def test_did_you_mean_compares_without_the_prefix() -> None:
    choices = ("epochs", "batch")
    wanted = "did you mean 'training.epochs'?"
    assert did_you_mean("epoch", choices, prefix="training.") == wanted
    assert did_you_mean("loss", choices, prefix="training.") == ""
    assert did_you_mean("epoch", []) == ""


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((1, "photo"), "1 photo"),
        ((0, "photo"), "0 photos"),
        ((12_000, "photo"), "12,000 photos"),
        ((1, "query", "queries"), "1 query"),
        ((2, "query", "queries"), "2 queries"),
    ],
)
def test_count(arguments: tuple[int, str], wanted: str) -> None:
    assert count(*arguments) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0.0 s"),
        (0.84, "0.8 s"),
        (42.4, "42 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float, wanted: str) -> None:
    assert duration(seconds) == wanted
