"""JSON files against declared types: what is accepted, and what the errors name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from veduta.validation import InvalidValue, choices, convert, expected, read_json


@dataclass(frozen=True)
class Training:
    epochs: Annotated[int, msgspec.Meta(ge=1)]
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    parts: tuple[str, ...] = ()
    size: int | None = None
    kind: Literal["crop", "squash"] = "crop"


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    training: Training


def test_a_value_of_the_declared_type() -> None:
    values = {"training": {"epochs": 3, "mean": [0, 1, 2.5], "parts": ["a"], "unknown": 1}}
    training = convert(values, Strict).training
    assert training == Training(3, mean=(0.0, 1.0, 2.5), parts=("a",))
    assert isinstance(training.mean[0], float)


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"epochs": 0}, "training.epochs", ">= 1"),
        ({"epochs": "3"}, "training.epochs", "training.epochs: Expected `int`, got `str`"),
        ({"epochs": True}, "training.epochs", "got `bool`"),
        ({"epochs": 3, "rate": 2}, "training.rate", "<= 1"),
        ({"epochs": 3, "mean": [0, 1]}, "training.mean", "length 3"),
        ({"epochs": 3, "mean": [0, "x", 1]}, "training.mean.1", "got `str`"),
        ({"epochs": 3, "kind": "cut"}, "training.kind", "'cut'"),
        ({}, "training", "missing required field `epochs`"),
    ],
)
def test_errors_name_the_key(values: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        convert({"training": values}, Strict)
    assert caught.value.key == key
    assert message in str(caught.value)


def test_unknown_keys_are_wrong_where_a_struct_forbids_them() -> None:
    with pytest.raises(InvalidValue, match="unknown field `other`"):
        convert({"training": {"epochs": 1}, "other": 1}, Strict)


def test_an_error_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        convert([], Training)


class TestReadJson:
    def test_a_file_as_a_type(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('{"epochs": 3}')
        assert read_json(tmp_path / "a.json", Training) == Training(3)
        assert read_json(tmp_path / "a.json", dict[str, int]) == {"epochs": 3}

    def test_names_that_are_not_utf8_come_back(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9")
        (tmp_path / "a.json").write_text(json.dumps([name]))
        assert read_json(tmp_path / "a.json", list[str]) == [name]

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe\x00", b'{"epochs": 3} x', b"[" * 100_000]
    )
    def test_no_json(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(InvalidValue, match="not valid JSON"):
            read_json(tmp_path / "a.json", Training)

    def test_another_type(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("[1]")
        with pytest.raises(InvalidValue, match="Expected `object`, got `array`"):
            read_json(tmp_path / "a.json", Training)

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_json(tmp_path / "absent.json", Training)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("training", "a table"),
        ("training.epochs", "a whole number of at least 1"),
        ("training.rate", "a number of more than 0 and at most 1"),
        ("training.mean", "a list of 3 values"),
        ("training.mean.1", "a number"),
        ("training.parts", "a list"),
        ("training.parts.7", "a text"),
        ("training.size", "a whole number or null"),
        ("training.kind", "one of crop, squash"),
    ],
)
def test_expected_says_in_words_what_is_wanted(key: str, words: str) -> None:
    assert expected(Strict, key) == words


@dataclass
class Inner:
    rate: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    fit: Literal["squash", "crop"]
    units: Annotated[int, msgspec.Meta(ge=1)] | Literal["classes"]
    shape: tuple[int, int, int]
    means: tuple[float, ...]
    names: dict[str, bool]


@dataclass
class Outer:
    inner: Inner


def test_declared_types_in_words() -> None:
    words = {
        "": "a table",
        "inner": "a table",
        "inner.rate": "a number of at least 0 and less than 1",
        "inner.fit": "one of crop, squash",
        "inner.units": "a whole number of at least 1 or classes",
        "inner.shape": "a list of 3 values",
        "inner.shape.2": "a whole number",
        "inner.means": "a list",
        "inner.means.7": "a number",
        "inner.names": "a table",
        "inner.names.any": "true or false",
    }
    assert {key: expected(Outer, key) for key in words} == words
    assert choices(Outer, "inner.fit") == ("crop", "squash")
    assert choices(Outer, "inner.units") == ("classes",)
    assert choices(Outer, "inner.rate") == ()


def test_an_error_has_the_key_of_the_wrong_value() -> None:
    with pytest.raises(InvalidValue) as error:
        convert({"a": [1, "x"]}, dict[str, list[int]])
    assert error.value.key == "*.1"
