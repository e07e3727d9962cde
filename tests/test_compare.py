"""`veduta compare`: what it prints, what changed, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from veduta.cli.compare import REPORT
from veduta.cli.main import run
from veduta.cli.printing import shown
from veduta.evaluation.report_changes import Change, changed_queries
from veduta.evaluation.report_folder import JSON_FILE


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


class TestTable:
    def test_values_differences_and_stars(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = saved(tmp_path, first=ranked(*LOW), second=ranked(*HIGH))
        assert run(["compare", *files]) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert err == ""
        assert lines[:3] == ["retrieval, 10 queries compared", "  A  first", "  B  second"]
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
        assert "corrected for the number of reports (Holm)" in out
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
        assert capsys.readouterr().out.splitlines()[1:3] == ["  A  small", "  B  large"]

    def test_folders_of_one_name_are_told_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("x", "y"):
            (tmp_path / name).mkdir()
            saved(tmp_path / name, out=ranked(*LOW))
        assert run(["compare", "x/out", "y/out"]) == 0
        names = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:3]]
        assert names == ["x/out/report.json", "y/out/report.json"]

    def test_notes_go_to_standard_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = saved(tmp_path, a=ranked(0.1, 0.2, 0.3), b=ranked(0.1, None))
        assert run(["compare", *files]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("retrieval, 1 query compared\n")
        assert "1 query left out that not every report has" in err
        assert "no right answer in the gallery in some report" in err

    def test_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = saved(tmp_path, a=ranked(*LOW), b=ranked(*HIGH))
        assert run(["compare", *files, "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        (row,) = [
            f for f in data["figures"] if f["metric"] == "map" and f["difference"] is not None
        ]
        assert row["difference"] == pytest.approx(0.5) and row["p_value"] < 0.05
        assert data["systems"] == [shown(Path(file, "report.json")) for file in files]
        (changed,) = data["changed"]
        assert (changed["better"], changed["worse"], len(changed["gained"])) == (10, 0, 5)

    def test_names_cannot_write_to_the_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reports = {"a": ranked(0.1), "b": ranked(0.2)}
        for report in reports.values():
            report["queries"][0]["path"] = "\x1b[31mred\n\udce9.jpg"
        assert run(["compare", *saved(tmp_path, **reports)]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and r"\x1b[31mred\x0a\xe9.jpg" in out


class TestRefused:
    @pytest.mark.parametrize(
        ("other", "said"),
        [
            (named(("arch", "arch")), "different tasks"),
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
        assert run(["compare", *saved(tmp_path, a=ranked(*LOW), b=other)]) == 3
        assert "no query is in all of" in capsys.readouterr().err

    def test_a_file_that_is_not_there_or_no_json(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (file,) = saved(tmp_path, a=ranked(*LOW))
        assert run(["compare", file, str(tmp_path)]) == 3
        assert "report.json: No such file" in capsys.readouterr().err
        (tmp_path / "page.html").write_text("<html>")
        assert run(["compare", file, str(tmp_path / "page.html")]) == 3
        assert "page.html: no report: not valid JSON" in capsys.readouterr().err

    def test_a_wrong_call(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (file,) = saved(tmp_path, a=ranked(*LOW))
        for arguments in ([], [file], [file, f"{file}/report.json"]):
            assert run(["compare", *arguments]) == 2
        assert "One report is named twice." in capsys.readouterr().err


def test_the_name_of_the_file() -> None:
    assert REPORT == JSON_FILE


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
