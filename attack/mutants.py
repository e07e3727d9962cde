"""Damaged and hostile versions of files, drawn from a seeded generator."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

ZERO_BLOCK_BYTES = 512
DEPTH = 100_000
MANY_DIGITS = "9" * 5_000

HOSTILE_NUMBERS = (
    "-1",
    "0",
    "0.5",
    "-0.0",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "9" * 30,
    str(2**31),
    str(2**63),
    MANY_DIGITS,
    "null",
    "true",
    '"7"',
    "[]",
    "{}",
)
HOSTILE_TEXTS = (
    '""',
    "null",
    "7",
    "[]",
    "{}",
    '"\\u0000"',
    '"\\ud800"',
    '"\\u001b[31mred\\u0007"',
    '"\\u202egpj.exe"',
    '"../../../../outside"',
    '"/outside"',
    '"//host/share"',
    '"s3://bucket/outside"',
    '"hf:nobody/nothing"',
    '"' + "x" * 5_000 + '"',
    '"' + "é" * 300 + '"',
)
# Nothing reads these to their end.
HOSTILE_CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(4096),
    "deep lists": b"[" * DEPTH,
    "deep tables": b'{"a":' * DEPTH,
    "deep and closed": b"[" * DEPTH + b"]" * DEPTH,
    "a number": b"7",
    "a text": b'"text"',
    "null": b"null",
    "not a number": b"NaN",
    "huge number": MANY_DIGITS.encode(),
    "not UTF-8": b"\xff\xfe\xfd\n" * 50,
    "spaces": b" " * 1_000_000,
    "new lines": b"\n" * 100_000,
    "quotes": b'"' * 10_001,
    "one long line": b"x," * 500_000,
    "a page": b"<!DOCTYPE html><title>404</title>",
    "escapes": b"\x1b]0;title\x07\x1b[2J" * 20,
    "a zip archive": b"PK\x03\x04" + bytes(range(256)) * 4,
    "a pickle": b"cos\nsystem\n(S'touch pwned'\ntR.",
}


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return bytes as a failing disk or a broken copy leaves them, with the kind of damage."""
    kind = rng.choice(sorted(_DAMAGES))
    if not data:
        kind = "appended"
    return kind, _DAMAGES[kind](data, rng)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replaced(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    at = rng.randrange(len(data))
    changed[at] = (changed[at] + rng.randrange(1, 256)) % 256
    return bytes(changed)


def _large_number(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + b"\xff\xff\xff\x7f"[: len(data) - at] + data[at + 4 :]


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    length = min(rng.choice((16, ZERO_BLOCK_BYTES)), len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, len(data) // 2, len(data) - 1, rng.randrange(len(data))))]


def _appended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 8, 700)))


def _inserted(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def _removed(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 9) :]


def _swapped(data: bytes, rng: random.Random) -> bytes:
    length = min(64, len(data) // 2)
    first = rng.randrange(len(data) - 2 * length + 1)
    second = rng.randrange(first + length, len(data) - length + 1)
    return (
        data[:first]
        + data[second : second + length]
        + data[first + length : second]
        + data[first : first + length]
        + data[second + length :]
    )


_DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": _flipped,
    "a changed byte": _replaced,
    "a large number": _large_number,
    "a block of zeros": _zeroed,
    "cut short": _cut,
    "appended": _appended,
    "inserted": _inserted,
    "removed": _removed,
    "two blocks swapped": _swapped,
}


def hostile_text(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return a hostile version of a text file (JSON, JSON lines, TOML, CSV), and what it is."""
    how = rng.randrange(6)
    if how == 0:
        kind = rng.choice(sorted(HOSTILE_CONTENTS))
        return kind, HOSTILE_CONTENTS[kind]
    if how == 1:
        return _another_encoding(data, rng)
    if how == 2:
        kind, changed = damaged(data, rng)
        return kind, changed
    pattern, values = rng.choice(
        ((rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", HOSTILE_NUMBERS), (rb'"[^"\n]*"', HOSTILE_TEXTS))
    )
    places = list(re.finditer(pattern, data))
    if not places:
        return _hostile_field(data, rng)
    place = rng.choice(places)
    value = rng.choice(values)
    changed = data[: place.start()] + value.encode() + data[place.end() :]
    return f"{place[0][:40].decode('utf-8', 'replace')} became {value[:40]}", changed


def _another_encoding(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    text = data.decode("utf-8", "surrogateescape")
    kind = rng.choice(("UTF-16", "a byte order mark", "a byte that is not UTF-8", "NUL"))
    at = rng.randrange(len(data) + 1)
    return kind, {
        "UTF-16": text.encode("utf-16", "surrogatepass"),
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "a byte that is not UTF-8": data[:at] + b"\xe9" + data[at:],
        "NUL": data[:at] + b"\0" + data[at:],
    }[kind]


def _hostile_field(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Replace a field of a CSV."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    at = rng.randrange(len(lines))
    fields = lines[at].rstrip(b"\r\n").split(b",")
    value = json.loads(rng.choice([text for text in HOSTILE_TEXTS if text.startswith('"')]))
    fields[rng.randrange(len(fields))] = value.encode("utf-8", "surrogatepass")
    lines[at] = b",".join(fields) + b"\n"
    return f"a field became {value[:40]!r}", b"".join(lines)


def put_special(file: Path, rng: random.Random) -> str:
    """Put something that is no regular file in the place of `file`; return what it is."""
    kind = rng.choice(
        ("a folder", "a pipe", "an endless device", "a link to itself", "a dangling link", "gone")
    )
    file.unlink()
    match kind:
        case "a folder":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
        case "an endless device":
            file.symlink_to("/dev/zero")
        case "a link to itself":
            file.symlink_to(file.name)
        case "a dangling link":
            file.symlink_to("nowhere")
    return kind
