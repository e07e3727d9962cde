"""The neighbour graph of a gallery: which photos of the collection show the same.

Each photo is linked to the few photos that are nearest by descriptor. If the index has keypoints,
each link is verified by geometry once, when the later of its two photos is added. The weight of a
link is the probability that its photos show the same (`veduta.index.calibration`). The weights are
normalised by the degrees of both photos, as diffusion needs them (Zhou et al., Ranking on data
manifolds, NIPS 2003; Iscen et al., Efficient diffusion on region manifolds, CVPR 2017).

The graph is a function of the contents of the photos alone. Rows, paths and the order in which
photos came do not change it:

- Copies, which are rows with the same content, are one photo of the graph.
- Photos are in the order of their content hashes, which also decides between equal similarities.
- Similarities are exact, so they do not depend on the order of a sum.
- A link is verified from the photo with the smaller hash to the other one.

From `CELLS_FROM_PHOTOS` photos on (`veduta.index.cell_files`), a few of the nearest photos may be
missed, and which ones depends on the order in which photos came.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from veduta.errors import readable
from veduta.files import atomic_folder
from veduta.index.asked_pairs import ASKED_FILES, AskedPairs
from veduta.index.calibration import (
    Background,
    Calibration,
    Corrections,
    calibration_of_index,
    probability,
)
from veduta.index.cell_files import CELLS_FROM_PHOTOS, update_cells
from veduta.index.checksums import CHECKSUMS_FILE, Checksums, seal
from veduta.index.distinct_photos import (
    SAMPLE_PHOTOS,
    DistinctPhotos,
    content_hashes,
    distinct_photos,
)
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.neighbours import (
    UNVERIFIED,
    Links,
    empty_links,
    exact_descriptors,
    find_near_neighbours,
    find_neighbours,
    keep_neighbours,
    photos_now,
)
from veduta.index.own_calibration import ask_itself
from veduta.index.pair_verification import verify_pairs
from veduta.index.snapshot import Snapshot, snapshot_name
from veduta.index.storage_errors import index_errors, storage_error
from veduta.keypoints import Matching, Verification
from veduta.text import veduta_command
from veduta.validation import InvalidValue, read_json

if TYPE_CHECKING:
    from veduta.index.manifest import Manifest

FOLDER = "graph"
_FACTS_FILE = "graph.json"

LINK_KEYPOINTS = 512
"""How many of the best keypoints of a photo verify its links. With twice as many, a pair takes two
to three times as long."""

_BLOCK_PHOTOS = 4096
"""So many descriptors are in memory at a time."""

_VERSION = 2
"""Of the way in which links are found and verified. Graphs of another version are not used."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Graph:
    """Links between the m different photos of n rows, in both directions, as sparse rows.

    Attributes:
        starts: (m + 1,) int64; the links of photo i are starts[i] to starts[i + 1].
        ends: (l,) int32, the other photo.
        weights: (l,) float32, normalised by the degrees of both photos.
        photo_of_row: (n,) int32, the photo of each row of the snapshot.
        row_of_photo: (m,) int32, a row of each photo.
        by_similarity: what the collection learned by asking itself, without geometry.
        by_geometry: the same with geometry; the same as without if there are no keypoints.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    weights: NDArray[np.float32]
    photo_of_row: NDArray[np.int32]
    row_of_photo: NDArray[np.int32]
    by_similarity: Corrections = field(default_factory=Corrections)
    by_geometry: Corrections = field(default_factory=Corrections)

    @property
    def photos(self) -> int:
        """Number m of different photos."""
        return len(self.starts) - 1

    def only_in(self, rows: Sequence[int]) -> NDArray[np.intp]:
        """Return the photos that would be gone without some rows.

        Args:
            rows: of the snapshot, each once.

        Returns:
            Photos, ascending. A photo with another row, a copy, is not among them.
        """
        if not len(rows):
            return np.empty(0, np.intp)
        touched = self.photo_of_row[np.asarray(rows)]
        left = np.bincount(self.photo_of_row, minlength=self.photos)
        left -= np.bincount(touched, minlength=self.photos)
        photos = np.unique(touched)
        gone: NDArray[np.intp] = photos[left[photos] == 0].astype(np.intp)
        return gone


_GRAPH_FILES = {
    "starts": "graph_starts",
    "ends": "graph_ends",
    "weights": "graph_weights",
    "photo_of_row": "photo_of_row",
    "row_of_photo": "row_of_photo",
}


@dataclass(frozen=True, slots=True)
class LinkedPairs:
    """The l pairs of photos that a graph links, each once and sorted, the first photo first.

    Attributes:
        photos: the different photos of the snapshot.
        first: (l,) int64, the photo with the smaller content hash. It is the query where a pair is
            verified.
        second: (l,) int64, the other photo.
        consistent_matches: (l,), see `veduta.keypoints.Verification`; None if links are not
            verified, because the keypoints have no calibration.
        probabilities: (l,) that both show the same; None if links are not verified.
    """

    photos: DistinctPhotos
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    consistent_matches: NDArray[np.float64] | None
    probabilities: NDArray[np.floating[Any]] | None


_LINK_FILES = {
    "contents": "contents",
    "ends": "ends",
    "similarities": "similarities",
    "consistent_matches": "agreeing",
}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What `graph.json` says about a graph.

    Attributes:
        version: `_VERSION` when the graph was written.
        whole: whether all links are verified.
        projection: `Manifest.projection`, which decides the similarities.
        keypoints: how keypoints were matched and weighed. None: the index has no keypoints.
        learned_by_similarity: `Graph.by_similarity`.
        learned_by_geometry: `Graph.by_geometry`.
    """

    version: int
    whole: bool
    projection: str | None = None
    keypoints: str | None = None
    learned_by_similarity: Corrections = field(default_factory=Corrections)
    learned_by_geometry: Corrections = field(default_factory=Corrections)


def open_graph(index: Path, manifest: Manifest, name: str | None = None) -> Graph | None:
    """Map the graph of a version of `index`.

    Args:
        index: its folder.
        manifest: of the index.
        name: of the version, see `Snapshot.name`; None: the newest.

    Returns:
        None if there is no graph for this version yet, if its links were found or verified in
        another way than this version of Veduta does, or if it is damaged, see `graph_state`. The
        next update makes it.

    Raises:
        StorageError: the disk does not read.
    """
    folder = index / FOLDER / (name or snapshot_name(index, manifest))
    with index_errors(index, "read"):
        facts = _sound_facts(folder, _GRAPH_FILES.values())
        if facts is None or facts.version != _VERSION or not _verified_alike(facts, manifest):
            return None
        try:
            return Graph(
                **_arrays(folder, _GRAPH_FILES, mapped=True),
                by_similarity=facts.learned_by_similarity,
                by_geometry=facts.learned_by_geometry,
            )
        except (FileNotFoundError, ValueError):
            return None  # A writer removed it meanwhile.


def linked_pairs(index: Path, manifest: Manifest, snapshot: Snapshot) -> LinkedPairs | None:
    """Return the pairs of photos that the graph of a version links.

    Args:
        index: its folder.
        manifest: of the index.
        snapshot: of the version.

    Returns:
        None if the version has no whole graph, see `graph_state`.

    Raises:
        StorageError: the disk does not read.
    """
    if graph_state(index, manifest, snapshot.name) != "whole":
        return None
    with index_errors(index, "read"):
        try:
            links = Links(**_arrays(index / FOLDER / snapshot.name, _LINK_FILES))
        except FileNotFoundError:
            return None  # A writer removed it meanwhile.
    photos = distinct_photos(snapshot)
    extractor, calibration = extractor_of_index(manifest), calibration_of_links(manifest)
    verified = extractor is not None and calibration.geometry_is_calibrated
    starts, ends, consistent, weights = _weighed_links(
        snapshot, photos, links, calibration, verified=verified
    )
    m = len(photos.contents)
    pairs, at = np.unique(_numbers(starts, ends, m), return_index=True)
    first, second = np.divmod(pairs, np.int64(m))
    return LinkedPairs(
        photos,
        first,
        second,
        consistent[at] if verified else None,
        weights[at] if verified else None,
    )


def why_not_linked(index: Path, manifest: Manifest, snapshot: Snapshot) -> str:
    """Return why `linked_pairs` returns None for a version, and the remedy.

    Args:
        index: its folder.
        manifest: of the index.
        snapshot: of the version.
    """
    if manifest.shard is not None:
        command = veduta_command("merge", "PART…", "--index", "WHOLE")
        return (
            f"{readable(index)} is shard {manifest.shard} of a collection. Photos are linked when "
            f"all shards are one index: {command}"
        )
    command = veduta_command("index", "--index", index)
    return f"The photos of {readable(index)} are not all linked yet. Link them with: {command}"


GraphState = Literal["none", "damaged", "unfinished", "whole"]


def graph_state(
    index: Path, manifest: Manifest, name: str | None = None, *, anew: bool = False
) -> GraphState:
    """Return whether a version of `index` has its graph.

    Args:
        index: its folder.
        manifest: of the index.
        name: as for `open_graph`.
        anew: hash all files, whatever their stamps are.

    Returns:
        "none" also for a graph whose links were found or verified in another way than this version
        of Veduta does; "unfinished" if links wait for their verification.

    Raises:
        StorageError: the disk does not read.
    """
    folder = index / FOLDER / (name or snapshot_name(index, manifest))
    with index_errors(index, "read"):
        facts = _sound_facts(folder, [*_GRAPH_FILES.values(), *_LINK_FILES.values()], anew=anew)
        if facts is None:
            return "damaged" if (folder / CHECKSUMS_FILE).exists() else "none"
    if facts.version != _VERSION or not _verified_alike(facts, manifest):
        return "none"
    return "whole" if facts.whole else "unfinished"


def graph_notice(index: Path) -> str:
    """Return what a user must know about a damaged graph.

    Args:
        index: the folder of the index.
    """
    command = veduta_command("index", "--index", index)
    return (
        f"{readable(index / FOLDER)} is damaged, so searches do without the neighbour graph. "
        f"Make it again with: {command}"
    )


def graph_is_whole(index: Path, manifest: Manifest) -> bool:
    """Return whether the newest version of `index` has its graph, with every link verified.

    Args:
        index: its folder.
        manifest: of the index.
    """
    return graph_state(index, manifest) == "whole"


def _sound_facts(folder: Path, files: Iterable[str], *, anew: bool = False) -> _Facts | None:
    """Return the facts about a graph, None if they or some of its files are missing or damaged."""
    try:
        checksums = Checksums.read(folder)
        names = [_FACTS_FILE, *(f"{name}.npy" for name in files)]
        if checksums is None or checksums.damaged(names, anew=anew):
            return None
        return read_json(folder / _FACTS_FILE, _Facts)
    except (FileNotFoundError, InvalidValue):
        return None


def _arrays(folder: Path, files: Mapping[str, str], *, mapped: bool = False) -> dict[str, Any]:
    mode: Literal["r"] | None = "r" if mapped else None
    return {key: np.load(folder / f"{name}.npy", mmap_mode=mode) for key, name in files.items()}


def can_be_linked(snapshot: Snapshot) -> bool:
    """Return whether a collection can have a graph: some of its photos differ.

    Args:
        snapshot: of the collection.
    """
    if snapshot.photos < 2:
        return False
    contents = content_hashes(snapshot)
    return bool((contents != contents[0]).any())


def build_graph(
    index: Path,
    manifest: Manifest,
    snapshot: Snapshot,
    on_progress: OnProgress | None = None,
    *,
    verified: bool = True,
) -> None:
    """Bring the graph of `index` to the version of `snapshot`. A shard of a collection has none.

    If it is interrupted, it keeps the links that are verified and raises. The next call continues.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        manifest: of the newest version.
        snapshot: of the newest version.
        on_progress: called with (done, total) of photos that are put into cells, photos that are
            compared, links that are verified, and questions that the collection asks itself, one
            after the other.
        verified: verify the links, if the index has keypoints with a calibration.

    Raises:
        StorageFull: the disk has no room for the graph.
        IndexDamaged: keypoints of the index cannot be read.
    """
    if manifest.shard is not None:
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        return
    stored_cells = update_cells(index, manifest, snapshot, on_progress)
    if not can_be_linked(snapshot):
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        return
    photos = distinct_photos(snapshot)
    extractor, calibration = extractor_of_index(manifest), calibration_of_links(manifest)
    old, same_descriptors = _read_old_links(index, manifest)
    links = empty_links(photos)
    searching, added = keep_neighbours(old if same_descriptors else None, links)
    if snapshot.photos < CELLS_FROM_PHOTOS or stored_cells is None:
        find_neighbours(snapshot, photos, links, searching, added)
    else:
        find_near_neighbours(snapshot, photos, stored_cells.cells, links, searching, on_progress)
    verified = verified and calibration.geometry_is_calibrated
    asked = _read_asked_pairs(index, manifest)
    all_verified = False
    try:
        if verified and extractor is not None:
            _reuse_verifications(old, links)
            _verify_links(index, snapshot, photos, links, extractor.matching, on_progress)
        all_verified = True
    finally:
        graph = _weighted_graph(snapshot, photos, links, calibration, verified=verified)
        facts = _Facts(_VERSION, False, manifest.projection, keypoint_facts(manifest))
        try:
            if all_verified:
                matching = extractor.matching if verified and extractor is not None else None
                of_searches = calibration_of_index(manifest)
                facts = _asked(
                    facts, index, snapshot, photos, graph, of_searches, matching, asked, on_progress
                )
        finally:
            _write_graph(index, manifest, links, graph, facts, asked)


def _asked(
    facts: _Facts,
    index: Path,
    snapshot: Snapshot,
    photos: DistinctPhotos,
    graph: Graph,
    calibration: Calibration,
    matching: Matching | None,
    asked: AskedPairs,
    on_progress: OnProgress | None,
) -> _Facts:
    """Return the facts about a whole graph, with what the collection learns by asking itself.

    Args:
        facts: without it.
        index: the folder of the index.
        snapshot: of the newest version.
        photos: its different photos.
        graph: of these photos.
        calibration: of searches.
        matching: how keypoints are matched; None: there is no geometry to ask for.
        asked: the pairs that are verified for it.
        on_progress: called with (questions that were asked, questions).
    """
    by_similarity = by_geometry = ask_itself(snapshot, photos, graph, None, calibration)
    if matching is not None:
        contents, stored = content_hashes(snapshot), StoredKeypoints(index, snapshot)

        def count_matches(row: int, others: Sequence[int]) -> list[int]:
            return asked.count_matches(contents, row, others, stored, matching)

        by_geometry = ask_itself(snapshot, photos, graph, count_matches, calibration, on_progress)
    return replace(
        facts, whole=True, learned_by_similarity=by_similarity, learned_by_geometry=by_geometry
    )


def calibration_of_links(manifest: Manifest) -> Calibration:
    """Return the calibration of the links of an index, which are verified by fewer keypoints.

    Args:
        manifest: of the index.
    """
    return calibration_of_index(manifest, most_keypoints=LINK_KEYPOINTS)


def keypoint_facts(manifest: Manifest) -> str | None:
    """Return how an index matches and weighs its keypoints, as text.

    Args:
        manifest: of the index.

    Returns:
        None if the index has no keypoints, or a kind that this version of Veduta does not know.
    """
    extractor = extractor_of_index(manifest)
    if extractor is None or manifest.keypoints is None:
        return None
    facts = f"{extractor.matching!r}, calibrated for {extractor.calibration}"
    if manifest.keypoints["count"] > LINK_KEYPOINTS:
        facts = f"{facts}, by the best {LINK_KEYPOINTS}"
    return facts


def _verified_alike(facts: _Facts, manifest: Manifest) -> bool:
    """Return whether the links of a graph were verified in the way in which they would be now."""
    wanted = keypoint_facts(manifest)
    return wanted is None or facts.keypoints == wanted


def _read_old_links(index: Path, manifest: Manifest) -> tuple[Links | None, bool]:
    """Return the links of the last graph, and whether it was over the same descriptors."""
    for folder in sorted((index / FOLDER).glob("[!.]*")):
        with index_errors(index, "read"):
            facts = _sound_facts(folder, _LINK_FILES.values())
            if facts is None or facts.version != _VERSION:
                continue
            links = Links(**_arrays(folder, _LINK_FILES))
        if not _verified_alike(facts, manifest):
            links.consistent_matches[:] = UNVERIFIED
        return links, facts.projection == manifest.projection
    return None, False


def _read_asked_pairs(index: Path, manifest: Manifest) -> AskedPairs:
    """Return the pairs that were verified when the collection asked itself last."""
    for folder in sorted((index / FOLDER).glob("[!.]*")):
        with index_errors(index, "read"):
            facts = _sound_facts(folder, [Path(name).stem for name in ASKED_FILES])
            if facts is not None and facts.version == _VERSION and _verified_alike(facts, manifest):
                return AskedPairs.read(folder)
    return AskedPairs()


def _pair_numbers(links: Links) -> NDArray[np.int64]:
    """Return one number for the two photos of each link, (m, k); -1 without a link."""
    return _numbers(np.arange(len(links.ends))[:, None], links.ends, len(links.ends))


def _numbers(
    starts: NDArray[np.integer[Any]], ends: NDArray[np.integer[Any]], m: int
) -> NDArray[np.int64]:
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    return np.where(low >= 0, low * np.int64(m) + high, -1)


def _reuse_verifications(old: Links | None, links: Links) -> None:
    """Take over the verifications of the same pairs of photos."""
    if old is None:
        return
    starts, ends = photos_now(links, old)
    numbers = _numbers(starts[:, None], ends, len(links.ends))
    usable = (numbers >= 0) & (old.consistent_matches != UNVERIFIED)
    old_pairs, first = np.unique(numbers[usable], return_index=True)
    if not len(old_pairs):
        return
    pairs = _pair_numbers(links)
    positions = np.searchsorted(old_pairs, pairs).clip(max=len(old_pairs) - 1)
    same = old_pairs[positions] == pairs
    verified = old.consistent_matches[usable][first]
    links.consistent_matches[same] = verified[positions][same]


def _verify_links(
    index: Path,
    snapshot: Snapshot,
    photos: DistinctPhotos,
    links: Links,
    matching: Matching,
    on_progress: OnProgress | None,
) -> None:
    """Verify the links that are not verified yet, each pair of photos once."""
    pairs = _pair_numbers(links)
    todo = np.unique(pairs[(links.consistent_matches == UNVERIFIED) & (pairs >= 0)])
    if not len(todo):
        return
    stored = StoredKeypoints(index, snapshot)
    lows, highs = np.divmod(todo, np.int64(len(links.ends)))
    rows = photos.row_of_photo
    consistent = np.full(len(todo), UNVERIFIED, np.uint16)

    def note(part: slice, verifications: Sequence[Verification]) -> None:
        consistent[part] = [verification.consistent_matches for verification in verifications]

    try:
        verify_pairs(
            stored,
            rows[lows],
            rows[highs],
            matching,
            note,
            on_progress,
            most_keypoints=LINK_KEYPOINTS,
        )
    finally:
        positions = np.searchsorted(todo, pairs).clip(max=len(todo) - 1)
        looked_at = todo[positions] == pairs
        links.consistent_matches[looked_at] = consistent[positions][looked_at]


def _backgrounds(
    snapshot: Snapshot, photos: DistinctPhotos, prior: Background
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return mean and standard deviation (m,) of each photo's similarity to the collection."""
    every = np.arange(len(photos.contents))
    sample = exact_descriptors(snapshot, photos, every[:SAMPLE_PHOTOS])
    means, stds = [], []
    for start in range(0, len(every), _BLOCK_PHOTOS):
        block = exact_descriptors(snapshot, photos, every[start : start + _BLOCK_PHOTOS])
        mean, std = prior.estimate(block @ sample.T)
        means.append(mean)
        stds.append(std)
    return np.concatenate(means), np.concatenate(stds)


def _weighted_graph(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    links: Links,
    calibration: Calibration,
    *,
    verified: bool,
) -> Graph:
    starts, ends, _, weights = _weighed_links(
        snapshot, photos, links, calibration, verified=verified
    )
    return Graph(
        *_normalised_links(len(links.ends), starts, ends, weights),
        photos.photo_of_row,
        photos.row_of_photo.astype(np.int32),
    )


def _weighed_links(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    links: Links,
    calibration: Calibration,
    *,
    verified: bool,
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float64], NDArray[np.floating[Any]]]:
    """Return the starts, ends, consistent matches and probabilities (l,) of all links.

    A link that is not verified has 0 consistent matches.
    """
    mean, std = _backgrounds(snapshot, photos, calibration.background)
    starts = np.repeat(np.arange(len(links.ends)), links.ends.shape[1])
    ends = links.ends.ravel().astype(np.int64)
    exists = ends >= 0
    starts, ends = starts[exists], ends[exists]
    similarities = links.similarities.ravel()[exists]
    deviations = (
        (similarities - mean[starts]) / std[starts] + (similarities - mean[ends]) / std[ends]
    ) / 2
    consistent = links.consistent_matches.ravel()[exists].astype(np.float64)
    consistent[consistent == UNVERIFIED] = 0
    weights = probability(calibration.pair_logit(deviations, consistent if verified else None))
    return starts, ends, consistent, weights


def _normalised_links(
    m: int, starts: NDArray[np.intp], ends: NDArray[np.int64], weights: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return starts, ends and weights of the links that at least one of their two photos has."""
    pairs = np.concatenate([starts * np.int64(m) + ends, ends * np.int64(m) + starts])
    pairs, first = np.unique(pairs, return_index=True)
    rows, columns = np.divmod(pairs, np.int64(m))
    values = np.tile(weights, 2)[first]
    degrees = np.bincount(rows, values, minlength=m)
    scale = np.sqrt(np.maximum(degrees, np.finfo(np.float32).tiny))
    row_starts = np.searchsorted(rows, np.arange(m + 1)).astype(np.int64)
    normalised = (values / (scale[rows] * scale[columns])).astype(np.float32)
    return row_starts, columns.astype(np.int32), normalised


def _write_graph(
    index: Path,
    manifest: Manifest,
    links: Links,
    graph: Graph,
    facts: _Facts,
    asked: AskedPairs,
) -> None:
    """Write and seal the graph of the newest version, and remove those of other versions."""
    target = index / FOLDER / snapshot_name(index, manifest)
    try:
        with atomic_folder(target, durable=True) as draft:
            for part, files in ((graph, _GRAPH_FILES), (links, _LINK_FILES)):
                for attribute, name in files.items():
                    np.save(draft / f"{name}.npy", getattr(part, attribute))
            asked.write(draft)
            (draft / _FACTS_FILE).write_text(json.dumps(asdict(facts)), "utf-8")
            seal(draft)
    except OSError as error:
        raise storage_error(error, index, "write") from error
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
