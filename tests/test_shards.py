"""Shards of a collection: each photo belongs to one of them, and the index remembers which."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run_veduta
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinyEncoder, TinyExtractor, photo_folder, save

import veduta
from veduta import errors
from veduta.cli.main import run
from veduta.index import (
    Manifest,
    UpdateProgress,
    UpdateReport,
    create_index,
    open_snapshot,
    read_status,
    repair_index,
    update_index,
)
from veduta.index import manifest as manifests
from veduta.index.manifest import MANIFEST_FILE
from veduta.index.shards import MAX_SHARDS, Shard, ShardedFolders

COUNT = 3


def shard_index(
    index: Path, photos: Path | None, shard: Shard | None = None, **options: object
) -> UpdateReport:
    """Bring the index of a shard up to date; it is created if it is missing."""
    if not (index / MANIFEST_FILE).exists():
        create_index(index, TinyEncoder(), TinyExtractor())
    folders = [photos] if photos else []
    options.setdefault("shard", shard)
    return update_index(index, folders, TinyEncoder(), TinyExtractor(), **options)  # type: ignore[arg-type]


def names_in(index: Path, folder: Path) -> set[str]:
    return {
        os.path.relpath(os.fsdecode(path), folder)
        for path in open_snapshot(index).rows["path"].to_pylist()
    }


def labels_in(index: Path) -> dict[bytes, str | None]:
    rows = open_snapshot(index).rows
    return dict(zip(rows["path"].to_pylist(), rows["label"].to_pylist(), strict=True))


@given(st.binary(min_size=1, max_size=50), st.integers(1, 40))
def test_each_path_belongs_to_one_shard(path: bytes, count: int) -> None:
    holders = [n for n in range(1, count + 1) if Shard(n, count).holds(path)]
    assert len(holders) == 1


def test_the_choice_never_changes() -> None:
    """Written down: another hash would split a collection in another way on the next machine."""
    paths = [b"a/1.jpg", b"a/2.jpg", b"b/1.jpg", "é.png".encode(), b"\xff.jpg"]
    chosen = [next(n for n in range(1, 17) if Shard(n, 16).holds(path)) for path in paths]
    assert chosen == [1, 16, 3, 7, 6]


def test_shards_are_about_equal() -> None:
    sizes = [sum(Shard(n, 4).holds(b"photo%d.jpg" % i) for i in range(4000)) for n in range(1, 5)]
    assert sum(sizes) == 4000 and min(sizes) > 900


def test_the_path_counts_from_the_outermost_folder() -> None:
    shard = Shard(2, 7)
    near = ShardedFolders(shard, ["/data/photos", "/data/photos/.hidden"])
    far = ShardedFolders(shard, ["/mnt/nas/photos"])
    for number in range(50):
        name = b".hidden/%d.jpg" % number
        assert near.holds(b"/data/photos/" + name) == far.holds(b"/mnt/nas/photos/" + name)
        assert near.holds(b"/elsewhere/%d.jpg" % number) == shard.holds(b"%d.jpg" % number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3/",
        "/3",
        "0/3",
        "4/3",
        "-1/3",
        "1/0",
        "1.0/3",
        "a/b",
        "1/2/3",
        "²/3",
        f"1/{MAX_SHARDS + 1}",
        "9" * 5000 + "/3",
    ],
)
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(errors.QueryError, match="3/16"):
        Shard.parse(text)


@pytest.mark.parametrize(
    "pair", [(0, 3), (4, 3), (True, True), (1.0, 3), ("1", "3"), (1,), 3, "1/3"]
)
def test_what_is_no_shard_in_python_is_refused(tmp_path: Path, pair: object) -> None:
    index = veduta.create(tmp_path / "index", encoder="fast", keypoints=None)
    with pytest.raises(errors.QueryError, match="shard"):
        index.add(tmp_path, shard=pair)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 24)
    (tmp_path / "photos/class0/broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return tmp_path / "photos"


def test_shards_divide_the_photos_of_a_folder(photos: Path, tmp_path: Path) -> None:
    found: list[str] = []
    for number in range(1, COUNT + 1):
        report = shard_index(tmp_path / f"{number}", photos, Shard(number, COUNT))
        names = names_in(tmp_path / f"{number}", photos)
        assert len(names) + report.other_shards == 25
        assert (report.shard, report.removed) == (f"{number}/{COUNT}", 0)
        assert report.as_json()["other_shards"] == report.other_shards
        assert not (tmp_path / f"{number}" / "graph").exists()
        found += names
    assert len(found) == 25 and set(found) == {
        os.path.relpath(path, photos) for path in photos.rglob("*.*")
    }


def test_the_choice_is_the_same_at_another_place(photos: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "mnt/nas/pictures"))
    shard_index(tmp_path / "here", photos, Shard(1, COUNT))
    shard_index(tmp_path / "there", moved, Shard(1, COUNT))
    assert names_in(tmp_path / "here", photos) == names_in(tmp_path / "there", moved)


def test_an_update_keeps_the_shard(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "part"
    shard_index(index, photos, Shard(2, COUNT))
    before = names_in(index, photos)
    for number in range(100, 124):
        save(photos / f"new/photo{number}.png", number)
    for gone in sorted(before)[:2]:
        (photos / gone).unlink()
    report = shard_index(index, None)
    assert report.shard == f"2/{COUNT}" and report.removed == 2
    assert 0 < report.added < 24 and report.added + report.other_shards + len(before) == 25 + 24
    shard_index(tmp_path / "anew", photos, Shard(2, COUNT))
    assert names_in(index, photos) == names_in(tmp_path / "anew", photos)
    assert shard_index(index, photos, Shard(2, COUNT)).encoded == 0


def test_a_shard_that_loses_its_only_photos_is_no_empty_folder(
    photos: Path, tmp_path: Path
) -> None:
    index = tmp_path / "part"
    shard_index(index, photos, Shard(2, COUNT))
    for name in names_in(index, photos):
        (photos / name).unlink()
    report = shard_index(index, None)
    assert report.removed > 0 and report.total == 0


@pytest.mark.parametrize("wanted", [Shard(1, COUNT), Shard(2, COUNT + 1)])
def test_another_shard_is_refused(photos: Path, tmp_path: Path, wanted: Shard) -> None:
    index = tmp_path / "part"
    shard_index(index, photos, Shard(2, COUNT))
    before = names_in(index, photos)
    with pytest.raises(errors.CollectionError, match=f"is shard 2/{COUNT}.*--shard {wanted} --ind"):
        shard_index(index, photos, wanted)
    assert names_in(index, photos) == before
    assert not Manifest.read(index).unfinished


def test_an_index_of_whole_folders_becomes_no_shard(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "whole"
    shard_index(index, photos)
    with pytest.raises(errors.CollectionError, match="is no shard"):
        shard_index(index, photos, Shard(1, 2))
    assert Manifest.read(index).needs == ()


def test_the_labels_are_those_of_one_run(photos: Path, tmp_path: Path) -> None:
    """A row of the CSV may name its photo in another case, if that leaves one photo of all."""
    rows = [f"{path.relative_to(photos)},{path.stem}" for path in sorted(photos.rglob("*.png"))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *(row.replace("photo", "PHOTO", 1) for row in rows)]))
    shard_index(tmp_path / "whole", photos, labels=table)
    labels = {}
    for number in range(1, COUNT + 1):
        report = shard_index(tmp_path / f"{number}", photos, Shard(number, COUNT), labels=table)
        assert not any("no photo" in note for note in report.notes), report.notes
        labels.update(labels_in(tmp_path / f"{number}"))
    assert labels == labels_in(tmp_path / "whole")


class Failing(TinyEncoder):
    def encode(self, prepared: object) -> object:  # type: ignore[override]
        raise errors.EncoderError("it is broken")


def test_the_manifest_tells_whether_the_run_went_to_its_end(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "part"
    shard = Shard(1, COUNT)

    def interrupt(state: UpdateProgress) -> None:
        assert Manifest.read(index).unfinished
        if state.done > 2:
            raise KeyboardInterrupt

    assert shard_index(index, photos, shard, on_progress=interrupt).interrupted
    manifest = Manifest.read(index)
    assert manifest.unfinished and manifest.shard == shard and manifest.folders == (str(photos),)
    assert read_status(index)["unfinished"] and read_status(index)["shard"] == str(shard)
    shard_index(index, None)  # The folder is known, so the run can be continued without it.
    assert not Manifest.read(index).unfinished
    create_index(tmp_path / "broken", Failing(), TinyExtractor())
    with pytest.raises(errors.EncoderError, match="it is broken"):
        update_index(tmp_path / "broken", [photos], Failing(), TinyExtractor(), shard=shard)
    assert Manifest.read(tmp_path / "broken").unfinished


def test_an_index_that_needs_an_unknown_feature_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    create_index(index, TinyEncoder(), TinyExtractor())
    with monkeypatch.context() as later:
        later.setattr(manifests, "KNOWN_FEATURES", frozenset({"shard", "wings"}))
        later.setattr(manifests, "__version__", "9.8.7")
        replace(Manifest.read(index), needs=("shard", "wings")).write(index)
        assert Manifest.read(index).needs == ("shard", "wings")
    for use in (open_snapshot, repair_index, read_status, Manifest.read):
        with pytest.raises(errors.IndexDamaged) as caught:
            use(index)
        message = str(caught.value)
        assert "Veduta 9.8.7" in message and "'wings'" in message and "shard" not in message
        assert "pip install --upgrade 'veduta>=9.8.7'" in message
    # A hostile manifest cannot put a command into the message.
    values = json.loads((index / MANIFEST_FILE).read_text())
    values["written_by"] = "1'; rm -rf ~ #"
    values["checksum"] = manifests._checksum({k: v for k, v in values.items() if k != "checksum"})
    (index / MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(errors.IndexDamaged) as caught:
        Manifest.read(index)
    assert "rm -rf" not in str(caught.value)


def test_only_an_index_with_a_feature_is_closed_to_older_versions(
    photos: Path, tmp_path: Path
) -> None:
    shard_index(tmp_path / "whole", photos)
    shard_index(tmp_path / "part", photos, Shard(1, 2))
    values = {
        name: json.loads((tmp_path / name / MANIFEST_FILE).read_text())
        for name in ("whole", "part")
    }
    assert (values["whole"]["format"], values["whole"]["needs"]) == (2, [])
    assert (values["part"]["format"], values["part"]["needs"]) == (3, ["shard"])
    assert {one["written_by"] for one in values.values()} == {veduta.__version__}
    repair_index(tmp_path / "part")
    assert Manifest.read(tmp_path / "part").shard == Shard(1, 2)
    assert not (tmp_path / "part/graph").exists()


def test_the_command(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--encoder", "fast", "--keypoints", "none", "--index", "part")
    done = run_veduta(tmp_path, "index", "photos", "--shard", "1/3", *options)
    assert done.returncode == 0, done.stderr
    assert "left to other shards: this is shard 1/3." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    monkeypatch.chdir(tmp_path)
    assert run(["index", "--json", "--index", "part"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["shard"], again["encoded"]) == ("1/3", 0) and again["other_shards"] > 0
    assert run(["index", "photos", "--shard", "2/3", "--index", "part"]) == 4
    assert "is shard 1/3" in capsys.readouterr().err
    assert run(["index", "photos", "--shard", "4/3", "--index", "part"]) == 2
    assert run(["status", "--index", "part"]) == 0
    assert "1/3 of a collection" in capsys.readouterr().out
