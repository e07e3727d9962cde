"""INRIA Copydays: copies of photos.

Douze, Jégou, Sandhawalia, Amsaleg, Schmid, "Evaluation of GIST descriptors for web-scale image
search", CIVR 2009. The first four digits of a Copydays photo name its block, and the photo of the
block in `original/` is the one right answer. The copies are the queries. Photos in `distractors/`
come after the originals. The figures are mAP by the trapezoids of Holidays, and µAP.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    photo_names,
    positions_of,
)
from veduta.errors import DatasetError, readable

__all__ = ["COPYDAYS"]

_LAYOUT = """
copydays/
  original/200000.jpg         the originals: six digits that end in 00
  strong/200001.jpg           copies; the first four digits are those of the original
  jpeg/75/200000.jpg          qualities 3 to 75; also named jpegqual/
  crops/10/200000.jpg         shares 10 to 80
  distractors/                other photos, optional
"""

_NAME = re.compile(r"(\d{4})(\d\d)\.jpe?g", re.IGNORECASE)
_FOLDERS_OF_COPIES = {"strong": ("strong",), "jpeg": ("jpeg", "jpegqual"), "crops": ("crops",)}


def _folder_of(path: Path) -> Path:
    """Return the folder of the set, for that folder or for the one of the originals."""
    return path.parent if path.name == "original" else path


def _recognises(path: Path) -> bool:
    folder = _folder_of(path)
    copies = [name for names in _FOLDERS_OF_COPIES.values() for name in names]
    if not any(os.path.isdir(folder / name) for name in copies):
        return False
    try:
        names = photo_names(folder / "original")
    except DatasetError:
        return False
    return bool(names) and all(_NAME.fullmatch(name) for name in names)


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    root = _folder_of(path) if options.photos is None else options.photos
    if not os.path.isdir(root / "original"):
        raise layout_error(root, "copydays", _LAYOUT, "no original/")
    variant = options.variant or "strong"
    originals, blocks = _photos_of(root, "original")
    unique_ids(root / "original", "blocks", blocks)
    position_of = {block: row for row, block in enumerate(blocks)}
    queries: list[str] = []
    query_blocks: list[str] = []
    for kind in _FOLDERS_OF_COPIES if variant == "all" else (variant,):
        names = _FOLDERS_OF_COPIES[kind]
        folder = next((name for name in names if os.path.isdir(root / name)), None)
        if folder is None:
            raise layout_error(root, "copydays", _LAYOUT, f"no {names[0]}/")
        for each in (folder,) if kind == "strong" else _levels(root, folder):
            photos, of_photo = _photos_of(root, each)
            queries += photos
            query_blocks += of_photo
    distractors = []
    if os.path.isdir(root / "distractors"):
        distractors = [f"distractors/{name}" for name in photo_names(root / "distractors")]
    gallery = (*originals, *distractors)
    return JudgedSet(
        protocol="copydays",
        name=f"Copydays ({variant})",
        root=root,
        queries=tuple(queries),
        gallery=gallery,
        query_paths=tuple(queries),
        gallery_paths=gallery,
        positives=Judgements.of(
            positions_of(readable(root / query), [block], position_of, "block")
            for query, block in zip(queries, query_blocks, strict=True)
        ),
        distractors=len(distractors),
    )


def _levels(root: Path, folder: str) -> list[str]:
    """Return the folders of the levels of an attack, in the order of their numbers."""
    try:
        names = [name for name in os.listdir(root / folder) if name.isdecimal()]
    except OSError as error:
        raise DatasetError(
            f"{readable(root / folder)}: cannot be read: {error.strerror}"
        ) from error
    if not names:
        raise layout_error(root / folder, "copydays", _LAYOUT, f"no level in {folder}/")
    return [f"{folder}/{name}" for name in sorted(names, key=int)]


def _photos_of(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """Return the paths and the blocks of the photos of a folder."""
    names = photo_names(root / folder)
    matches = [_NAME.fullmatch(name) for name in names]
    if others := [name for name, match in zip(names, matches, strict=True) if match is None]:
        raise DatasetError(
            f"{readable(root / folder)}: {len(others)} photos with other names "
            f"({some_of(others)}); wanted six digits, as in 200001.jpg"
        )
    if not names:
        raise layout_error(root, "copydays", _LAYOUT, f"no photo in {folder}/")
    return [f"{folder}/{name}" for name in names], [match[1] for match in matches if match]


COPYDAYS = Protocol(
    "copydays",
    "INRIA Copydays (Douze et al., CIVR 2009)",
    _LAYOUT,
    _recognises,
    _read,
    (*_FOLDERS_OF_COPIES, "all"),
)
