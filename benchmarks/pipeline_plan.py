"""What a billion photos would take: bytes, core hours, money, memory, and where each part breaks.

All figures are computed from the unit costs that `benchmarks.pipeline_costs` measured and from the
assumptions in `plan_assumptions.toml`. Nothing of this size was run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.pipeline_costs import SHORT
from benchmarks.pipeline_model import WORKERS, add_sources, pipeline_of, sources_of
from benchmarks.pipeline_stages import CODE_BITS_A_BYTE, Pipeline
from benchmarks.report import check_target, format_number, parser, publish, table
from benchmarks.results import read_cells, results_file
from benchmarks.search_projection import Projection
from benchmarks.unit_costs import read_assumptions
from veduta.curate.hash_pairs import MAX_COPY_BITS
from veduta.index import cells, neighbours
from veduta.index.cell_files import CELLS_FROM_PHOTOS
from veduta.index.shards import MAX_SHARDS
from veduta.search import approximate

SIZES = (10**7, 10**8, 10**9)
RECALL = 0.95
MAX_SEARCH_MS = 50
MAX_SEARCH_GB = 4
SEARCHED = 10**7
_SCORED = approximate._LEAST_SCORED_PHOTOS
_HOUR = 3600.0
_ROWS_OF_INT32 = 2**31


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute and publish."""
    options = parser("pipeline_plan", __doc__)
    add_sources(options)
    chosen = options.parse_args(arguments)
    line = pipeline_of(options, chosen)
    projection = Projection.of(line.costs.searched, RECALL)
    parts = [
        assumptions(chosen.assumptions),
        stored_bytes(line),
        core_hours(line),
        money(line),
        memory(line),
        breaks(line, projection),
        search(line, projection),
        keypoints_again(line),
        check(line, chosen.docs),
        sources_of(line),
    ]
    publish("pipeline_plan", "\n\n".join(parts), chosen.docs)


def columns(first: str, unit: str) -> list[str]:
    """Return the head of a table with a column for each size."""
    return [first, *(f"{size:,} photos, {unit}" for size in SIZES)]


def assumptions(file: Path) -> str:
    """Return the table of what is assumed."""
    rows = [
        [what, f"{value:g}" if isinstance(value, int | float) else value]
        for value, what in read_assumptions(file).values()
    ]
    return f"**Assumed** (`{file.name}`), not measured:\n\n{table(['assumed', 'value'], rows)}"


def stored_bytes(line: Pipeline) -> str:
    """Return the table of bytes on disk."""
    costs = line.costs
    thumbnail = costs.spreads["thumbnail, kB"].mean * 1e3
    descriptor = costs.figures["descriptor, bytes"]
    others = costs.figures["folder photos.lance, bytes"] - descriptor - thumbnail
    codes = costs.figures["numbers of a descriptor"] / CODE_BITS_A_BYTE
    content_and_row = 36
    of_photo = {
        "photos (files)": costs.spreads["file, kB"].mean * 1e3,
        "row: descriptor": descriptor,
        "row: thumbnail": thumbnail,
        "row: the rest": others,
        "keypoints": line.keypoint_bytes,
        "keypoints in 16 bytes, instead": costs.spreads["keypoints in 16 bytes, kB"].mean * 1e3,
        "snapshot for searches": costs.figures["folder snapshot, bytes"],
        "cells": codes + content_and_row,
        "links": costs.figures["folder graph, bytes"],
        f"descriptor of {SHORT} numbers, instead": costs.figures[
            f"descriptor of {SHORT} numbers, bytes"
        ],
    }
    rows = [
        [name, format_number(value), *(format_number(value * size / 1e9) for size in SIZES)]
        for name, value in of_photo.items()
    ]
    left_out = [name for name in of_photo if "instead" in name or "files" in name]
    whole = sum(value for name, value in of_photo.items() if name not in left_out)
    rows.append(
        [
            "index, as it is",
            format_number(whole),
            *(format_number(whole * size / 1e9) for size in SIZES),
        ]
    )
    head = ["stored", "bytes a photo", *columns("", "GB")[1:]]
    return f"**Bytes.** Measured a photo, multiplied:\n\n{table(head, rows)}"


def core_seconds(line: Pipeline) -> dict[str, Callable[[float], float]]:
    """Return step → seconds of one core for a number of photos."""
    spreads = line.costs.spreads
    of_photo = {
        name.removesuffix(", ms"): spread.mean / 1e3
        for name, spread in spreads.items()
        if name.split(",")[0]
        in ("read and hash", "decode", "descriptor", "keypoints", "row and thumbnail")
        and name.endswith(", ms")
    }
    parts, most = line.assumed.block_photos, WORKERS[-1]
    return {
        **{
            name: lambda photos, seconds=seconds: photos * seconds
            for name, seconds in of_photo.items()
        },
        "commits": lambda photos: photos * line.commit_seconds,
        "start of blocks": lambda photos: line.blocks(photos, parts) * line.start_seconds,
        "merge (today)": lambda photos: line.merge_seconds(photos, line.shards(photos, most)),
        "cells: k-means": line.training_seconds,
        "cells: fill": lambda photos: photos * line.filling_seconds_a_photo(photos),
        "cells: ask the sample": line.asking_seconds,
        "links: find": line.finding_seconds,
        "links: verify": line.verifying_seconds,
        "links: weigh": line.weighing_seconds,
    }


def core_hours(line: Pipeline) -> str:
    """Return the table of core hours."""
    steps = core_seconds(line)
    rows = [
        [name, *(format_number(seconds(size) / _HOUR) for size in SIZES)]
        for name, seconds in steps.items()
    ]
    whole = [sum(seconds(size) for seconds in steps.values()) / _HOUR for size in SIZES]
    rows.append(["all", *map(format_number, whole)])
    return f"**Core hours.** Projected:\n\n{table(columns('step', 'core hours'), rows)}"


def money(line: Pipeline) -> str:
    """Return the table of network and money."""
    costs, assumed = line.costs, line.assumed
    file = costs.spreads["file, kB"].mean / 1e6
    index = costs.steps["merge, kB written"] / 1e6
    steps = core_seconds(line)

    def hours(photos: float) -> float:
        return sum(seconds(photos) for seconds in steps.values()) / _HOUR

    network: dict[str, Callable[[float], float]] = {
        "read photos": lambda photos: photos * file,
        "write parts": lambda photos: photos * line.part_bytes / 1e9,
        "merge: read parts and write the whole (today)": lambda photos: (
            photos * (line.part_bytes / 1e9 + index)
        ),
        "links: read keypoints of both photos of a pair (today)": lambda photos: (
            line.read_keypoint_bytes(photos) / 1e9
        ),
        "links: read ranges of cells (changed)": lambda photos: (
            photos * assumed.link_halo * line.linked_bytes / 1e9
        ),
    }
    bills: dict[str, Callable[[float], float]] = {
        "cores that stay": lambda photos: hours(photos) * assumed.dollars_core_hour,
        "cores that may be taken away, instead": lambda photos: (
            hours(photos) * assumed.dollars_core_hour_interruptible
        ),
        "requests to read photos": lambda photos: photos / 1e6 * assumed.dollars_million_reads,
        "a month of photos in the object storage": lambda photos: (
            photos * file * assumed.dollars_gb_month
        ),
        "a month of the index in the object storage": lambda photos: (
            photos * index * assumed.dollars_gb_month
        ),
        "a month of codes and descriptors on an SSD": lambda photos: (
            photos
            * (line.code_bytes + costs.figures["descriptor, bytes"])
            / 1e9
            * assumed.dollars_gb_month_disk
        ),
        "the index leaves the data centre once": lambda photos: (
            photos * index * assumed.dollars_gb_egress
        ),
    }
    tables = [
        table(
            columns(first, unit),
            [[name, *(format_number(of(size)) for size in SIZES)] for name, of in rows.items()],
        )
        for first, unit, rows in (("network", "GB", network), ("money", "dollars", bills))
    ]
    return (
        f"**Network and money.** Projected, with the assumed prices:\n\n{tables[0]}\n\n{tables[1]}"
    )


def memory(line: Pipeline) -> str:
    """Return the table of memory."""
    limit = line.assumed.driver_memory_gb
    parts: dict[str, Callable[[float], float]] = {
        "merge: path, hash and place of each row": line.merge_memory,
        "cells: k-means": line.training_memory,
        "cells: fill, codes twice": line.cells_memory,
        "links: ends, similarities, weights": line.links_memory,
        "a later update: path and hash of each row": line.update_memory,
        "exact search: one byte a number": lambda photos: (
            photos * line.costs.figures["numbers of a descriptor"]
        ),
        "search by cells: codes and rows": lambda photos: photos * line.code_bytes,
    }
    rows = [
        [
            name,
            *(format_number(of(size) / 1e9) for size in SIZES),
            words(photos_until(of, limit * 1e9)),
        ]
        for name, of in parts.items()
    ]
    head = [*columns("memory", "GB"), f"photos in {limit:g} GB"]
    return f"**Memory.** Measured a photo, multiplied:\n\n{table(head, rows)}"


def photos_until(cost: Callable[[float], float], limit: float) -> float:
    """Return the number of photos at which a cost that grows reaches a limit."""
    low, high = 1.0, 1e15
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cost(middle) < limit else (low, middle)
    return high


def words(photos: float) -> str:
    """Return a number of photos with two digits: `2.3 million`."""
    for name, unit in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if photos >= unit:
            return f"{float(f'{photos / unit:.2g}'):,g} {name}"
    return f"{photos:.0f}"


def breaks(line: Pipeline, projection: Projection) -> str:
    """Return the table of where each part breaks, the first first."""
    assumed, steps = line.assumed, line.costs.steps
    day = assumed.hours_to_failure * _HOUR
    block = assumed.block_photos
    memory_bytes = assumed.driver_memory_gb * 1e9
    whole = steps["merge, kB written"] * 1e3
    bands = MAX_COPY_BITS + 1
    pairs_share = bands / 2 ** (64 // bands) / 2
    in_memory = f"{assumed.driver_memory_gb:g} GB of memory"
    long = f"takes {assumed.hours_to_failure:g} h, in which a machine fails once"
    found = [
        (
            assumed.open_files / steps["files that an open part holds open"] * block,
            f"merge: shards of {block:,.0f} photos hold {assumed.open_files:,g} files open",
            "larger shards now; merge in levels, or a list of parts",
        ),
        (
            block * line.encoding_seconds / assumed.worker_cores / line.listing_seconds(1),
            f"shards: to list all files takes as long as to encode {block:,.0f} photos",
            "list the files once, and give each block its list",
        ),
        (
            MAX_SHARDS * block,
            f"shards: {MAX_SHARDS:,} shards of {block:,.0f} photos",
            "lists of files have no such limit",
        ),
        (
            photos_until(lambda n: line.merge_seconds(n, line.shards(n, WORKERS[-1])), day),
            f"merge: {long}",
            "parts stay where they are; the whole is a list of them",
        ),
        (
            photos_until(line.merge_memory, memory_bytes),
            f"merge: {in_memory}",
            "choose rows per range of the hash of the path, on many machines",
        ),
        (
            assumed.driver_disk_tb * 1e12 / whole,
            f"merge: {assumed.driver_disk_tb:g} TB of disk for the whole",
            "keypoints stay in the parts, or are found again",
        ),
        (
            photos_until(line.cells_by_clock, day),
            f"cells: {long}",
            "workers fill the cells; centres of cells in two levels",
        ),
        (
            photos_until(line.cells_memory, memory_bytes),
            f"cells: {in_memory}",
            "write codes of each block, and sort them on disk",
        ),
        (
            photos_until(line.links_by_clock, day),
            f"links: {long}",
            "ranges of cells on many machines; keep what is verified",
        ),
        (
            photos_until(line.links_memory, memory_bytes),
            f"links: {in_memory}",
            "ranges of cells, each in its own file",
        ),
        (
            projection.photos_for(neighbours._COMPARED_PHOTOS),
            f"links: {neighbours._COMPARED_PHOTOS:,} codes give a recall of {RECALL} (at {SHORT} "
            "numbers, without neighbours of neighbours)",
            "compare as many codes as the sample asks for, as a search does",
        ),
        (
            photos_until(line.update_memory, memory_bytes),
            f"update: {in_memory}",
            "look paths up on disk",
        ),
        (
            photos_until(lambda n: n * line.code_bytes, memory_bytes),
            f"search: codes in {in_memory}",
            f"descriptors of {SHORT} numbers; shards of the search",
        ),
        (
            photos_until(
                lambda n: n**2 * pairs_share * steps["copies: compare two hashes, ns"] / 1e9, day
            ),
            f"near copies (`veduta clean`): {long}",
            "compare within cells, or longer hashes in more bands",
        ),
        (
            float(_ROWS_OF_INT32),
            "rows of cells and links are int32",
            "int64, or shards of the search",
        ),
    ]
    rows = [[what, words(photos), remedy] for photos, what, remedy in sorted(found)]
    return (
        "**Where it breaks**, the first first. Projected:\n\n"
        f"{table(['what', 'photos', 'what would be changed'], rows)}"
    )


def search(line: Pipeline, projection: Projection) -> str:
    """Return the table of searches by cells."""
    code = max(SHORT, cells._MIN_BITS) / CODE_BITS_A_BYTE + 4
    rows = []
    for photos, shards in (*((size, 1) for size in SIZES), (SIZES[-1], SIZES[-1] // SEARCHED)):
        own = photos // shards
        number = line.cells(own)
        codes = projection.codes(own)
        times = [projection.time(each, number) for each in codes]
        cold = times[1] + _SCORED * line.assumed.disk_read_ms
        gigabytes = (own * code + number * SHORT * 4) / 1e9
        rows.append(
            [
                f"{photos:,}" if shards == 1 else f"{photos:,} in {shards} shards of {own:,}",
                f"{codes[0]:,.0f}–{codes[1]:,.0f}",
                f"{format_number(times[0])}–{format_number(times[1])}",
                f"{format_number(cold)} {check_target(cold, MAX_SEARCH_MS, at_least=False)}",
                f"{gigabytes:.2f} {check_target(gigabytes, MAX_SEARCH_GB, at_least=False)}",
                f"{format_number(times[0] * shards)}–{format_number(times[1] * shards)}",
            ]
        )
    head = [
        f"photos, {SHORT} numbers",
        f"codes for recall {RECALL}",
        "ms, all in memory",
        "ms, descriptors on disk, at most",
        "GB of codes on a machine",
        "ms of all machines",
    ]
    return (
        f"**Search.** Projected. Measured up to {projection.largest:,} photos. The codes that a "
        f"query compares for a recall of {RECALL} grow with the power {projection.exponent:.2f} of "
        "the number of photos there. The first figure goes on with this power, the second with the "
        f"share of all codes that was needed there. From disk, {_SCORED} descriptors are read one "
        "after the other. Each shard answers its nearest ten, and the nearest ten of these are the "
        "answer, so the recall stays and the slowest shard decides the time. Verification comes "
        f"on top.\n\n{table(head, rows)}"
    )


def keypoints_again(line: Pipeline) -> str:
    """Return what keypoints cost that are stored, and that are found again for each query."""
    spreads, assumed = line.costs.spreads, line.assumed
    seconds = sum(
        spreads[f"{name}, ms"].mean for name in ("read and hash", "decode", "keypoints")
    ) * (assumed.verified_photos / 1e3)
    a_query = (
        seconds / _HOUR * assumed.dollars_core_hour
        + assumed.verified_photos / 1e6 * assumed.dollars_million_reads
    )
    rows = []
    for size in SIZES:
        month = size * spreads["keypoints, kB"].mean / 1e6 * assumed.dollars_gb_month
        small = size * spreads["keypoints in 16 bytes, kB"].mean / 1e6 * assumed.dollars_gb_month
        rows.append(
            [
                f"{size:,}",
                format_number(month),
                format_number(small),
                words(month / a_query),
                words(small / a_query),
            ]
        )
    head = [
        "photos",
        "stored, dollars a month",
        "in 16 bytes",
        "queries a month for the same",
        "for the same as in 16 bytes",
    ]
    return (
        f"**Keypoints found again** for the nearest {assumed.verified_photos:g} photos of a query "
        f"take {seconds:.2f} s of one core, {seconds / assumed.driver_cores:.2f} s on "
        f"{assumed.driver_cores:g} cores, and cost {a_query * 1e3:.3f} dollars for a thousand "
        "queries. With fewer queries a month than these, it costs less to find them again:\n\n"
        f"{table(head, rows)}"
    )


def check(line: Pipeline, page: Path | None) -> str:
    """Return how well the unit costs add up to what was measured as a whole."""
    costs, cores = line.costs, line.assumed.worker_cores
    linked = line.verifying_seconds(1) * 1e3
    measured = costs.figures["processor time of `veduta index`, ms"]
    modelled = costs.spreads["all of these, ms"].mean + linked
    rows = [
        [
            "`veduta index`, processor time of a photo, ms",
            format_number(measured),
            format_number(modelled),
            f"{modelled / measured:.2f}",
        ]
    ]
    scale = results_file(page or Path("docs/scale.md"), "scale")
    if scale.is_file():
        for cell in read_cells(scale):
            photos = int(cell.row.replace(",", "")) if cell.table == 1 else 0
            formulas = {
                "cells, ms a photo": line.cells_seconds(photos) / cores,
                "graph, ms a photo": line.finding_seconds(photos) / cores
                + line.weighing_seconds(photos),
            }
            if photos >= CELLS_FROM_PHOTOS and cell.column in formulas:
                modelled = formulas[cell.column] / photos * 1e3
                rows.append(
                    [
                        f"{photos:,} photos: {cell.column}",
                        cell.value,
                        format_number(modelled),
                        f"{modelled / float(cell.value.replace(',', '')):.2f}",
                    ]
                )
    head = ["measured as a whole", "measured", "from unit costs", "ratio"]
    return f"**Check.** Do the unit costs add up?\n\n{table(head, rows)}"


if __name__ == "__main__":
    main()
