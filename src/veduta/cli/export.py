"""`veduta export`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.index_argument import IndexPath, default_index, reads_index
from veduta.cli.options import OutputFile, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.cli.progress import OnProgress, progress
from veduta.text import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.index import Manifest, Snapshot
    from veduta.interchange.exported_pairs import PhotoPairs
    from veduta.interchange.exported_photos import ExportedPhotos

DEFAULT_K = 100
_BLOCK_ROWS = 4096


@click.command("export")
@click.argument("index_path", metavar="[INDEX]", default=default_index, type=IndexPath())
@click.option(
    "--descriptors",
    type=OutputFile(),
    metavar="FILE",
    help="The descriptors, as .npz, .npy, .h5 or .parquet.",
)
@click.option(
    "--keypoints",
    type=OutputFile(),
    metavar="FILE.h5",
    help="The keypoints, as hloc stores local features.",
)
@click.option(
    "--pairs",
    type=OutputFile(),
    metavar="FILE.txt",
    help="Pairs of photos, one a line: each photo with its nearest ones.",
)
@click.option(
    "--matches",
    type=OutputFile(),
    metavar="FILE.h5",
    help="The verified matches of these pairs, as hloc stores them.",
)
@click.option(
    "--colmap",
    type=OutputFile(),
    metavar="FILE.db",
    help="A database of COLMAP: photos, cameras, keypoints and verified matches. One that is there "
    "is replaced only with --overwrite.",
)
@click.option("--overwrite", is_flag=True, help="Replace a database of COLMAP that is there.")
@click.option(
    "--run",
    "run_file",
    type=OutputFile(),
    metavar="FILE",
    help="A TREC run: each photo against all others, by descriptor.",
)
@click.option(
    "-k",
    "most",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"So many photos for each one of --run.  [default: {DEFAULT_K}]",
)
@click.option(
    "--photos-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Name photos by their paths below this folder.  [default: the deepest that holds all]",
)
@json_option
@reads_index
def command(
    index_path: Path,
    most: int | None,
    photos_root: Path | None,
    overwrite: bool,
    as_json: bool,
    **outputs: Path | None,
) -> None:
    """Write what an index holds in the forms of other programs.

    \b
    veduta export INDEX --descriptors photos.npz --photos-root DATASET
    veduta export INDEX --keypoints features.h5 --pairs pairs.txt --matches matches.h5
    veduta export INDEX --colmap database.db

    INDEX is the folder of the index ($VEDUTA_INDEX, or in your data folder). Several files can be
    written in one call. HDF5 files need h5py: pip install 'veduta[hdf5]'.

    Positions are in pixels of the photo at its full size, turned as its Exif says. Programs that
    ignore Exif, such as COLMAP, need photos that are stored upright. In files of hloc, (0, 0) is
    the middle of the first pixel; in the database of COLMAP it is (0.5, 0.5).
    """
    files = {name: file for name, file in outputs.items() if file}
    _check_call(files, most, overwrite=overwrite)
    from veduta.index import Manifest, open_snapshot
    from veduta.interchange.exported_photos import exported_photos

    manifest = Manifest.read(index_path)
    snapshot = open_snapshot(index_path)
    if snapshot.notice:
        say(f"veduta: {snapshot.notice}", err=True)
    photos = exported_photos(index_path, snapshot, photos_root)
    export = _Export(index_path, manifest, snapshot, photos, quiet=as_json)
    export.check(files)
    if file := files.get("descriptors"):
        export.write_descriptors(file)
    if file := files.get("keypoints"):
        export.write_keypoints(file)
    if {"pairs", "matches", "colmap"} & files.keys():
        export.write_pairs(files)
    if file := files.get("run_file"):
        export.write_run(file, most or DEFAULT_K)
    if as_json:
        print_json(export.as_json())
    else:
        say(*export.lines())


def _check_call(files: Mapping[str, Path], most: int | None, *, overwrite: bool) -> None:
    """Refuse a wrong call before any work."""
    if not files:
        raise click.UsageError(
            "Name at least one file to write: --descriptors, --keypoints, --pairs, --matches, "
            "--colmap or --run."
        )
    if most is not None and "run_file" not in files:
        raise click.UsageError("-k goes with --run.")
    if len({file.absolute() for file in files.values()}) < len(files):
        raise click.UsageError("Two options name the same file. Name one for each.")
    database = files.get("colmap")
    if overwrite and database is None:
        raise click.UsageError("--overwrite goes with --colmap.")
    if database is not None and database.exists() and not overwrite:
        raise click.UsageError(
            f"{shown(database)} is there already, and COLMAP may have written to it. Name another "
            "file, or replace it with --overwrite."
        )


@dataclass(slots=True)
class _Export:
    """What is written of an index, and what is told about it."""

    index: Path
    manifest: Manifest
    snapshot: Snapshot
    photos: ExportedPhotos
    quiet: bool
    written: list[dict[str, Any]] = field(default_factory=list)
    without_keypoints: Sequence[str] = ()

    def check(self, files: Mapping[str, Path]) -> None:
        """Refuse what cannot be written before anything is."""
        from veduta.interchange.descriptor_formats import require_h5py
        from veduta.interchange.exported_pairs import required_extractor
        from veduta.interchange.exported_photos import refuse_blanks

        if {"keypoints", "matches", "colmap"} & files.keys():
            required_extractor(self.index, self.manifest)
        if {"keypoints", "matches"} & files.keys():
            require_h5py()
        for output, what in (("pairs", "a list of pairs"), ("run_file", "a TREC run")):
            if output in files:
                refuse_blanks(self.photos, what)

    def write_descriptors(self, file: Path) -> None:
        from veduta.index.snapshot import as_float32
        from veduta.interchange.descriptor_writing import write_descriptors

        order = self.photos.by_name

        def blocks(on_progress: OnProgress) -> Iterator[NDArray[np.float32]]:
            for start in range(0, len(order), _BLOCK_ROWS):
                rows = order[start : start + _BLOCK_ROWS]
                yield as_float32(self.snapshot.descriptors[rows])
                on_progress(start + len(rows), len(order))

        names = [self.photos.names[row] for row in order.tolist()]
        with self._progress("Writing descriptors") as on_progress:
            write_descriptors(file, names, blocks(on_progress))
        self._note("descriptors", file, photos=len(names), dimension=self.snapshot.dimension)

    def write_keypoints(self, file: Path) -> None:
        from veduta.index.keypoint_files import StoredKeypoints
        from veduta.interchange.exported_pairs import required_extractor
        from veduta.interchange.hloc_files import write_features

        with self._progress("Writing keypoints") as on_progress:
            counts = write_features(
                file,
                self.photos,
                StoredKeypoints(self.index, self.snapshot),
                working_side=required_extractor(self.index, self.manifest).long_side,
                on_progress=on_progress,
            )
        self._note("keypoints", file, photos=len(counts), keypoints=int(counts.sum()))
        self._note_missing(counts)

    def write_pairs(self, files: Mapping[str, Path]) -> None:
        """Write the pairs, and their matches into both files in one go."""
        from veduta.interchange.exported_pairs import linked_photos, write_pairs

        pairs = linked_photos(self.index, self.manifest, self.snapshot, self.photos)
        if file := files.get("pairs"):
            write_pairs(file, self.photos, pairs)
            self._note("pairs", file, pairs=len(pairs), copies_left_out=pairs.copies)
        if {"matches", "colmap"} & files.keys():
            self._write_matches(pairs, files.get("matches"), files.get("colmap"))

    def _write_matches(self, pairs: PhotoPairs, hloc: Path | None, colmap: Path | None) -> None:
        from veduta.index.keypoint_files import StoredKeypoints
        from veduta.interchange.colmap_database import colmap_database
        from veduta.interchange.exported_pairs import matched_pairs, required_extractor
        from veduta.interchange.hloc_files import hloc_matches

        extractor = required_extractor(self.index, self.manifest)
        keypoints = StoredKeypoints(self.index, self.snapshot)
        facts = {"pairs": len(pairs), "verified": 0, "matches": 0}
        photo_facts: dict[str, int] = {}
        with ExitStack() as stack:
            takers = []
            if hloc:
                takers.append(stack.enter_context(hloc_matches(hloc, self.photos, pairs)))
            if colmap:
                database = stack.enter_context(colmap_database(colmap, self.photos))
                with self._progress("Writing keypoints") as on_progress:
                    counts = database.add_photos(keypoints, extractor.name, on_progress)
                photo_facts = {"photos": len(counts), "keypoints": int(counts.sum())}
                self._note_missing(counts)
                takers.append(database.add_pair)
            on_progress = stack.enter_context(self._progress("Matching", "pairs"))
            matched = matched_pairs(keypoints, pairs, extractor.matching, on_progress)
            for pair in stack.enter_context(closing(matched)):
                for take in takers:
                    take(pair)
                facts["verified"] += pair.verification is not None
                facts["matches"] += len(pair.inliers)
        if hloc:
            self._note("matches", hloc, **facts, copies_left_out=pairs.copies)
        if colmap:
            self._note("colmap", colmap, **photo_facts, **facts, copies_left_out=pairs.copies)

    def write_run(self, file: Path, k: int) -> None:
        from veduta.interchange.ranking_files import write_run
        from veduta.search.all_against_all import nearest_of_all

        names, pairs = self.photos.names, 0

        def rows(on_progress: OnProgress) -> Iterator[tuple[str, str, float]]:
            nonlocal pairs
            ranked = nearest_of_all(self.snapshot, k, self.photos.by_name, on_progress)
            for query, others, similarities in ranked:
                pairs += len(others)
                for other, similarity in zip(others.tolist(), similarities.tolist(), strict=True):
                    yield names[query], names[other], similarity

        with self._progress("Ranking") as on_progress:
            write_run(file, rows(on_progress))
        self._note("run", file, queries=len(names), ranked=pairs)

    def as_json(self) -> dict[str, Any]:
        """Return what was written as JSON types."""
        return {
            "index": str(self.index),
            "photos": len(self.photos),
            "photos_root": str(self.photos.root),
            "written": self.written,
            "without_keypoints": list(self.without_keypoints),
        }

    def lines(self) -> Iterator[str]:
        """Yield what was written, for people."""
        for one in self.written:
            yield f"wrote {shown(one['file'])}: {_facts(one)}"
        copies = max((one.get("copies_left_out", 0) for one in self.written), default=0)
        if copies:
            yield (
                f"{count(copies, 'copy', 'copies')} of other photos in no pair: of files with the "
                "same content the first by name stands for all."
            )
        if missing := self.without_keypoints:
            yield f"{count(len(missing), 'photo')} without keypoints, such as {missing[0]}"
        yield f"Names are relative to {shown(self.photos.root)}"

    def _progress(self, stage: str, unit: str = "photos") -> Any:
        return progress(stage, unit, quiet=self.quiet)

    def _note(self, kind: str, file: Path, **facts: int) -> None:
        self.written.append({"kind": kind, "file": str(file), **facts})

    def _note_missing(self, counts: NDArray[np.int64]) -> None:
        order = self.photos.by_name
        missing = order[counts[order] == 0].tolist()
        self.without_keypoints = [self.photos.names[row] for row in missing]


def _facts(one: Mapping[str, Any]) -> str:
    """Return the counts of one file as text."""
    words = {
        "photos": ("photo", "photos"),
        "queries": ("photo", "photos"),
        "dimension": ("dimension", "dimensions"),
        "keypoints": ("keypoint", "keypoints"),
        "pairs": ("pair", "pairs"),
        "verified": ("verified", "verified"),
        "matches": ("match", "matches"),
        "ranked": ("answer", "answers"),
    }
    return ", ".join(count(one[key], *names) for key, names in words.items() if key in one)
