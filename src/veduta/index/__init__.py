"""The index on disk: its table of photos, its snapshot for searches, and its updates."""

from veduta.index.approximate import build_approximate
from veduta.index.cached_index import update_cached_index
from veduta.index.checking import RepairReport, check_index, repair_index
from veduta.index.contents import (
    Descriptors,
    IndexedPhoto,
    descriptors_of,
    holds_path,
    ids_of_copies,
    photos_of,
    row_of_photo,
    rows_of_photos,
)
from veduta.index.creating import create_index, holds_index, open_or_create_index
from veduta.index.findings import CheckFinding
from veduta.index.label_edits import LabelEdit, edit_labels
from veduta.index.manifest import MANIFEST_FILE, Manifest
from veduta.index.merging import MergeReport, merge_indexes
from veduta.index.projecting import set_projection
from veduta.index.removing import ForgetReport, forget_folders, remove_photos
from veduta.index.snapshot import Snapshot, open_snapshot
from veduta.index.status import read_status
from veduta.index.table import Table, open_table
from veduta.index.thumbnails import StoredThumbnails
from veduta.index.updating import (
    UpdateProgress,
    UpdateReport,
    files_to_update,
    update_index,
)

__all__ = [
    "MANIFEST_FILE",
    "CheckFinding",
    "Descriptors",
    "ForgetReport",
    "IndexedPhoto",
    "LabelEdit",
    "Manifest",
    "MergeReport",
    "RepairReport",
    "Snapshot",
    "StoredThumbnails",
    "Table",
    "UpdateProgress",
    "UpdateReport",
    "build_approximate",
    "check_index",
    "create_index",
    "descriptors_of",
    "edit_labels",
    "files_to_update",
    "forget_folders",
    "holds_index",
    "holds_path",
    "ids_of_copies",
    "merge_indexes",
    "open_or_create_index",
    "open_snapshot",
    "open_table",
    "photos_of",
    "read_status",
    "remove_photos",
    "repair_index",
    "row_of_photo",
    "rows_of_photos",
    "set_projection",
    "update_cached_index",
    "update_index",
]
