"""What a copy on this machine is called: by the address that the user knows."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

__all__ = ["note_copy", "source_of", "with_addresses"]

_END = r"(?![\w/\\-])"
"""What follows is no further part of a path."""

_urls: dict[str, str] = {}
"""Folder of each copy that this process has used → the address of its store."""


def note_copy(folder: Path, url: str) -> None:
    """Remember where a copy comes from.

    Args:
        folder: of the copy.
        url: of the store.
    """
    _urls[os.fspath(folder)] = url


def source_of(index: Path) -> str:
    """Return the address of the store that a folder is a copy of, or its absolute path.

    Args:
        index: the folder of an index.
    """
    path = os.path.abspath(index)
    return _urls.get(path, path)


def with_addresses(text: str) -> str:
    """Return a text for people or programs in which the folders of copies are addresses.

    The path of a file in a copy stays, because an address names no file that can be opened.

    Args:
        text: a message, a command or JSON.
    """
    for folder, url in _urls.items():
        for written in {folder, json.dumps(folder)[1:-1]}:
            if written in text:
                text = re.sub(re.escape(written) + _END, url.replace("\\", r"\\"), text)
    return text
