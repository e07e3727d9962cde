"""Two photos: the verdict and its evidence, by the real command line; and the evidence of hits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from command_line import run_veduta
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from walls import ASIDE, scene, seen_aside

import veduta
from veduta.cli import options
from veduta.encoders import load_encoder
from veduta.errors import QueryError
from veduta.index.calibration import calibration_of, probability
from veduta.keypoints import Keypoints, draw_keypoints
from veduta.search import RERANK_MODES, VERIFIED_PHOTOS, SearchOptions
from veduta.search.hit import Evidence
from veduta.search.options import EFFORTS
from veduta.search.verdict import (
    MAX_DIFFERENT_PROBABILITY,
    MIN_SAME_COVERAGE,
    MIN_SAME_PROBABILITY,
    reason_for,
    verdict_on,
)

Pixels = NDArray[np.uint8]
BOX = (100, 60, 400, 300)  # the region of a photo that is searched for


def stamped(pixels: Pixels, x: int, y: int, size: int = 26) -> Pixels:
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    lines = "stock-photo.example 441171835\nlicence needed, do not copy"
    pen.multiline_text((x, y), lines, fill="white", font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, and an index of some of them."""
    folder = tmp_path_factory.mktemp("match")
    (folder / "wall").mkdir()
    pictures = {
        "wall/a.png": scene(1),
        "wall/c.png": scene(2),
        "wall/d.png": scene(3),
        "b.png": seen_aside(scene(1)),
        "mirrored.png": scene(1)[:, ::-1],
        "black.png": np.zeros((300, 400, 3), np.uint8),
        "sky.png": np.full((300, 400, 3), (120, 170, 230), np.uint8),
        "dot.png": scene(1)[:1, :1],
        "tiny.png": scene(1)[:9, :12],
        "strip.png": scene(4, 3000, 12),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / name)
    done = run_veduta(folder, "index", "wall", "--encoder", "fast")
    assert done.returncode == 0, done.stderr
    return folder


def matched(home: Path, *arguments: str | Path) -> dict[str, Any]:
    done = run_veduta(home, "match", *arguments, "--encoder", "fast", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def box(corners: list[list[float]]) -> tuple[float, float, float, float]:
    xy = np.array(corners)
    return (*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())


@pytest.mark.parametrize(
    ("likely", "model", "spread", "said"),
    [
        (1.0, "homography", 0.1, "same place"),
        (MIN_SAME_PROBABILITY, "fundamental", 0.1, "same place"),
        (np.nextafter(MIN_SAME_PROBABILITY, 0), "homography", 0.1, "unsure"),
        (0.05, "homography", MIN_SAME_COVERAGE, "same place"),
        (
            np.nextafter(MIN_SAME_PROBABILITY, 0),
            "homography",
            np.nextafter(MIN_SAME_COVERAGE, 0),
            "unsure",
        ),
        (1.0, None, 0.9, "unsure"),
        (1.0, None, None, "unsure"),
        (np.nextafter(MAX_DIFFERENT_PROBABILITY, 1), None, None, "unsure"),
        (MAX_DIFFERENT_PROBABILITY, None, None, "different"),
        (0.0, "homography", 0.1, "different"),
        (None, "homography", 0.1, "same place"),
        (None, None, 0.1, "unsure"),
    ],
)
def test_verdict(likely: float | None, model: str | None, spread: float | None, said: str) -> None:
    assert verdict_on(likely, model, spread) == said
    # The reason says what stands against the number beside the verdict.
    reason = reason_for(likely, model, spread)
    assert len(f"{said}: {reason}") <= 80
    assert ("no probability is known" in reason) == (likely is None)
    if said == "unsure" and likely is not None and likely >= MIN_SAME_PROBABILITY:
        assert reason.startswith("a high probability, but ")
    if said == "same place" and likely is not None and likely < MIN_SAME_PROBABILITY:
        assert "over 70% or more of both photos" in reason
    if said == "different":
        assert ("despite a geometric model" in reason) == (model is not None)


def test_hit_says_the_same() -> None:
    assert Evidence(0.95, 40, 60, "homography", 0.3).verdict == "same place"
    unverified = Evidence(0.95)
    assert unverified.verdict == "unsure", "a neighbour of a neighbour was not verified"
    assert unverified.reason == "a high probability, but geometry was not checked"
    assert unverified.as_json()["reason"] == unverified.reason
    assert Evidence(0.02).as_json()["verdict"] == "different"


def test_identical_photos(home: Path) -> None:
    found = matched(home, "wall/a.png", "wall/a.png")
    assert (found["verdict"], found["model"]) == ("same place", "homography")
    assert found["probability"] > 0.99
    assert found["similarity"] == pytest.approx(1, abs=1e-5)
    assert found["inliers"] >= 0.9 * found["matches"] >= 200
    for region in found["regions"]:
        left, top, right, bottom = box(region)
        assert left < 40 and top < 40 and right > 600 and bottom > 440
    assert found["notes"] == []


def test_another_view(home: Path) -> None:
    found = matched(home, "wall/a.png", "b.png")
    assert (found["verdict"], found["model"]) == ("same place", "homography")
    first, second = (np.array(region) for region in found["regions"])
    a, b, c, d, e, f, g, h = ASIDE
    x, y = second.T
    depth = g * x + h * y + 1
    back = np.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], axis=1)
    for ours, theirs in zip(box(first.tolist()), box(back.tolist()), strict=True):
        assert ours == pytest.approx(theirs, abs=15), "both regions are of the same thing"


def test_probability_is_that_of_the_calibration(home: Path) -> None:
    found = veduta.match(home / "wall/a.png", home / "wall/c.png", encoder="fast")
    calibration = calibration_of(load_encoder("fast").identity, "xfeat", 2048)
    deviations = (found.similarity - calibration.background.mean) / calibration.background.std
    consistent = found._verification.consistent_matches
    expected = probability(calibration.pair_logit(np.array(deviations), np.array(consistent)))
    assert found.probability == pytest.approx(float(expected))
    assert found.verdict != "same place" and found.model is None and found.regions is None


def test_mirrored_is_no_model(home: Path) -> None:
    found = matched(home, "wall/a.png", "mirrored.png", "--orientation", "upright")
    assert found["verdict"] != "same place" and found["model"] is None


@pytest.mark.parametrize("corners", [((20, 380), (20, 380)), ((20, 380), (60, 30))])
def test_a_stamp_does_not_decide(
    shared_data: Callable[[str], Path], corners: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    images = shared_data("landmarks30") / "images"
    a, b = (
        np.asarray(Image.open(images / name).convert("RGB").resize((640, 480)))
        for name in ("gateway_of_india/gateway_of_india_000.jpg", "india_gate/india_gate_000.jpg")
    )
    for size in (20, 32):
        marked = [stamped(photo, *at, size) for photo, at in zip((a, b), corners, strict=True)]
        found = veduta.match(*marked, encoder="fast")
        assert found.matches >= 5, "the stamp matches"
        assert found.verdict != "same place" and found.model is None


@pytest.mark.parametrize("corners", [((20, 20), (20, 20)), ((20, 20), (410, 250))])
def test_a_large_logo_does_not_decide(
    shared_data: Callable[[str], Path], corners: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    images = shared_data("landmarks30") / "images"
    logo = scene(7, 210, 210)
    marked = []
    for name, (x, y) in zip(
        ("gateway_of_india/gateway_of_india_000.jpg", "india_gate/india_gate_000.jpg"),
        corners,
        strict=True,
    ):
        photo = np.array(Image.open(images / name).convert("RGB").resize((640, 480)))
        photo[y : y + 210, x : x + 210] = logo
        marked.append(photo)
    found = veduta.match(*marked, encoder="fast")
    assert found.matches > 20, "the logo matches"
    assert found.verdict != "same place" and found.model is None


@pytest.mark.slow
@pytest.mark.parametrize("blank", ["black.png", "sky.png", "dot.png", "tiny.png", "strip.png"])
def test_little_to_see(home: Path, blank: str) -> None:
    for pair in ((blank, "wall/a.png"), ("wall/a.png", blank)):
        found = veduta.match(*(home / name for name in pair), encoder="fast")
        assert found.verdict in {"unsure", "different"}
        assert found.model is None and found.regions is None
        assert found.picture(width=400).width <= 400
    if blank in {"black.png", "sky.png", "dot.png"}:
        assert found.notes == (f"There are no keypoints in {home / blank}.",)


def test_featureless_pair_is_said_aloud(home: Path) -> None:
    done = run_veduta(
        home, "match", "black.png", "black.png", "--encoder", "fast", "--picture", "e.png"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "unsure: a high probability, but no geometric model"
    assert lines[1].startswith("  probability 0.") and lines[1].endswith("similarity and matches")
    assert "  geometry    no keypoints match" in lines
    assert lines.count("  There are no keypoints in black.png.") == 1
    with Image.open(home / "e.png") as picture:
        assert picture.width >= 200


def test_a_photo_that_was_saved_again_is_a_copy(home: Path, tmp_path: Path) -> None:
    with Image.open(home / "wall/a.png") as photo:
        photo.convert("RGB").resize((photo.width // 2, photo.height // 2)).save(tmp_path / "a.jpg")
    done = run_veduta(home, "match", "wall/a.png", tmp_path / "a.jpg", "--encoder", "fast")
    assert "  copy        both are the same picture\n" in done.stdout
    assert "copy" not in run_veduta(home, "match", "wall/a.png", "b.png").stdout


def test_text(home: Path) -> None:
    done = run_veduta(home, "match", "wall/a.png", "b.png", "--encoder", "fast")
    first, likely, similarity, geometry, *regions = done.stdout.splitlines()
    assert first == "same place: a geometric model, and a probability of 0.9 or more"
    assert likely.startswith("  probability ")
    assert similarity.startswith("  similarity  0.")
    assert "matches agree on a homography, over" in geometry
    assert len(regions) == 2 and regions[1].endswith(" of b.png")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_surf_keypoints_have_no_probability(home: Path) -> None:
    found = matched(home, "wall/a.png", "b.png", "--keypoints", "surf")
    assert (found["verdict"], found["probability"]) == ("same place", None)
    assert found["model"] is not None
    assert "surf" in found["notes"][0] and "geometry alone" in found["notes"][0]
    done = run_veduta(home, "match", "wall/a.png", "b.png", "--keypoints", "surf")
    assert done.stdout.startswith("same place: a geometric model; no probability is known\n")
    other = veduta.match(scene(1), scene(2), encoder="fast", keypoints="surf")
    assert (other.verdict, other.model) == ("unsure", None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sift", "orb"])
def test_other_keypoints_have_a_calibration_of_their_own(home: Path, kind: str) -> None:
    found = matched(home, "wall/a.png", "b.png", "--keypoints", kind)
    assert found["verdict"] == "same place" and found["probability"] > 0.9
    assert found["model"] is not None and found["notes"] == []
    other = veduta.match(scene(1), scene(2), encoder="fast", keypoints=kind)
    assert other.verdict != "same place" and other.model is None
    assert other.probability is not None and other.probability < found["probability"]


def test_an_encoder_without_a_calibration_has_no_probability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("veduta.search.pair.has_own_calibration", lambda identity: False)
    same = veduta.match(scene(1), seen_aside(scene(1)), encoder="fast")
    assert (same.verdict, same.probability) == ("same place", None)
    assert same.model is not None
    assert "'fast'" in same.notes[0] and "geometry alone" in same.notes[0]
    other = veduta.match(scene(1), scene(2), encoder="fast")
    assert (other.verdict, other.model) == ("unsure", None)


@pytest.mark.slow
def test_pictures(home: Path) -> None:
    pair = ("match", "wall/a.png", "b.png", "--encoder", "fast", "--picture")
    for name, kind in (("m.png", "PNG"), ("m.JPG", "JPEG")):
        done = run_veduta(home, *pair, name)
        assert done.returncode == 0 and done.stderr == f"wrote {name}\n"
        with Image.open(home / name) as picture:
            assert picture.format == kind and 800 < picture.width <= 1600
    done = run_veduta(home, *pair, "m.gif")
    assert done.returncode == 2 and ".png" in done.stderr
    done = run_veduta(home, *pair, "nowhere/m.png")
    assert done.returncode == 3 and "its folder does not exist" in done.stderr


@pytest.mark.slow
def test_wrong_calls(home: Path) -> None:
    (home / "page.jpg").write_text("<html>no photo</html>")
    for name, why in (("page.jpg", "HTML"), ("missing.jpg", "No such file")):
        done = run_veduta(home, "match", "wall/a.png", name, "--encoder", "fast")
        assert done.returncode == 3 and done.stderr.startswith(f"veduta: {name}: ")
        assert "Traceback" not in done.stderr, why
    done = run_veduta(home, "match", "wall/a.png", "b.png", "--keypoints", "sfit")
    assert done.returncode == 3 and "'sift'" in done.stderr
    assert run_veduta(home, "match", "wall/a.png", "b.png", "--encoder", "fasst").returncode == 5
    done = run_veduta(home, "match", "wall/a.png", "--encoder", "fast")
    assert done.returncode == 2 and "two photos" in done.stderr
    done = run_veduta(home, "match", "wall/a.png", "--crop", "0,0,9,9")
    assert done.returncode == 2 and "two photos" in done.stderr
    outside = ("wall/a.png", "b.png", "--crop", "0,0,9,99999", "--encoder", "fast")
    done = run_veduta(home, "match", *outside)
    assert done.returncode == 3 and "not within the photo" in done.stderr


def test_a_crop_is_compared_and_told_in_pixels_of_the_whole_photo(
    home: Path, tmp_path: Path
) -> None:
    x, y, width, height = BOX
    cut = tmp_path / "cut.png"
    Image.open(home / "b.png").crop((x, y, x + width, y + height)).save(cut)
    expected = veduta.match(cut, home / "wall/a.png", encoder="fast")
    assert expected.model is not None
    found = veduta.match(home / "b.png", home / "wall/a.png", crop=BOX, encoder="fast")
    judged = [(one.verdict, one.inliers, one.similarity) for one in (found, expected)]
    assert judged[0] == judged[1]
    np.testing.assert_allclose(found.lines, np.add(expected.lines, (x, y, 0, 0)), atol=0.11)
    assert found.regions is not None and expected.regions is not None
    np.testing.assert_allclose(found.regions[0], np.add(expected.regions[0], (x, y)), atol=0.11)
    assert found.regions[1] == expected.regions[1]
    told = matched(home, "b.png", "wall/a.png", "--crop", ",".join(map(str, BOX)))
    np.testing.assert_allclose(told["regions"][0], found.regions[0], atol=0.11)


def test_python_surface() -> None:
    a = scene(1)
    found = veduta.match(a, seen_aside(a), encoder="fast")
    assert isinstance(found, veduta.Match)
    assert found.verdict == "same place" and found.regions is not None
    assert json.loads(json.dumps(found.as_json()))["inliers"] == found.inliers
    assert 200 <= found.picture(width=700).width <= 700
    with pytest.raises(FrozenInstanceError):
        found.verdict = "different"  # type: ignore[misc]
    with pytest.raises(QueryError, match="uint8 RGB"):
        veduta.match(a, a[..., 0])


def test_match_loads_no_more_than_it_needs(home: Path) -> None:
    code = (
        "import sys; from veduta.cli.main import run; "
        "run(['match', 'wall/a.png', 'b.png', '--encoder', 'fast']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert not loaded & {"lance", "pyarrow", "jinja2", "mahotas", "rich", "openvino"}


@pytest.mark.slow
def test_real_photos(home: Path, shared_data: Callable[[str], Path]) -> None:
    images = shared_data("landmarks30") / "images"
    found = matched(
        home,
        images / "gateway_of_india/gateway_of_india_000.jpg",
        images / "gateway_of_india/gateway_of_india_010.jpg",
    )
    assert found["verdict"] == "same place" and found["inliers"] > 50
    found = matched(
        home,
        images / "gateway_of_india/gateway_of_india_000.jpg",
        images / "india_gate/india_gate_000.jpg",
    )
    assert found["verdict"] != "same place"


# Hits of a search.


def test_options_are_those_of_the_search() -> None:
    parameters = options.rerank_options(lambda: None).__click_params__
    offered = {parameter.name: parameter for parameter in parameters}
    assert tuple(offered["rerank"].type.choices) == RERANK_MODES
    assert tuple(offered["effort"].type.choices) == tuple(EFFORTS)
    assert EFFORTS["normal"] == VERIFIED_PHOTOS == SearchOptions().verify


@pytest.mark.parametrize(
    ("given", "number"),
    [([], 50), (["--effort", "low"], 20), (["--effort", "high"], 200), (["--verify", "7"], 7)],
)
def test_an_effort_is_a_number_of_photos(given: list[str], number: int) -> None:
    @click.command()
    @options.rerank_options
    def command(rerank: str, verify: int) -> None:
        click.echo(f"{rerank} {verify}")

    assert CliRunner().invoke(command, given).output == f"auto {number}\n"
    both = CliRunner().invoke(command, ["--effort", "low", "--verify", "7"])
    assert both.exit_code == 2 and "--effort and --verify say the same" in both.output


def test_search_shows_inliers(home: Path) -> None:
    first, second, third = run_veduta(home, "search", "b.png").stdout.splitlines()
    rank, score, inliers, word, path = first.split()
    assert (rank, word, path) == ("1", "inliers", "wall/a.png")
    assert float(score) > 0.9 and int(inliers) > 50
    assert len({line.index("wall/") for line in (first, second, third)}) == 1, "in one column"
    assert max(len(first), len(second), len(third)) <= 80


@pytest.mark.slow
def test_search_without_geometry(home: Path) -> None:
    assert "inlier" not in run_veduta(home, "search", "b.png", "--rerank", "global").stdout
    first, *rest = run_veduta(home, "search", "b.png", "--verify", "1").stdout.splitlines()
    assert "inliers" in first and "inlier" not in "".join(rest)
    assert run_veduta(home, "search", "b.png", "--rerank", "more").returncode == 2


@pytest.mark.slow
def test_index_without_keypoints(home: Path, tmp_path: Path) -> None:
    made = ("--index", tmp_path / "plain")
    done = run_veduta(home, "index", "wall", "--encoder", "fast", "--keypoints", "none", *made)
    assert done.returncode == 0, done.stderr
    assert "inlier" not in run_veduta(home, "search", "b.png", *made).stdout
    done = run_veduta(home, "search", "b.png", *made, "--rerank", "geometry")
    assert done.returncode == 3 and "--keypoints none" in done.stderr
    assert run_veduta(home, "index", *made, "--keypoints", "xfeat").returncode == 4


@pytest.mark.slow
def test_regions_of_a_crop_are_in_the_whole_photo(home: Path) -> None:
    crop = ",".join(map(str, BOX))
    done = run_veduta(home, "search", "wall/a.png", "--crop", crop, "--json", "-k", "1")
    (hit,) = json.loads(done.stdout)[0]["hits"]
    assert hit["model"] is not None and Path(hit["path"]).name == "a.png"
    # The gallery photo is the query itself, so both regions lie at the same place, but for the
    # keypoints at their borders.
    ours, theirs = box(hit["query_region"]), box(hit["region"])
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=20)
    x, y, width, height = BOX
    assert ours[0] >= x and ours[1] >= y and ours[2] <= x + width and ours[3] <= y + height
    assert ours[2] - ours[0] > width / 2
    text = run_veduta(home, "search", "wall/a.png", "--crop", crop, "--regions", "-k", "1").stdout
    left, top, wide, high = (int(part) for part in text.splitlines()[1].strip().split(","))
    assert (left, top) == (pytest.approx(theirs[0], abs=1), pytest.approx(theirs[1], abs=1))
    assert (left + wide, top + high) == (
        pytest.approx(theirs[2], abs=2),
        pytest.approx(theirs[3], abs=2),
    )


def test_match_picture_of_a_hit(home: Path) -> None:
    index = veduta.open(home / "index")
    (hit,) = index.search(home / "b.png", k=1)
    picture = index.match_picture(home / "b.png", hit, width=900)
    assert 400 < picture.width <= 900
    several = index.match_picture([home / "black.png", home / "b.png"], hit, width=900)
    assert several.tobytes() == picture.tobytes(), "the photo that agrees most is drawn"
    region = index.match_picture(home / "b.png", hit, crop=BOX, width=900)
    assert region.tobytes() != picture.tobytes()


@pytest.mark.slow
def test_page_of_a_search(home: Path) -> None:
    done = run_veduta(home, "search", "b.png", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    page = (home / "page.html").read_text()
    assert page.count("<dialog popover") == 1, "one hit is verified"
    assert page.count("<polygon") == 2 and 'viewBox="0 0 640 480"' in page
    assert '<b class="same">same place</b>' in page
    assert len(page) < 350_000
    run_veduta(home, "search", "b.png", "--html", "page.html", "--rerank", "none")
    page = (home / "page.html").read_text()
    assert "<dialog popover" not in page and '<p class="verdict">' not in page


# The keypoints of one photo.


@pytest.mark.parametrize("kind", ["sift", "orb", "surf"])
def test_scales_and_directions_turn_and_grow_with_the_photo(kind: str) -> None:
    photo = scene(5)
    upright = veduta.find_keypoints(photo, keypoints=kind).points
    assert upright.diameters is not None and upright.directions is not None
    assert upright.diameters.min() > 1 and 0 <= upright.directions.min() <= 360
    # Most directions lead from dark to bright, over the width of the keypoint.
    blurred = Image.fromarray(photo).convert("L").filter(ImageFilter.GaussianBlur(3))
    grey = np.asarray(blurred).astype(int)
    angles = np.radians(upright.directions)
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * upright.diameters[:, None] / 4
    ahead, behind = (
        grey[
            np.clip(ends[:, 1].round().astype(int), 0, grey.shape[0] - 1),
            np.clip(ends[:, 0].round().astype(int), 0, grey.shape[1] - 1),
        ]
        for ends in (upright.xy + steps, upright.xy - steps)
    )
    assert (ahead > behind).mean() > 0.6
    # A quarter turn clockwise adds 90 degrees, and twice the size doubles the diameters.
    turned = veduta.find_keypoints(np.ascontiguousarray(np.rot90(photo, -1)), keypoints=kind).points
    assert turned.directions is not None
    back = np.stack([turned.xy[:, 1], photo.shape[0] - 1 - turned.xy[:, 0]], axis=1)
    distances = np.linalg.norm(upright.xy[:, None] - back[None], axis=2)
    nearest = distances.argmin(axis=1)
    found = distances.min(axis=1) < 0.8
    assert found.sum() > 50
    turns = (turned.directions[nearest] - upright.directions)[found] % 360
    assert np.median(turns) == pytest.approx(90, abs=3)
    large = veduta.find_keypoints(
        np.repeat(np.repeat(photo, 2, axis=0), 2, axis=1), keypoints=kind
    ).points
    assert large.diameters is not None
    assert np.median(large.diameters) == pytest.approx(2 * np.median(upright.diameters), rel=0.1)


@pytest.mark.slow
def test_the_keypoints_of_one_photo(home: Path) -> None:
    done = run_veduta(home, "match", "b.png", "--keypoints", "sift", "--picture", "k.png")
    assert done.returncode == 0, done.stderr
    first, photo, diameter = done.stdout.splitlines()
    assert re.fullmatch(r"\d+ sift keypoints", first)
    assert photo.endswith("640 × 480 pixels, b.png") and "median" in diameter
    with Image.open(home / "k.png") as picture:
        assert picture.size == (1200, 944)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    green = (pixels[..., 1] > 220) & (pixels[..., 0] < 120) & (pixels[..., 2] < 120)
    assert 2_000 < green.sum() < 0.5 * green.size
    done = run_veduta(home, "match", "b.png", "--json")
    found = json.loads(done.stdout)
    assert (found["photo"], found["kind"]) == ("b.png", "xfeat")
    assert found["count"] == len(found["keypoints"]) <= found["most"] == 2048
    assert found["keypoints"][0]["diameter"] is found["keypoints"][0]["direction"] is None
    assert 0 <= found["keypoints"][0]["x"] < found["width"] == 640
    assert "rings of one size" in run_veduta(home, "match", "b.png").stdout
    done = run_veduta(home, "match", "black.png", "--keypoints", "sift", "--picture", "k.png")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "0 sift keypoints"
    assert "rings" not in done.stdout


def test_picture_of_keypoints_has_circles_of_their_scale() -> None:
    photo = np.full((300, 400, 3), 90, np.uint8)
    none = np.zeros((1, 4), np.int8)
    at = np.array([[199.5, 149.5]], np.float32)
    points = Keypoints(at, none, 400, 300, np.array([100], np.float32), np.array([0], np.float32))
    drawn = np.asarray(draw_keypoints(photo, points, name="sift", width=400)).astype(int)
    rows, columns = np.nonzero(drawn[:300, :, 1] - drawn[:300, :, 0] > 60)
    assert (columns.min(), columns.max()) == (pytest.approx(149, abs=2), pytest.approx(250, abs=2))
    assert (rows.min(), rows.max()) == (pytest.approx(99, abs=2), pytest.approx(200, abs=2))
    assert drawn[150, 230, 1] > 150 and drawn[150, 170, 1] == 90, "the line leads to the right"
    bare = draw_keypoints(photo, Keypoints(at, none, 400, 300), name="xfeat", width=400)
    rows, _ = np.nonzero(np.asarray(bare)[:300, :, 1] > 150)
    assert 6 <= rows.max() - rows.min() <= 12
