"""The gallery's neighbour graph: which photos of the collection show the same.

Each photo is linked to the few that are nearest by descriptor. Where the index holds keypoints each
link is verified by geometry once, when the later of its two photos comes in. A link weighs as much
as its probability (`veduta.index.calibration`), and the weights are normalised by the degrees of
both ends, which is what diffusion wants (Zhou et al., Ranking on data manifolds, NIPS 2003; Iscen
et al., Efficient diffusion on region manifolds, CVPR 2017).

The work is streamed: a block of photos against a block of photos, never all against all. What an
update adds is compared with everything; what was there is only compared with what is new.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.calibration import Background, Calibration, calibration_of, probability
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.snapshot import Snapshot, snapshot_name
from veduta.index.table import storage_error
from veduta.keypoints import verify_many

if TYPE_CHECKING:
    from veduta.index.manifest import Manifest

FOLDER = "graph"
NEIGHBOURS = 8
SAMPLE = 512  # photos that tell what similarity is usual
LARGEST = 200_000
"""Photos up to which the graph is kept: the first one costs time with the square of their number.
A larger collection is searched without it."""

_ROWS = 1024  # compared at a time, with
_COLUMNS = 8192  # so many others
_PAIRS_AT_ONCE = 64  # between two reports of progress
_UNVERIFIED = 65535
_VERSION = 1  # of the way links are found and verified; those of another are made anew
_OF_GRAPH = ("graph_starts", "graph_ends", "graph_weights")
_OF_LINKS = ("keys", "ends", "similarities", "agreeing")

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Graph:
    """Links between the n photos of a snapshot, both ways, as sparse rows.

    Attributes:
        starts: (n + 1,) int64; the links of row i are starts[i] to starts[i + 1].
        ends: (m,) int32, the other photo's row.
        weights: (m,) float32, normalised by the degrees of both photos.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(slots=True)
class _Links:
    """What is kept of the links for the next update; row i has its k nearest, best first or not."""

    keys: NDArray[np.int64]  # (n, 2): id and the first eight bytes of the content hash
    ends: NDArray[np.int32]  # (n, k), -1: none
    similarities: NDArray[np.float32]  # (n, k)
    agreeing: NDArray[np.uint16]  # (n, k), _UNVERIFIED: not looked at yet


def open_graph(index: Path, manifest: Manifest) -> Graph | None:
    """Map the graph of the newest version of `index`; None if it has none, or not yet."""
    folder = index / FOLDER / snapshot_name(index, manifest)
    try:
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _OF_GRAPH]
    except (OSError, ValueError, EOFError):
        return None  # derived data: the next update makes it
    return Graph(*arrays)


def graph_is_whole(index: Path, manifest: Manifest) -> bool:
    """Whether the newest version has its graph, with every link verified."""
    try:
        facts = json.loads(
            (index / FOLDER / snapshot_name(index, manifest) / "graph.json").read_text("utf-8")
        )
        return bool(facts["whole"] and facts["version"] == _VERSION)
    except (OSError, ValueError, KeyError):
        return False


def build_graph(
    index: Path,
    manifest: Manifest,
    snapshot: Snapshot,
    on_progress: OnProgress | None = None,
    *,
    verified: bool = True,
) -> None:
    """Bring the graph of `index` to the version of `snapshot`.

    Interrupted, it keeps the links verified so far and raises; the next call goes on from there.

    Args:
        index: the index; its writer's lock is held.
        manifest, snapshot: of its newest version.
        on_progress: called with (links verified, links to verify).
        verified: weigh the links by geometry too, where the index has keypoints.

    Raises:
        StorageFull, IndexDamaged: see `veduta.errors`.
    """
    if not 1 < snapshot.photos <= LARGEST:
        shutil.rmtree(index / FOLDER, ignore_errors=True)
        return
    old, same_space = _old_links(index, manifest)
    links = _empty(snapshot)
    fresh, new = _carry_over(old if same_space else None, links)
    _find_neighbours(snapshot, links, fresh, new)
    calibration = calibration_of(str(manifest.encoder["identity"]))
    verified = verified and manifest.keypoints is not None
    whole = False
    try:
        if verified:
            _reuse(old, links)
            _verify(index, snapshot, links, on_progress)
        whole = True
    finally:
        graph = _weigh(snapshot, links, calibration, verified=verified)
        _write(index, manifest, links, graph, whole=whole)


def _old_links(index: Path, manifest: Manifest) -> tuple[_Links | None, bool]:
    """Return the links of the last graph, and whether it was over the same descriptors."""
    for folder in sorted((index / FOLDER).glob("[!.]*")):
        try:
            facts = json.loads((folder / "graph.json").read_text("utf-8"))
            arrays = [np.load(folder / f"{name}.npy") for name in _OF_LINKS]
            if facts["version"] != _VERSION:
                continue
        except (OSError, ValueError, KeyError, EOFError):
            continue  # cut off by a hard stop
        return _Links(*arrays), facts["projection"] == manifest.projection
    return None, False


def _empty(snapshot: Snapshot) -> _Links:
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
        similarities=np.full(shape, -2, np.float32),
        agreeing=np.full(shape, _UNVERIFIED, np.uint16),
    )


def _rows_in(new: NDArray[np.int64], old: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each key (n, 2) of `old` its row in `new`, -1 if it is gone."""
    row_of = {key: row for row, key in enumerate(map(tuple, new.tolist()))}
    return np.array([row_of.get(key, -1) for key in map(tuple, old.tolist())], np.int64)


def _carry_over(old: _Links | None, links: _Links) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Take over the neighbours that are still right.

    Returns:
        (n,) bool, who needs new ones, and (n,) bool, who was not there before.
    """
    fresh, new = np.ones((2, len(links.keys)), np.bool_)
    if old is None or old.ends.shape[1] != links.ends.shape[1]:
        return fresh, new
    now = _rows_in(links.keys, old.keys)
    ends = np.where(old.ends >= 0, now[old.ends], -1)
    # A photo that lost a neighbour may have a ninth that comes up in its place.
    kept = (now >= 0) & (ends >= 0).all(axis=1)
    rows = now[kept]
    links.ends[rows] = ends[kept]
    links.similarities[rows] = old.similarities[kept]
    fresh[rows] = False
    new[now[now >= 0]] = False
    return fresh, new


def _find_neighbours(
    snapshot: Snapshot, links: _Links, fresh: NDArray[np.bool_], new: NDArray[np.bool_]
) -> None:
    """Fill in the neighbours of the `fresh` rows, and the `new` ones as neighbours of the others.

    The others know already which of the photos that were there before are near.
    """
    rows = np.flatnonzero(fresh)
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        came = new[some]
        asking = snapshot.descriptors[some].astype(np.float32)
        for first in range(0, snapshot.photos, _COLUMNS):
            others = np.arange(first, min(first + _COLUMNS, snapshot.photos))
            near = asking @ snapshot.descriptors[others].astype(np.float32).T
            near[some[:, None] == others] = -2
            _merge(links, some, others, near)
            settled = ~fresh[others]
            if settled.any() and came.any():
                _merge(links, others[settled], some[came], near[np.ix_(came, settled)].T)


def _merge(
    links: _Links, rows: NDArray[np.intp], ends: NDArray[np.intp], near: NDArray[np.float32]
) -> None:
    """Keep the k nearest of those that `rows` have and of `ends`, at similarities `near`."""
    k = links.ends.shape[1]
    better = np.flatnonzero(near.max(axis=1) > links.similarities[rows].min(axis=1))
    if not len(better):
        return
    rows, near = rows[better], near[better]
    if near.shape[1] > k:
        best = np.argpartition(-near, k - 1, axis=1)[:, :k]
        near, found = np.take_along_axis(near, best, axis=1), ends[best]
    else:
        found = np.broadcast_to(ends, near.shape)
    all_near = np.concatenate([links.similarities[rows], near], axis=1)
    all_ends = np.concatenate([links.ends[rows], found], axis=1)
    order = np.argsort(-all_near, axis=1, kind="stable")[:, :k]
    links.similarities[rows] = np.take_along_axis(all_near, order, axis=1)
    links.ends[rows] = np.take_along_axis(all_ends, order, axis=1)


def _pairs(links: _Links) -> NDArray[np.int64]:
    """Return one number for the pair of photos behind each link, (n, k); -1 without a link."""
    n = len(links.keys)
    here = np.arange(n)[:, None]
    low, high = np.minimum(here, links.ends), np.maximum(here, links.ends)
    return np.where(links.ends >= 0, low * np.int64(n) + high, -1)


def _reuse(old: _Links | None, links: _Links) -> None:
    """Take over what is known of pairs that were verified before, whoever was whose neighbour."""
    if old is None:
        return
    now = _rows_in(links.keys, old.keys)
    there = np.where(old.ends >= 0, now[old.ends], -1)
    here = np.broadcast_to(now[:, None], there.shape)
    known = (here >= 0) & (there >= 0) & (old.agreeing != _UNVERIFIED)
    low, high = np.minimum(here, there)[known], np.maximum(here, there)[known]
    pairs, first = np.unique(low * np.int64(len(links.keys)) + high, return_index=True)
    if not len(pairs):
        return
    wanted = _pairs(links)
    at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    found = pairs[at] == wanted
    links.agreeing[found] = old.agreeing[known][first][at][found]


def _verify(index: Path, snapshot: Snapshot, links: _Links, on_progress: OnProgress | None) -> None:
    """Verify the links that were not, each pair once."""
    pairs = _pairs(links)
    todo = np.unique(pairs[(links.agreeing == _UNVERIFIED) & (pairs >= 0)])
    if not len(todo):
        return
    stored = StoredKeypoints(index, snapshot)
    lows, highs = np.divmod(todo, np.int64(len(links.keys)))
    agreeing = np.full(len(todo), _UNVERIFIED, np.uint16)

    def one(at: slice) -> int:
        first, others = int(lows[at.start]), highs[at]
        query = stored.read(first)
        # A copy of the same file agrees in every keypoint, and takes longest to verify.
        copies = stored.shared(first, others)
        agreeing[at][copies] = len(query)
        found = verify_many(query, [stored.read(int(row)) for row in others[~copies]], threads=1)
        agreeing[at][~copies] = [v.agreeing for v in found]
        return len(others)

    done = 0
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="veduta-link") as pool:
            for some in _in_groups(lows):
                done += sum(pool.map(one, some))
                if on_progress:
                    on_progress(done, len(todo))
    finally:
        place = np.searchsorted(todo, pairs).clip(max=len(todo) - 1)
        mine = todo[place] == pairs
        links.agreeing[mine] = agreeing[place][mine]


def _in_groups(lows: NDArray[np.int64]) -> Iterator[list[slice]]:
    """Yield slices of pairs with the same first photo, some at a time."""
    borders = np.flatnonzero(np.diff(lows, prepend=-1, append=-1)).tolist()
    slices = [slice(a, b) for a, b in pairwise(borders)]
    for start in range(0, len(slices), _PAIRS_AT_ONCE):
        yield slices[start : start + _PAIRS_AT_ONCE]


def sample_rows(photos: int) -> NDArray[np.intp]:
    """Return the rows that stand for a collection of so many photos, evenly spread."""
    return np.unique(np.linspace(0, photos - 1, min(photos, SAMPLE)).astype(np.intp))


def _usual(
    snapshot: Snapshot, background: Background
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return mean and spread (n,) of each photo's similarity to the collection."""
    sample = snapshot.descriptors[sample_rows(snapshot.photos)].astype(np.float32)
    means, spreads = [], []
    for start in range(0, snapshot.photos, _COLUMNS):
        block = snapshot.descriptors[start : start + _COLUMNS].astype(np.float32)
        mean, spread = background.measured(block @ sample.T)
        means.append(mean)
        spreads.append(spread)
    return np.concatenate(means), np.concatenate(spreads)


def _weigh(snapshot: Snapshot, links: _Links, calibration: Calibration, *, verified: bool) -> Graph:
    mean, spread = _usual(snapshot, calibration.background)
    here = np.repeat(np.arange(len(links.keys)), links.ends.shape[1])
    there = links.ends.ravel().astype(np.int64)
    known = there >= 0
    here, there = here[known], there[known]
    similarity = links.similarities.ravel()[known]
    deviations = (
        (similarity - mean[here]) / spread[here] + (similarity - mean[there]) / spread[there]
    ) / 2
    if verified:
        agreeing = links.agreeing.ravel()[known].astype(np.float64)
        agreeing[agreeing == _UNVERIFIED] = 0
        logits = calibration.pair_logit(deviations, agreeing)
    else:
        logits = calibration.alike_logit(deviations)
    weights = probability(logits)
    return _both_ways(len(links.keys), here, there, weights)


def _both_ways(
    n: int, here: NDArray[np.intp], there: NDArray[np.int64], weights: NDArray[np.floating[Any]]
) -> Graph:
    """Return the graph of links that either end has, normalised."""
    pairs = np.concatenate([here * np.int64(n) + there, there * np.int64(n) + here])
    pairs, first = np.unique(pairs, return_index=True)
    rows, ends = np.divmod(pairs, np.int64(n))
    both = np.tile(weights, 2)[first]
    degrees = np.bincount(rows, both, minlength=n)
    scale = np.sqrt(np.maximum(degrees, np.finfo(np.float32).tiny))
    starts = np.searchsorted(rows, np.arange(n + 1)).astype(np.int64)
    normalised = (both / (scale[rows] * scale[ends])).astype(np.float32)
    return Graph(starts, ends.astype(np.int32), normalised)


def _write(index: Path, manifest: Manifest, links: _Links, graph: Graph, *, whole: bool) -> None:
    folder = index / FOLDER
    final = folder / snapshot_name(index, manifest)
    arrays: dict[str, NDArray[Any]] = {
        **dict(zip(_OF_GRAPH, (graph.starts, graph.ends, graph.weights), strict=True)),
        **{name: getattr(links, name) for name in _OF_LINKS},
    }
    try:
        folder.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
        for name, array in arrays.items():
            np.save(draft / f"{name}.npy", array)
        facts = {"version": _VERSION, "whole": whole, "projection": manifest.projection}
        (draft / "graph.json").write_text(json.dumps(facts), "utf-8")
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    except OSError as error:
        raise storage_error(error, index, "write") from error
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
