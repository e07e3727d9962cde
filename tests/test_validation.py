"""JSON files that are checked against a declared type."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from veduta.validation import InvalidValue, read_json


class Entry(msgspec.Struct):
    name: str
    sizes: list[int] = []


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text('{"name": "caf\\udce9"}')
    assert read_json(file, Entry).name == "caf\udce9"


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text('{"name": "a"}', "utf-8-sig")
    assert read_json(file, Entry) == Entry("a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `name`"),
        (b'{"name": "a", "sizes": [1, "x"]}', r"^sizes\[1\]: Expected `int`, got `str`"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "entry.json"
    file.write_bytes(content)
    with pytest.raises(InvalidValue, match=message):
        read_json(file, Entry)
