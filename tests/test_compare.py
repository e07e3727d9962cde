"""`veduta compare`: what it prints, what changed, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from veduta.cli.compare import CARD_FILE, REPORT, SORT_KEYS
from veduta.cli.main import run
from veduta.evaluation import compared_systems
from veduta.evaluation.report_changes import Change, changed_queries
from veduta.evaluation.report_folder import JSON_FILE
from veduta.learn.runs import card


def ranked(*aps: float | None) -> dict[str, Any]:
    queries = [
        {
            "path": f"photos/{number}.jpg",
            "label": "arch",
            "ap": ap,
            "p10": ap,
            "recall10": ap,
            "ap100": ap,
            **{f"right_at_{k}": bool(ap and ap * k >= 1) for k in (1, 3, 5, 10)},
        }
        for number, ap in enumerate(aps)
    ]
    return {"task": "retrieve", "gallery": 9, "distractors": 0, "queries": queries}


def named(*answers: tuple[str | None, str | None]) -> dict[str, Any]:
    """Each (label, answer); None as an answer: a guess that was not given."""
    queries = [
        {
            "path": f"{number}.jpg",
            "label": label,
            "guess": given or "arch",
            "confidence": 0.9 - number / 100,
            "named": given is not None,
        }
        for number, (label, given) in enumerate(answers)
    ]
    return {"task": "recognize", "queries": queries}


def saved(folder: Path, **reports: Any) -> list[str]:
    files = []
    for name, report in reports.items():
        (folder / name).mkdir()
        (folder / name / "report.json").write_text(json.dumps(report), "utf-8")
        files.append(str(folder / name))
    return files


LOW, HIGH = [0.1] * 10, [0.6] * 10


def rows_of(out: str) -> dict[str, list[str]]:
    """Return letter → cells of the table at the top."""
    header, *lines = out.split("\n\n", maxsplit=1)[0].splitlines()
    return {"": header.split(), **{line.split()[0]: line.split()[1:] for line in lines}}


class TestTable:
    def test_values_differences_and_stars(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = ranked(*LOW) | {"top1": 0.1, "map": 0.12345, "query_count": 10, "seconds": 61}
        second = ranked(*HIGH) | {"map": 0.6, "top5": 1.0, "answered_by": "descriptor alone"}
        assert run(["compare", *saved(tmp_path, first=first, second=second)]) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert err == ""
        assert rows_of(out) == {
            "": ["top-1", "top-5", "mAP", "time", "queries"],
            "A": ["first", "0.100", "–", "0.123", "1", "min", "1", "s", "10"],
            "B": ["second", "–", "1.000", "0.600", "–", "10"],
        }
        assert "B second: ranked by descriptor alone" in lines
        assert "retrieval: A, B on 10 queries that all have" in lines
        (row,) = [number for number, line in enumerate(lines) if line.startswith("  map ")]
        assert lines[row].split() == ["map", "A", "0.100", "[0.100,", "0.100]"]
        # The same difference at every query: no draw has it any smaller.
        assert lines[row + 1].split() == [
            "B",
            "0.600",
            "[0.600,",
            "0.600]",
            "+0.500",
            "[+0.500,",
            "+0.500]",
            "0.001",
            "*",
        ]
        (same,) = [number for number, line in enumerate(lines) if line.startswith("  top1 ")]
        assert lines[same + 1].split()[-1] == "1.000"
        assert "* p < 0.05" in out and "Holm" not in out
        assert "B against A: 10 queries better, 0 worse" in out

    def test_a_reranked_report_has_a_bare_row(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        both = ranked(*HIGH) | {"map": 0.6, "answered_by": "descriptor, keypoints, graph"}
        both["descriptor_alone"] = {"map": 0.25, "map_interval": [0.2, 0.3]}
        names = named(("arch", "arch"), ("arch", None)) | {"gap": 1.0, "guess_right": 0.5}
        names |= {"accuracy": 0.25, "descriptor_alone": {"method": "linear", "gap": 0.5}}
        assert run(["compare", *saved(tmp_path, rank=both, name=names), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["name"] for row in rows] == ["rank", "rank, bare", "name", "name, bare"]
        assert [row["map"] for row in rows] == [0.6, 0.25, None, None]
        assert [row["gap"] for row in rows] == [None, None, 1.0, 0.5]
        assert (rows[2]["accuracy"], rows[2]["answered_right"]) == (0.5, 0.25)
        assert rows[1]["ranked_by"] == rows[3]["named_by"] == "descriptor alone"
        assert rows[3]["method"] == "linear"
        assert rows[0]["ranked_by"] == "descriptor, keypoints, graph"

    def test_sorted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        reports = {
            name: ranked(*LOW) | values
            for name, values in (
                ("a", {"map": 0.1, "seconds": 9}),
                ("b", {}),
                ("c", {"map": 0.3, "seconds": 5}),
            )
        }
        files = saved(tmp_path, **reports, d=named(("arch", "arch")) | {"gap": 1.0})
        for key, order in (
            ("map", "cabd"),
            ("gap", "dabc"),
            ("name", "abcd"),
            ("seconds", "cabd"),
        ):
            assert run(["compare", *files, "--sort", key, "--json"]) == 0
            rows = json.loads(capsys.readouterr().out)["rows"]
            assert "".join(row["name"] for row in rows) == order
        assert run(["compare", *files, "--sort", "beauty"]) == 2

    def test_csv_and_markdown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = saved(tmp_path, **{"a|b": ranked(*LOW) | {"map": 1 / 3}}, c=named(("x", "x")))
        written = tmp_path / "t.csv", tmp_path / "t.md"
        options = ["--csv", str(written[0]), "--markdown", str(written[1])]
        assert run(["compare", *files, *options]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("    ") and err.count("wrote ") == 2
        with written[0].open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert tuple(rows[0]) == compared_systems.COLUMNS
        assert [float(rows[0]["map"]), rows[1]["map"], rows[1]["queries"]] == [1 / 3, "", "1"]
        assert written[1].read_text("utf-8").splitlines() == [
            "| system | mAP | queries | named by | ranked by |",
            "| --- | ---: | ---: | --- | --- |",
            "| a\\|b | 0.333 | 10 | – | not said |",
            "| c | – | 1 | not said | – |",
        ]
        for option, file in zip(("--csv", "--markdown"), written, strict=True):
            assert run(["compare", *files, option, "-"]) == 0
            assert capsys.readouterr().out == file.read_text("utf-8")
            assert run(["compare", *files, option, "-", "--json"]) == 2
        assert run(["compare", *files, "--csv", "-", "--markdown", "-"]) == 2
        assert run(["compare", *files, "--csv", str(tmp_path / "no" / "t.csv")]) == 3

    def test_more_systems_than_letters(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reports = {f"r{number}": ranked(0.1, 0.2) | {"map": 0.15} for number in range(28)}
        assert run(["compare", *saved(tmp_path, **reports)]) == 0
        out, _ = capsys.readouterr()
        rows = rows_of(out)
        assert [rows[letter][0] for letter in ("A", "Z", "AA", "AB")] == ["r0", "r25", "r26", "r27"]
        assert "retrieval: A and 27 more on 2 queries that all have" in out
        assert "--json lists the queries" in out and "AB against A" not in out
        assert max(map(len, out.splitlines())) <= 80

    def test_one_report_alone(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["compare", *saved(tmp_path, only=ranked(*LOW))]) == 0
        out = capsys.readouterr().out
        assert rows_of(out)["A"] == ["only", "10"] and "bootstrap" not in out

    def test_nothing_is_wider_than_80_columns(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        long = "a/very/long/folder/" * 4
        reports = {}
        for number in range(3):
            report = named(*[("arch", ["arch", "dome", None][(n + number) % 3]) for n in range(40)])
            for row in report["queries"]:
                row["path"] = long + row["path"]
            reports[f"r{number}"] = report
        assert run(["compare", *saved(tmp_path, **reports)]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 80
        assert out.count("named_right_overall") == 1
        assert "corrected for the number of systems (Holm)" in out
        assert "C against A" in out

    def test_an_undefined_figure_is_a_dash(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = saved(tmp_path, a=named(("arch", "arch")), b=named(("arch", "arch")))
        assert run(["compare", *files]) == 0
        out = capsys.readouterr().out
        assert "nan" not in out
        assert re.search(r"unknown_rejected +A +– \[", out)

    def test_files_with_names_of_their_own(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("small", "large"):
            (tmp_path / f"{name}.json").write_text(json.dumps(ranked(*LOW)))
        assert run(["compare", *(str(tmp_path / f"{n}.json") for n in ("small", "large"))]) == 0
        rows = rows_of(capsys.readouterr().out)
        assert [rows[letter][0] for letter in "AB"] == ["small", "large"]

    def test_folders_of_one_name_are_told_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("x", "y"):
            (tmp_path / name).mkdir()
            saved(tmp_path / name, out=ranked(*LOW))
        assert run(["compare", "x/out", "y/out"]) == 0
        rows = rows_of(capsys.readouterr().out)
        assert [rows[letter][0] for letter in "AB"] == ["x/out/report.json", "y/out/report.json"]

    def test_notes_go_to_standard_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = saved(tmp_path, a=ranked(0.1, 0.2, 0.3), b=ranked(0.1, None))
        assert run(["compare", *files]) == 0
        out, err = capsys.readouterr()
        assert "retrieval: A, B on 1 query that all have" in out
        assert "not on the same test photos: a (3 photos); b (1 photo)" in err
        assert "1 query left out that not every report has" in err
        assert "no right answer in the gallery in some report" in err

    def test_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = saved(tmp_path, a=ranked(*LOW), b=ranked(*HIGH))
        assert run(["compare", *files, "--json"]) == 0
        table = json.loads(capsys.readouterr().out)
        (data,) = table["comparisons"]
        (row,) = [
            f for f in data["figures"] if f["metric"] == "map" and f["difference"] is not None
        ]
        assert row["difference"] == pytest.approx(0.5) and row["p_value"] < 0.05
        assert data["systems"] == [row["name"] for row in table["rows"]] == ["a", "b"]
        assert set(table["rows"][0]) == set(compared_systems.COLUMNS)
        (changed,) = data["changed"]
        assert (changed["better"], changed["worse"], len(changed["gained"])) == (10, 0, 5)

    def test_names_cannot_write_to_the_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reports = {"a": ranked(0.1), "b": ranked(0.2)}
        for report in reports.values():
            report["queries"][0]["path"] = "\x1b[31mred\n\udce9.jpg"
            report |= {"settings": {"method": "\x1b[31mno"}, "answered_by": "a\nb"}
        assert run(["compare", *saved(tmp_path, **reports)]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and r"\x1b[31mred\x0a\xe9.jpg" in out


class TestRefused:
    @pytest.mark.parametrize(
        ("other", "said"),
        [
            ({"task": "retrieve"}, "no report: Object missing required field `queries`"),
            ([1, 2], "no report: Expected `object`, got `array`"),
            ({"task": "guess", "queries": []}, "the task is 'guess'"),
        ],
    )
    def test_what_is_no_such_report(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: Any, said: str
    ) -> None:
        assert run(["compare", *saved(tmp_path, a=ranked(*LOW), b=other)]) == 3
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.startswith("veduta: ") and "b" in err

    def test_other_queries(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = ranked(*LOW)
        for row in other["queries"]:
            row["path"] = "else/" + row["path"]
        assert run(["compare", *saved(tmp_path, a=ranked(*LOW), b=other)]) == 0
        out, err = capsys.readouterr()
        assert "bootstrap" not in out
        assert "b: not compared with a query by query: they share no query" in err
        assert "not on the same test photos: a (10 photos); b (10 photos)" in err

    def test_other_labels(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = ranked(*LOW)
        other["queries"][3]["label"] = "dome"
        assert run(["compare", *saved(tmp_path, a=ranked(*LOW), b=other)]) == 0
        assert "1 query has other labels, such as photos/3.jpg" in capsys.readouterr().err

    def test_a_file_that_is_not_there_or_no_json(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (file,) = saved(tmp_path, a=ranked(*LOW))
        assert run(["compare", file, str(tmp_path)]) == 3
        assert f"it holds some: name {tmp_path}/*" in capsys.readouterr().err
        (tmp_path / "empty").mkdir()
        for name, said in (("empty", "neither a run nor a report"), ("gone", "no such run")):
            assert run(["compare", file, str(tmp_path / name)]) == 3
            assert said in capsys.readouterr().err
        (tmp_path / "page.html").write_text("<html>")
        assert run(["compare", file, str(tmp_path / "page.html")]) == 3
        assert "page.html: no report: not valid JSON" in capsys.readouterr().err

    def test_a_wrong_call(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (file,) = saved(tmp_path, a=ranked(*LOW))
        for arguments in ([], [file, f"{file}/report.json"]):
            assert run(["compare", *arguments]) == 2
        assert "One run or report is named twice." in capsys.readouterr().err


def test_words_of_the_command_line() -> None:
    assert REPORT == JSON_FILE and CARD_FILE == card.CARD_FILE
    assert tuple(compared_systems.SORT_KEYS) == SORT_KEYS


class TestChanges:
    def test_of_average_precision(self) -> None:
        first, second = ranked(0.5, 0.5, 0.5, None, 0.2), ranked(0.9, 0.1, 0.5, 0.7, 0.3)
        (done,) = changed_queries([first, second], ["a", "b"])
        assert (done.system, done.better, done.worse) == ("b", 2, 1)
        assert [change.path for change in done.gained] == ["photos/0.jpg", "photos/4.jpg"]
        assert [change.gain for change in done.gained] == pytest.approx([0.4, 0.1])
        assert done.lost == (Change("photos/1.jpg", "arch", 0.5, 0.1, -0.4),)

    def test_of_answers(self) -> None:
        first = named(
            ("arch", "dome"), ("arch", None), (None, "arch"), (None, None), ("dome", "dome")
        )
        second = named(
            ("arch", "arch"), ("arch", "dome"), (None, None), (None, "x"), ("dome", None)
        )
        (done,) = changed_queries([first, second], ["a", "b"])
        assert (done.better, done.worse) == (2, 2)
        assert done.gained == (
            Change("0.jpg", "arch", "dome", "arch", 1.0),
            Change("2.jpg", None, "arch", None, 1.0),
        )
        assert [(c.before, c.after) for c in done.lost] == [(None, "x"), ("dome", None)]

    def test_most_and_missing(self) -> None:
        reports = [ranked(*LOW), ranked(*[0.2 + n / 100 for n in range(8)])]
        (done,) = changed_queries(reports, ["a", "b"], most=3)
        assert done.better == 8
        assert [change.path for change in done.gained] == [f"photos/{n}.jpg" for n in (7, 6, 5)]
