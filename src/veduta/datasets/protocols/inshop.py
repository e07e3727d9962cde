"""DeepFashion In-Shop: photos of clothes that a shop shows, queries against a gallery.

Liu et al., "DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations",
CVPR 2016. Photos with the status `query` are queries against those with the status `gallery`; a
photo of the same item is right. An id is the name as the list has it, such as
`img/WOMEN/Dresses/id_00000002/02_1_front.jpg`.
"""

from __future__ import annotations

from pathlib import Path

from veduta.datasets.csv_records import refuse
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.protocol import Protocol, ReadOptions, layout_error, safe_path
from veduta.datasets.text_lines import list_file, read_words, whole_number
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["INSHOP"]

_COLUMNS = ["image_name", "item_id", "evaluation_status"]
_LIST = "list_eval_partition.txt"
_HEAD_BYTES = 256

_LAYOUT = """
In-shop/
  Eval/list_eval_partition.txt   or in Anno/ or here: image_name item_id evaluation_status
  img/                           or Img/img/: photos, as the names say
"""


def _recognises(path: Path) -> bool:
    # Other sets have a list of this name with other columns.
    file = list_file(path, _LIST, ["Eval", "Anno"])
    if file is None:
        return False
    try:
        with file.open("rb") as source:
            lines = source.read(_HEAD_BYTES).decode("utf-8-sig", "ignore").splitlines()
    except OSError:
        return False
    return len(lines) > 1 and lines[1].split() == _COLUMNS


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    file = list_file(path, _LIST, ["Eval", "Anno"])
    if file is None:
        raise layout_error(path, "inshop", _LAYOUT, f"no {_LIST}")
    lines = read_words(file)
    number, words = next(lines, (1, [""]))
    expected = whole_number(file, number, "number of photos", " ".join(words))
    number, header = next(lines, (number + 1, []))
    if header != _COLUMNS:
        found, wanted = " ".join(header)[:100], " ".join(_COLUMNS)
        refuse(file, number, f"found {found!r}; wanted {wanted!r}")
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "query": [], "gallery": []}
    for number, words in lines:
        if len(words) != 3 or words[2] not in rows:
            refuse(
                file, number, "wanted a name, an item, and one of " + ", ".join(rows) + " as status"
            )
        rows[words[2]].append((safe_path(f"{readable(file)}, line {number}", words[0]), words[1]))
    found_rows = sum(map(len, rows.values()))
    if found_rows != expected:
        raise DatasetError(
            f"{readable(file)}: {count(found_rows, 'photo')}, but the first line says "
            f"{expected:,}; is the file complete?"
        )
    if missing := [status for status in ("query", "gallery") if not rows[status]]:
        raise DatasetError(f"{readable(file)}: no photo with the status {missing[0]}")
    unique_ids(file, "photos", [name for each in rows.values() for name, _ in each])
    queries, query_labels = zip(*rows["query"], strict=True)
    gallery, labels = zip(*rows["gallery"], strict=True)
    return JudgedSet(
        protocol="inshop",
        name="In-Shop",
        root=_photos(file, options.photos),
        queries=queries,
        gallery=gallery,
        query_paths=tuple(name.removeprefix("img/") for name in queries),
        gallery_paths=tuple(name.removeprefix("img/") for name in gallery),
        positives=Judgements.of_equal_labels(query_labels, labels),
        query_labels=query_labels,
        gallery_labels=labels,
    )


def _photos(file: Path, photos: Path | None) -> Path:
    """Return the folder that the names of the list call img/."""
    if photos is not None:
        return photos / "img" if (photos / "img").is_dir() else photos
    base = file.parent.parent if file.parent.name in {"Eval", "Anno"} else file.parent
    candidates = (base / "img", base / "Img" / "img", base / "Img")
    return next((each for each in candidates if each.is_dir()), base / "img")


INSHOP = Protocol(
    "inshop",
    "DeepFashion In-Shop (Liu et al., CVPR 2016)",
    _LAYOUT,
    _recognises,
    _read,
)
