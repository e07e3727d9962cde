"""Compare the methods on the labelled sets: accuracy with intervals, time and memory.

Everything is measured by `veduta.evaluate`, each line in a process of its own. An interrupted run
continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import veduta
from benchmarks.labelled_sets import add_data_option, present_sets
from benchmarks.processes import process_memory, run_child
from benchmarks.report import parser, publish, table
from veduta.encoders import DEFAULT
from veduta.photos import content_hash

METHODS: dict[str, dict[str, Any]] = {
    f"**default**: `{DEFAULT}`, geometry, graph": {},
    f"`{DEFAULT}`, graph (`--rerank global`)": {"rerank": "global"},
    f"`{DEFAULT}`, descriptor alone": {"rerank": "none"},
    "`fast`, geometry, graph": {"encoder": "fast", "rerank": "geometry"},
    "`fast`, descriptor alone": {"encoder": "fast", "rerank": "none"},
    "XFeat, verified (`--method xfeat`)": {"method": "xfeat"},
    "XFeat, VLAD": {"method": "vlad-xfeat"},
    "SIFT, ratio test": {"method": "sift"},
    "ORB, ratio test": {"method": "orb"},
    "SURF, ratio test": {"method": "surf"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("methods", __doc__)
    add_data_option(options)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        folder, settings = chosen.child
        print(json.dumps(evaluate(Path(folder), json.loads(settings))))
        return
    sets = present_sets(options, chosen.data)
    work = chosen.work / "methods"
    work.mkdir(parents=True, exist_ok=True)
    publish("methods", methods(chosen.data, sets, work), chosen.docs)
    shutil.rmtree(work)


def methods(data: Path, sets: Sequence[str], work: Path) -> str:
    rows = []
    for photo_set in sets:
        for name, settings in METHODS.items():
            print(photo_set, name, flush=True)
            result = evaluate_once(data / photo_set, settings, work)
            cells = [
                f"{result[key]:.3f} ({low:.2f}–{high:.2f})"
                for key in ("top1", "map")
                for low, high in [result[f"{key}_interval"]]
            ]
            query_seconds = result["ranking"] / result["queries"]
            rows.append(
                [
                    f"{photo_set}: {name}",
                    *cells,
                    f"{query_seconds:.3f}",
                    f"{result['memory'] / 1e6:.0f} MB",
                ]
            )
    return table(["", "top-1", "mAP", "s a query", "memory"], rows)


def evaluate_once(folder: Path, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """Evaluate in a process of its own, unless an interrupted run already did."""
    key = json.dumps([folder.name, settings])
    file = work / f"{content_hash(key.encode()).hex()[:16]}.json"
    if not file.exists():
        result = run_child("methods", "--child", folder.absolute(), json.dumps(settings))
        file.write_text(json.dumps(result), "utf-8")
    return dict(json.loads(file.read_text("utf-8")))


def evaluate(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Evaluate in this process; return accuracy, seconds of ranking, and peak memory in bytes."""
    evaluation = veduta.evaluate(folder, **settings)
    figures = evaluation.summary
    return {
        "top1": figures.top1,
        "top1_interval": figures.top1_interval,
        "map": figures.map,
        "map_interval": figures.map_interval,
        "queries": figures.queries,
        "ranking": evaluation.seconds,
        "memory": process_memory("VmHWM"),
    }


if __name__ == "__main__":
    main()
