"""A run with Ray makes the index of one run, whatever ends on the way. Ray itself is not needed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from merged import answers_of, graph_of, indexed, rows_of, state_of
from ray_workers import DriverKilled, FakeCluster, unfit
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import errors
from veduta.cli.main import run
from veduta.index import (
    Manifest,
    check_index,
    create_index,
    edit_labels,
    open_snapshot,
    remove_photos,
    set_projection,
    update_index,
)
from veduta.index.shards import Shard
from veduta.photos import find_photos
from veduta.ray_indexing import RayAddress, RunOptions, index_with_ray
from veduta.ray_indexing.block_work import BlockWorker, MachineUnfit
from veduta.ray_indexing.blocks import Block
from veduta.ray_indexing.known_contents import KnownContents
from veduta.ray_indexing.staging import FolderStaging

PHOTOS = 14
CONTENTS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in class folders, with a copy and a broken file, and the index of one run."""
    home = tmp_path_factory.mktemp("ray")
    for scene in range(3):
        for number in range(4):
            save_view(home / f"photos/scene{scene}/{number}.png", scene, number)
    for number in range(2):
        shutil.copy(home / "photos/scene0/0.png", home / f"photos/scene1/copy{number}.png")
    (home / "photos/scene2/broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    indexed(home / "one", [home / "photos"], labels="folders")
    return home


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> Path:
    """Return a copy of the photos, which a test may change."""
    return Path(shutil.copytree(home / "photos", tmp_path / "photos"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    return FakeCluster(monkeypatch)


@pytest.fixture(params=["folder", "store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Return where parts wait: beside the index (None), or in a store."""
    return (tmp_path / "store/whole").as_uri() if request.param == "store" else None


def left(tmp_path: Path) -> list[str]:
    """Return what a run has left beside the index."""
    store = tmp_path / "store"
    names = [f"store/{one.relative_to(store)}" for one in store.rglob("*") if one.is_file()]
    return sorted([*names, *(one.name for one in tmp_path.iterdir() if "parts" in one.name)])


def sound(index: Path) -> bool:
    return list(check_index(index)) == []


def test_the_index_is_that_of_one_run(
    home: Path, cluster: FakeCluster, tmp_path: Path, url: str | None
) -> None:
    whole = tmp_path / "whole"
    report = cluster.run(whole, home / "photos", url=url, labels="folders")
    assert state_of(whole) == state_of(home / "one") and sound(whole)
    queries = sorted(home.rglob("photos/*/0.png"))
    assert answers_of(whole, queries) == answers_of(home / "one", queries)
    assert (report.added + report.copied, report.total) == (PHOTOS, PHOTOS)
    assert CONTENTS <= report.encoded <= PHOTOS, "copies in several blocks are encoded in each"
    assert len(report.unreadable) == 1 and report.unchanged == report.relabelled == 0
    assert 2 < report.blocks == report.finished_blocks and report.kept_blocks == 0
    assert report.as_json()["failed_blocks"] == [] and report.runtime.startswith("None")
    assert left(tmp_path) == [] and cluster.pools[0].stopped
    again = cluster.run(whole, url=url)
    assert (again.encoded, again.unchanged, again.blocks) == (0, PHOTOS, 0)
    assert len(cluster.pools) == 1, "nothing is new, so nobody is asked to work"


@pytest.mark.parametrize("seed", range(4))
def test_workers_and_drivers_that_end_at_random_lose_nothing(
    home: Path, cluster: FakeCluster, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    driver_ends = [4] if seed % 2 else []

    def fates(machine: str, block: Block, times: int) -> str:
        driver_ends[:] = [number - 1 for number in driver_ends]
        if 0 in driver_ends:
            return "driver"
        ends = ("dies", "dies late", "machine", "fails")
        return chance.choice(ends) if times < 2 and chance.random() < 0.4 else "done"

    cluster.fates = fates
    url = (tmp_path / "store/whole").as_uri() if seed > 1 else None
    if seed % 2:
        with pytest.raises(DriverKilled):
            cluster.run(tmp_path / "whole", home / "photos", url=url, labels="folders")
        assert open_snapshot(tmp_path / "whole").photos == 0
    report = cluster.run(tmp_path / "whole", home / "photos", url=url, labels="folders")
    assert state_of(tmp_path / "whole") == state_of(home / "one")
    assert not report.failed_blocks and report.total == PHOTOS and left(tmp_path) == []
    assert report.kept_blocks > 0 or not seed % 2


def stopped(cluster: FakeCluster, whole: Path, photos: Path, url: str | None, after: int) -> int:
    """Run until some blocks were given, end the driver there, and return the finished blocks."""
    given = []

    def fates(machine: str, block: Block, times: int) -> str:
        given.append(block.shard.number)
        return "driver" if len(given) > after else "done"

    cluster.fates = fates
    with pytest.raises(DriverKilled):
        cluster.run(whole, photos, url=url)
    cluster.fates = None
    return after


def test_a_run_continues_with_the_same_blocks(
    photos: Path, cluster: FakeCluster, tmp_path: Path, url: str | None
) -> None:
    whole = tmp_path / "whole"
    kept = stopped(cluster, whole, photos, url, 3)
    cluster.cores = 64
    cluster.encoder = CentredEncoder()
    report = cluster.run(whole, photos, url=url)
    assert report.kept_blocks >= kept - 1, "one part may not have been accepted yet"
    assert cluster.encoder.encoded == report.encoded < CONTENTS
    assert rows_of(whole) == rows_of(indexed(tmp_path / "one", [photos]))
    assert report.added + report.copied == PHOTOS and left(tmp_path) == []


def test_photos_that_change_meanwhile_are_read_again_and_no_others(
    photos: Path, cluster: FakeCluster, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    stopped(cluster, whole, photos, None, 3)
    save_view(photos / "scene2/0.png", 40)
    save_view(photos / "scene2/new.png", 41)
    (photos / "scene1/1.png").unlink()
    before = cluster.encoder.encoded
    cluster.encoder = CentredEncoder()
    report = cluster.run(whole, photos)
    assert rows_of(whole) == rows_of(indexed(tmp_path / "one", [photos]))
    assert graph_of(whole) == graph_of(tmp_path / "one") and sound(whole)
    assert cluster.encoder.encoded <= PHOTOS - before + 2, "a part is continued, not made anew"
    assert left(tmp_path) == [] and report.total == PHOTOS


def test_an_update_encodes_only_what_is_new(
    photos: Path, cluster: FakeCluster, tmp_path: Path, url: str | None
) -> None:
    whole = tmp_path / "whole"
    cluster.run(whole, photos, url=url, labels="folders")
    ids = {row["path"]: row["id"] for row in open_snapshot(whole).rows.to_pylist()}
    edit_labels(whole, {ids[os.fsencode(photos / "scene2/2.png")]: "by hand"})
    old_id = ids[os.fsencode(photos / "scene0/1.png")]
    remove_photos(whole, [photos / "scene2/3.png"])
    shutil.move(photos / "scene0/1.png", photos / "scene1/moved.png")
    save_view(photos / "scene0/2.png", 50)
    (photos / "scene1/3.png").unlink()
    for number in range(4):
        save_view(photos / f"scene4/{number}.png", 60 + number)
    shutil.copy(photos / "scene2/0.png", photos / "scene4/copy.png")
    cluster.encoder = CentredEncoder()
    report = cluster.run(whole, url=url)
    assert cluster.encoder.encoded == report.encoded == 5
    assert (report.added, report.changed, report.moved, report.copied) == (4, 1, 1, 1)
    assert (report.removed, report.left_out, report.unlabelled) == (1, 1, 0)
    assert report.relabelled == 0
    assert report.total == len(list(photos.rglob("*.png"))) - 1
    one = indexed(tmp_path / "one", [photos], labels="folders")
    remove_photos(one, [photos / "scene2/3.png"])
    ids = {row["path"]: row["id"] for row in open_snapshot(one).rows.to_pylist()}
    edit_labels(one, {ids[os.fsencode(photos / "scene2/2.png")]: "by hand"})
    update_index(one, [], CentredEncoder(), TinyExtractor())
    assert state_of(whole) == state_of(one) and sound(whole) and left(tmp_path) == []
    known = {row["path"]: row["id"] for row in open_snapshot(whole).rows.to_pylist()}
    assert known[os.fsencode(photos / "scene1/moved.png")] == old_id


def test_a_block_that_ends_its_workers_is_left_out_and_tried_again(
    photos: Path, cluster: FakeCluster, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    bad = os.fsencode(photos / "scene2/2.png")

    def fates(machine: str, block: Block, times: int) -> str:
        return "dies" if any(file.path == bad for file in block.files) else "done"

    cluster.fates = fates
    report = cluster.run(whole, photos, labels="folders")
    (failed,) = report.failed_blocks
    assert bad not in rows_of(whole) and report.total == PHOTOS - failed.photos
    assert len(failed.reasons) == 3 and left(tmp_path) == [] and sound(whole)
    again = cluster.run(whole)
    assert len(again.failed_blocks) == 1 and again.encoded < failed.photos
    cluster.fates = None
    assert cluster.run(whole).failed_blocks == []
    assert rows_of(whole) == rows_of(indexed(tmp_path / "one", [photos], labels="folders"))


def interrupted_at(stage: str) -> Callable[[str, int, int], None]:
    def on_stage(now: str, done: int, total: int) -> None:
        if now == stage and done:
            raise KeyboardInterrupt

    return on_stage


@pytest.mark.parametrize("stage", ["Indexing", "Copying", "Linking"])
def test_an_interrupt_keeps_what_is_finished(
    home: Path, cluster: FakeCluster, tmp_path: Path, stage: str
) -> None:
    whole = tmp_path / "whole"
    create_index(whole, CentredEncoder(), TinyExtractor())
    options = RunOptions(labels="folders")
    arguments: Any = (whole, [home / "photos"], RayAddress.parse("local"), options)
    report = index_with_ray(*arguments, on_stage=interrupted_at(stage))
    assert report.interrupted and left(tmp_path) == ["whole.parts"]
    assert report.total == (PHOTOS if stage == "Linking" else 0) == open_snapshot(whole).photos
    before = cluster.encoder.encoded
    assert not index_with_ray(*arguments).interrupted
    assert state_of(whole) == state_of(home / "one") and left(tmp_path) == []
    if stage != "Indexing":
        assert cluster.encoder.encoded == before


@pytest.mark.parametrize("place", ["photos.lance/data", "part-digests.json", "store"])
def test_a_part_that_was_damaged_is_made_again(
    photos: Path, cluster: FakeCluster, tmp_path: Path, place: str
) -> None:
    whole = tmp_path / "whole"
    url = (tmp_path / "store/whole").as_uri() if place == "store" else None
    stopped(cluster, whole, photos, url, 3)
    if url is None:
        part = min((tmp_path / "whole.parts").glob("part-*"))
        file = part / place
        file = file if file.is_file() else next(iter(file.iterdir()))
    else:
        shutil.rmtree(tmp_path / "whole.parts", ignore_errors=True)
        file = min((tmp_path / "store").rglob("part-*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    report = cluster.run(whole, photos, url=url)
    assert rows_of(whole) == rows_of(indexed(tmp_path / "one", [photos]))
    assert not report.failed_blocks and sound(whole)


def test_parts_of_another_kind_are_not_used(
    photos: Path, cluster: FakeCluster, tmp_path: Path, url: str | None
) -> None:
    whole = tmp_path / "whole"
    stopped(cluster, whole, photos, url, 3)
    shutil.rmtree(whole)
    cluster.encoder = CentredEncoder(identity="fedcba9876543210")
    create_index(whole, cluster.encoder, TinyExtractor())
    report = cluster.run(whole, photos, url=url)
    assert report.kept_blocks == 0 and cluster.encoder.encoded >= CONTENTS
    assert report.total == PHOTOS and left(tmp_path) == []


def test_a_projection_and_places_are_those_of_the_index(
    photos: Path, cluster: FakeCluster, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    create_index(whole, CentredEncoder(), TinyExtractor(), places=False)
    cluster.run(whole, photos)
    set_projection(whole, 8)
    projection = Manifest.read(whole).projection
    save_view(photos / "new.png", 70)
    report = cluster.run(whole)
    assert (report.added, Manifest.read(whole).projection) == (1, projection)
    assert "latitude" not in open_snapshot(whole).rows.schema.names and sound(whole)


def test_single_photos_and_patterns(photos: Path, cluster: FakeCluster, tmp_path: Path) -> None:
    whole, single = tmp_path / "whole", save_view(tmp_path / "elsewhere/a.png", 80)
    cluster.run(whole, photos / "scene0", single, exclude=["3.png"])
    update = indexed(tmp_path / "one", [photos / "scene0", single], exclude=["3.png"])
    assert rows_of(whole) == rows_of(update) and len(rows_of(whole)) == 4
    cluster.run(tmp_path / "single", single)
    assert set(rows_of(tmp_path / "single")) == {os.fsencode(single)}


def test_two_drivers_at_once(photos: Path, cluster: FakeCluster, tmp_path: Path) -> None:
    staging = FolderStaging(tmp_path / "whole.parts")
    with (
        staging.locked(),
        pytest.raises(errors.IndexLocked, match="another process is indexing with Ray"),
    ):
        cluster.run(tmp_path / "whole", photos)
    assert left(tmp_path) == []


def test_what_a_machine_must_have(photos: Path, cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.fates = lambda *_: "driver"
    with pytest.raises(DriverKilled):
        cluster.run(tmp_path / "whole", photos)
    settings = cluster.settings
    assert settings is not None
    BlockWorker(settings)
    photos.rename(tmp_path / "moved")
    assert "Mount the folder of the photos at the same path" in unfit(settings)
    (tmp_path / "moved").rename(photos)
    (photos / "scene0/0.png").unlink()
    BlockWorker(settings)  # One photo may have gone meanwhile.
    (tmp_path / "whole.parts/plan.json").rename(tmp_path / "plan.json")
    message = unfit(settings)
    assert "whole.parts is not the same there" in message and "object store" in message
    (tmp_path / "plan.json").rename(tmp_path / "whole.parts/plan.json")


def test_a_machine_without_the_encoder_of_the_index(
    photos: Path, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.fates = lambda *_: "driver"
    with pytest.raises(DriverKilled):
        cluster.run(tmp_path / "whole", photos)
    monkeypatch.undo()
    settings = cluster.settings
    assert settings is not None
    encoder = {**settings.manifest.encoder, "name": "fast", "sha256": "00" * 32}
    message = unfit(replace(settings, manifest=replace(settings.manifest, encoder=encoder)))
    assert "not the one that belongs here" in message or "another version of encoder" in message
    encoder["name"] = str(tmp_path / "no.onnx")
    message = unfit(replace(settings, manifest=replace(settings.manifest, encoder=encoder)))
    assert "no.onnx" in message and "put the same model at the same path" in message


def test_a_machine_that_loses_its_disks_during_a_block(
    photos: Path, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.fates = lambda *_: "driver"
    with pytest.raises(DriverKilled):
        cluster.run(tmp_path / "whole", photos)
    assert cluster.settings is not None
    worker = BlockWorker(cluster.settings)
    photos.rename(tmp_path / "moved")
    files = find_photos([tmp_path / "moved"])
    gone = [replace(one, path=one.path.replace(b"moved", b"photos")) for one in files]
    with pytest.raises(MachineUnfit, match="Mount the folder"):
        worker.index_block(Shard(1, 1), "part-x", gone)
    assert not FolderStaging(tmp_path / "whole.parts").has("part-x")


def test_known_contents() -> None:
    hashes = [bytes([number]) * 32 for number in range(0, 200, 2)]
    known = KnownContents(KnownContents.packed(reversed(hashes)))
    assert all(one in known for one in hashes)
    assert not any(bytes([number]) * 32 in known for number in range(1, 200, 2))
    assert b"" not in known and None not in known and bytes(32) in known
    assert b"x" * 32 not in KnownContents(KnownContents.packed(()))


def test_the_device_must_be_a_processor(
    photos: Path, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEDUTA_DEVICE", "cuda")
    with pytest.raises(errors.DeviceError, match="--shard"):
        cluster.run(tmp_path / "whole", photos)


@pytest.mark.parametrize("place", ["folder", "store"])
def test_the_command(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    cluster = FakeCluster(monkeypatch, tiny=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = str(tmp_path / "whole") if place == "folder" else (tmp_path / "store/whole").as_uri()
    words = ["index", str(photos), "--index", index, "--ray", "local"]
    words += ["--encoder", "fast", "--keypoints", "none"]
    assert run([*words, "--shard", "1/2"]) == run([*words, "--reread"]) == 2
    assert run([*words[:5], "head", *words[6:]]) == 2
    assert "10.0.0.1:6379" in capsys.readouterr().err
    bad = os.fsencode(photos / "scene2/2.png")
    cluster.fates = lambda _machine, block, _times: (
        "dies" if any(file.path == bad for file in block.files) else "done"
    )
    assert run(words) == 1
    captured = capsys.readouterr()
    assert "is done again. " in captured.err and "are not in the index:" in captured.err
    cluster.fates = None
    assert run([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"] == PHOTOS and report["blocks"] == report["finished_blocks"] > 0
    settings = cluster.settings
    assert settings is not None and ("store" in settings.staging) == (place == "store")
    assert not list(tmp_path.rglob("*.parts/*"))
