"""The facts about an index that `veduta status` prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from veduta.index.graph import graph_notice, graph_state
from veduta.index.manifest import Manifest
from veduta.index.snapshot import open_snapshot
from veduta.index.table import is_locked


def read_status(index: Path) -> dict[str, Any]:
    """Return the facts about an index as JSON types.

    Args:
        index: the folder of the index.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the index does not open.
    """
    manifest = Manifest.read(index)
    snapshot = open_snapshot(index)
    state = graph_state(index, manifest)
    notices = [snapshot.notice] if snapshot.notice else []
    if state == "damaged":
        notices.append(graph_notice(index))
    unreadable = snapshot.rows.slice(snapshot.photos).select(["path", "problem"]).to_pylist()
    photos = snapshot.rows.slice(0, snapshot.photos)
    labels = snapshot.rows["label"].drop_null().unique()
    return {
        "index": os.fspath(index),
        "photos": snapshot.photos,
        "version": snapshot.version,
        "notice": " ".join(notices) or None,
        "encoder": manifest.encoder,
        "dimension": snapshot.dimension,
        "projection": manifest.projection,
        "keypoints": manifest.keypoints,
        "graph": state,
        "linked": state == "whole",
        "labels": manifest.labels,
        "classes": len(labels),
        "folders": list(manifest.folders),
        "exclude": list(manifest.exclude),
        "labelled": photos["label"].length() - photos["label"].null_count,
        "undated": photos["taken"].null_count,
        "created": manifest.created,
        "locked": is_locked(index),
        "bytes": _bytes_in(index),
        "unreadable": [
            {"path": os.fsdecode(row["path"]), "reason": row["problem"]} for row in unreadable
        ],
    }


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # A writer has removed it meanwhile.
                continue
    return total
