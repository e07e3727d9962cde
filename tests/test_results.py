"""The figures of the docs and of the package are those of results/*.csv."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
from benchmarks.measured import FILE
from benchmarks.pages import main
from benchmarks.report import write_section
from benchmarks.results import (
    COLUMNS,
    cells_of,
    csv_of,
    read_cells,
    rendered,
    results_file,
    table_of,
)

from veduta.encoders import DEFAULT

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "results").glob("*.csv"))

SECTION = r"""Some prose with a figure: 0.5.

|  | top-1 | `--rerank` \| way |  |
| --- | ---: | ---: | ---: |
| **default**: `accurate`, landmarks30 | 0.980 (0.95–1.00) | `a \| b` |  |
| **default**: `accurate`, landmarks30 |  |  | 1,000 |

### objects20

| recipe | seconds, fast | seconds, fast |
|:---|---|:-:|
| linear | 1 | **2** |

| query | hit |
| --- | ---: |

More prose. 2026-12-02, 3 minutes. A processor (avx2), 2 cores; numpy 2.4.6.

    python -m benchmarks.x --data ../shared/data
    python -m benchmarks.x --encoder fast

| set | 1 |
| --- | ---: |
| scenes | 0 |

2026-12-03. Another processor, 4 cores.

    make attack"""


def test_the_commands_name_no_folder_of_the_machine_that_ran_them() -> None:
    for file in FILES:
        for cell in read_cells(file):
            assert not re.search(r"(^|[\s=])/", cell.command), f"{file.name}: {cell.command}"


def test_the_pages_have_the_figures_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--check"])
    assert (code, capsys.readouterr().out) == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with two pages of the docs, their results, and the packaged figures."""
    for name in ("docs/results.md", "docs/reranking.md", FILE):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    (tmp_path / "results").mkdir()
    for page in ("docs/results.md", "docs/reranking.md"):
        for file in FILES:
            if f"<!-- {file.stem}:begin -->" in (ROOT / page).read_text("utf-8"):
                shutil.copyfile(file, tmp_path / "results" / file.name)
    assert main(["--check", "--root", str(tmp_path)]) == 0
    return tmp_path


def replace_in(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def test_a_changed_cell_of_a_page_is_found_and_mended(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, before = copy / "docs/results.md", (copy / "docs/results.md").read_text("utf-8")
    replace_in(page, "| 0.980 (0.95–1.00) |", "| 0.990 (0.95–1.00) |")
    assert main(["--check", "--root", str(copy)]) == 1
    told = capsys.readouterr().out
    assert told == "docs/results.md: the section methods differs from its figures in results\n"
    assert main(["--root", str(copy)]) == 0
    assert page.read_text("utf-8") == before


def test_a_changed_cell_of_a_file_is_found_and_goes_to_the_page_and_the_package(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy / "results/accuracy.csv"
    replace_in(file, "top-1,0.953 (0.92–0.99)", "top-1,0.111 (0.92–0.99)")
    assert main(["--check", "--root", str(copy)]) == 1
    told = capsys.readouterr().out
    assert "the section accuracy differs" in told and f"{FILE}: differs" in told
    assert main(["--root", str(copy)]) == 0
    assert "| accurate-int8, landmarks30 | 0.111 (" in (copy / "docs/results.md").read_text("utf-8")
    assert f"{DEFAULT},landmarks30,0.111,0.613" in (copy / FILE).read_text("utf-8")


def test_the_date_machine_and_command_come_from_the_file(copy: Path) -> None:
    page, before = copy / "docs/results.md", (copy / "docs/results.md").read_text("utf-8")
    replace_in(page, "2026-11-21. AMD EPYC", "2026-11-22. Another processor")
    replace_in(page, "python -m benchmarks.methods --data", "python -m benchmarks.other --data")
    assert main(["--root", str(copy)]) == 0
    assert page.read_text("utf-8") == before


def test_a_section_without_a_file_and_a_file_without_a_section_are_named(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "results/groups.csv").rename(copy / "results/gruops.csv")
    assert main(["--root", str(copy)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "docs/results.md: the section groups has no file groups.csv",
        "results/gruops.csv: no page has a section gruops",
    ]


def test_another_number_of_tables_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_in(copy / "docs/results.md", "### Runtimes", "| a |\n| --- |\n| 1 |\n\n### Runtimes")
    assert main(["--check", "--root", str(copy)]) == 1
    told = capsys.readouterr().out
    assert told == ("docs/results.md: the section accuracy: the page has 5 tables, the file 4\n")


def test_writing_reading_and_rendering_is_the_identity(tmp_path: Path) -> None:
    cells = cells_of(SECTION, "x", "0.1.0+abc")
    file = tmp_path / "x.csv"
    file.write_text(csv_of(cells), "utf-8")
    assert read_cells(file) == cells
    assert rendered(SECTION, cells) == SECTION


def test_a_table_gets_its_usual_alignment_without_a_page() -> None:
    cells = [cell for cell in cells_of(SECTION, "x", "") if cell.table == 2]
    assert table_of(cells) == (
        "| recipe | seconds, fast | seconds, fast |\n| --- | ---: | ---: |\n| linear | 1 | **2** |"
    )


def test_a_cell_knows_where_it_was_measured() -> None:
    first, other = (cell for cell in cells_of(SECTION, "x", "1") if cell.column == "top-1")
    assert first.value == "0.980 (0.95–1.00)"
    assert (first.table, first.row_number, other.row_number, other.value) == (1, 1, 2, "")
    assert (first.set, first.encoder, first.date) == ("landmarks30", "accurate", "2026-12-02")
    assert first.command.splitlines()[1] == "python -m benchmarks.x --encoder fast"
    assert first.machine == "A processor (avx2), 2 cores; numpy 2.4.6"
    by_heading = next(cell for cell in cells_of(SECTION, "x", "1") if cell.column == "recipe")
    assert (by_heading.set, by_heading.encoder) == ("objects20", "fast")
    *_, last = cells_of(SECTION, "x", "1")
    assert (last.set, last.encoder, last.command) == ("scenes", "", "make attack")
    *_, last = cells_of(SECTION, "accuracy", "1")
    assert last.encoder == DEFAULT


def test_a_row_of_another_length_and_a_table_without_a_run_are_refused() -> None:
    with pytest.raises(ValueError, match="x, table 1: 1 cells below 2 columns: c"):
        cells_of("| a | b |\n|---|---|\n| c |\n\n2026-12-02. M.\n\n    make\n", "x", "")
    with pytest.raises(ValueError, match="table 1 has no date"):
        cells_of("| a | b |\n|---|---|\n| c | d |\n", "x", "")


def test_tables_of_two_runs_do_not_share_a_paragraph() -> None:
    cells = cells_of(SECTION, "x", "")
    one = SECTION.replace("2026-12-02, 3 minutes. A processor (avx2), 2 cores; numpy 2.4.6.\n", "")
    with pytest.raises(ValueError, match="1 and 2 and 3 and 4 are of several runs"):
        rendered(one, cells)


def test_a_published_section_is_written_to_its_file_first(tmp_path: Path) -> None:
    page = tmp_path / "docs/deep/page.md"
    page.parent.mkdir(parents=True)
    page.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n", "utf-8")
    write_section(page, "x", SECTION)
    file = tmp_path / "results/x.csv"
    assert results_file(page, "x") == file
    assert [cell.value for cell in read_cells(file)][:2] == [
        "**default**: `accurate`, landmarks30",
        "0.980 (0.95–1.00)",
    ]
    assert page.read_text("utf-8") == (f"a\n<!-- x:begin -->\n\n{SECTION}\n\n<!-- x:end -->\nb\n")
    with pytest.raises(ValueError, match="0 sections 'y'"):
        write_section(page, "y", SECTION)
    assert not (tmp_path / "results/y.csv").exists()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_row_says_where_it_was_measured(file: Path) -> None:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert rows
    for row in rows:
        assert row["command"] and row["machine"] and row["version"]
        assert len(row["date"]) == len("2026-12-02")
