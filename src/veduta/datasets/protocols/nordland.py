"""Nordland: a train ride filmed in four seasons, frame by frame.

Paper: Sünderhauf, Neubert, Protzel, "Are We There Yet? Challenging SeqSLAM on a 3000 km Journey
Across All Four Seasons", ICRA workshop 2013. Three sets are in use, and their figures must not be
compared. A gallery frame is right if its number differs by at most the tolerance:

| variant | queries | gallery | tolerance | source |
| --- | --- | --- | --- | --- |
| 27592 | 27,592 of winter | 27,592 of summer | 10 | Hausler et al., Patch-NetVLAD, CVPR 2021 |
| 2760 | 2,760 of summer | 27,592 of winter | 1 | Zaffar et al., VPR-Bench, IJCV 2021 |
| 3450 | 3,450 of winter | 3,450 of summer | 2 | Olid, Fácil, Civera, PPNIV 2018 |

The number of a frame is its rank in the gallery: the file names skip tunnels and stations, and
these gaps do not count (VPR-datasets-downloader). Queries and gallery frames belong together by the
numbers in their file names. If one season has fewer frames, they are the queries. In 2760 each
tenth frame is a query, with a name that is its number or that counts from the first. The id of a
photo is its path below the folder of the set, or the path in the list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import JudgedSet, unique_ids
from veduta.datasets.protocols.nearby import judged_by_rank, photo_files, read_paths
from veduta.datasets.protocols.protocol import Protocol, ReadOptions, layout_error
from veduta.errors import DatasetError, readable

__all__ = ["NORDLAND"]

_TOLERANCES = {"27592": 10, "2760": 1, "3450": 2}
_GALLERY_FRAMES = {"2760": 27592}
_EVERY = 10
"""VPR-Bench takes every tenth frame as a query."""

_RAW_FRAMES = 35768
"""Frames of a season before tunnels and stations are left out."""

_SEASONS = ("winter", "summer", "spring", "fall")
_PAIR = ("winter", "summer")
"""The usual queries and gallery. VPR-Bench has them the other way round."""

_LISTS = ("nordland_imageNames_query.txt", "nordland_imageNames_index.txt")
_SELECTED = ("cleanImageNames.txt", "nordland_imageNames.txt")
_SAMPLE_NAMES = 20
"""How many names are looked at to recognise the protocol."""

_FRAME = re.compile(r"(?:.*\D)?(\d{1,9})")
_SURE_FRAME = re.compile(r"images?-\d{5}\.(png|jpe?g)", re.IGNORECASE)

_LAYOUT = """
nordland/
  summer/                  or summer_images_test/, below test/; subfolders are read too
    images-00001.png       or 00001.png: the same number is the same place
  winter/
    images-00001.png
  cleanImageNames.txt      optional: the file names of the frames that take part
or, for other pairs of seasons,
  query/, ref/             the queries and the gallery
or, as Patch-NetVLAD,
  nordland_imageNames_query.txt, nordland_imageNames_index.txt
"""


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of one season, by number.

    Attributes:
        source: the folder or list that has them, for messages.
        paths: (N,) paths below the root.
        numbers: (N,) int64 from the file names, ascending.
    """

    source: Path
    paths: tuple[str, ...]
    numbers: NDArray[np.int64]

    def every(self, step: int) -> _Frames:
        return _Frames(self.source, self.paths[::step], self.numbers[::step])


def _root_of(path: Path) -> Path:
    """Return the folder that has the seasons, the queries or the lists."""
    for folder in (path, path / "test", path / "Dataset_images" / "test", path / "nordland"):
        if _has_lists(folder) or len(_season_folders(folder)) > 1 or _has_sides(folder):
            return folder
    return path


def _has_lists(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _LISTS)


def _has_sides(folder: Path) -> bool:
    return (folder / "query").is_dir() and (folder / "ref").is_dir()


def _season_folders(folder: Path) -> dict[str, str]:
    """Return season → name of its folder."""
    names = {season: (season, f"{season}_images_test") for season in _SEASONS}
    return {
        season: name for season, both in names.items() for name in both if (folder / name).is_dir()
    }


def _recognises(path: Path) -> bool:
    try:
        root = _root_of(path)
        seasons = list(_season_folders(root).values())[:2]
        folders = seasons if len(seasons) > 1 else ["query", "ref"] if _has_sides(root) else []
        return _has_lists(root) or (bool(folders) and _has_frames(path, root, folders, seasons))
    except (DatasetError, OSError):
        return False


def _has_frames(path: Path, root: Path, folders: list[str], seasons: list[str]) -> bool:
    """Tell whether folders have the frames of a known set, and not just any photos of seasons."""
    samples = [list(islice(photo_files(root / each), _SAMPLE_NAMES)) for each in folders]
    names = [each.rpartition("/")[2] for sample in samples for each in sample]
    if not all(samples) or not all(_FRAME.fullmatch(each.rpartition(".")[0]) for each in names):
        return False
    if folders == seasons and all(_SURE_FRAME.fullmatch(each) for each in names):
        return True
    if any("nordland" in each.name.lower() for each in (path.absolute(), root)):
        return True
    known = {*map(int, _TOLERANCES), _RAW_FRAMES}
    return all(sum(1 for _ in photo_files(root / each)) in known for each in folders)


def _frames(source: Path, paths: list[str]) -> _Frames:
    """Return frames in the order of their numbers."""
    numbers = np.empty(len(paths), np.int64)
    for row, path in enumerate(paths):
        match = _FRAME.fullmatch(path.rpartition("/")[2].rpartition(".")[0])
        if match is None:
            raise DatasetError(
                f"{readable(source)}: {readable(path)}: no frame number; wanted names such as "
                "00001.png or images-00001.png"
            )
        numbers[row] = int(match[1])
    if not paths:
        raise DatasetError(f"{readable(source)}: no photo; wanted frames such as 00001.png")
    unique_ids(source, "frames", paths)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    if len(twice := np.flatnonzero(np.diff(numbers) == 0)):
        pair = [paths[order[row]] for row in (twice[0], twice[0] + 1)]
        raise DatasetError(
            f"{readable(source)}: {some_of(pair)} have the same frame number; each must be there "
            "once"
        )
    return _Frames(source, tuple(paths[row] for row in order), numbers)


def _read_sides(path: Path, root: Path) -> tuple[list[_Frames], tuple[str, ...]]:
    """Return the queries and the gallery, or two seasons and their names."""
    if _has_lists(root):
        return [_frames(root / name, list(read_paths(root / name))) for name in _LISTS], ()
    folders = _season_folders(root)
    if len(folders) < 2:
        if not _has_sides(root):
            raise layout_error(path, "nordland", _LAYOUT, "no folders of two seasons")
        return [_season(root, name) for name in ("query", "ref")], ()
    if lacking := [season for season in _PAIR if season not in folders]:
        remedy = "put another pair of seasons into query/ and ref/"
        raise layout_error(path, "nordland", _LAYOUT, f"no {' and no '.join(lacking)}; {remedy}")
    return [_season(root, folders[season]) for season in _PAIR], _PAIR


def _season(root: Path, name: str) -> _Frames:
    """Return the frames of a folder, those of the list of selected frames if there is one."""
    paths = [f"{name}/{each}" for each in photo_files(root / name)]
    lists = [root / each for each in _SELECTED if (root / each).is_file()]
    if lists:
        selected = {each.rpartition("/")[2] for each in read_paths(lists[0])}
        paths = [each for each in paths if each.rpartition("/")[2] in selected]
        if len(paths) < len(selected):
            absent = sorted(selected - {each.rpartition("/")[2] for each in paths})
            raise DatasetError(
                f"{readable(root / name)}: lacks {len(absent):,} of the {len(selected):,} frames "
                f"of {lists[0].name} ({some_of(absent)}); the set is of another version"
            )
    return _frames(root / name, paths)


def _variant_of(query: _Frames, gallery: _Frames, variant: str | None) -> str:
    """Return the variant that the numbers of frames show, or refuse them."""
    frames = f"{len(query.paths):,} queries and {len(gallery.paths):,} gallery frames"
    shown = str(min(len(query.paths), len(gallery.paths)))
    known = "; ".join(f"{name}: ±{most}" for name, most in _TOLERANCES.items())
    if variant is None:
        if shown in _TOLERANCES:
            return shown
        raise DatasetError(
            f"{readable(query.source)}: {frames}, which is no known set; name the variant, which "
            f"says the tolerance in frames ({known})"
        )
    if shown in _TOLERANCES and shown != variant and (variant, shown) != ("2760", "27592"):
        raise DatasetError(
            f"{readable(query.source)}: {frames} are the variant {shown}, not {variant}; their "
            f"tolerances differ ({known})"
        )
    return variant


def _numbered(query: _Frames, gallery: _Frames) -> NDArray[np.int64]:
    """Return (Q,) the rank in the gallery of the frame of each query."""
    ranks = np.arange(len(query.paths))
    if np.array_equal(query.numbers, gallery.numbers):
        return ranks
    tenth = gallery.every(_EVERY)
    if len(tenth.paths) == len(query.paths) and (
        np.array_equal(query.numbers, tenth.numbers)
        or np.array_equal(query.numbers - query.numbers[0], ranks)
    ):
        return ranks * _EVERY
    differ = sorted(set(query.numbers.tolist()) ^ set(gallery.numbers.tolist()))
    raise DatasetError(
        f"{readable(query.source)}: its frames are not those of {readable(gallery.source)} "
        f"({len(query.paths):,} and {len(gallery.paths):,}; only one has "
        f"{some_of(map(str, differ))}); both must have the same numbers, or the queries every "
        f"tenth. The names of the frames that take part can stand in {_SELECTED[0]}"
    )


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    root = _root_of(path)
    (query, gallery), names = _read_sides(path, root)
    variant = _variant_of(query, gallery, options.variant)
    fewer = len(query.paths) - len(gallery.paths)
    if names and (fewer > 0 or (fewer == 0 and variant == "2760")):
        query, gallery, names = gallery, query, names[::-1]
    if variant == "2760" and len(query.paths) == len(gallery.paths) != int(variant):
        query = query.every(_EVERY)
    seasons = " to ".join(names or ("query", "ref"))
    ranks = _numbered(query, gallery)
    tolerance = _TOLERANCES[variant]
    photos = options.photos or (_root_of_lists(root, query) if _has_lists(root) else root)
    notes = [
        f"Nordland {variant}: {len(query.paths):,} queries, {len(gallery.paths):,} gallery frames, "
        f"{seasons}. A frame is right if its number differs by at most {tolerance}. Compare only "
        "with figures of this variant."
    ]
    published = int(variant), _GALLERY_FRAMES.get(variant, int(variant))
    if (len(query.paths), len(gallery.paths)) != published:
        notes.append(
            "The published set has {:,} queries and {:,} gallery frames.".format(*published)
        )
    return JudgedSet(
        protocol="nordland",
        name=f"Nordland {variant} (±{tolerance}), {seasons}",
        root=photos,
        queries=query.paths,
        gallery=gallery.paths,
        query_paths=query.paths,
        gallery_paths=gallery.paths,
        positives=judged_by_rank(ranks, len(gallery.paths), tolerance),
        query_places=ranks[:, None].astype(np.float64),
        gallery_places=np.arange(len(gallery.paths), dtype=np.float64)[:, None],
        notes=tuple(notes),
    )


def _root_of_lists(root: Path, query: _Frames) -> Path:
    """Return what the paths of the lists are relative to: their folder, or the one above."""
    above = root.absolute().parent
    is_above = not (root / query.paths[0]).exists() and (above / query.paths[0]).exists()
    return above if is_above else root


NORDLAND = Protocol(
    "nordland",
    "Nordland (Sünderhauf et al., 2013) with 27,592, 2,760 or 3,450 queries",
    _LAYOUT,
    _recognises,
    _read,
    tuple(_TOLERANCES),
)
