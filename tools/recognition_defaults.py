"""Write the parts of `src/veduta/recognize/defaults.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from veduta.files import write_text
from veduta.recognize.confidence import Confidence
from veduta.recognize.recognizer import DEFAULTS_FILE

__all__ = ["rounded", "write_part"]


def rounded(confidence: Confidence) -> dict[str, object]:
    """Return a confidence as the file holds it, with four decimals."""
    return {
        "weights": [round(weight, 4) for weight in confidence.weights],
        "thresholds": [round(threshold, 4) for threshold in confidence.thresholds],
        "questions": confidence.examples,
    }


def write_part(part: str, fitted: Mapping[str, object]) -> None:
    """Replace one part of the file.

    Args:
        part: the name of the part.
        fitted: method → its confidence, from `rounded`.
    """
    defaults = json.loads(DEFAULTS_FILE.read_text("utf-8"))
    write_text(DEFAULTS_FILE, json.dumps(defaults | {part: fitted}, indent=1) + "\n")
