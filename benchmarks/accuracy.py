"""Accuracy on the labelled sets: ways of ranking, methods, encoders, distances, projections.

Everything goes through `veduta.evaluate`, as a user's own measurement would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import veduta
from benchmarks.report import ROOT, parser, publish, status, table
from veduta.errors import EncoderError
from veduta.search import DISTANCES

SETS = ("landmarks30", "same_place", "objects20", "domains4")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("accuracy", __doc__ or "")
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    sets = [name for name in SETS if (chosen.data / name).is_dir()]
    if not sets:
        options.error(f"{chosen.data} has none of the sets {', '.join(SETS)}")

    def row(name: str, **settings: Any) -> list[str]:
        print(name, flush=True)
        cells = []
        for photo_set in sets:
            try:
                figures = veduta.evaluate(chosen.data / photo_set, **settings).summary
            except EncoderError as error:  # a gallery smaller than the dimension
                print(f"  {photo_set}: {error}")
                cells.append("–")
                continue
            cells.append(f"{figures.top1:.3f} / {figures.map:.3f}")
        return [name, *cells]

    parts = [
        "### Methods, with intervals\n\nA process of its own for each line: seconds to rank the "
        "whole gallery for one query, once all photos are described, and the largest memory. What "
        "it takes to describe a photo stands in [benchmarks.md](benchmarks.md).",
        _methods(chosen.data, sets),
        "### Runtimes\n\nTop-1 / mAP of the default encoder, with the default re-ranking.",
        table(
            ["runtime", *sets],
            [
                row("ONNX Runtime, float32"),
                *([row("OpenVINO, its own precision", runtime="openvino")] if _openvino() else []),
            ],
        ),
        "### Distances\n\nTop-1 / mAP of the default encoder, its descriptors alone. On "
        "descriptors of unit length the Euclidean ranking is the cosine ranking.",
        table(
            ["distance", *sets],
            [row(name, distance=name, rerank="none") for name in DISTANCES],
        ),
        *(
            f"### Projections, {said}\n\nTop-1 / mAP of the default encoder through a PCA fitted "
            "on the gallery, without labels (`--project`).\n\n"
            + table(
                ["dimensions", *sets],
                [
                    row("2560, none", rerank=way),
                    *(row(str(d), project=d, rerank=way) for d in (256, 128, 64)),
                ],
            )
            for said, way in (("descriptors alone", "none"), ("with re-ranking", "auto"))
        ),
    ]
    publish("accuracy", "\n\n".join(parts), chosen.docs)


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


def _methods(data: Path, sets: Sequence[str]) -> str:
    rows = []
    for photo_set in sets:
        for name, settings in METHODS.items():
            print(photo_set, name, flush=True)
            found = _alone(data / photo_set, settings)
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


def _alone(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Evaluate in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.accuracy", "--one", str(folder.absolute())]
    result = subprocess.run(
        [*command, json.dumps(settings)], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


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


def _openvino() -> bool:
    from veduta.encoders.runtime import openvino_installed

    return openvino_installed()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main()
