"""An index with the keypoints of an older version stays as it is: searchable and updatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import run_veduta
from PIL import Image
from walls import scene, seen_aside

import veduta
from veduta.encoders import load_encoder
from veduta.errors import EncoderMismatch
from veduta.index import create_index, open_snapshot, update_index
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.manifest import Manifest
from veduta.keypoints import Extractor, Keypoints, load_extractor
from veduta.keypoints.xfeat import XFeatIn32Bits

OLD = XFeatIn32Bits.load(512, 1)


@pytest.fixture
def old_index(tmp_path: Path) -> Path:
    """An index as version 0.1.0 made it, of two photos."""
    for number in (1, 2):
        save(tmp_path, number)
    encoder = load_encoder("fast")
    create_index(tmp_path / "index", encoder, OLD)
    update_index(tmp_path / "index", [tmp_path / "photos"], encoder, OLD)
    return tmp_path / "index"


def save(folder: Path, number: int) -> None:
    (folder / "photos").mkdir(exist_ok=True)
    Image.fromarray(scene(number)).save(folder / f"photos/{number}.png")


def stored_by(index: Path, row: int, extractor: Extractor) -> bool:
    """Return whether the stored keypoints of a photo are those that `extractor` finds."""
    snapshot = open_snapshot(index)
    stored = StoredKeypoints(index, snapshot).read(row)
    path = Path(snapshot.rows["path"][row].as_py().decode())
    found = extractor.extract(np.asarray(Image.open(path)), 640, 480)
    expected = Keypoints.unpack(found.pack(extractor.stored_bits), 640, 480)
    return stored.descriptors.tobytes() == expected.descriptors.tobytes()


def test_it_is_updated_with_the_version_that_made_it(old_index: Path) -> None:
    save(old_index.parent, 3)
    index = veduta.open(old_index)
    assert index.add(old_index.parent / "photos").added == 1
    known = Manifest.read(old_index).keypoints
    assert known is not None and known["identity"] == OLD.identity
    assert all(stored_by(old_index, row, OLD) for row in range(3))
    assert not stored_by(old_index, 2, load_extractor())
    hits = index.search(seen_aside(scene(3)))
    assert Path(hits[0].path).name == "3.png"
    assert hits[0].evidence is not None and hits[0].evidence.verdict == "same place"


def test_the_kind_has_one_name_for_users(old_index: Path) -> None:
    home = old_index.parent
    save(home, 4)
    assert run_veduta(home, "index", "photos", "--keypoints", "xfeat").returncode == 0
    assert len(veduta.open(old_index)) == 3
    assert stored_by(old_index, 2, OLD)
    assert run_veduta(home, "index", "photos", "--keypoints", "xfeat:512").returncode == 0
    assert run_veduta(home, "index", "photos", "--keypoints", "xfeat:1024").returncode == 4
    assert run_veduta(home, "index", "photos", "--keypoints", "orb").returncode == 4


def test_two_versions_are_never_mixed(old_index: Path) -> None:
    save(old_index.parent, 5)
    with pytest.raises(EncoderMismatch, match="xfeat"):
        update_index(
            old_index, [old_index.parent / "photos"], load_encoder("fast"), load_extractor()
        )
    assert len(veduta.open(old_index)) == 2


def test_a_new_index_has_the_newest_version(tmp_path: Path) -> None:
    save(tmp_path, 1)
    index = veduta.create(tmp_path / "index", encoder="fast")
    index.add(tmp_path / "photos")
    known = Manifest.read(tmp_path / "index").keypoints
    assert known is not None and (known["name"], known["identity"]) == (
        "xfeat",
        load_extractor().identity,
    )
    assert stored_by(tmp_path / "index", 0, load_extractor())


def test_an_index_with_16_bytes_a_descriptor_stays_so(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path, number)
    name = "xfeat:1024:16bytes"
    small = load_extractor(name)
    made = run_veduta(tmp_path, "index", "photos", "--encoder", "fast", "--keypoints", name)
    assert made.returncode == 0, made.stderr
    save(tmp_path, 3)
    assert run_veduta(tmp_path, "index", "photos", "--keypoints", "xfeat").returncode == 0
    (index,) = (file.parent for file in tmp_path.rglob("index.json"))
    known = Manifest.read(index).keypoints
    assert known is not None and known["identity"] == small.identity
    assert all(stored_by(index, row, small) for row in range(3))
    size = sum(file.stat().st_size for file in (index / "keypoints").iterdir())
    assert size <= 3 * 19_468
    hits = veduta.open(index).search(seen_aside(scene(3)))
    assert Path(hits[0].path).name == "3.png"
    assert hits[0].evidence is not None and hits[0].evidence.verdict == "same place"


def test_an_index_of_another_form_is_refused_with_a_remedy(old_index: Path) -> None:
    home = old_index.parent
    refused = run_veduta(home, "index", "photos", "--keypoints", "xfeat:512:16bytes")
    assert refused.returncode == 4
    assert "--keypoints xfeat:512:16bytes" in refused.stderr
