"""A dataset with changed copies of its training photos, written beside it.

What is written:

    DIR/labels.csv          the columns of the dataset's own, and `original_photo`
    DIR/…/photo.jpg         every photo of the dataset, byte for byte
    DIR/…/photo~1.jpg       the first changed copy of a training photo
    DIR/augmentation.json   what was done; where an interrupted run goes on

No copy crosses a split: only photos of one part are copied, their copies have their values in every
column, and photos of all other parts (validation, test, query, gallery…) come over as they are.
`original_photo` holds the path of the photo that a row is, or is a copy of: `veduta split
--group-column original_photo` keeps the two together.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from veduta.collect.file_names import case_folded, safe_name
from veduta.datasets.dataset import ORIGINAL_PHOTO_COLUMN
from veduta.datasets.split_names import split_named
from veduta.errors import DatasetError, PhotoError, StorageFull, readable
from veduta.photos import decode, read_bytes, resize
from veduta.photos.formats import EXTENSIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from veduta.datasets import Dataset
    from veduta.learn.augmentation.steps import Step

__all__ = ["Augmented", "augment_dataset"]

_RECORD, _LABELS = "augmentation.json", "labels.csv"
_DRAFTS, _LOCK = ".drafts", ".lock"
_QUALITY = 90
_ENDINGS = frozenset(f".{ending}" for endings in EXTENSIONS.values() for ending in endings)


@dataclass(frozen=True, slots=True)
class Augmented:
    """What was written: `photos` as they were, of which `chosen` were copied, `copies` times each.

    `kept`: files that an earlier, interrupted run had written. `problems`: what was left out, and
    why.
    """

    folder: Path
    photos: int
    chosen: int
    copies: int
    kept: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """All that a run writes: `record` decides it, `header` names the columns."""

    dataset: Dataset
    rows: Sequence[_Row]
    header: Sequence[str]
    record: dict[str, Any]
    transform: Callable[[Tensor], Tensor]
    on_progress: Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class _Row:
    source: str
    stem: str
    target: str
    values: tuple[str, ...]
    """Of all columns behind `path`."""
    group: str
    chosen: bool


def augment_dataset(
    dataset: Dataset,
    steps: Sequence[Step],
    out: Path,
    *,
    column: str = "split",
    part: str | None = None,
    every: bool = False,
    copies: int = 5,
    side: int = 1024,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Augmented:
    """Write a dataset with `copies` changed copies of each training photo into `out`.

    A copy depends on the steps, the seed, the path of its photo and its number alone, so a run that
    was interrupted, called again, ends with the same files.

    Args:
        dataset: the photos, read with `keep_columns`; nothing is written among them.
        steps: from `read_steps`.
        out: a new or empty folder outside the dataset, or that of an interrupted run.
        column: what the split's column is called.
        part: the split whose photos are copied, under any of its names; None: the training photos.
        every: copy all photos, of a dataset without a split.
        copies: 1 or more.
        side: pixels that the long side of a copy has at most.
        seed: another seed, other copies.
        on_progress: called with how many photos are done, and of how many.

    Raises:
        DatasetError: there is no such part, or no split and not `every`; `out` cannot be used; not
            one of the photos can be read.
        StorageFull: the disk is full; called again, the run goes on.
    """
    from veduta.learn.augmentation import compose

    transform = compose([step.as_json() for step in steps])
    rows, header = _plan(dataset, column, part, every=every)
    record = _record(dataset, steps, column, part, every=every, copies=copies, side=side, seed=seed)
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(dataset.root)):
        raise DatasetError(
            f"{readable(out)} lies in the dataset {readable(dataset.root)}, which is not written "
            "to: name a folder outside"
        )
    try:
        return _write(_Job(dataset, rows, header, record, transform, on_progress), out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"{readable(out)}: the disk is full. What was written is kept; make room and run "
                "the same command again."
            ) from error
        named = f" ({readable(error.filename)})" if error.filename else ""
        raise DatasetError(
            f"{readable(out)}: cannot be written: {error.strerror or error}{named}"
        ) from error


def _plan(
    dataset: Dataset, column: str, part: str | None, *, every: bool
) -> tuple[list[_Row], list[str]]:
    """Return a row for each photo, and the columns."""
    wanted = split_named(part or "train") or (part or "").casefold()
    chosen = [every or split.casefold() == wanted for split in dataset.splits]
    _check_split(dataset, column, part, chosen, every=every)
    # Folder names give the splits of the new labels file, a column comes over as it is.
    splits = dataset.written_splits if dataset.labels_file else dataset.splits
    others = {
        name: of
        for name, of in dataset.further_columns.items()
        if name.casefold() != ORIGINAL_PHOTO_COLUMN
    }
    header = ["path", "label", *([column] if any(splits) else []), *others, ORIGINAL_PHOTO_COLUMN]
    stems = _stems(dataset.paths)
    targets = {
        path: stem + (ending if (ending := PurePosixPath(path).suffix).lower() in _ENDINGS else "")
        for path, stem in zip(dataset.paths, stems, strict=True)
    }
    earlier = next(
        (
            of
            for name, of in dataset.further_columns.items()
            if name.casefold() == ORIGINAL_PHOTO_COLUMN
        ),
        dataset.paths,
    )
    rows = []
    for at, path in enumerate(dataset.paths):
        split = [splits[at]] if any(splits) else []
        values = (dataset.labels[at] or "", *split, *(of[at] for of in others.values()))
        group = earlier[at] or path
        rows.append(
            _Row(path, stems[at], targets[path], values, targets.get(group, group), chosen[at])
        )
    return rows, header


def _check_split(
    dataset: Dataset, column: str, part: str | None, chosen: Sequence[bool], *, every: bool
) -> None:
    root = readable(dataset.root)
    if every:
        if any(dataset.splits):
            raise DatasetError(
                f"{root}: has a split, so copying all photos would put copies of test photos "
                "beside them; leave --all out, or name the part to copy with --part"
            )
        return
    if not any(dataset.splits):
        raise DatasetError(
            f"{root}: has no split (a column {column!r} in its labels file, or folders named after "
            "splits). Copies made now could end in another part than their photo: run `veduta "
            "split` first; or copy all photos with --all, and split the result with `veduta split "
            f"--group-column {ORIGINAL_PHOTO_COLUMN}`"
        )
    if not any(chosen):
        found = Counter(split or "none" for split in dataset.splits).most_common(12)
        parts = ", ".join(f"{readable(name)} {photos:,}" for name, photos in found)
        raise DatasetError(
            f"{root}: no photo is in the part {readable(part or 'train')!r} of the split "
            f"{column!r}, which has: {parts}; --column names another split, --part another part"
        )


def _stems(paths: Sequence[str]) -> list[str]:
    """Return for each path one without ending that no system takes for another's."""
    plain = []
    for path in paths:
        pure = PurePosixPath(path)
        folders = [safe_name(folder) for folder in pure.parts[:-1]]
        stem = pure.stem if pure.suffix.lower() in _ENDINGS else pure.name
        plain.append("/".join([*folders, safe_name(stem)]))
    often = Counter(case_folded(stem) for stem in plain)
    return [
        stem if often[case_folded(stem)] == 1 else f"{stem}~{_digest(path, size=8)}"
        for stem, path in zip(plain, paths, strict=True)
    ]


def _record(
    dataset: Dataset,
    steps: Sequence[Step],
    column: str,
    part: str | None,
    *,
    every: bool,
    copies: int,
    side: int,
    seed: int,
) -> dict[str, Any]:
    """Return all that decides what is written."""
    columns = dataset.further_columns
    content = [dataset.paths, dataset.labels, dataset.written_splits, *columns, *columns.values()]
    return {
        "dataset": readable(Path(os.path.abspath(dataset.root)).name),
        "rows": _digest(json.dumps(content), size=16),
        "steps": [step.as_json() for step in steps],
        "column": column,
        "part": part,
        "all": every,
        "copies": copies,
        "side": side,
        "seed": seed,
    }


def _digest(text: str, *, size: int) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def _write(job: _Job, out: Path) -> Augmented:
    from filelock import FileLock, Timeout

    _check_folder(out, job.record)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / _LOCK, timeout=0):
            writer = _Writer(out)
            writer.write(_RECORD, _as_text({**job.record, "finished": False}))
            done = _write_photos(job, writer)
            writer.write(_RECORD, _as_text({**job.record, "finished": True}))
            shutil.rmtree(out / _DRAFTS)
    except Timeout:
        raise DatasetError(f"{readable(out)}: another process is writing into it") from None
    (out / _LOCK).unlink(missing_ok=True)
    return done


def _as_text(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2).encode()


def _check_folder(out: Path, record: dict[str, Any]) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise DatasetError(f"{readable(out)}: not a folder")
    # A lock alone is all that a run leaves that was ended at its very beginning.
    if not any(entry.name not in (_LOCK, _DRAFTS) for entry in out.iterdir()):
        return
    try:
        before = json.loads((out / _RECORD).read_bytes())
        finished = before.pop("finished")
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        raise DatasetError(f"{readable(out)} is not empty: name a new folder") from None
    if finished:
        raise DatasetError(
            f"{readable(out)} holds a finished augmentation already: name a new folder"
        )
    if before != record:
        other = ", ".join(name for name in record if before.get(name) != record[name])
        raise DatasetError(
            f"{readable(out)} holds an unfinished augmentation with other settings ({other}): "
            "repeat them to go on, or name a new folder"
        )


class _Writer:
    """Writes files that appear whole or not at all, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drafts = folder / _DRAFTS
        shutil.rmtree(self.drafts, ignore_errors=True)
        self.drafts.mkdir()

    def has(self, path: str) -> bool:
        return (self.folder / path).is_file()

    def write(self, path: str, data: bytes) -> None:
        draft, target = self.drafts / "draft", self.folder / path
        draft.write_bytes(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)


def _write_photos(job: _Job, writer: _Writer) -> Augmented:
    problems: list[str] = []
    lines: list[tuple[str, ...]] = []
    copies = job.record["copies"]
    whole = chosen = kept = 0
    for done, row in enumerate(job.rows):
        if job.on_progress:
            job.on_progress(done, len(job.rows))
        names = [f"{row.stem}~{number}.jpg" for number in range(1, copies + 1)]
        names = names if row.chosen else []
        missing = [name for name in (row.target, *names) if not writer.has(name)]
        kept += 1 + len(names) - len(missing)
        if missing:
            try:
                for name, data in _files(job, row, missing):
                    writer.write(name, data)
            except PhotoError as error:
                problems.append(f"{readable(row.source)}: left out, {error.reason}")
                continue
        whole += 1
        chosen += row.chosen
        lines += [(path, *row.values, row.group) for path in (row.target, *names)]
    if job.on_progress:
        job.on_progress(len(job.rows), len(job.rows))
    if not chosen:
        raise DatasetError(
            f"{readable(job.dataset.root)}: not one of the photos to copy can be read: "
            f"{problems[0]}"
        )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([job.header, *lines])
    writer.write(_LABELS, text.getvalue().encode())
    return Augmented(writer.folder, whole, chosen, copies, kept, (*job.dataset.problems, *problems))


def _files(job: _Job, row: _Row, missing: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a row that is missing.

    Raises `PhotoError` before the first when the photo cannot be read, or is to be changed and
    does not decode.
    """
    source = job.dataset.root / row.source
    data = read_bytes(source)
    pixels = None
    if row.chosen:
        side = job.record["side"]
        pixels = _fitted(decode(data, path=source, at_least=side).pixels, side)
    for name in missing:
        if name == row.target:
            yield name, data
        elif pixels is not None:
            yield (
                name,
                _changed(pixels, f"{job.record['seed']}\0{row.source}\0{name}", job.transform),
            )


def _fitted(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    return resize(pixels, max(1, round(scale * width)), max(1, round(scale * height)))


def _changed(
    pixels: NDArray[np.uint8], drawn_from: str, transform: Callable[[Tensor], Tensor]
) -> bytes:
    """Return one changed copy as JPEG; the text decides all draws."""
    import simplejpeg
    import torch

    from veduta.learn.augmentation.pixels import as_photo, as_pixels

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(_digest(drawn_from, size=7), 16))
        changed = as_pixels(transform(as_photo(pixels.copy())))
    encoded: bytes = simplejpeg.encode_jpeg(
        changed, quality=_QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return encoded
