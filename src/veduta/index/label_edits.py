"""Labels that a person gave to single photos. They go before the labels of folders or of a CSV.

The rows have the labels. `label-edits.json` remembers which of them were given by hand, so that a
later update does not take the label of the folder or of the CSV again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from veduta.errors import QueryError, native_path, readable
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.sealed_json import read_sealed, write_sealed
from veduta.index.snapshot import build_snapshot, open_snapshot
from veduta.index.storage_errors import index_errors
from veduta.index.table import open_table_to_write, writer_lock
from veduta.text import composed

__all__ = ["LABEL_EDITS_FILE", "LabelEdit", "LabelEdits", "edit_labels"]

LABEL_EDITS_FILE = "label-edits.json"


@dataclass(frozen=True, slots=True)
class LabelEdit:
    """One change of a label.

    Attributes:
        id: of the photo, as in `Hit.id`.
        label: its label now, or None.
        previous: its label before, or None.
    """

    id: int
    label: str | None
    previous: str | None


class _Stored(msgspec.Struct):
    """The content of the file: path → label, and a checksum of both."""

    labels: dict[str, str | None]
    digest: str


class LabelEdits:
    """The labels that were given by hand, by the path of the photo."""

    def __init__(self, index: Path) -> None:
        """Read the edits of an index.

        Args:
            index: its folder.

        Raises:
            IndexDamaged: the file does not read back as it was written.
            StorageError: the disk does not read.
        """
        self._file = index / LABEL_EDITS_FILE
        self.label_of: dict[bytes, str | None] = {}
        stored = read_sealed(
            self._file,
            _Stored,
            lambda content: list(content.labels.items()),
            "It holds the labels that were given by hand. Restore it from a backup, or remove it: "
            "the rows keep their labels until the next update of the index",
        )
        if stored is not None:
            self.label_of = {
                os.fsencode(native_path(path)): label for path, label in stored.labels.items()
            }

    def write(self) -> None:
        """Write the edits to the disk. The caller holds the writer's lock.

        Raises:
            StorageError: the disk does not accept it.
        """
        labels = {
            path.decode("utf-8", "surrogateescape"): label
            for path, label in sorted(self.label_of.items())
        }
        write_sealed(self._file, "labels", labels, list(labels.items()))

    @staticmethod
    def forget(index: Path) -> None:
        """Forget all labels that were given by hand. The caller holds the writer's lock.

        Args:
            index: the folder of the index.

        Raises:
            StorageError: the disk does not accept it.
        """
        with index_errors(index, "write"):
            (index / LABEL_EDITS_FILE).unlink(missing_ok=True)


def edit_labels(index: Path, labels: Mapping[int, str | None]) -> list[LabelEdit]:
    """Give photos of an index other labels. Later updates keep them.

    Args:
        index: the folder of the index.
        labels: id of a photo → its new label; None takes the label away.

    Returns:
        The changes in the order of `labels`, with the labels before.

    Raises:
        QueryError: the index has no photo with one of the ids, or a label is empty. Nothing is
            changed then.
        IndexLocked: another process is writing to the index.
        IndexDamaged: the index does not open, or only at an older version.
        StorageFull: the disk is full.
    """
    import pyarrow as pa

    wanted = {row_id: _checked(label) for row_id, label in labels.items()}
    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table_to_write(index)
        snapshot = open_snapshot(index)
        rows = snapshot.rows.select(["id", "path", "label"]).slice(0, snapshot.photos)
        known = {
            row["id"]: row for row in rows.filter(_is_in(rows["id"], list(wanted))).to_pylist()
        }
        for row_id in wanted:
            if row_id not in known:
                raise QueryError(f"{readable(index)} has no photo number {row_id} (any more).")
        edits = LabelEdits(index)
        edits.label_of.update({known[row_id]["path"]: one for row_id, one in wanted.items()})
        edits.write()
        changed = {
            row_id: label for row_id, label in wanted.items() if known[row_id]["label"] != label
        }
        if changed:
            columns = {
                "id": pa.array(changed.keys(), pa.int64()),
                "label": pa.array(changed.values(), pa.string()),
            }
            table.update(pa.table(columns))
            table.tidy()
            table.drop_indices()
            build_graph(index, manifest, build_snapshot(index, manifest, table))
    return [LabelEdit(row_id, one, known[row_id]["label"]) for row_id, one in wanted.items()]


def _is_in(column: object, values: list[int]) -> object:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(column, pa.array(values, pa.int64()))


def _checked(label: str | None) -> str | None:
    if label is None:
        return None
    text = composed(label).strip()
    if not text:
        raise QueryError("A label has at least one letter. To take a label away, give none.")
    return text
