"""The findings of `veduta clean`: a table with a row for each problem of a photo."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from veduta.errors import DatasetError, readable
from veduta.files import atomic_file

if TYPE_CHECKING:
    from veduta.datasets import Dataset

__all__ = [
    "KINDS",
    "Finding",
    "Kind",
    "Suggestion",
    "doubt",
    "most_certain_first",
    "photo_finding",
    "write_findings",
]

Suggestion = Literal["drop", "keep", "relabel"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: as the option `--only` has it.
        suggestion: what to do with such a photo.
        meaning: in a few words.
    """

    name: str
    suggestion: Suggestion
    meaning: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("corrupt", "drop", "does not decode"),
        Kind("truncated", "drop", "cut short"),
        Kind("not-a-photo", "drop", "no picture, whatever its name"),
        Kind("unsupported", "keep", "a picture of a kind that is not read"),
        Kind("unreadable", "keep", "not there, no permission, above a cap, or too costly"),
        Kind("tiny", "drop", "a side of less than 64 pixels"),
        Kind("blank", "drop", "one colour, or nearly"),
        Kind("blurred", "keep", "no more detail than a photo 64 pixels long has"),
        Kind("dark", "keep", "black, or nearly"),
        Kind("overexposed", "keep", "white, or nearly"),
        Kind("aspect-ratio", "keep", "more than three times as long as wide"),
        Kind("extension", "keep", "named for another format"),
        Kind("exact-copy", "drop", "the same bytes as another photo"),
        Kind("near-copy", "drop", "another photo saved again, cut, mirrored, turned or marked"),
        Kind("same-view", "keep", "another exposure of the same view"),
        Kind("off-topic", "keep", "unlike the photos of its class"),
        Kind("mislabelled", "relabel", "shows what another class shows"),
        Kind("unlike", "drop", "does not look like the examples"),
    )
}
"""All kinds by name, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one photo.

    Attributes:
        path: relative to the dataset, with forward slashes.
        kind: a name of `KINDS`.
        score: in [0, 1]. A photo that just passes the threshold of a rule has 0.5; 1 is certain.
        reason: in words.
        suggestion: what to do.
        label: of the photo; None if it has none.
        suggested_label: the class that a mislabelled photo shows.
        probability: of the suggested label, in [0, 1].
        group: number of the group of copies. The photo of a group that stays has no finding.
        other: path of the photo that it is a copy of, or that shows the same view.
    """

    path: str
    kind: str
    score: float
    reason: str
    suggestion: Suggestion
    label: str | None = None
    suggested_label: str | None = None
    probability: float | None = None
    group: int | None = None
    other: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def photo_finding(
    dataset: Dataset, position: int, kind: str, score: float, reason: str, **more: Any
) -> Finding:
    """Return a finding with the suggestion of its kind.

    Args:
        dataset: the photos.
        position: of the photo among them.
        kind: a name of `KINDS`.
        score: in [0, 1].
        reason: in words.
        more: further fields of `Finding`.
    """
    fields_of_kind = {"suggestion": KINDS[kind].suggestion, "label": dataset.labels[position]}
    return Finding(dataset.paths[position], kind, float(score), reason, **(fields_of_kind | more))


def doubt(ratio: float) -> float:
    """Return the score, in [0.5, 1], of a photo that is beyond the threshold of a rule.

    Args:
        ratio: how many times it is beyond the threshold; 1 is at the threshold.
    """
    return 1.0 - 0.5 / max(ratio, 1.0)


def most_certain_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings by falling score, then by kind and path."""
    order = {name: number for number, name in enumerate(KINDS)}
    return tuple(
        sorted(findings, key=lambda finding: (-finding.score, order[finding.kind], finding.path))
    )


def write_findings(file: Path, findings: Sequence[Finding]) -> None:
    r"""Write the table as CSV or Parquet, depending on the extension of `file`.

    Bytes of file names that are not UTF-8 become `\xNN`.

    Args:
        file: the table. It is replaced as a whole.
        findings: its rows.

    Raises:
        DatasetError: the extension is another one.
        OSError: the file cannot be written.
    """
    extension = file.suffix.lower()
    if extension not in (".csv", ".parquet"):
        raise DatasetError(f"{readable(file)}: findings go to a .csv or a .parquet file")
    with atomic_file(file) as draft:
        if extension == ".csv":
            _write_csv(draft, findings)
        else:
            _write_parquet(draft, findings)


def _write_csv(file: Path, findings: Sequence[Finding]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(Finding))
        for finding in findings:
            row = finding.as_json()
            row["score"] = f"{finding.score:.4f}"
            if finding.probability is not None:
                row["probability"] = f"{finding.probability:.4f}"
            writer.writerow(
                readable(value) if isinstance(value, str) else value for value in row.values()
            )


def _write_parquet(file: Path, findings: Sequence[Finding]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "score": pa.float64(),
        "probability": pa.float64(),
        "group": pa.int64(),
    }
    columns = {}
    for field in fields(Finding):
        values = [getattr(finding, field.name) for finding in findings]
        if field.name not in types:
            values = [None if value is None else readable(value) for value in values]
        columns[field.name] = pa.array(values, types.get(field.name, pa.string()))
    parquet.write_table(pa.table(columns), file, compression="zstd")
