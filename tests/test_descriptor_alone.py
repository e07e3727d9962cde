"""Figures of an encoder are those of its descriptors; with re-ranking these stand beside."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import DescribedEncoder, TinyExtractor, save_view

from veduta.cli import evaluate as cli
from veduta.errors import QueryError
from veduta.evaluation import (
    evaluate,
    evaluate_recognition,
    recognition_run,
    report_retrieval,
    retrieval_run,
)
from veduta.evaluation.metrics import METRICS

PLACES = ("arch", "bridge", "column", "dome")


class PoorEncoder(DescribedEncoder):
    """Descriptors that say little of what a photo shows; keypoints say all of it."""

    def encode(self, prepared: Any) -> Any:
        rows = np.asarray(super().encode(prepared))
        noise = np.stack(
            [np.random.default_rng(zlib.crc32(row.tobytes())).normal(size=len(row)) for row in rows]
        ).astype(np.float32)
        noisy = 0.3 * rows + noise / np.sqrt(rows.shape[1])
        return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "name": "poor"}


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (recognition_run, retrieval_run):
        monkeypatch.setattr(module, "load_encoder", lambda *_, **__: PoorEncoder())
        monkeypatch.setattr(module, "load_extractor", lambda *_: TinyExtractor())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six gallery photos of each of four places, and two queries."""
    root = tmp_path_factory.mktemp("places")
    for scene, place in enumerate(PLACES):
        for number in range(6):
            save_view(root / "gallery" / place / f"{place}-{number}.png", scene, number)
        for number in range(20, 22):
            save_view(root / "query" / place / f"{place}-q{number}.png", scene, number)
    return root


def printed(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.command, [*map(str, arguments)])
    assert done.exception is None, done.output
    lines = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
    assert max(map(len, lines)) <= 80  # a path may be longer
    return done.stdout


def values(figures: Any) -> dict[str, float]:
    return {metric.key: getattr(figures, metric.key) for metric in METRICS}


@pytest.mark.slow
def test_an_encoder_that_is_named_is_not_helped_by_keypoints(photos: Path) -> None:
    named = evaluate(photos, encoder="poor")
    assert named.settings["rerank"] == "none" and named.descriptor_alone is None
    assert named.answered_by == named.as_json()["answered_by"] == "descriptor alone"
    searched = evaluate(photos)
    assert searched.settings["rerank"] == "geometry"
    assert searched.answered_by == "descriptor, keypoints, graph"
    assert searched.summary.map > named.summary.map + 0.2, "keypoints decide here"
    assert searched.descriptor_alone is not None
    assert values(searched.descriptor_alone) == values(named.summary)
    asked = evaluate(photos, encoder="poor", rerank="auto")
    assert values(asked.summary) == values(searched.summary)
    for alone, bare in zip(searched.descriptor_alone_results, named.results, strict=True):
        assert (alone.path, alone.values) == (bare.path, bare.values)


@pytest.mark.parametrize("rerank", ["global", "expansion", "superglobal"])
def test_every_way_of_reranking_has_the_bare_figures(photos: Path, rerank: str) -> None:
    bare = evaluate(photos, rerank="none")
    found = evaluate(photos, rerank=rerank)
    assert found.descriptor_alone is not None
    assert values(found.descriptor_alone) == values(bare.summary)
    assert found.answered_by.startswith("descriptor, ")


def test_photos_are_decoded_alike_with_and_without_keypoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG can be decoded smaller, which changes a descriptor a little."""
    shapes = []

    class Recording(DescribedEncoder):
        def prepare(self, pixels: Any) -> Any:
            shapes.append(pixels.shape)
            return super().prepare(pixels)

    monkeypatch.setattr(retrieval_run, "load_encoder", lambda *_, **__: Recording())
    for number in range(4):
        folder = tmp_path / "photos" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2400, 1800), (60 * number, 99, 9)).save(folder / f"{number}.jpg")
    found = []
    for settings in ({"encoder": "x"}, {"rerank": "geometry"}, {"rerank": "global"}):
        shapes.clear()
        evaluate(tmp_path / "photos", **settings)
        found.append(sorted(set(shapes)))
    assert found == [[(675, 900, 3)], [(675, 900, 3)], []], "the last one has the same index"


def test_the_title_of_a_picture_has_both(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    monkeypatch.setattr(
        report_retrieval, "write_sheet", lambda *_, title: titles.append(title.split(": ")[1])
    )
    for rerank in ("none", "global"):
        evaluate(photos, rerank=rerank).write_png(tmp_path / "sheet.png")
    assert titles[0].startswith("Top-1 ") and titles[0].endswith(" by descriptor alone")
    reranked, alone = titles[1].split("; ")
    assert reranked.endswith(" by descriptor, graph")
    top1 = titles[0].split(",")[0].removeprefix("Top-1 ")
    assert alone.startswith(f"descriptor alone {top1}, ")


def test_a_keypoint_method_has_none(photos: Path) -> None:
    found = evaluate(photos, method="orb")
    assert found.answered_by == "keypoints alone" and found.descriptor_alone is None


def test_settings_of_a_verification_that_does_not_happen_are_refused(photos: Path) -> None:
    for settings in ({"keypoints": "sift"}, {"verify": 20}):
        for bare in ({"encoder": "poor"}, {"rerank": "none"}, {"distance": "euclidean"}):
            with pytest.raises(QueryError, match="add --rerank geometry"):
                evaluate(photos, **bare, **settings)  # type: ignore[arg-type]
    assert evaluate(photos, encoder="poor", rerank="geometry", verify=20).settings["verify"] == 20


@pytest.mark.slow
def test_text_and_report_have_both(photos: Path, tmp_path: Path) -> None:
    text = printed(photos, "--report", tmp_path / "both")
    assert "ranked by: descriptor, keypoints, graph\n" in text
    bare = printed(photos, "--encoder", "poor", "--report", tmp_path / "bare")
    assert "ranked by: descriptor alone\n" in bare
    both = json.loads((tmp_path / "both" / "report.json").read_text())
    alone = json.loads((tmp_path / "bare" / "report.json").read_text())
    assert alone["descriptor_alone"] is None
    for key in ("top1", "top10", "map"):
        assert both["descriptor_alone"][key] == alone[key]
        assert both["descriptor_alone"][f"{key}_interval"] == alone[f"{key}_interval"]
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {key} ")]
        assert line.split()[1] == f"{both[key]:.3f}" and f"  {alone[key]:.3f}   95 %" in line
    for query, same in zip(both["queries"], alone["queries"], strict=True):
        assert query["descriptor_alone"].items() <= same.items()
        assert "descriptor_alone" not in same
    page = (tmp_path / "both" / "report.html").read_text("utf-8")
    assert f"descriptor alone: {alone['map']:.3f}" in page
    assert "descriptor alone:" not in (tmp_path / "bare" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_recognition(photos: Path, tmp_path: Path) -> None:
    named = evaluate_recognition(photos, encoder="poor")
    assert named.settings["method"] == "linear" and named.descriptor_alone is None
    assert named.answered_by == "descriptor alone"
    usual = evaluate_recognition(photos)
    assert usual.settings["method"] == "evidence"
    assert usual.answered_by == "descriptor, keypoints, graph"
    assert usual.summary.guess_right >= named.summary.guess_right
    assert usual.descriptor_alone is not None
    assert usual.descriptor_alone.gap == named.summary.gap
    text = printed(photos, "--task", "recognize", "--report", tmp_path / "report")
    assert "named by: descriptor, keypoints, graph\n" in text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    alone = report["descriptor_alone"]
    assert (alone["method"], alone["gap"]) == ("linear", named.summary.gap)
    right = [query["descriptor_alone"]["right"] for query in report["queries"]]
    assert alone["accuracy"] == pytest.approx(sum(right) / len(right))
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert f"descriptor alone: {alone['accuracy']:.3f}" in page
