"""The persisted collection: its rows, its snapshot for searches, and the pass that updates it."""

from veduta.index.approximate import AUTOMATIC_FROM, build_approximate
from veduta.index.checking import Finding, Repaired, check, repair
from veduta.index.manifest import FILE as MANIFEST
from veduta.index.manifest import Manifest
from veduta.index.projecting import set_projection
from veduta.index.snapshot import Snapshot, open_snapshot
from veduta.index.status import status
from veduta.index.store import Table, open_table, thumbnails
from veduta.index.updating import Progress, Report, create, update

__all__ = [
    "AUTOMATIC_FROM",
    "MANIFEST",
    "Finding",
    "Manifest",
    "Progress",
    "Repaired",
    "Report",
    "Snapshot",
    "Table",
    "build_approximate",
    "check",
    "create",
    "open_snapshot",
    "open_table",
    "repair",
    "set_projection",
    "status",
    "thumbnails",
    "update",
]
