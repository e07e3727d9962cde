"""The index on disk: its table of photos, its snapshot for searches, and its updates."""

from veduta.index.approximate import AUTOMATIC_FROM, build_approximate
from veduta.index.checking import CheckFinding, RepairReport, check_index, repair_index
from veduta.index.manifest import MANIFEST_FILE, Manifest
from veduta.index.projecting import set_projection
from veduta.index.snapshot import Snapshot, open_snapshot
from veduta.index.status import read_status
from veduta.index.table import Table, open_table, read_thumbnails
from veduta.index.updating import UpdateProgress, UpdateReport, create_index, update_index

__all__ = [
    "AUTOMATIC_FROM",
    "MANIFEST_FILE",
    "CheckFinding",
    "Manifest",
    "RepairReport",
    "Snapshot",
    "Table",
    "UpdateProgress",
    "UpdateReport",
    "build_approximate",
    "check_index",
    "create_index",
    "open_snapshot",
    "open_table",
    "read_status",
    "read_thumbnails",
    "repair_index",
    "set_projection",
    "update_index",
]
