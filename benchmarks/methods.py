"""Methods beside each other on the labelled sets: accuracy with intervals, time and memory.

Everything goes through `veduta.evaluate`, each line in a process of its own. An interrupted run
goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import veduta
from benchmarks.accuracy import SETS
from benchmarks.report import ROOT, parser, publish, status, table
from veduta.photos import content_hash

METHODS: dict[str, dict[str, Any]] = {
    "**default**: `accurate`, geometry, graph": {},
    "`accurate`, graph (`--rerank global`)": {"rerank": "global"},
    "`accurate`, descriptor alone": {"rerank": "none"},
    "`fast`, geometry, graph": {"encoder": "fast"},
    "`fast`, descriptor alone": {"encoder": "fast", "rerank": "none"},
    "XFeat, verified (`--method xfeat`)": {"method": "xfeat"},
    "XFeat, VLAD": {"method": "vlad-xfeat"},
    "SIFT, ratio test": {"method": "sift"},
    "ORB, ratio test": {"method": "orb"},
    "SURF, ratio test": {"method": "surf"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("methods", __doc__ or "")
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    sets = [name for name in SETS if (chosen.data / name).is_dir()]
    if not sets:
        options.error(f"{chosen.data} has none of the sets {', '.join(SETS)}")
    work = chosen.work / "methods"
    work.mkdir(parents=True, exist_ok=True)
    publish("methods", methods(chosen.data, sets, work), chosen.docs)
    shutil.rmtree(work)


def methods(data: Path, sets: Sequence[str], work: Path) -> str:
    rows = []
    for photo_set in sets:
        for name, settings in METHODS.items():
            print(photo_set, name, flush=True)
            found = _alone(data / photo_set, settings, work)
            cells = [
                f"{found[key]:.3f} ({low:.2f}–{high:.2f})"
                for key in ("top1", "map")
                for low, high in [found[f"{key}_interval"]]
            ]
            a_query = found["ranking"] / found["queries"]
            rows.append(
                [
                    f"{photo_set}: {name}",
                    *cells,
                    f"{a_query:.3f}",
                    f"{found['memory'] / 1e6:.0f} MB",
                ]
            )
    return table(["", "top-1", "mAP", "s a query", "memory"], rows)


def _alone(folder: Path, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """Evaluate in a process of its own, unless an interrupted run has done so."""
    asked = json.dumps([folder.name, settings])
    kept = work / f"{content_hash(asked.encode()).hex()[:16]}.json"
    if not kept.exists():
        command = [sys.executable, "-m", "benchmarks.methods", "--one", str(folder.absolute())]
        result = subprocess.run(
            [*command, json.dumps(settings)],
            cwd=ROOT,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        kept.write_text(result.stdout.splitlines()[-1], "utf-8")
    return dict(json.loads(kept.read_text("utf-8")))


def _one(folder: Path, settings: dict[str, Any]) -> None:
    found = veduta.evaluate(folder, **settings)
    figures = found.summary
    print(
        json.dumps(
            {
                "top1": figures.top1,
                "top1_interval": figures.top1_interval,
                "map": figures.map,
                "map_interval": figures.map_interval,
                "queries": figures.queries,
                "ranking": found.seconds,
                "memory": status("VmHWM"),
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main()
