"""What the encoders reach on labelled sets of photos, for `veduta models`.

`measured.csv` is written by `python -m benchmarks.pages`, from the results of the benchmarks.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from veduta.errors import EncoderUnavailable, readable

__all__ = ["measured_figures"]

FILE = Path(__file__).with_name("measured.csv")


def measured_figures(name: str) -> list[dict[str, object]]:
    """Return what was measured with an encoder; nothing if nothing was.

    Args:
        name: of the encoder.

    Returns:
        One dictionary for each set and way to rank, with "set", "top1" and "map" in [0, 1], "by"
        (how the photos were ranked), "version" (of Veduta) and "date".

    Raises:
        EncoderUnavailable: the file is missing or does not read.
    """
    return [dict(figures) for encoder, figures in _rows() if encoder == name]


@cache
def _rows() -> tuple[tuple[str, dict[str, object]], ...]:
    try:
        with FILE.open(encoding="utf-8", newline="") as lines:
            return tuple(
                (
                    row.pop("encoder"),
                    {**row, "top1": float(row["top1"]), "map": float(row["map"])},
                )
                for row in csv.DictReader(lines)
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderUnavailable(
            f"{readable(FILE)}: the figures of the encoders do not read ({error}); "
            "install veduta again"
        ) from error
