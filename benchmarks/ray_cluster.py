"""Index with Ray on a cluster that fails, into an object store; and how much a second worker helps.

The cluster has a head and two machines of one core each, in networks of their own if the user is
root. The index lies in a server that speaks the protocol of S3. Workers, whole machines and drivers
are killed with kill -9 at random moments. After each run, the index must hold every photo once, and
answer as that of one run without Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.machines import Cluster, can_make_networks, cluster_of_machines
from benchmarks.report import MedianAndRange, check_target, parser, publish, ratios, table
from veduta import api
from veduta.encoders import DEFAULT
from veduta.index import Manifest, check_index, open_snapshot
from veduta.index.graph import open_graph
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.table import open_table
from veduta.ray_indexing.blocks import block_count
from veduta.stored_index import is_store_url, local_copy, open_store

MIN_EFFICIENCY = 0.85
BUCKET = "benchmark"
FAST = "fast"
_QUERIES = 20
_JOIN_AGAIN_SECONDS = 4.0
_RUN_SECONDS = 900.0
_OWN_COLUMNS = ("id", "keypoints_file", "keypoints_at", "keypoints_size")
KINDS = ("a worker", "a machine", "the driver")


def main(arguments: list[str] | None = None) -> None:
    options = parser("ray_cluster", __doc__)
    add_data_option(options)
    options.add_argument("--kills", type=int, default=10, help="runs with kills, in turns")
    options.add_argument("--photos", type=int, default=400, help="generated photos of these runs")
    options.add_argument("--rounds", type=int, default=3, help="of one and of two workers")
    options.add_argument("--real", type=int, default=1000, help="real photos of these runs")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--disk", action="store_true", help="keep the indexes on the disk, not in an object store"
    )
    options.add_argument("--server", type=str, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.server:
        _serve(chosen.server)
        return
    work = chosen.work / "ray-cluster"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    real = []
    if chosen.rounds:
        sets = [chosen.data / name for name in present_sets(options, chosen.data, SETS)]
        real = sorted(photo for folder in sets for photo in folder.rglob("*.jpg"))
    top = str(work / "indexes") if chosen.disk else f"s3://{BUCKET}"
    try:
        with cluster_of_machines(work) as cluster, _store(cluster, work):
            if chosen.kills:
                body = killed(cluster, top, work, chosen.photos, chosen.kills, chosen.seed)
                publish("ray_cluster", f"{body}\n\n{_machines()}", chosen.docs)
            if chosen.rounds:
                body = efficiency(cluster, top, work, real, chosen.real, chosen.rounds)
                publish("ray_cluster", f"{body}\n\n{_machines()}", chosen.docs, section="ray_speed")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _machines() -> str:
    if can_make_networks():
        return "Each machine has a network of its own."
    return "The machines share the address of this one."


@dataclass
class Run:
    """An index that is made on the cluster.

    Attributes:
        cluster: with its workers.
        folder: of the photos.
        url: of the index.
        encoder: of it.
        said: what the driver printed beside its result.
        process: of the driver.
    """

    cluster: Cluster
    folder: Path
    url: str
    encoder: str = FAST
    said: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ["index", str(self.folder), "--ray", self.cluster.address, "--index", self.url]
        self.process = self.cluster.run(
            [sys.executable, "-m", "veduta", *words, "--encoder", self.encoder, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> dict[str, Any]:
        assert self.process is not None
        out, self.said = self.process.communicate(timeout=_RUN_SECONDS)
        if self.process.returncode:
            raise RuntimeError(f"the driver ended with {self.process.returncode}: {self.said}")
        try:
            report: dict[str, Any] = json.loads(out)
        except ValueError as error:
            raise RuntimeError(f"the driver printed other things: {out}") from error
        return report

    @property
    def is_at_work(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


def killed(cluster: Cluster, top: str, work: Path, photos: int, runs: int, seed: int) -> str:
    """Return the table of runs in which something was killed."""
    chance = random.Random(seed)
    folder = work / "generated"
    copies = _generate(folder, photos)
    one = work / "one"
    api.create(one, encoder=FAST).add(folder)
    wanted = State.of(one)
    for core, machine in enumerate(cluster.workers):
        cluster.start_worker(machine, core)
    calm = Run(cluster, folder, f"{top}/calm")
    calm.start()
    seconds = calm.finish()["block_seconds"]
    _compare(calm.url, wanted, work)
    results: dict[str, list[_Result]] = {kind: [] for kind in KINDS}
    for number in range(runs):
        kind = KINDS[number % len(KINDS)]
        run = Run(cluster, folder, f"{top}/run-{number}")
        result = _run_and_kill(run, kind, chance, seconds)
        result.differences = _compare(run.url, wanted, work)
        results[kind].append(result)
        print(f"{number + 1} of {runs}: {kind}, {result}", file=sys.stderr, flush=True)
    rows = []
    for kind, own in results.items():
        if not own:
            continue
        rows.append(
            [
                kind,
                len(own),
                sum(one.kills for one in own),
                sum(one.blocks_again for one in own),
                sum(one.blocks_kept for one in own),
                *(
                    sum(not one.differences[what] for one in own)
                    for what in ("photos", "rows", "links", "answers", "files")
                ),
            ]
        )
    head = [
        "killed with kill -9",
        "runs",
        "kills",
        "blocks done again",
        "blocks that the next driver found",
        "runs with each photo once",
        "with the same rows",
        "with the same links",
        "with the same answers",
        "with sound files, and no parts left",
    ]
    return (
        f"{photos} generated photos and {copies} copies of them, in {block_count(photos, 2)} "
        f"blocks. The moments are random (seed {seed}).\n\n" + table(head, rows)
    )


@dataclass
class _Result:
    """What happened in a run."""

    kills: int = 0
    blocks_again: int = 0
    blocks_kept: int = 0
    differences: dict[str, bool] = field(default_factory=dict)


def _run_and_kill(run: Run, kind: str, chance: random.Random, seconds: float) -> _Result:
    """Run, and kill something at a moment while blocks are done."""
    result = _Result()
    run.start()
    _wait_for_workers(run)
    # Not at once, so that the next driver finds something.
    earliest = 0.3 if kind == "the driver" else 0.0
    time.sleep(chance.uniform(earliest, 0.9) * seconds)
    core = chance.randrange(2)
    machine = run.cluster.workers[core]
    if kind == "the driver":
        run.kill()
        result.kills = 1
        run.start()
    elif run.is_at_work:
        result.kills += machine.kill_worker() if kind == "a worker" else machine.kill_raylet()
        if kind == "a machine":
            time.sleep(_JOIN_AGAIN_SECONDS)
            machine.end()
            run.cluster.start_worker(machine, core)
    report = run.finish()
    result.blocks_again = run.said.count("is done again")
    result.blocks_kept = report["kept_blocks"]
    return result


def _wait_for_workers(run: Run) -> None:
    """Wait until a worker reads photos."""
    deadline = time.monotonic() + 120
    while run.is_at_work and time.monotonic() < deadline:
        if any(machine.named("ray::VedutaWorker.index_block") for machine in run.cluster.workers):
            return
        time.sleep(0.1)


@dataclass
class State:
    """What two equal indexes have in common.

    Attributes:
        paths: of all rows, sorted; a path that is there twice is twice in it.
        rows: path → all that the index holds of the file.
        links: of its photos.
        answers: of some queries.
    """

    paths: list[bytes]
    rows: dict[bytes, tuple[Any, ...]]
    links: Any
    answers: list[Any]

    @classmethod
    def of(cls, index: Path) -> State:
        found = open_table(index)
        names = [name for name in found.dataset.schema.names if name not in _OWN_COLUMNS]
        rows: dict[bytes, tuple[Any, ...]] = {}
        paths: list[bytes] = []
        for batch in found.batches(names):
            for row in batch.to_pylist():
                paths.append(row["path"])
                rows[row["path"]] = tuple(str(row[name]) for name in names)
        snapshot = open_snapshot(index)
        stored = StoredKeypoints(index, snapshot)
        photos = snapshot.rows["path"].to_pylist()[: snapshot.photos]
        for number, path in enumerate(photos):
            rows[path] = (*rows[path], stored.read(number).pack())
        graph = open_graph(index, Manifest.read(index))
        contents = snapshot.rows["content"].to_pylist()
        links = graph and (
            [contents[row] for row in graph.row_of_photo],
            *(getattr(graph, name).tobytes() for name in ("starts", "ends", "weights")),
        )
        opened = api.open(index)
        asked = sorted(photos)[:: max(1, len(photos) // _QUERIES)]
        answers = [
            sorted((-hit.score, hit.path) for hit in opened.search(os.fsdecode(path), k=20))
            for path in asked
        ]
        return cls(sorted(paths), rows, links, answers)


def _compare(url: str, wanted: State, work: Path) -> dict[str, bool]:
    """Return in what a stored index differs from another one."""
    index = local_copy(url) if is_store_url(url) else Path(url)
    state = State.of(index)
    found = {
        "photos": state.paths != wanted.paths,
        "rows": state.rows != wanted.rows,
        "links": state.links != wanted.links,
        "answers": state.answers != wanted.answers,
        "files": bool(list(check_index(index))) or _has_parts(url),
    }
    shutil.rmtree(work / "user", ignore_errors=True)
    return found


def _has_parts(url: str) -> bool:
    """Tell whether a run left parts."""
    if is_store_url(url):
        return any(True for _ in open_store(f"{url}.parts").list())
    return Path(f"{url}.parts").exists()


def efficiency(
    cluster: Cluster, top: str, work: Path, real: Sequence[Path], number: int, rounds: int
) -> str:
    """Return the table of runs with one worker and with two, in turns."""
    if number > len(real):
        raise SystemExit(f"The sets have {len(real):,} photos.")
    folder = work / "real"
    folder.mkdir()
    for place in np.linspace(0, len(real) - 1, number).astype(int).tolist():
        (folder / f"{place:06}.jpg").symlink_to(real[place].resolve())
    seconds: dict[tuple[int, str], list[float]] = {}
    for turn in range(rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            for core, machine in enumerate(cluster.workers):
                machine.end()
                if core < workers:
                    cluster.start_worker(machine, core)
            run = Run(cluster, folder, f"{top}/speed-{turn}-{workers}", DEFAULT)
            run.start()
            report = run.finish()
            for what in ("block_seconds", "seconds"):
                seconds.setdefault((workers, what), []).append(report[what])
            print(f"{workers}: {report['block_seconds']:.1f} s", file=sys.stderr, flush=True)
    rows = []
    for what, name in (("block_seconds", "photos read and encoded"), ("seconds", "the whole run")):
        one, two = seconds[1, what], seconds[2, what]
        share = ratios(one, [2 * value for value in two])
        target = (
            check_target(statistics.median(share_values(one, two)), MIN_EFFICIENCY, at_least=True)
            if what == "block_seconds"
            else ""
        )
        rows.append([name, MedianAndRange.of(one), MedianAndRange.of(two), share, target])
    head = ["", "one worker, s", "two workers, s", "share of twice the speed", "target"]
    return f"{number} real photos, medians of {rounds} rounds.\n\n" + table(head, rows)


def share_values(one: Sequence[float], two: Sequence[float]) -> list[float]:
    return [a / (2 * b) for a, b in zip(one, two, strict=True)]


def _generate(folder: Path, number: int) -> int:
    """Write photos of scenes, several of each, and copies; return the number of copies."""
    folder.mkdir()
    for place in range(number):
        rng = np.random.default_rng(place // 4)
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        own = np.random.default_rng(1_000_000 + place).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        mixed = (0.85 * coarse + 0.15 * own).astype(np.uint8)
        photo = Image.fromarray(mixed).resize((256, 192), Image.Resampling.BICUBIC)
        photo.save(folder / f"{place:05}.png")
    copied = range(0, number, 50)
    for place in copied:
        shutil.copy(folder / f"{place:05}.png", folder / f"copy-{place:05}.png")
    return len(copied)


@contextmanager
def _store(cluster: Cluster, work: Path) -> Iterator[None]:
    """Run a server that speaks the protocol of S3, on this machine, for all machines."""
    import urllib.request

    port = 5055
    endpoint = f"http://{cluster.server}:{port}"
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(work / "user"),
    }
    cluster.environment.update(variables)
    os.environ.update(variables)
    command = [
        sys.executable,
        "-m",
        "benchmarks.ray_cluster",
        "--server",
        f"{cluster.server}:{port}",
    ]
    with (work / "store.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        server.kill()
        server.wait()


def _serve(place: str) -> None:
    """Run the server in this process."""
    from moto.server import main as serve

    host, _, port = place.partition(":")
    serve(["-H", host, "-p", port])


if __name__ == "__main__":
    main()
