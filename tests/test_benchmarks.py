"""Run the benchmarks at a tiny size, from the command line to the section of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
TINY = {
    "memory": ("--photos", "12", "24", "--real-photos", "2"),
    "exact_search": ("--rows", "500", "--lance-rows", "2000", "--dimension", "64", "--rounds", "2"),
    "startup": ("--photos", "12", "--rounds", "1"),
    "indexing": ("--encoders", "fast", "--rounds", "1", "--large", "1", "--small", "3"),
    "query": ("--photos", "30", "--rounds", "1"),
    "explore": ("--rows", "2000", "4000", "--rounds", "1"),
    "collect": ("--files", "60", "--rounds", "1", "--connections", "8", "--rows", "200", "400"),
    "metrics": ("--queries", "20", "--gallery", "500", "--classes", "20", "--rounds", "2"),
    "protocol_memory": ("--small",),
    "serving": ("--photos", "40", "--searched-photos", "60", "--rounds", "1", "--searches", "3"),
}
NEEDED = {
    "memory": (),
    "exact_search": ("faiss", "usearch"),
    "startup": ("faiss", "torch", "efficientnet_lite_pytorch", "onnx"),
    "indexing": ("faiss", "torch", "efficientnet_lite_pytorch", "onnx"),
    "query": (),
    "explore": (),
    "collect": ("aiohttp",),
    "metrics": ("sklearn",),
    "protocol_memory": (),
    "serving": ("fastapi", "uvicorn"),
}

PDQ_OF_PATTERN = "1c2013fa0baf11681145b32e1fe51f38137a3d22b9c5462eb167b636e29f66b7"


def run(script: str, page: Path, work: Path) -> str:
    """Run a benchmark and return its section of the page."""
    missing = [name for name in NEEDED[script] if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: make bench")
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is measured on Linux only")
    page.write_text(PAGE.read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", f"benchmarks.{script}", *TINY[script]]
    command += ["--docs", str(page), "--work", str(work)]
    # PyTorch's threads would be very slow if another program used one of the cores.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    match = re.search(
        f"<!-- {script}:begin -->(.*)<!-- {script}:end -->", page.read_text("utf-8"), re.DOTALL
    )
    assert match
    section = match[1]
    assert str(work) not in page.read_text("utf-8")
    assert f"python -m benchmarks.{script} {' '.join(TINY[script])}" in section
    return section


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_benchmark_writes_its_section_and_cleans_up(script: str, tmp_path: Path) -> None:
    section = run(script, tmp_path / "page.md", tmp_path / "work")
    assert "Not measured yet" not in section
    assert section.count("\n|") >= 3
    if script == "exact_search":
        assert "| 500 | 1.0000 |" in section  # recall
    if script == "indexing":
        assert "nan" not in section
    if script == "protocol_memory":
        assert "| descriptors of 64 float16 | 20 | 3,000 | 0.24 |" in section
        assert "| nDCG@10 1.000 |" in section
    # Only the photos are kept.
    kept = {path.name for path in (tmp_path / "work").glob("*")}
    assert all(re.fullmatch(r"\d+-(pixel|megapixel)-\d+(-\w+)?", name) for name in kept)


@pytest.mark.slow
def test_every_benchmark_can_be_imported() -> None:
    """A name that was renamed in the package is renamed here, too."""
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "__main__"}
    needed = {"ablation": "onnx", "augmentation": "torchvision", "embedding": "torch"}
    needed |= {"networks": "torch", "training": "torch"}
    importable = [name for name in sorted(modules) if find_spec(needed.get(name, "numpy"))]
    command = "; ".join(f"import benchmarks.{name}" for name in importable)
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_text_outside_the_section_is_kept() -> None:
    from benchmarks.report import replace_section

    page = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin -->\n<!-- y:end -->\n"
    changed = replace_section(page, "x", r"new \1")
    assert changed == (
        "a\n<!-- x:begin -->\n\nnew \\1\n\n<!-- x:end -->\nb\n<!-- y:begin -->\n<!-- y:end -->\n"
    )
    assert replace_section(changed, "x", r"new \1") == changed
    with pytest.raises(ValueError, match="0 sections 'z'"):
        replace_section(page, "z", "")


def test_a_ratio_is_computed_for_each_round() -> None:
    from benchmarks.report import check_target, ratios

    ratio = ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0])
    assert (ratio.median, ratio.low, ratio.high) == (3.0, 2.0, 4.0)
    assert "missed" in check_target(2.99, 3, at_least=True)
    assert "reached" in check_target(1.3, 1.3, at_least=False)


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_scores_of_groups_by_hand() -> None:
    """Groups {0, 1, 2} and {3}; 0 and 1 show one thing, 2 and 3 another."""
    import numpy as np
    from benchmarks.groups import Score, recall_of, shares_a_place

    same = shares_a_place([{"gate"}, {"gate", "wall"}, {"tower"}, {"tower"}])
    assert same.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    clusters = np.array([0, 0, 0, 3])
    score = Score.of(clusters, same)
    assert (score.pairs, score.right, score.precision) == (3, 1, 1 / 3)
    precision, recall = (2 / 3 + 2 / 3 + 1 / 3 + 1) / 4, (1 + 1 + 1 / 2 + 1 / 2) / 4
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    assert score.bcubed == pytest.approx(expected)
    assert recall_of(clusters, np.array([[0, 1], [2, 3]])) == 0.5
    assert shares_a_place([set(), set()]).tolist() == [[True, False], [False, True]]


def test_strongest_links_first_by_hand() -> None:
    """Two pairs, one link between them, and a second one."""
    import numpy as np
    from benchmarks.groups import strongest_first

    from veduta.explore.verified_links import VerifiedLinks

    def parts(pairs: list[tuple[int, int]], inliers: list[int]) -> list[list[int]]:
        links = VerifiedLinks(np.arange(4, dtype=np.int32), np.array(pairs), np.array(inliers))
        return strongest_first(links)

    assert parts([(0, 1), (1, 2), (2, 3)], [9, 5, 9]) == [[0, 1], [2, 3]]
    assert parts([(0, 1), (0, 2), (1, 2), (2, 3)], [9, 4, 5, 9]) == [[0, 1, 2, 3]]


@pytest.fixture(scope="module")
def photos_to_copy(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from benchmarks.photo_sets import synthetic_photo

    files = [tmp_path_factory.mktemp("to-copy") / f"{number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        synthetic_photo(number).resize((160, 120)).save(file)
    return files


def test_the_set_of_copies_is_read_as_copydays(photos_to_copy: list[Path], tmp_path: Path) -> None:
    from benchmarks.copy_set import kind_of, write_set

    from veduta.datasets.protocols import find_protocol, open_protocol

    write_set(photos_to_copy[:2], photos_to_copy[2:], tmp_path / "set")
    assert find_protocol(tmp_path / "set").name == "copydays"
    judged = open_protocol(tmp_path / "set", variant="all")
    assert judged.gallery == (
        "original/200000.jpg",
        "original/200100.jpg",
        "distractors/000000.jpg",
    )
    assert len(judged.queries) == 2 * (9 + 9 + 14)
    for number, query in enumerate(judged.queries):
        own = int(query.rpartition("/")[2][2:4])
        assert judged.positives.of_query(number).tolist() == [own], query
    contents = {(tmp_path / "set" / path).read_bytes() for path in judged.query_paths}
    assert len(contents) == len(judged.queries)  # Veduta compares files with the same bytes once.
    kinds = [kind_of(query) for query in judged.queries]
    assert kinds.count("mirrored and turned") == 2 * 3
    assert kinds.count("60–80 % cut away") == 2 * 3


def test_a_copy_detector_that_finds_all_or_nothing(
    photos_to_copy: list[Path], tmp_path: Path
) -> None:
    import numpy as np
    from benchmarks.copy_detection import ALL, figures_by_kind
    from benchmarks.copy_set import kind_of, write_set

    from veduta.datasets.protocols import open_protocol

    write_set(photos_to_copy[:2], photos_to_copy[2:], tmp_path / "set")
    judged = open_protocol(tmp_path / "set", variant="all")
    scores = np.full((len(judged.queries), 3), np.nan)
    for number, query in enumerate(judged.queries):
        if kind_of(query) != "blur":
            scores[number, judged.positives.of_query(number)] = 1 + number
    figures = figures_by_kind(judged, scores, tmp_path / "answers.csv")
    assert figures["blur"]["micro_ap"].value == 0
    assert figures["logo"]["recall_at_precision90"].value == 1
    assert figures[ALL]["micro_ap"].value == pytest.approx(62 / 64)


def test_pdq_as_its_publisher_computes_it() -> None:
    """The hash is that of pdqhash 0.2.8 for the same pixels."""
    import numpy as np
    from benchmarks.pdq import pdq
    from PIL import Image

    rows, columns = np.mgrid[:90, :130]
    pixels = np.stack(
        [(rows * columns) % 251, (rows**2 + 3 * columns) % 241, (7 * rows + columns**2) % 239], -1
    )
    hashes = pdq(Image.fromarray(pixels.astype(np.uint8)))
    assert np.packbits(hashes[0]).tobytes().hex() == PDQ_OF_PATTERN


def test_pdq_in_eight_orientations() -> None:
    import numpy as np
    from benchmarks.pdq import pdq
    from benchmarks.photo_sets import synthetic_photo
    from PIL import ImageOps

    photo = synthetic_photo(0).resize((512, 384))
    hashes = pdq(photo)
    assert hashes.shape == (8, 256)
    for way in (photo, ImageOps.mirror(photo)):
        for quarters in range(4):
            turned = pdq(way.rotate(90 * quarters, expand=True))[0]
            bits = np.sort((turned != hashes).sum(axis=1))
            assert bits[0] <= 31  # The limit that the publisher recommends for a match.
            assert bits[1] > 60


def commands() -> list[str]:
    """Return the benchmarks with options of their own. The other modules are parts of them."""
    files = sorted((ROOT / "benchmarks").glob("*.py"))
    return [file.stem for file in files if f'parser("{file.stem}"' in file.read_text("utf-8")]


@pytest.mark.parametrize("script", commands())
def test_its_options_are_told(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{script}").main(["--help"])
    assert ended.value.code == 0
    assert f"python -m benchmarks.{script}" in capsys.readouterr().out
