"""The page and the picture: what they show, and that no name breaks them."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save

from veduta.evaluation import Evaluation
from veduta.evaluation.metrics import judge
from veduta.evaluation.report_retrieval import evenly_sampled, query_row
from veduta.evaluation.summary import summarise
from veduta.pages import contact_sheet
from veduta.pages.contact_sheet import draw_sheet, write_sheet
from veduta.pages.hit import HitTile
from veduta.pages.results_page import Figure, ResultRow, ResultsPage, Table, write_results_page
from veduta.text import printable

AWKWARD = [
    "<script>alert(1)</script>.jpg",
    "\"quoted\" & 'single'.jpg",
    "🗿 日本語 مرحبا.jpg",
    "caf\udce9.jpg",
    "lone \ud800.jpg",
    "two\nlines\x00\x1b[31m.jpg",
    "\u202egpj.exe",
    "x" * 300,
    "",
]


def jpeg(width: int = 40, height: int = 30, colour: str = "teal") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(data, "JPEG")
    return data.getvalue()


def tile(name: str = "a.jpg", score: float = 0.5, correct: bool | None = None) -> HitTile:
    return HitTile(name, "dome", score, correct, jpeg())


class Page(HTMLParser):
    """Text, tags and attributes of a page, and the elements left open."""

    VOID = frozenset({"meta", "img", "wbr", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(tmp_path: Path, *rows: ResultRow, page: ResultsPage | None = None) -> Page:
    file = tmp_path / "page.html"
    write_results_page(file, replace(page or ResultsPage("Results", ()), rows=rows))
    return Page(file.read_text("utf-8"))


class TestPage:
    @pytest.mark.parametrize("name", AWKWARD)
    def test_no_name_breaks_it(self, tmp_path: Path, name: str) -> None:
        row = ResultRow(name, name, jpeg(), [HitTile(name, name, 0.5, True, jpeg())], name)
        page = ResultsPage(name, (), name, [Figure(name, 0.5, None, name)], [], [name])
        shown = page_of(tmp_path, row, page=page)
        assert shown.every("script") == []
        assert not any(key.startswith("on") for _, attributes in shown.tags for key in attributes)
        assert shown.text.count(printable(name)) >= 6
        assert shown.every("img")[1]["alt"] == printable(name)

    def test_it_needs_nothing_from_elsewhere(self, tmp_path: Path) -> None:
        shown = page_of(tmp_path, ResultRow("q.jpg", "dome", jpeg(), [tile()]))
        for attributes in shown.every("img"):
            kind, data = (attributes["src"] or "").split(",", 1)
            assert kind == "data:image/jpeg;base64"
            assert Image.open(io.BytesIO(base64.b64decode(data))).size == (40, 30)
            assert attributes["alt"]
        assert {name for name, _ in shown.tags}.isdisjoint({"link", "script", "iframe", "base"})
        assert "url(" not in (tmp_path / "page.html").read_text("utf-8")
        policy = next(m for m in shown.every("meta") if "http-equiv" in m)
        assert (policy["content"] or "").startswith("default-src 'none'")
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
            shown.every("meta")
        )

    def test_marks_say_right_and_wrong_in_words_and_shapes(self, tmp_path: Path) -> None:
        tiles = [tile("a", 0.9, True), tile("b", 0.8, False), tile("c", 0.7, None)]
        shown = page_of(tmp_path, ResultRow("q", "dome", jpeg(), tiles))
        marks = [a["class"] for a in shown.every("span") if (a.get("class") or "")[:5] == "mark "]
        assert marks == ["mark right", "mark wrong"]
        assert len(shown.every("circle")) == 1
        assert len(shown.every("path")) == 1
        assert (shown.texts.count("right"), shown.texts.count("wrong")) == (1, 1)

    def test_without_judgement_there_is_no_mark(self, tmp_path: Path) -> None:
        shown = page_of(tmp_path, ResultRow("q", None, jpeg(), [tile()]))
        assert shown.every("svg") == []
        assert "0.500" in shown.text

    def test_ranks_names_labels_scores_in_order(self, tmp_path: Path) -> None:
        tiles = [tile(f"photo{number}.jpg", 1 - number / 20) for number in range(10)]
        text = page_of(tmp_path, ResultRow("q.jpg", "tower", jpeg(), tiles, "a note")).text
        places = [text.index(f"photo{number}.jpg") for number in range(10)]
        assert places == sorted(places)
        assert "0.550" in text and "tower" in text and "a note" in text

    def test_a_photo_without_a_picture_and_a_row_without_answers(self, tmp_path: Path) -> None:
        row = ResultRow("q", None, None, [HitTile("a", None, 0.5)])
        shown = page_of(tmp_path, row, ResultRow("r", None, None, []))
        assert shown.every("img") == []
        assert shown.text.count("no preview") == 3
        assert "No photo of the gallery matches this query." in shown.text
        assert "nothing to show" in page_of(tmp_path).text

    def test_links_open_files_and_nothing_else(self, tmp_path: Path) -> None:
        link = Path('/photos/a b\udce9".jpg').as_uri()
        linked = HitTile("a", None, 0.5, None, jpeg(), link)
        (anchor,) = page_of(tmp_path, ResultRow("q", None, jpeg(), [linked])).every("a")
        assert anchor["href"] == link == "file:///photos/a%20b%E9%22.jpg"
        with pytest.raises(ValueError, match="not a file"):
            HitTile("a", None, 0.5, link="javascript:alert(1)")

    def test_figures_and_tables(self, tmp_path: Path) -> None:
        page = ResultsPage(
            "Set",
            rows=(),
            figures=[Figure("Top-1", 0.93333, (0.9, 1.0)), Figure("mAP", 0.5)],
            tables=[Table("Classes", ("class", "queries", "mAP"), [("dome", 5, 1.0)])],
        )
        shown = page_of(tmp_path, page=page)
        for text in ("Top-1", "0.933", "0.900 – 1.000", "0.500", "dome", "1.000"):
            assert text in shown.text
        assert "5" in shown.texts
        assert {"style": "left:90.0%;right:0.0%"} in shown.every("i")

    def test_rows_are_taken_one_at_a_time_and_the_old_page_stays_until_the_end(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "page.html"
        file.write_text("old")

        def rows() -> Iterator[ResultRow]:
            yield ResultRow("q", None, jpeg(), [tile()])
            assert file.read_text() == "old"
            raise RuntimeError("interrupted")

        with pytest.raises(RuntimeError, match="interrupted"):
            write_results_page(file, ResultsPage("Results", rows()))
        assert file.read_text() == "old"
        assert list(tmp_path.iterdir()) == [file]

    def test_others_may_read_it_as_any_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "usual").touch()
        write_results_page(tmp_path / "page.html", ResultsPage("Results", []))
        assert (tmp_path / "page.html").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("scores", "bars"),
    [
        ([0.8, 0.2], [0.8, 0.2]),
        ([1.6, 0.4], [1.0, 0.25]),
        ([0.5, -0.1], [0.5, 0.0]),
        ([-0.2, -0.9], [None, None]),
        ([0.0], [None]),
        ([float("inf")], [None]),
    ],
)
def test_score_bars(scores: list[float], bars: list[float | None]) -> None:
    tiles = [tile(score=score) for score in scores]
    row = ResultRow("q", None, None, tiles)
    assert [row.score_share(t) for t in tiles] == bars


def test_printable() -> None:
    assert printable("caf\udce9\n\u202e\ud800é日🗿") == "caf\\xe9\\x0a\\u202e\\ud800é日🗿"


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_marks_stand_out_in_both_schemes(tmp_path: Path) -> None:
    write_results_page(tmp_path / "page.html", ResultsPage("Results", []))
    html = (tmp_path / "page.html").read_text("utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in html.split("@media")[:2]]
    assert len(schemes) == 2
    for colours in schemes:
        for text in ("ink", "muted", "accent", "right", "wrong"):
            for ground in ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["muted"], colours["well"]) >= 4.5


class TestSheet:
    def test_circle_and_cross_differ_in_shape(self) -> None:
        _, circle = contact_sheet._mark(True)
        _, cross = contact_sheet._mark(False)
        middle = circle.width // 2
        assert circle.getpixel((middle, middle)) == 0
        assert cross.getpixel((middle, middle)) > 200

    def test_marks_stand_under_their_photos(self) -> None:
        tiles = [tile("a", 0.9, True), tile("b", 0.8, False), tile("c", 0.7)]
        sheet = draw_sheet([ResultRow("q", "dome", jpeg(), tiles)])
        pixels = np.asarray(sheet).astype(int)

        def columns(colour: str) -> set[int]:
            wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            x = np.flatnonzero((np.abs(pixels - wanted).sum(axis=2) < 12).any(axis=0))
            left = contact_sheet._MARGIN + contact_sheet._QUERY_WIDTH + 2 * contact_sheet._GAP
            return set(((x - left) // (contact_sheet._TILE_WIDTH + contact_sheet._GAP)).tolist())

        assert columns(contact_sheet._RIGHT) == {0}
        assert columns(contact_sheet._WRONG) == {1}

    @pytest.mark.parametrize("wide_font", [True, False])
    def test_no_name_breaks_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide_font: bool
    ) -> None:
        if not wide_font:
            monkeypatch.setattr(contact_sheet, "_wide_font", lambda size: None)
        tiles = [HitTile(name, name, 0.5, True, jpeg()) for name in AWKWARD]
        rows = [ResultRow(name, name, jpeg(), tiles, name) for name in AWKWARD[:3]]
        write_sheet(tmp_path / "sheet.png", rows, title=AWKWARD[0])
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.format == "PNG"
            assert sheet.width > 1200

    def test_accents_survive_without_another_font(self) -> None:
        assert contact_sheet._without_accents("Château Žižkov") == "Chateau Zizkov"

    def test_long_names_keep_both_ends_and_the_column(self) -> None:
        assert contact_sheet._shorten("abcdefghij", 5) == "abc...ij"
        assert contact_sheet._shorten("abcdefghij", 1) == "a..."

    def test_only_ten_are_drawn_and_photos_missing_leave_a_box(self) -> None:
        ten = draw_sheet([ResultRow("q", None, jpeg(), [tile()] * 10)])
        twelve = draw_sheet([ResultRow("q", None, jpeg(), [tile()] * 12)])
        assert np.array_equal(np.asarray(ten), np.asarray(twelve))
        empty = draw_sheet([ResultRow("q", None, None, [HitTile("a", None, 0.1)])])
        assert empty.width == ten.width

    @pytest.mark.parametrize("size", [(1, 400), (400, 1)])
    def test_slivers(self, size: tuple[int, int]) -> None:
        sliver = jpeg(*size)
        draw_sheet([ResultRow("q", None, sliver, [HitTile("a", None, 0.1, True, sliver)])])

    def test_how_many_rows(self) -> None:
        row = ResultRow("q", None, None, [])
        with pytest.raises(ValueError, match="wanted 1 to 60"):
            draw_sheet([])
        with pytest.raises(ValueError, match="61 rows"):
            draw_sheet([row] * 61)


class TestReport:
    RESULTS = (
        judge("q/a.jpg", "dome", [0.9, 0.5, 0.1], [True, False, False]),
        judge("q/b.jpg", "tower", [0.9, 0.5, 0.1], [False, True, False]),
        judge("q/c.jpg", "arch", [0.9, 0.5, 0.1], [False, False, False]),
    )

    @pytest.fixture
    def evaluation(self, tmp_path: Path) -> Evaluation:
        """Three queries against three gallery photos, of which one cannot be read."""
        root = tmp_path / "places"
        for number, name in enumerate(("q/a.jpg", "q/b.jpg", "q/c.jpg", "g/0.jpg", "g/1.jpg")):
            save(root / name, number)
        return Evaluation(
            summary=summarise(self.RESULTS, gallery=2, distractors=1),
            results=self.RESULTS,
            settings={"encoder": "fast"},
            problems=("one left out",),
            gallery_paths=("g/0.jpg", "g/1.jpg", "g/2.jpg"),
            gallery_labels=("dome", "tower", None),
            root=root,
            seconds=0.1,
        )

    def test_rows(self, evaluation: Evaluation) -> None:
        first, second, third = (query_row(evaluation, result) for result in self.RESULTS)
        assert (first.name, first.label) == ("a.jpg", "dome")
        assert [t.name for t in first.tiles] == ["0.jpg", "1.jpg", "2.jpg"]
        assert [t.label for t in first.tiles] == ["dome", "tower", None]
        assert [t.correct for t in first.tiles] == [True, False, False]
        assert first.photo is not None and first.tiles[0].thumbnail is not None
        assert first.tiles[2].thumbnail is None
        assert (
            second.note == "first right at rank 2 · 1 of the first 3 right · average precision 0.50"
        )
        assert third.note == "no right answer in the gallery"
        assert [t.correct for t in third.tiles] == [None, None, None]

    def test_json_and_lists(self, evaluation: Evaluation) -> None:
        read = json.loads(json.dumps(evaluation.as_json()))
        assert (read["top1"], read["map"], read["queries"], read["gallery"]) == (0.5, 0.75, 2, 2)
        assert read["classes"][0] == {"label": "dome", "queries": 1, "top1": 1.0, "map": 1.0}
        assert read["problems"] == ["one left out"]
        lists = evaluation.ranked_lists()
        assert lists["q/a.jpg"] == ["g/0.jpg", "g/1.jpg", "g/2.jpg"]
        assert list(lists) == ["q/a.jpg", "q/b.jpg", "q/c.jpg"]

    def test_keys_and_their_order(self, evaluation: Evaluation) -> None:
        figures = ["top1", "top3", "top5", "top10", "map", "p10", "recall10", "map100"]
        assert list(evaluation.as_json()) == [
            "task",
            "answered_by",
            *figures,
            *(f"{name}_interval" for name in figures),
            "queries",
            "queries_without_positives",
            "gallery",
            "distractors",
            "resamples",
            "seed",
            "descriptor_alone",
            "classes",
            "problems",
            "notes",
            "settings",
        ]
        assert list(self.RESULTS[0].as_json()) == [
            "path",
            "label",
            "positives",
            "ap",
            "p10",
            "recall10",
            "ap100",
            "right_at_1",
            "right_at_3",
            "right_at_5",
            "right_at_10",
            "first_correct_rank",
        ]
        assert self.RESULTS[2].as_json()["ap"] is None
        assert self.RESULTS[2].as_json()["right_at_1"] is False

    def test_page_and_picture(self, evaluation: Evaluation, tmp_path: Path) -> None:
        evaluation.write_html(tmp_path / "page.html", command="veduta evaluate places")
        shown = Page((tmp_path / "page.html").read_text("utf-8"))
        assert "2 queries against 2 gallery photos and 1 distractor; 1 query without" in shown.text
        assert "encoder fast" in shown.text and "one left out" in shown.text
        assert "veduta evaluate places" in shown.text
        assert shown.text.index("Top-1") < shown.text.index("mAP") < shown.text.index("q.jpg"[1:])
        # tower (AP 0.5) is weaker than dome (AP 1) and comes first.
        assert shown.text.index("tower") < shown.text.index("dome")
        names = [a["alt"] for a in shown.every("img") if (a["alt"] or "").startswith("Query ")]
        assert names == ["Query b.jpg", "Query a.jpg", "Query c.jpg"]
        evaluation.write_png(tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    def test_sample_runs_from_the_worst_to_the_best(self) -> None:
        results = [judge(f"q{n:02}", "x", -np.arange(20.0), np.arange(20) == n) for n in range(20)]
        picked = evenly_sampled(results, 5)
        assert [r.first_correct_rank for r in picked] == [20, 15, 10, 6, 1]
        assert evenly_sampled(results, 1)[0].first_correct_rank == 20
        assert len(evenly_sampled(results, 50)) == 20
        paths = [r.path for r in evenly_sampled(self.RESULTS, 3)]
        assert paths == ["q/b.jpg", "q/a.jpg", "q/c.jpg"]
        assert [r.path for r in evenly_sampled(self.RESULTS, 2)] == ["q/b.jpg", "q/a.jpg"]
