"""A new dataset: all photos of another one, and changed copies of its training photos.

It consists of

    DIR/labels.csv          the columns of the other dataset, and `original_photo`
    DIR/…/photo.jpg         every photo of the other dataset, byte for byte
    DIR/…/photo~1.jpg       the first changed copy of a training photo
    DIR/augmentation.json   the settings, with which an interrupted run continues

No copy crosses a split: only photos of one split are copied, their copies have the same values in
every column, and the photos of all other splits (validation, test, query, gallery…) are not
changed. `original_photo` holds the path of the photo that a row is or is a copy of: `veduta split
--group-column original_photo` keeps the two together.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from veduta.datasets.dataset import ORIGINAL_PHOTO_COLUMN
from veduta.datasets.split_names import split_named
from veduta.errors import DatasetError, PhotoError, StorageFull, readable
from veduta.files import is_disk_full, is_draft, write_bytes, write_text
from veduta.photos import decode, read_bytes, resize
from veduta.photos.formats import EXTENSIONS
from veduta.safe_names import case_folded, safe_name
from veduta.validation import InvalidValue, convert, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from veduta.datasets import Dataset
    from veduta.learn.augmentation.steps import Step

__all__ = ["AugmentedDataset", "CopyOptions", "augment_dataset"]

SETTINGS_FILE, LABELS_FILE, LOCK_FILE = "augmentation.json", "labels.csv", ".lock"
JPEG_QUALITY = 90

# Interrupted runs of older versions left their drafts in this folder.
_OLD_DRAFTS_FOLDER = ".drafts"

_PHOTO_ENDINGS = frozenset(f".{ending}" for endings in EXTENSIONS.values() for ending in endings)

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """Which photos are copied, and how.

    Attributes:
        column: name of the column of the splits.
        split: the split whose photos are copied, under any of its names. None: the training photos.
        all_photos: copy all photos of a dataset without splits.
        copies: number of copies of each photo, 1 or more.
        side: maximal long side of a copy, in pixels.
        seed: decides the random draws.
    """

    column: str = "split"
    split: str | None = None
    all_photos: bool = False
    copies: int = 5
    side: int = 1024
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AugmentedDataset:
    """A dataset that was written.

    Attributes:
        folder: of the new dataset.
        photos: number of photos that were taken over unchanged.
        copied: number of photos among them that were copied.
        copies: number of copies of each.
        kept: number of files that an earlier, interrupted run had written.
        problems: what was left out and why, one sentence each.
    """

    folder: Path
    photos: int
    copied: int
    copies: int
    kept: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Settings:
    """Everything that decides the files, as in `augmentation.json`."""

    dataset: str
    rows: str
    """Digest of the paths, labels and splits of the dataset."""
    steps: list[dict[str, Any]]
    column: str
    part: str | None
    all: bool
    copies: int
    side: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A photo of the dataset, and its files in the new one."""

    source: str
    target: str
    target_stem: str
    values: tuple[str, ...]
    """Of all columns after `path` except the last one."""
    original: str
    is_copied: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """The files to write."""

    dataset: Dataset
    settings: _Settings
    header: Sequence[str]
    rows: Sequence[_Row]
    transform: Callable[[Tensor], Tensor]


def augment_dataset(
    dataset: Dataset,
    steps: Sequence[Step],
    out: Path,
    options: CopyOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> AugmentedDataset:
    """Write a dataset with changed copies of each training photo.

    A copy depends only on the steps, the seed, the path of its photo and its own number, so a
    second call after an interruption ends with the same files.

    Args:
        dataset: the photos, read with `keep_columns`. Nothing is written among them.
        steps: from `read_steps`.
        out: a new or empty folder outside the dataset, or that of an interrupted run.
        options: which photos are copied, and how.
        on_progress: called with (photos done, all photos).

    Returns:
        What was written.

    Raises:
        DatasetError: there is no such split, or no split at all and not `all_photos`; `out` cannot
            be used; none of the photos can be read.
        StorageFull: the disk is full. A second call continues.
    """
    from veduta.learn.augmentation import compose

    options = options or CopyOptions()
    transform = compose([step.as_json() for step in steps])
    header, rows = _rows(dataset, options)
    plan = _Plan(dataset, _settings(dataset, steps, options), header, rows, transform)
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(dataset.root)):
        raise DatasetError(
            f"{readable(out)} lies in the dataset {readable(dataset.root)}, which is not changed: "
            "name a folder outside"
        )
    try:
        return _write(plan, out, on_progress)
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull(
                f"{readable(out)}: the disk is full. The files so far are kept; free some space "
                "and run the same command again."
            ) from error
        file = f" ({readable(error.filename)})" if error.filename else ""
        raise DatasetError(
            f"{readable(out)}: cannot be written: {error.strerror or error}{file}"
        ) from error


def _rows(dataset: Dataset, options: CopyOptions) -> tuple[list[str], list[_Row]]:
    """Return the columns, and a row for each photo."""
    wanted = split_named(options.split or "train") or (options.split or "").casefold()
    is_copied = [options.all_photos or split.casefold() == wanted for split in dataset.splits]
    _check_split(dataset, options, is_copied)
    # Splits from folder names get their usual names in the new labels file. A column stays as it
    # is written.
    splits = dataset.written_splits if dataset.labels_file else dataset.splits
    has_splits = any(splits)
    columns = {
        name: values
        for name, values in dataset.further_columns.items()
        if name.casefold() != ORIGINAL_PHOTO_COLUMN
    }
    header = [
        "path",
        "label",
        *([options.column] if has_splits else []),
        *columns,
        ORIGINAL_PHOTO_COLUMN,
    ]
    stems = _target_stems(dataset.paths)
    targets = {}
    for path, stem in zip(dataset.paths, stems, strict=True):
        ending = PurePosixPath(path).suffix
        targets[path] = stem + (ending if ending.lower() in _PHOTO_ENDINGS else "")
    originals = next(
        (
            values
            for name, values in dataset.further_columns.items()
            if name.casefold() == ORIGINAL_PHOTO_COLUMN
        ),
        dataset.paths,
    )
    rows = []
    for i, path in enumerate(dataset.paths):
        split = [splits[i]] if has_splits else []
        original = originals[i] or path
        rows.append(
            _Row(
                source=path,
                target=targets[path],
                target_stem=stems[i],
                values=(dataset.labels[i] or "", *split, *(of[i] for of in columns.values())),
                original=targets.get(original, original),
                is_copied=is_copied[i],
            )
        )
    return header, rows


def _check_split(dataset: Dataset, options: CopyOptions, is_copied: Sequence[bool]) -> None:
    root = readable(dataset.root)
    if options.all_photos:
        if any(dataset.splits):
            raise DatasetError(
                f"{root}: has splits, so --all would also make copies of test photos; leave --all "
                "out, or name the split to copy with --part"
            )
        return
    if not any(dataset.splits):
        raise DatasetError(
            f"{root}: has no split (a column {options.column!r} in its labels file, or folders "
            "named after splits). A copy could later be in another split than its photo: run "
            "`veduta split` first; or copy all photos with --all, and split the result with "
            f"`veduta split --group-column {ORIGINAL_PHOTO_COLUMN}`"
        )
    if not any(is_copied):
        counts = Counter(split or "none" for split in dataset.splits).most_common(12)
        listed = ", ".join(f"{readable(name)} {photos:,}" for name, photos in counts)
        raise DatasetError(
            f"{root}: no photo is in the split {readable(options.split or 'train')!r} of the "
            f"column {options.column!r}, which has: {listed}; --column names another column, "
            "--part another split"
        )


def _target_stems(paths: Sequence[str]) -> list[str]:
    """Return for each path one without ending that differs from all others on every system."""
    stems = []
    for path in paths:
        pure = PurePosixPath(path)
        folders = [safe_name(folder) for folder in pure.parts[:-1]]
        stem = pure.stem if pure.suffix.lower() in _PHOTO_ENDINGS else pure.name
        stems.append("/".join([*folders, safe_name(stem)]))
    counts = Counter(case_folded(stem) for stem in stems)
    return [
        stem if counts[case_folded(stem)] == 1 else f"{stem}~{_digest(path, size=8)}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def _settings(dataset: Dataset, steps: Sequence[Step], options: CopyOptions) -> _Settings:
    columns = dataset.further_columns
    content = [dataset.paths, dataset.labels, dataset.written_splits, *columns, *columns.values()]
    return _Settings(
        dataset=readable(Path(os.path.abspath(dataset.root)).name),
        rows=_digest(json.dumps(content), size=16),
        steps=[step.as_json() for step in steps],
        column=options.column,
        part=options.split,
        all=options.all_photos,
        copies=options.copies,
        side=options.side,
        seed=options.seed,
    )


def _digest(text: str, *, size: int) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def _write(plan: _Plan, out: Path, on_progress: OnProgress | None) -> AugmentedDataset:
    from filelock import FileLock, Timeout

    _check_folder(out, plan.settings)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK_FILE, timeout=0):
            _remove_drafts(out)
            _write_settings(out, plan.settings, finished=False)
            written = _write_files(plan, out, on_progress)
            _write_settings(out, plan.settings, finished=True)
    except Timeout:
        raise DatasetError(f"{readable(out)}: another process is writing into it") from None
    (out / LOCK_FILE).unlink(missing_ok=True)
    return written


def _check_folder(out: Path, settings: _Settings) -> None:
    """Refuse a folder that is neither empty nor that of an interrupted run with these settings."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise DatasetError(f"{readable(out)}: not a folder")
    # A run that was interrupted at its beginning has written nothing else.
    beginnings = (LOCK_FILE, _OLD_DRAFTS_FOLDER)
    if all(entry.name in beginnings or is_draft(entry) for entry in out.iterdir()):
        return
    if any(entry.is_symlink() for entry in out.rglob("*")):
        raise DatasetError(
            f"{readable(out)} holds a link, through which files would be written elsewhere: name a "
            "new folder"
        )
    try:
        values = read_json(out / SETTINGS_FILE, dict[str, Any])
        earlier, finished = convert(values, _Settings), convert(values.get("finished"), bool)
    except (FileNotFoundError, InvalidValue):
        raise DatasetError(f"{readable(out)} is not empty: name a new folder") from None
    if finished:
        raise DatasetError(
            f"{readable(out)} already holds a finished augmentation: name a new folder"
        )
    if earlier != settings:
        before, now = asdict(earlier), asdict(settings)
        changed = ", ".join(name for name in now if before[name] != now[name])
        raise DatasetError(
            f"{readable(out)} holds an unfinished augmentation with other settings ({changed}): "
            "repeat them to continue it, or name a new folder"
        )


def _remove_drafts(out: Path) -> None:
    """Remove the drafts of an interrupted run."""
    shutil.rmtree(out / _OLD_DRAFTS_FOLDER, ignore_errors=True)
    for path in [path for path in out.rglob("*") if is_draft(path)]:
        path.unlink()


def _write_settings(out: Path, settings: _Settings, *, finished: bool) -> None:
    values = {**asdict(settings), "finished": finished}
    write_text(out / SETTINGS_FILE, json.dumps(values, indent=2))


def _write_files(plan: _Plan, out: Path, on_progress: OnProgress | None) -> AugmentedDataset:
    problems: list[str] = []
    lines: list[tuple[str, ...]] = []
    copies = plan.settings.copies
    photos = copied = kept = 0
    for done, row in enumerate(plan.rows):
        if on_progress:
            on_progress(done, len(plan.rows))
        names = [row.target]
        if row.is_copied:
            names += [f"{row.target_stem}~{number}.jpg" for number in range(1, copies + 1)]
        missing = [name for name in names if not (out / name).is_file()]
        kept += len(names) - len(missing)
        if missing:
            try:
                for name, data in _file_contents(plan, row, missing):
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    write_bytes(out / name, data)
            except PhotoError as error:
                problems.append(f"{readable(row.source)}: left out, {error.reason}")
                continue
        photos += 1
        copied += row.is_copied
        lines += [(name, *row.values, row.original) for name in names]
    if on_progress:
        on_progress(len(plan.rows), len(plan.rows))
    if not copied:
        raise DatasetError(
            f"{readable(plan.dataset.root)}: none of the photos to copy can be read: {problems[0]}"
        )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([plan.header, *lines])
    write_text(out / LABELS_FILE, text.getvalue())
    return AugmentedDataset(
        folder=out,
        photos=photos,
        copied=copied,
        copies=copies,
        kept=kept,
        problems=(*plan.dataset.problems, *problems),
    )


def _file_contents(plan: _Plan, row: _Row, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of files of a row.

    Raises:
        PhotoError: the photo cannot be read, or cannot be decoded for its copies. Nothing was
            yielded.
    """
    source = plan.dataset.root / row.source
    data = read_bytes(source)
    pixels = None
    if row.is_copied:
        side = plan.settings.side
        photo = decode(data, path=source, at_least=side, srgb=True)
        pixels = _shrunk(photo.pixels, side)
    for name in names:
        if name == row.target:
            yield name, data
        elif pixels is not None:
            seed = f"{plan.settings.seed}\0{row.source}\0{name}"
            yield name, _changed_copy(pixels, seed, plan.transform)


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a photo whose long side has at most `side` pixels."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height)))


def _changed_copy(
    pixels: NDArray[np.uint8], seed: str, transform: Callable[[Tensor], Tensor]
) -> bytes:
    """Return one changed copy as JPEG; the text `seed` decides all draws."""
    import simplejpeg
    import torch

    from veduta.learn.augmentation.pixels import as_photo, as_pixels

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(_digest(seed, size=7), 16))
        changed = as_pixels(transform(as_photo(pixels.copy())))
    encoded: bytes = simplejpeg.encode_jpeg(
        changed, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return encoded
