"""The unit costs, the model and the plan for large collections, beside values computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.pipeline_model import Model, with_restarts
from benchmarks.pipeline_plan import main, photos_until, words
from benchmarks.pipeline_stages import Pipeline
from benchmarks.results import cells_of, csv_of
from benchmarks.search_projection import Projection, codes_for_recall
from benchmarks.unit_costs import ASSUMPTIONS, Assumptions, Searched, Spread, UnitCosts

from veduta.index.shards import MAX_SHARDS

STEPS = {
    "start a shard, s": 0.0,
    "list a file of another shard, µs": 10.0,
    "commit, ms": 0.0,
    "open a part, ms": 2.0,
    "files that an open part holds open": 1.0,
    "memory: merge, bytes": 400.0,
    "merge: choose a row, µs": 4.0,
    "merge, ms": 0.5,
    "merge, kB written": 60.0,
    "part, kB": 50.0,
    "memory: update, bytes": 200.0,
    "list a keypoint file, µs": 2.0,
    "links: compare a code, ns": 10.0,
    "links: the rest of a photo, µs": 300.0,
    "links: weights of a photo, µs": 100.0,
    "cells: compare a photo with a centre, ns": 5.0,
    "cells: the rest of a photo, µs": 60.0,
    "cells: ask the sample, a photo, µs": 10.0,
    "cells: k-means, a point and a centre and a round, ns": 15.0,
    "copies: compare two hashes, ns": 10.0,
    "memory: cells without codes, bytes": 20.0,
    "memory: links, bytes": 1000.0,
}
FIGURES = {
    "descriptor, bytes": 5120.0,
    "descriptor of 256 numbers, bytes": 512.0,
    "folder photos.lance, bytes": 16_000.0,
    "folder snapshot, bytes": 8000.0,
    "folder graph, bytes": 250.0,
    "numbers of a descriptor": 2560.0,
    "linked pairs of a photo": 5.0,
    "processor time of `veduta index`, ms": 60.0,
    "use of the processor by others before, %": 0.0,
}
MEANS = {
    "read and hash, ms": 1.0,
    "decode, ms": 2.0,
    "descriptor, ms": 25.0,
    "keypoints, ms": 20.0,
    "row and thumbnail, ms": 2.0,
    "all of these, ms": 50.0,
    "verify a pair, ms": 0.5,
    "file, kB": 60.0,
    "thumbnail, kB": 10.0,
    "keypoints, kB": 37.0,
    "keypoints in 16 bytes, kB": 19.5,
}


def constant(value: float) -> Spread:
    return Spread(value, (0.0, 0.5, 1.0), (value, value, value))


def searches(exponent: float) -> list[Searched]:
    """Return searches that reach 0.95 with 20 · n^exponent codes, in 1 ms and 1 µs a code."""
    found = []
    for photos in (10_000, 40_000, 160_000):
        codes = 20 * photos**exponent
        for factor, recall in ((0.5, 0.9), (1, 0.95), (2, 1.0)):
            compared = round(codes * factor)
            milliseconds = 1 + compared / 1000 + photos / 1e6
            found.append(Searched(photos, photos // 10, compared, milliseconds, recall))
    return found


COSTS = UnitCosts(
    {name: constant(value) for name, value in MEANS.items()}, FIGURES, STEPS, searches(0.5), "then"
)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(COSTS, Assumptions.read())


@pytest.fixture
def ideal(pipeline: Pipeline) -> Model:
    """Return the model without any limit, failure or slow block."""
    assumed = replace(
        pipeline.assumed,
        worker_network_mb_s=math.inf,
        storage_mb_s=math.inf,
        hours_to_failure=math.inf,
        straggler_factor=1,
    )
    return Model(Pipeline(COSTS, assumed))


@pytest.mark.parametrize("workers", [1, 10, 250])
def test_without_limits_and_failures_indexing_scales_ideally(ideal: Model, workers: int) -> None:
    run = ideal.indexing(10**6, workers, math.inf)
    of_cells = ideal.pipeline.filling_seconds_a_photo(10**6)
    assert of_cells == pytest.approx(60e-6 + 2000 * 5e-9)
    expected = 500 / workers * 2000 * (0.050 + of_cells) / 2 / 3600
    assert run.hours == pytest.approx(expected)
    assert run.efficiency == pytest.approx(1)
    assert (run.lost, run.transferring) == (0, 0)


def test_today_each_shard_lists_all_files(ideal: Model) -> None:
    shards = ideal.pipeline.shards(10**6, 10)
    assert shards == 10  # Without failures, more shards only list more.
    run = ideal.indexing(10**6, 10, math.inf, today=True)
    assert run.hours == pytest.approx((10 + 100_000 * 0.050 / 2) / 3600)


def test_with_failures_more_shards_are_better(pipeline: Pipeline) -> None:
    assert pipeline.shards(10**8, 16) > 16
    assert pipeline.shards(10**12, 256) <= MAX_SHARDS


def test_failures_and_slow_blocks_cost_time(pipeline: Pipeline, ideal: Model) -> None:
    model = Model(pipeline)
    mild, harsh = (model.indexing(10**7, 16, hours) for hours in (24, 2))
    assert ideal.indexing(10**7, 16, math.inf).hours < mild.hours < harsh.hours
    assert 0 < mild.lost < harsh.lost
    assert model.indexing(10**7, 16, 24) == mild


def test_a_slow_storage_is_the_limit(pipeline: Pipeline) -> None:
    """All photos are read and all parts are written at 10 MB/s, whatever the workers do."""
    slow = Model(Pipeline(COSTS, replace(pipeline.assumed, storage_mb_s=10)))
    run = slow.indexing(10**6, 256, 1e9)
    assert run.hours == pytest.approx((60e3 + 50e3) / 10 / 3600, rel=0.05)


def test_the_steps_of_one_machine_by_hand(pipeline: Pipeline) -> None:
    n, cores = 10**6, pipeline.assumed.driver_cores
    assert pipeline.merge_seconds(n, 100) == pytest.approx(0.2 + 500 + 100**2 / 2 * 2e-6)
    assert pipeline.training_seconds(n) == pytest.approx(40 * 2000 * 2000 * 8 * 15e-9)
    links = (n * (300e-6 + 65_536 * 10e-9) + 5 * n * 0.5e-3) / cores + n * 100e-6
    assert pipeline.links_by_clock(n) == pytest.approx(links)
    far_more = 10**8  # The keypoints do not fit into memory: the disk is slower than the cores.
    finding = far_more * (300e-6 + 65_536 * 10e-9) / cores
    reading = far_more * 6 * 37e3 / 1e9
    assert pipeline.links_by_clock(far_more) == pytest.approx(finding + reading + far_more * 1e-4)
    assert pipeline.cells_memory(n) == n * (640 + 20)


def test_a_step_that_begins_anew_takes_longer_by_hand(pipeline: Pipeline) -> None:
    hours = {"index": 3.0, "merge": 24.0, "cells": 4.0, "links": 20.0}
    restart = 24 + 120 / 3600
    assert with_restarts(hours, pipeline.assumed) == pytest.approx(
        3 + 2 * (math.e - 1) * restart, rel=1e-6
    )


def test_the_changed_pipeline_links_small_collections_on_one_machine(pipeline: Pipeline) -> None:
    hours = Model(pipeline).whole(10**5, 1, today=False)
    assert hours["links"] == pytest.approx(pipeline.links_by_clock(10**5) / 3600)


def test_drawn_times_have_the_measured_mean_and_stay_between_the_quantiles() -> None:
    spread = Spread(3.0, (0, 0.5, 0.99, 1), (1.0, 2.0, 10.0, 50.0))
    drawn = spread.draw(np.random.default_rng(0), (200_000,))
    assert drawn.mean() == pytest.approx(3.0, rel=0.01)
    middle = 0.5 * 1.5 + 0.49 * 6 + 0.01 * 30
    assert np.median(drawn) == pytest.approx(2.0 * 3 / middle, rel=0.01)
    assert drawn.min() >= 3 / middle
    assert drawn.max() <= 50 * 3 / middle


def test_codes_for_a_recall_lie_between_the_measured_ones() -> None:
    searched = [Searched(100, 5, 1000, 1, 0.9), Searched(100, 5, 4000, 1, 1.0)]
    assert codes_for_recall(searched, 0.95) == {100: pytest.approx(2000)}
    assert codes_for_recall(searched, 0.9) == {}  # The fewest were enough.
    assert codes_for_recall(searched[:1], 0.95) == {}


@pytest.mark.parametrize("exponent", [0.3, 0.7])
def test_the_projection_finds_the_power_and_the_times_of_generated_searches(
    exponent: float,
) -> None:
    fitted = Projection.of(searches(exponent), 0.95)
    assert fitted.exponent == pytest.approx(exponent, abs=2e-3)
    by_power, at_most = fitted.codes(10**7)
    assert by_power == pytest.approx(20 * 10 ** (7 * exponent), rel=0.02)
    assert at_most == pytest.approx(20 * 160_000**exponent / 160_000 * 10**7, rel=0.02)
    assert fitted.photos_for(by_power) == pytest.approx(10**7, rel=1e-6)
    assert fitted.time(5000, 2000) == pytest.approx(1 + 5 + 0.02, rel=1e-3)


def test_a_recall_that_was_reached_once_cannot_be_projected() -> None:
    with pytest.raises(ValueError, match="at 1 sizes"):
        Projection.of(searches(0.5)[:3], 0.94)


def test_where_a_cost_reaches_a_limit() -> None:
    assert photos_until(lambda n: n**2, 1e10) == pytest.approx(1e5, rel=1e-3)


@pytest.mark.parametrize(
    ("photos", "said"),
    [(812, "812"), (21_499, "21 thousand"), (4_960_000, "5 million"), (2.14e9, "2.1 billion")],
)
def test_numbers_of_photos_in_words(photos: float, said: str) -> None:
    assert words(photos) == said


def written(folder: Path) -> Path:
    """Return a CSV of unit costs as the benchmark writes it."""

    def table(head: list[str], rows: list[list[object]]) -> str:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    tables = [
        table(
            ["a photo", "mean", "0 %", "100 %"],
            [[name, value, value / 2, f"{value * 1000:,}"] for name, value in MEANS.items()],
        ),
        table(["a photo in an index", "figure"], [list(each) for each in FIGURES.items()]),
        table(["a step", "median", "largest"], [[*each, 9] for each in STEPS.items()]),
        table(
            ["photos", "cells", "codes compared", "ms a query", "recall@10"],
            [
                [f"{one.photos:,}", one.cells, one.compared, one.milliseconds, one.recall]
                for one in COSTS.searched
            ],
        ),
    ]
    text = "\n\n".join(tables) + "\n\n2026-12-02. A machine.\n\n    python -m benchmarks.x"
    file = folder / "pipeline_costs.csv"
    file.write_text(csv_of(cells_of(text, "pipeline_costs", "1")), "utf-8")
    return file


def test_the_written_costs_are_read(tmp_path: Path) -> None:
    costs = UnitCosts.read(written(tmp_path))
    assert (costs.figures, costs.steps) == (FIGURES, STEPS)
    assert costs.spreads["decode, ms"] == Spread(2.0, (0, 1), (1.0, 2000.0))
    assert costs.searched == COSTS.searched
    assert costs.provenance == "2026-12-02, `python -m benchmarks.x`"


def test_missing_and_older_costs_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.csv is missing\. Measure again"):
        UnitCosts.read(tmp_path / "x.csv")
    file = written(tmp_path)
    file.write_text(file.read_text("utf-8").replace(",median,", ",middle,"), "utf-8")
    with pytest.raises(ValueError, match=r"another version: KeyError\('median'\)\. Measure"):
        UnitCosts.read(file)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[open_files]", "[closed_files]", "closed_files is unknown"),
        ("value = 1024", "value = 0", "open_files is 0. Write a number above 0."),
        ("value = 1024", 'value = "many"', "open_files is 'many'"),
        ("value = 1024", "value = true", "open_files is True"),
        ("value = 1024", "value = nan", "open_files is nan"),
    ],
)
def test_wrong_assumptions_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "assumptions.toml"
    text = ASSUMPTIONS.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=said):
        Assumptions.read(file)


def test_the_plan_says_where_each_part_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--costs", str(written(tmp_path))])
    said = capsys.readouterr().out
    assert "| links: 64 GB of memory | 64 million |" in said
    assert "| merge: 64 GB of memory | 160 million |" in said
    assert "| keypoints | 37,000 | 370 | 3,700 | 37,000 |" in said
    assert "| descriptor | 69.4 | 694 | 6,944 |" in said  # 25 ms each
    assert "| requests to read photos | 4.00 | 40.0 | 400 |" in said
    assert "Provisional" not in said


def test_a_file_that_is_missing_ends_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--costs", str(tmp_path / "none.csv")])
    assert "none.csv is missing. Measure again: python -m" in capsys.readouterr().err
