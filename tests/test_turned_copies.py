"""A copy that lies on its side, upside down or is flipped is found, in all eight orientations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_copies import scene
from tiny import pixels

from veduta.cli.main import run
from veduta.curate.copies import find_copies
from veduta.curate.groups import connected_groups
from veduta.curate.turned_copies import (
    MIRRORED,
    TURNS,
    TurnableHashes,
    turned_candidates,
)
from veduta.photos import hamming, perceptual_hash
from veduta.photos.orientation import Orientation


def turned_hashes(photos: list[np.ndarray]) -> TurnableHashes:
    upright = np.array([perceptual_hash(photo) for photo in photos], np.uint64)
    lumas = (np.asarray(Image.fromarray(photo).convert("L")) for photo in photos)
    return TurnableHashes.of(upright, lumas)


def test_the_turns_are_the_eight_orientations() -> None:
    photo = np.arange(6, dtype=np.uint8).reshape(2, 3)
    made = [photo, *(turn.apply(photo) for turn in (MIRRORED, *TURNS))]
    assert len({(one.shape, one.tobytes()) for one in made}) == 8
    assert Orientation(270).apply(photo).tolist() == [[2, 5], [1, 4], [0, 3]]


@pytest.mark.parametrize("turn", TURNS)
def test_the_hash_of_a_turned_photo(turn: Orientation) -> None:
    """Also where neighbours have the same luma, as in a sky."""
    photo = np.array(pixels(3, 160, 120))
    photo[:70] = 200
    known = int(turned_hashes([photo]).turned(turn)[0])
    assert hamming(known, perceptual_hash(turn.apply(photo))) <= 1


def test_candidates_know_their_turn_and_others_are_none() -> None:
    photos = [pixels(seed, 160, 120) for seed in range(6)]
    flat = np.full((120, 160, 3), 90, np.uint8)
    made = [turn.apply(photos[number]) for number, turn in enumerate(TURNS)]
    candidates = turned_candidates(turned_hashes([*photos, *made, flat, flat]))
    assert {tuple(sorted(pair)) for pair in candidates} == {(n, n + 6) for n in range(6)}
    for (first, second), turn in candidates.items():
        both = {first: photos, second: made} if first < 6 else {first: made, second: photos}
        shown, wanted = (both[number][number % 6] for number in (first, second))
        assert np.array_equal(turn.apply(shown), wanted)


def test_a_symmetrical_photo_gets_the_turn_that_fits_best() -> None:
    """Its two sides are nearly alike, so that flipped it resembles itself upside down."""
    left = pixels(4, 80, 120)
    photo = np.concatenate([left, left[:, ::-1]], axis=1)
    photo[50:70, 20:36] = 255 - photo[50:70, 20:36]
    upside_down = Orientation(180)
    candidates = turned_candidates(turned_hashes([photo, upside_down.apply(photo)]))
    assert list(candidates.values()) == [upside_down]


@pytest.fixture(scope="module")
def turned_photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a photo in its eight orientations, saved again, and three other photos."""
    folder = tmp_path_factory.mktemp("turned")
    photo = scene(1)
    made = {"original": photo}
    for turn in (MIRRORED, *TURNS):
        name = turn.name
        made[f"turned-{name}"] = turn.apply(photo)
    made |= {f"other{seed}": scene(seed) for seed in (2, 3, 4)}
    files = []
    for number, (name, one) in enumerate(made.items()):
        files.append(folder / f"{name}.jpg")
        Image.fromarray(one).save(files[-1], quality=70 + 2 * number)
    return files


@pytest.mark.slow
def test_all_eight_orientations_are_one_group(turned_photos: list[Path], tmp_path: Path) -> None:
    pairs = find_copies(turned_photos, folder=tmp_path)
    groups = connected_groups(len(turned_photos), ((pair.first, pair.second) for pair in pairs))
    assert list(groups) == [0] * 8 + [8, 9, 10]
    of_original = {turned_photos[pair.second].stem: pair.kind for pair in pairs if pair.first == 0}
    assert of_original.pop("turned-mirrored") == "mirrored"
    assert set(of_original.values()) == {"turned"} and len(of_original) == 6


@pytest.mark.slow
def test_clean_and_split_find_them(
    turned_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photos/thing"
    folder.mkdir(parents=True)
    for file in turned_photos:
        (folder / file.name).write_bytes(file.read_bytes())
    assert run(["clean", str(folder.parent), "--only", "near-copy", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert len(findings) == 7 and {found["kind"] for found in findings} == {"near-copy"}
    assert any("turned" in found["reason"] for found in findings)
    assert run(["split", str(folder.parent), "--into", "train=0.5,test=0.5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    parts = {row["split"] for row in rows if "other" not in row["path"]}
    assert len(parts) == 1
