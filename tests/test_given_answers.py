"""Descriptors and rankings of other programs, judged on every kind of set without a photo."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta

from veduta.evaluation import evaluate, evaluate_revisited
from veduta.evaluation.metrics import average_precision

PLACES = ("arch", "gate", "tower")


def evaluated(dataset: Path, *arguments: str | Path) -> dict[str, Any]:
    done = run_veduta(dataset.parent, "evaluate", dataset, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A query and three gallery photos of each of three places; the photos are empty files."""
    rows = ["path,label,split"]
    (tmp_path / "set").mkdir()
    for place in PLACES:
        for number, split in enumerate(("query", "gallery", "gallery", "gallery")):
            (tmp_path / "set" / f"{place}{number}.jpg").write_bytes(b"")
            rows.append(f"{place}{number}.jpg,{place},{split}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "set"


def descriptors(labelled: Path, noise: float = 0.8, seed: int = 3) -> Path:
    generator = np.random.default_rng(seed)
    names, rows = [], []
    for at, place in enumerate(PLACES):
        for number in range(4):
            names.append(f"{place}{number}.jpg")
            rows.append(np.eye(6)[at] + noise * generator.normal(size=6))
    file = labelled.parent / "d.npz"
    np.savez(file, names=np.array(names), descriptors=np.array(rows, np.float32))
    return file


def test_descriptors_rank_your_own_set_as_computed_by_hand(labelled: Path) -> None:
    file = descriptors(labelled)
    figures = evaluated(labelled, "--descriptors", file)
    arrays = np.load(file)
    rows = arrays["descriptors"] / np.linalg.norm(arrays["descriptors"], axis=1, keepdims=True)
    is_gallery = np.array([not name.endswith("0.jpg") for name in arrays["names"]])
    values = []
    for at, name in enumerate(arrays["names"]):
        if name.endswith("0.jpg"):
            order = np.argsort(-(rows[is_gallery] @ rows[at]), kind="stable")
            same = [other[:-5] == name[:-5] for other in arrays["names"][is_gallery]]
            values.append(average_precision(np.array(same)[order]))
    assert figures["map"] == pytest.approx(np.mean(values), abs=1e-12)
    assert 0.3 < figures["map"] < 1.0  # so that a wrong order would be seen
    assert figures["answered_by"] == "given descriptors"
    assert figures["settings"]["file"] == "d.npz"


def test_another_distance_ranks_otherwise(labelled: Path) -> None:
    file = descriptors(labelled, noise=1.5)
    cosine = evaluated(labelled, "--descriptors", file)
    manhattan = evaluated(labelled, "--descriptors", file, "--distance", "manhattan")
    assert cosine["map"] != manhattan["map"]
    assert manhattan["settings"]["distance"] == "manhattan"


def test_a_photo_that_a_ranking_lacks_is_never_found(labelled: Path) -> None:
    file = labelled.parent / "run.json"
    file.write_text(json.dumps({"arch0.jpg": ["arch1.jpg", "gate1.jpg", "arch2.jpg"]}))
    figures = evaluated(labelled, "--ranking", file)
    # arch: precision 1 and 2/3 of three right photos; gate and tower: no ranking at all.
    assert figures["map"] == pytest.approx((1 + 2 / 3) / 3 / 3)
    assert figures["top1"] == pytest.approx(1 / 3)
    assert any("2 of 3 queries" in problem for problem in figures["problems"])


def test_what_veduta_prints_is_judged_as_veduta_judges_it(labelled: Path, tmp_path: Path) -> None:
    file = descriptors(labelled)
    direct = evaluated(labelled, "--descriptors", file)
    printed = run_veduta(
        labelled.parent, "evaluate", labelled, "--descriptors", file, "--dict", "-k", "100"
    )
    again = tmp_path / "again.json"
    again.write_text(printed.stdout)
    judged = evaluated(labelled, "--ranking", again)
    for key in ("map", "top1", "top10", "p10", "recall10", "map100"):
        assert judged[key] == pytest.approx(direct[key], abs=1e-12)


def test_each_photo_against_all_others_leaves_itself_out(tmp_path: Path) -> None:
    names, rows = [], []
    for at, place in enumerate(PLACES):
        (tmp_path / "set" / place).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "set" / place / f"{number}.jpg").write_bytes(b"")
            names.append(f"{place}/{number}.jpg")
            rows.append(np.eye(3)[at] + 0.1 * number)
    np.savez(tmp_path / "d.npz", names=np.array(names), descriptors=np.array(rows))
    result = evaluate(tmp_path / "set", descriptors=[tmp_path / "d.npz"])
    assert result.summary.map == 1.0
    assert all(
        result.gallery_paths[near.row] != query.path
        for query in result.results
        for near in query.nearest
    )


@pytest.fixture
def revisited(tmp_path: Path) -> Path:
    """Two queries and four gallery photos with two distractors; no photo exists."""
    truth = [
        {"bbx": [0, 0, 9, 9], "easy": [0], "hard": [1], "junk": [2]},
        {"bbx": [0, 0, 9, 9], "easy": [3], "hard": [], "junk": []},
    ]
    names = ["a_0", "a_1", "b_0", "c_0"]
    content = {"gnd": truth, "imlist": names, "qimlist": ["q_0", "q_1"]}
    file = tmp_path / "gnd_set.pkl"
    file.write_bytes(pickle.dumps(content))
    (tmp_path / "revisitop1m").mkdir()
    (tmp_path / "revisitop1m" / "revisitop1m.txt").write_text("x/one.jpg\ntwo.jpg\n")
    return file


def test_revisited_sets_with_distractors(revisited: Path, tmp_path: Path) -> None:
    ranking = tmp_path / "run.txt"
    ranking.write_text(
        "q_0 Q0 two.jpg 1 0.9 x\nq_0 Q0 b_0 2 0.8 x\nq_0 Q0 a_0 3 0.7 x\nq_0 Q0 a_1 4 0.6 x\n"
        "q_1 Q0 c_0 1 0.5 x\n"
    )
    result = evaluate_revisited(revisited, ranking=ranking)
    assert (result.gallery, result.distractors) == (4, 2)
    # q_0: a distractor is first, b_0 is junk. Easy: a_0 on rank 1 of [two, a_0].
    assert result.setups["easy"].ap[0] == pytest.approx((0 / 1 + 1 / 2) / 2)
    # Medium: a_0 and a_1 on ranks 1 and 2 of [two, a_0, a_1].
    assert result.setups["medium"].ap[0] == pytest.approx((0 + 1 / 2 + 1 / 2 + 2 / 3) / 4)
    assert result.setups["easy"].ap[1] == 1.0
    assert result.as_json()["distractors"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--encoder", "fast"], "--encoder does not go with: answers from a file"),
        (["--rerank", "geometry"], "--rerank does not go with: answers from a file"),
        (["--method", "sift"], "does not go with"),
        (["--task", "recognize"], "does not go with"),
    ],
)
def test_options_of_a_search_do_not_go_with_it(
    labelled: Path, arguments: list[str], words: str
) -> None:
    done = run_veduta(
        labelled.parent, "evaluate", labelled, "--descriptors", descriptors(labelled), *arguments
    )
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_descriptors_of_another_set_are_refused(labelled: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", names=np.array(["x.jpg"]), descriptors=np.ones((1, 3)))
    done = run_veduta(labelled.parent, "evaluate", labelled, "--descriptors", tmp_path / "o.npz")
    assert done.returncode == 3
    assert "3 of 3" in done.stderr
    assert "arch0.jpg" in done.stderr


def test_reports_of_given_answers_are_compared_with_significance(
    labelled: Path, tmp_path: Path
) -> None:
    for name, noise in (("good", 0.1), ("bad", 3.0)):
        file = descriptors(labelled, noise)
        run_veduta(
            labelled.parent,
            "evaluate",
            labelled,
            "--descriptors",
            file,
            "--report",
            tmp_path / name,
        )
    done = run_veduta(labelled.parent, "compare", tmp_path / "good", tmp_path / "bad", "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    first = {f["metric"]: f for f in table["comparisons"][0]["figures"] if f["system"] == "bad"}
    assert first["map"]["difference"] < 0
    assert 0 <= first["map"]["p_value"] <= 1
