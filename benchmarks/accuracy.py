"""Accuracy of the global descriptor on the labelled sets: encoders, distances, projections.

Everything is measured by `veduta.evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import veduta
from benchmarks.labelled_sets import add_data_option, present_sets
from benchmarks.report import parser, publish, table
from veduta.encoders import DEFAULT
from veduta.encoders.runtime import openvino_installed
from veduta.errors import EncoderError
from veduta.search import DISTANCES


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("accuracy", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    sets = present_sets(options, chosen.data)

    def row(name: str, **settings: Any) -> list[str]:
        print(name, flush=True)
        cells = []
        for photo_set in sets:
            try:
                figures = veduta.evaluate(
                    chosen.data / photo_set, rerank="none", **settings
                ).summary
            except EncoderError as error:  # The gallery has fewer photos than dimensions.
                print(f"  {photo_set}: {error}")
                cells.append("–")
                continue
            cells.append(f"{figures.top1:.3f} / {figures.map:.3f}")
        return [name, *cells]

    parts = [
        "### The presets, with intervals",
        preset_table(chosen.data, sets),
        "### Runtimes\n\nTop-1 / mAP of the default encoder.",
        table(
            ["runtime", *sets],
            [
                row("ONNX Runtime, eight bits"),
                *(
                    [row("OpenVINO, its own precision", runtime="openvino")]
                    if openvino_installed()
                    else []
                ),
            ],
        ),
        "### Distances\n\nTop-1 / mAP of the default encoder. On descriptors of unit length the "
        "Euclidean ranking is the cosine ranking.",
        table(["distance", *sets], [row(name, distance=name) for name in DISTANCES]),
        "### Projections\n\nTop-1 / mAP of the default encoder after a PCA that is fitted on the "
        "gallery without labels (`--project`).",
        table(
            ["dimensions", *sets],
            [
                row("2560, none"),
                *(row(str(dimension), project=dimension) for dimension in (256, 128, 64)),
            ],
        ),
    ]
    publish("accuracy", "\n\n".join(parts), chosen.docs)


def preset_table(data: Path, sets: Sequence[str]) -> str:
    rows = []
    for encoder in (DEFAULT, "accurate", "fast"):
        for photo_set in sets:
            figures = veduta.evaluate(data / photo_set, encoder=encoder, rerank="none").summary
            cells = []
            for key in ("top1", "top3", "top5", "top10", "map", "p10"):
                low, high = getattr(figures, f"{key}_interval")
                cells.append(f"{getattr(figures, key):.3f} ({low:.2f}–{high:.2f})")
            rows.append([f"{encoder}, {photo_set}", *cells])
    return table(["", "top-1", "top-3", "top-5", "top-10", "mAP", "precision@10"], rows)


if __name__ == "__main__":
    main()
