"""Charts: the same bytes every time, safe inside a page, and true to their data."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from veduta.pages.chart_names import fitted_names
from veduta.pages.chart_style import COLOURS
from veduta.pages.charts import Chart, bars, histogram, lines, matrix, points

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<b>&\"'$x_1^2$ \x1b[31m\udcff\u202e東京"


def every_chart() -> dict[str, Chart]:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 50)
    confusion = rng.integers(0, 5, (5, 5))
    return {
        "bars": bars("Bars", ["a", EVIL, "x" * 90], [50_010, 3, 0.25], x_label=EVIL),
        "upright": bars("Upright", ["a", "b"], [1, 2], horizontal=False),
        "many": bars("Many", [str(n) for n in range(60)], rng.random(60), horizontal=False),
        "lines": lines(
            EVIL,
            {EVIL: (x, x**2), "b": (x, x)},
            x_label="recall",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1),
            diagonal=True,
            marks=[(0.9, 0.81, "here")],
        ),
        "gap": lines("Gap", {"a": ([1, 2, 3], [1, np.nan, 3])}, x_label="", y_label="", fill=True),
        "log": lines(
            "Log",
            {"a": ([1, 1e5], [1e6, 1])},
            x_label="",
            y_label="",
            log_x=True,
            log_y=True,
            steps=True,
        ),
        "histogram": histogram(
            "Histogram", [3, 0, 1000], [1, 2, 4, 8], x_label="", y_label="", log_x=True, log_y=True
        ),
        "points": points("Points", [1, 2], [2, 1], [1, 9], x_label="", y_label="", diagonal=True),
        "matrix": matrix("Matrix", confusion, ["a", EVIL, "c", "d", "e"]),
        "large": matrix("Large", np.eye(120), [f"class {n}" for n in range(120)]),
    }


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", every_chart())
def test_svg_is_one_element_that_fits_into_a_page(name: str) -> None:
    chart = every_chart()[name]
    svg = chart.svg()
    assert svg.startswith("<svg ") and svg.endswith("</svg>")
    root = ElementTree.fromstring(svg)  # well-formed, so nothing broke out of its text
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title")
    tags = {element.tag for element in root.iter()}
    assert not tags & {f"{SVG}style", f"{SVG}script", f"{SVG}metadata", f"{SVG}b"}
    assert "http" not in re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg), "nothing to fetch"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(len(str(i)) > 8 for i in ids), "no id that another chart has"
    assert texts(svg), "text stays text"
    assert "currentColor" in svg
    assert "#1c1b19" not in svg and "#000000" not in svg, "ink comes from the page"


@pytest.mark.slow
@pytest.mark.parametrize("name", every_chart())
def test_same_bytes_every_time(name: str) -> None:
    one, other = every_chart()[name], every_chart()[name]
    assert one.svg() == other.svg() == one.svg()
    assert one.png(width=300) == other.png(width=300)


def test_png_has_the_width_asked_for_on_white() -> None:
    for width in (100, 333, 1200):
        with Image.open(io.BytesIO(every_chart()["lines"].png(width=width))) as picture:
            assert abs(picture.width - width) <= 1
            corner = picture.convert("RGBA").getpixel((picture.width - 1, picture.height - 1))
            assert corner == (255, 255, 255, 255)
    for width in (99, 10_001):
        with pytest.raises(ValueError, match="pixels wide"):
            every_chart()["lines"].png(width=width)


def test_names_are_shown_as_they_are() -> None:
    shown = texts(every_chart()["bars"].svg())
    assert sum("$x_1^2$" in text or "<b>&" in text for text in shown) == 2
    assert not any("\x1b" in text or "\u202e" in text for text in shown)
    assert any(re.fullmatch("x+…x+", text) for text in shown), "the middle of a long name"
    assert {"50,010", "3", "0.25"} <= set(shown)


def test_bars_are_as_long_as_their_values() -> None:
    """Read the lengths from the paths of the drawing."""
    svg = bars("Bars", ["a", "b", "c"], [10, 5, 0]).svg()
    blue = re.findall(r'<path d="([^"]*)"[^>]*style="fill: #1a76b5"', svg)
    lengths = []
    for path in blue:
        across = [float(x) for x in re.findall(r"[ML] (-?[\d.]+) ", path)]
        lengths.append(max(across) - min(across))
    assert len(lengths) == 3
    assert lengths[1] == pytest.approx(lengths[0] / 2, abs=0.05)
    assert lengths[2] == pytest.approx(0, abs=0.05)


@pytest.mark.slow
def test_matrix_shades_shares_of_the_row() -> None:
    """Right cells are blue, wrong ones orange, empty ones clear; a row's share is the opacity."""
    chart = matrix("M", [[3, 1, 0], [0, 10, 0], [0, 0, 0]], ["a", "b", "c"])
    with Image.open(io.BytesIO(chart.png(width=1200))) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    colours = {tuple(c) for c in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}

    def on_white(colour: tuple[int, int, int], opacity: float) -> tuple[float, ...]:
        return tuple(255 + opacity * (part - 255) for part in colour)

    least = 0.18 + 0.35 * 3 / 100
    for colour, share in (
        ((0x1A, 0x76, 0xB5), 1.0),
        ((0x1A, 0x76, 0xB5), 0.75),
        ((0xC8, 0x56, 0x0A), 0.25),
    ):
        wanted = on_white(colour, least + (1 - least) * share)
        assert min(max(abs(a - b) for a, b in zip(c, wanted, strict=True)) for c in colours) <= 2
    assert sorted(t for t in texts(chart.svg()) if t.isdigit()) == ["1", "10", "3"], "no zeros"


@pytest.mark.parametrize("classes", [1, 2, 30, 60, 200])
def test_matrix_of_any_size(classes: int) -> None:
    names = [f"landmark {number}" for number in range(classes)]
    svg = matrix("M", np.eye(classes), names).svg()
    assert len(svg) < 150_000
    shown = [text for text in texts(svg) if text.startswith("landmark")]
    assert len(shown) == len(set(shown)) * 2, "the same names on both sides"
    assert len(shown) >= 2 * min(classes, 50)
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert min(sizes) >= 6


SIGHTS = ("Eiffelturm", "Αθήνα", "Храм Василия Блаженного", "برج خليفة", "長城", "故宮", "x\n")


@pytest.mark.parametrize("classes", [2, 30, 120])
def test_no_two_names_of_a_matrix_read_alike(classes: int) -> None:
    """Long names differ at the end, at the start or in the middle; others fit and stay whole."""
    long = "the church of saint mary on the hill above the old town and its two bridges"
    differing = [long + "!", long + "?", "A " + long, "B " + long, f"{long[:30]}*{long[30:]}", long]
    names = [*SIGHTS, *differing, *(f"landmark {n}" for n in range(classes))]
    names = differing[:2] if classes == 2 else names[:classes]
    svg = matrix("M", np.eye(classes), names, x_label="", y_label="", all_names=True).svg()
    shown = [text for text in texts(svg) if text not in {"M", "1"}]
    assert len(shown) == 2 * classes and len(set(shown)) == classes
    assert sum("…" in text for text in shown) == 2 * min(classes, len(differing))
    if classes > 2:
        assert {"Eiffelturm", "Αθήνα", "Храм Василия Блаженного", r"x\n"} <= set(shown)
        assert {"長城", "故宮"} <= {text.split(": ")[-1] for text in shown}


def test_names_are_measured_not_counted() -> None:
    thin, broad = "i" * 40, "W" * 40
    fitted = fitted_names([thin, broad, "a", "a"], 120, 8)
    assert fitted.texts[0] == thin, "forty thin letters fit"
    assert fitted.texts[1] != broad and fitted.texts[2:] == ["a", "a"]
    assert 80 < fitted.width <= 120


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bars("t", ["a"], [1, 2]), "1 names and 2 values"),
        (lambda: bars("t", [], []), "1 to 200"),
        (lambda: bars("t", ["a"], [-1]), "not negative"),
        (lambda: bars("t", ["a"], [np.nan]), "finite"),
        (lambda: lines("t", {}, x_label="", y_label=""), "one series"),
        (lambda: lines("t", {"a": ([1], [1, 2])}, x_label="", y_label=""), "1 values of x"),
        (lambda: lines("t", {"a": ([[1]], [[1]])}, x_label="", y_label=""), "one dimension"),
        (lambda: histogram("t", [1], [1], x_label="", y_label=""), "one edge more"),
        (lambda: histogram("t", [1, 1], [1, 3, 2], x_label="", y_label=""), "greater"),
        (lambda: histogram("t", [1], [0, 1], x_label="", y_label="", log_x=True), "than 0"),
        (lambda: points("t", [1], [1, 2], x_label="", y_label=""), "as many each"),
        (lambda: points("t", [], [], x_label="", y_label=""), "as many each"),
        (lambda: matrix("t", [[1, 2]], ["a"]), "wanted"),
        (lambda: matrix("t", np.zeros((0, 0)), []), "wanted"),
        (lambda: matrix("t", [[-1.0]], ["a"]), "negative"),
    ],
)
def test_refuses(make: Callable[[], Chart], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_values_that_are_all_nought() -> None:
    for chart in (
        bars("t", ["a"], [0]),
        histogram("t", [0, 0], [0, 1, 2], x_label="", y_label=""),
        points("t", [0], [0], x_label="", y_label=""),
        lines("t", {"a": ([], [])}, x_label="", y_label=""),
        matrix("t", [[0.0]], ["a"]),
    ):
        ElementTree.fromstring(chart.svg())


@pytest.mark.slow
def test_threads_do_not_disturb_each_other() -> None:
    drawn = list(every_chart().values())
    alone = [chart.svg() for chart in drawn]
    together = [""] * len(drawn)

    def draw(number: int) -> None:
        together[number] = drawn[number].svg()

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(len(drawn))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_leaves_the_users_matplotlib_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 33, "text.usetex": True, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        styled = every_chart()["lines"].svg()
        assert dict(matplotlib.rcParams) == before
    assert styled == every_chart()["lines"].svg()


def test_needs_no_home_and_no_pyplot(tmp_path: Path) -> None:
    """In a process of its own, whose home cannot be made, warnings being errors."""
    (tmp_path / "file").touch()
    code = (
        "import sys; from veduta.pages.charts import bars;"
        "sys.stdout.write(bars('t', ['a'], [1]).svg());"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {
        "HOME": str(tmp_path / "file" / "home"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == bars("t", ["a"], [1]).svg()
    assert done.stderr == b""


def test_colours_read_on_white_and_on_black() -> None:
    """WCAG 2's contrast of graphics, 3:1, against the papers of the pages."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for colour in COLOURS:
        for paper in ("#ffffff", "#f7f6f3", "#151514", "#1f1e1d"):
            dark, light = sorted((luminance(colour), luminance(paper)))
            assert (light + 0.05) / (dark + 0.05) >= 3, (colour, paper)
