"""Lists of photos as tables: an id, and the path of a file or the bytes of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veduta.datasets.csv_records import refuse_columns
from veduta.datasets.judged_set import unique_ids
from veduta.datasets.protocols.list_tables import (
    column_names,
    find_column,
    place,
    read_rows,
    refuse_table,
    row_count,
    text_id,
)
from veduta.datasets.protocols.photos_in_parquet import PhotoColumn, find_bytes
from veduta.datasets.protocols.protocol import safe_path
from veduta.datasets.protocols.unpacked_photos import unpacked_name
from veduta.errors import DatasetError, readable

__all__ = ["PhotoList", "read_photo_list"]

_PATHS = (
    "image",
    "path",
    "image_path",
    "img_path",
    "file_name",
    "filename",
    "file",
    "image.path",
    "img.path",
    "photo.path",
)


@dataclass(frozen=True, slots=True)
class PhotoList:
    """A list of N photos.

    Attributes:
        ids: (N,) all different.
        paths: (N,) relative to the folder of the photos; for bytes, of the file that
            `veduta.datasets.protocols.photos_in_parquet.unpack_photos` writes.
        packed: one for each file if the photos are bytes; empty otherwise.
        with_text: how many rows have a text beside the photo.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    packed: tuple[PhotoColumn, ...]
    with_text: int


def read_photo_list(files: Sequence[Path], side: str, id_names: Sequence[str]) -> PhotoList:
    """Read a list. No photo is read.

    Args:
        files: the files of the list, at least one.
        side: "query" or "corpus".
        id_names: what the column of the ids may be called, the likeliest first.

    Raises:
        DatasetError: a file is not as expected, a row has no photo, or an id comes twice.
    """
    ids: list[str] = []
    paths: list[str] = []
    packed: list[PhotoColumn] = []
    with_text = 0
    # A shard without rows says nothing about where the photos are.
    filled = [file for file in files if file.suffix != ".parquet" or row_count(file)]
    for file in filled:
        names = column_names(file)
        id_column, photo_column = find_column(names, id_names), find_column(names, _PATHS)
        if id_column is None:
            refuse_columns(file, 1, [id_names[0]], names, id_names)
        bytes_column = find_bytes(file) if file.suffix == ".parquet" else None
        if bytes_column is not None:
            packed.append(PhotoColumn(file, side, id_column, bytes_column))
            photo_column = id_column
        elif photo_column is None:
            refuse_columns(file, 1, ["image"], names, [id_names[0], *_PATHS[:-3]])
        kind = find_column(names, ["modality"])
        columns = [id_column, photo_column, kind or id_column]
        for number, (value, photo, modality) in read_rows(file, columns):
            name = text_id(file, number, side, value)
            ids.append(name)
            if bytes_column is not None:
                paths.append(unpacked_name(side, name))
            else:
                paths.append(_path(file, number, name, photo))
            with_text += kind is not None and "text" in str(modality)
    if not ids:
        raise DatasetError(f"{readable(files[0])}: no row; is the file complete?")
    if packed and len(packed) < len(filled):
        raise DatasetError(
            f"{readable(files[0].parent)}: some of its files hold photos and others paths; put all "
            "photos into files"
        )
    where = files[0] if len(files) == 1 else files[0].parent
    return PhotoList(unique_ids(where, f"{side} list", ids), tuple(paths), tuple(packed), with_text)


def _path(file: Path, number: int, name: str, value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or not path.strip():
        raise refuse_table(
            file, number, f"{name} has no photo; queries and corpus must be photos, not texts"
        )
    return safe_path(place(file, number), path)
