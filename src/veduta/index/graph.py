"""The neighbour graph of a gallery: which photos of the collection show the same.

Each photo is linked to the few photos that are nearest by descriptor. If the index has keypoints,
each link is verified by geometry once, when the later of its two photos is added. The weight of a
link is the probability that its photos show the same (`veduta.index.calibration`). The weights are
normalised by the degrees of both photos, as diffusion needs them (Zhou et al., Ranking on data
manifolds, NIPS 2003; Iscen et al., Efficient diffusion on region manifolds, CVPR 2017).

Photos are compared block by block, so the similarities of all pairs are never in memory at once. An
update compares the photos that it adds with all photos, and the other photos only with those.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.files import atomic_folder
from veduta.index.calibration import Background, Calibration, calibration_of, probability
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.snapshot import Snapshot, snapshot_name
from veduta.index.storage_errors import storage_error
from veduta.keypoints import Matching, verify_many
from veduta.validation import InvalidValue, read_json

if TYPE_CHECKING:
    from veduta.index.manifest import Manifest

FOLDER = "graph"
_FACTS_FILE = "graph.json"

NEIGHBOURS = 8
"""How many links a photo has to its nearest photos."""

SAMPLE_PHOTOS = 512
"""How many photos of a collection tell which similarity is usual."""

MAX_PHOTOS = 200_000
"""A collection of more photos has no graph, because the time for the first graph grows with the
square of their number. It is searched without one."""

_BLOCK_ROWS = 1024
_BLOCK_COLUMNS = 8192
"""So many photos are compared with so many others at a time."""

_QUERIES_PER_REPORT = 64
"""How many photos are verified against their neighbours between two reports of progress."""

_NO_SIMILARITY = -2.0
"""Less than any similarity, for a link that does not exist."""

_UNVERIFIED = 65535
"""The number of consistent matches of a link that was not verified."""

_VERSION = 1
"""Of the way in which links are found and verified. Links of another version are not used."""

KEYPOINTS_OF_VERSION_0_1_0 = "MutualMatching(min_similarity=0.82), calibrated for xfeat"
"""What `_Facts.keypoints` means where it is missing: 0.1.0 verified all kinds in this way."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Graph:
    """Links between the n photos of a snapshot, in both directions, as sparse rows.

    Attributes:
        starts: (n + 1,) int64; the links of row i are starts[i] to starts[i + 1].
        ends: (m,) int32, the other photo's row.
        weights: (m,) float32, normalised by the degrees of both photos.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    weights: NDArray[np.float32]


_GRAPH_FILES = {"starts": "graph_starts", "ends": "graph_ends", "weights": "graph_weights"}


@dataclass(slots=True)
class _Links:
    """The links of n photos to their k nearest, in any order, as the next update needs them.

    Attributes:
        keys: (n, 2): the id of a photo and the first eight bytes of its content hash.
        ends: (n, k): the row of the other photo, -1 without a link.
        similarities: (n, k) of the descriptors.
        consistent_matches: (n, k) of the keypoints, `_UNVERIFIED` for a link not yet verified.
    """

    keys: NDArray[np.int64]
    ends: NDArray[np.int32]
    similarities: NDArray[np.float32]
    consistent_matches: NDArray[np.uint16]


_LINK_FILES = {
    "keys": "keys",
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
    """

    version: int
    whole: bool
    projection: str | None = None
    keypoints: str | None = KEYPOINTS_OF_VERSION_0_1_0


def open_graph(index: Path, manifest: Manifest) -> Graph | None:
    """Map the graph of the newest version of `index`.

    Args:
        index: its folder.
        manifest: of the index.

    Returns:
        None if there is no graph for this version yet, or if its links were verified in another
        way than this version of Veduta does. The next update makes it.
    """
    folder = index / FOLDER / snapshot_name(index, manifest)
    try:
        if not _verified_alike(read_json(folder / _FACTS_FILE, _Facts), manifest):
            return None
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _GRAPH_FILES.values()]
    except (OSError, ValueError, EOFError):
        return None
    return Graph(*arrays)


def graph_is_whole(index: Path, manifest: Manifest) -> bool:
    """Return whether the newest version of `index` has its graph, with every link verified.

    Args:
        index: its folder.
        manifest: of the index.
    """
    try:
        facts = read_json(index / FOLDER / snapshot_name(index, manifest) / _FACTS_FILE, _Facts)
    except (OSError, InvalidValue):
        return False
    return facts.whole and facts.version == _VERSION and _verified_alike(facts, manifest)


def build_graph(
    index: Path,
    manifest: Manifest,
    snapshot: Snapshot,
    on_progress: OnProgress | None = None,
    *,
    verified: bool = True,
) -> None:
    """Bring the graph of `index` to the version of `snapshot`.

    If it is interrupted, it keeps the links that are verified and raises. The next call continues.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        manifest: of the newest version.
        snapshot: of the newest version.
        on_progress: called with (links verified, links to verify).
        verified: verify the links, if the index has keypoints with a calibration.

    Raises:
        StorageFull: the disk has no room for the graph.
        IndexDamaged: keypoints of the index cannot be read.
    """
    if not 1 < snapshot.photos <= MAX_PHOTOS:
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        return
    extractor = extractor_of_index(manifest)
    calibration = calibration_of(
        str(manifest.encoder["identity"]), extractor.calibration if extractor else None
    )
    old, same_descriptors = _read_old_links(index, manifest)
    links = _empty_links(snapshot)
    searching, added = _keep_neighbours(old if same_descriptors else None, links)
    _find_neighbours(snapshot, links, searching, added)
    verified = verified and calibration.geometry_is_calibrated
    whole = False
    try:
        if verified and extractor is not None:
            _reuse_verifications(old, links)
            _verify_links(index, snapshot, links, extractor.matching, on_progress)
        whole = True
    finally:
        graph = _weighted_graph(snapshot, links, calibration, verified=verified)
        facts = _Facts(_VERSION, whole, manifest.projection, keypoint_facts(manifest))
        _write_graph(index, manifest, links, graph, facts)


def keypoint_facts(manifest: Manifest) -> str | None:
    """Return how an index matches and weighs its keypoints, as text.

    Args:
        manifest: of the index.

    Returns:
        None if the index has no keypoints, or a kind that this version of Veduta does not know.
    """
    extractor = extractor_of_index(manifest)
    if extractor is None:
        return None
    return f"{extractor.matching!r}, calibrated for {extractor.calibration}"


def _verified_alike(facts: _Facts, manifest: Manifest) -> bool:
    """Return whether the links of a graph were verified in the way in which they would be now."""
    wanted = keypoint_facts(manifest)
    return wanted is None or facts.keypoints == wanted


def _read_old_links(index: Path, manifest: Manifest) -> tuple[_Links | None, bool]:
    """Return the links of the last graph, and whether it was over the same descriptors."""
    for folder in sorted((index / FOLDER).glob("[!.]*")):
        try:
            facts = read_json(folder / _FACTS_FILE, _Facts)
            arrays = [np.load(folder / f"{name}.npy") for name in _LINK_FILES.values()]
        except (OSError, ValueError, EOFError):
            continue  # The write was cut off.
        if facts.version != _VERSION:
            continue
        links = _Links(*arrays)
        if not _verified_alike(facts, manifest):
            links.consistent_matches[:] = _UNVERIFIED
        return links, facts.projection == manifest.projection
    return None, False


def _empty_links(snapshot: Snapshot) -> _Links:
    n = snapshot.photos
    rows = snapshot.rows.slice(0, n)
    content = np.array(
        [int.from_bytes(c[:8], "little", signed=True) for c in rows["content"].to_pylist()],
        np.int64,
    )
    shape = (n, min(NEIGHBOURS, n - 1))
    return _Links(
        keys=np.stack([rows["id"].to_numpy(), content], axis=1),
        ends=np.full(shape, -1, np.int32),
        similarities=np.full(shape, _NO_SIMILARITY, np.float32),
        consistent_matches=np.full(shape, _UNVERIFIED, np.uint16),
    )


def _rows_of(keys: NDArray[np.int64], old_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each key (n, 2) of `old_keys` its row in `keys`, -1 if it is gone."""
    row_of = {key: row for row, key in enumerate(map(tuple, keys.tolist()))}
    return np.array([row_of.get(key, -1) for key in map(tuple, old_keys.tolist())], np.int64)


def _keep_neighbours(
    old: _Links | None, links: _Links
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Take over the neighbours that are still right.

    Returns:
        (n,) bool, the photos that need new neighbours, and (n,) bool, the photos that were added.
    """
    searching, added = np.ones((2, len(links.keys)), np.bool_)
    if old is None or old.ends.shape[1] != links.ends.shape[1]:
        return searching, added
    new_rows = _rows_of(links.keys, old.keys)
    ends = np.where(old.ends >= 0, new_rows[old.ends], -1)
    # A photo that lost a neighbour needs the photo that was the next nearest, which is not stored.
    complete = (new_rows >= 0) & (ends >= 0).all(axis=1)
    rows = new_rows[complete]
    links.ends[rows] = ends[complete]
    links.similarities[rows] = old.similarities[complete]
    searching[rows] = False
    added[new_rows[new_rows >= 0]] = False
    return searching, added


def _find_neighbours(
    snapshot: Snapshot, links: _Links, searching: NDArray[np.bool_], added: NDArray[np.bool_]
) -> None:
    """Fill in the neighbours of the rows `searching`, and the `added` rows as neighbours of others.

    The other rows know their neighbours among the photos that were in the index before.
    """
    rows = np.flatnonzero(searching)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        block_added = added[block]
        descriptors = snapshot.descriptors[block].astype(np.float32)
        for first in range(0, snapshot.photos, _BLOCK_COLUMNS):
            others = np.arange(first, min(first + _BLOCK_COLUMNS, snapshot.photos))
            similarities = descriptors @ snapshot.descriptors[others].astype(np.float32).T
            similarities[block[:, None] == others] = _NO_SIMILARITY
            _merge(links, block, others, similarities)
            settled = ~searching[others]
            if settled.any() and block_added.any():
                to_added = similarities[np.ix_(block_added, settled)].T
                _merge(links, others[settled], block[block_added], to_added)


def _merge(
    links: _Links, rows: NDArray[np.intp], ends: NDArray[np.intp], similarities: NDArray[np.float32]
) -> None:
    """Keep for each of `rows` the k nearest of its links and of `ends`.

    `similarities` (rows, ends) are those of the candidates.
    """
    k = links.ends.shape[1]
    better = np.flatnonzero(similarities.max(axis=1) > links.similarities[rows].min(axis=1))
    if not len(better):
        return
    rows, similarities = rows[better], similarities[better]
    if similarities.shape[1] > k:
        best = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        similarities, new_ends = np.take_along_axis(similarities, best, axis=1), ends[best]
    else:
        new_ends = np.broadcast_to(ends, similarities.shape)
    all_similarities = np.concatenate([links.similarities[rows], similarities], axis=1)
    all_ends = np.concatenate([links.ends[rows], new_ends], axis=1)
    order = np.argsort(-all_similarities, axis=1, kind="stable")[:, :k]
    links.similarities[rows] = np.take_along_axis(all_similarities, order, axis=1)
    links.ends[rows] = np.take_along_axis(all_ends, order, axis=1)


def _pair_numbers(links: _Links) -> NDArray[np.int64]:
    """Return one number for the two photos of each link, (n, k); -1 without a link."""
    n = len(links.keys)
    starts = np.arange(n)[:, None]
    low, high = np.minimum(starts, links.ends), np.maximum(starts, links.ends)
    return np.where(links.ends >= 0, low * np.int64(n) + high, -1)


def _reuse_verifications(old: _Links | None, links: _Links) -> None:
    """Take over the verifications of the same pairs of photos, in either direction."""
    if old is None:
        return
    new_rows = _rows_of(links.keys, old.keys)
    ends = np.where(old.ends >= 0, new_rows[old.ends], -1)
    starts = np.broadcast_to(new_rows[:, None], ends.shape)
    usable = (starts >= 0) & (ends >= 0) & (old.consistent_matches != _UNVERIFIED)
    low, high = np.minimum(starts, ends)[usable], np.maximum(starts, ends)[usable]
    old_pairs, first = np.unique(low * np.int64(len(links.keys)) + high, return_index=True)
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
    links: _Links,
    matching: Matching,
    on_progress: OnProgress | None,
) -> None:
    """Verify the links that are not verified yet, each pair of photos once."""
    pairs = _pair_numbers(links)
    todo = np.unique(pairs[(links.consistent_matches == _UNVERIFIED) & (pairs >= 0)])
    if not len(todo):
        return
    stored = StoredKeypoints(index, snapshot)
    lows, highs = np.divmod(todo, np.int64(len(links.keys)))
    consistent = np.full(len(todo), _UNVERIFIED, np.uint16)

    def verify_pairs(part: slice) -> int:
        """Verify pairs with the same first photo."""
        row, others = int(lows[part.start]), highs[part]
        query = stored.read(row)
        # In copies of a file all keypoints match, and their verification would take longest.
        copies = stored.shared(row, others)
        consistent[part][copies] = len(query)
        different = [stored.read(int(other)) for other in others[~copies]]
        verifications = verify_many(query, different, matching, threads=1)
        consistent[part][~copies] = [v.consistent_matches for v in verifications]
        return len(others)

    done = 0
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="veduta-link") as pool:
            for parts in _grouped_by_first_photo(lows):
                done += sum(pool.map(verify_pairs, parts))
                if on_progress:
                    on_progress(done, len(todo))
    finally:
        positions = np.searchsorted(todo, pairs).clip(max=len(todo) - 1)
        looked_at = todo[positions] == pairs
        links.consistent_matches[looked_at] = consistent[positions][looked_at]


def _grouped_by_first_photo(lows: NDArray[np.int64]) -> Iterator[list[slice]]:
    """Yield lists of slices; each slice holds the pairs with one first photo."""
    borders = np.flatnonzero(np.diff(lows, prepend=-1, append=-1)).tolist()
    slices = [slice(start, stop) for start, stop in pairwise(borders)]
    for start in range(0, len(slices), _QUERIES_PER_REPORT):
        yield slices[start : start + _QUERIES_PER_REPORT]


def sample_rows(photos: int) -> NDArray[np.intp]:
    """Return evenly spaced rows that represent a collection.

    Args:
        photos: the number of photos in the collection.

    Returns:
        At most `SAMPLE_PHOTOS` rows, in ascending order.
    """
    return np.unique(np.linspace(0, photos - 1, min(photos, SAMPLE_PHOTOS)).astype(np.intp))


def _backgrounds(
    snapshot: Snapshot, prior: Background
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return mean and standard deviation (n,) of each photo's similarity to the collection."""
    sample = snapshot.descriptors[sample_rows(snapshot.photos)].astype(np.float32)
    means, stds = [], []
    for start in range(0, snapshot.photos, _BLOCK_COLUMNS):
        block = snapshot.descriptors[start : start + _BLOCK_COLUMNS].astype(np.float32)
        mean, std = prior.estimate(block @ sample.T)
        means.append(mean)
        stds.append(std)
    return np.concatenate(means), np.concatenate(stds)


def _weighted_graph(
    snapshot: Snapshot, links: _Links, calibration: Calibration, *, verified: bool
) -> Graph:
    mean, std = _backgrounds(snapshot, calibration.background)
    starts = np.repeat(np.arange(len(links.keys)), links.ends.shape[1])
    ends = links.ends.ravel().astype(np.int64)
    exists = ends >= 0
    starts, ends = starts[exists], ends[exists]
    similarities = links.similarities.ravel()[exists]
    deviations = (
        (similarities - mean[starts]) / std[starts] + (similarities - mean[ends]) / std[ends]
    ) / 2
    consistent = None
    if verified:
        consistent = links.consistent_matches.ravel()[exists].astype(np.float64)
        consistent[consistent == _UNVERIFIED] = 0
    weights = probability(calibration.pair_logit(deviations, consistent))
    return _symmetric_graph(len(links.keys), starts, ends, weights)


def _symmetric_graph(
    n: int, starts: NDArray[np.intp], ends: NDArray[np.int64], weights: NDArray[np.floating[Any]]
) -> Graph:
    """Return the normalised graph of the links that at least one of their two photos has."""
    pairs = np.concatenate([starts * np.int64(n) + ends, ends * np.int64(n) + starts])
    pairs, first = np.unique(pairs, return_index=True)
    rows, columns = np.divmod(pairs, np.int64(n))
    values = np.tile(weights, 2)[first]
    degrees = np.bincount(rows, values, minlength=n)
    scale = np.sqrt(np.maximum(degrees, np.finfo(np.float32).tiny))
    row_starts = np.searchsorted(rows, np.arange(n + 1)).astype(np.int64)
    normalised = (values / (scale[rows] * scale[columns])).astype(np.float32)
    return Graph(row_starts, columns.astype(np.int32), normalised)


def _write_graph(
    index: Path, manifest: Manifest, links: _Links, graph: Graph, facts: _Facts
) -> None:
    """Write the graph of the newest version, and remove those of other versions."""
    target = index / FOLDER / snapshot_name(index, manifest)
    try:
        with atomic_folder(target) as draft:
            for part, files in ((graph, _GRAPH_FILES), (links, _LINK_FILES)):
                for attribute, name in files.items():
                    np.save(draft / f"{name}.npy", getattr(part, attribute))
            (draft / _FACTS_FILE).write_text(json.dumps(asdict(facts)), "utf-8")
    except OSError as error:
        raise storage_error(error, index, "write") from error
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
