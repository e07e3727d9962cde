"""The facts about an index that `veduta status` prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from veduta.index.cell_files import open_cells
from veduta.index.graph import graph_notice, graph_state
from veduta.index.manifest import Manifest
from veduta.index.places import places_of
from veduta.index.removed_photos import RemovedPhotos
from veduta.index.snapshot import open_snapshot
from veduta.index.table import TABLE_FOLDER, is_locked
from veduta.index.table_files import VERSIONS
from veduta.text import count


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
    cells = open_cells(index, manifest, snapshot.name)
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
        "regions": manifest.regions,
        "cells": None
        if cells is None
        else {
            "count": len(cells.cells.centres),
            "compared": min(cells.compared, snapshot.photos),
            "recall": cells.recall,
        },
        "graph": state,
        "linked": state == "whole",
        "shard": str(manifest.shard) if manifest.shard else None,
        "unfinished": manifest.unfinished,
        "labels": manifest.labels,
        "classes": len(labels),
        "folders": list(manifest.folders),
        "exclude": list(manifest.exclude),
        "labelled": photos["label"].length() - photos["label"].null_count,
        "placed": int((~np.isnan(places_of(snapshot)[:, 0])).sum()),
        "removed": len(RemovedPhotos(index).paths),
        "undated": photos["taken"].null_count,
        "created": manifest.created,
        "changed": _last_change(index),
        "locked": is_locked(index),
        "bytes": _bytes_in(index),
        "unreadable": [
            {"path": os.fsdecode(row["path"]), "reason": row["problem"]} for row in unreadable
        ],
    }


def status_lines(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what people are told of an index, each as a name and the words.

    Args:
        state: of `read_status`.
    """
    encoder, keypoints = state["encoder"], state["keypoints"]
    projected = f", searched with {state['dimension']}" if state["projection"] else ""
    yield "encoder", f"{encoder['name']} ({encoder['identity']})"
    yield "dimensions", f"{encoder['dimension']}{projected}"
    yield "keypoints", f"{keypoints['name']}, {keypoints['count']} a photo" if keypoints else "none"
    yield "regions", f"{state['regions']['count']} a photo" if state["regions"] else "none"
    if cells := state["cells"]:
        yield (
            "cells",
            f"{cells['count']:,}; they find {cells['recall']:.3f} of the nearest photos "
            f"by {cells['compared']:,} codes",
        )
    if state["shard"]:
        rest = ", and its last run was cut off" if state["unfinished"] else ""
        yield "shard", f"{state['shard']} of a collection{rest}"
    else:
        yield "links", "made and verified" if state["linked"] else "none, or not all verified"
    yield (
        "labels",
        f"{state['labels'] or 'none'} ({count(state['classes'], 'label')}, "
        f"{count(state['labelled'], 'labelled photo')})",
    )
    for pattern in state["exclude"]:
        yield "excluded", pattern
    if state["undated"]:
        yield "undated", f"{count(state['undated'], 'photo')} without a date of exposure"
    if state["removed"]:
        yield "removed", f"{count(state['removed'], 'photo')} that later runs leave out"
    if state["placed"]:
        yield "places", f"{count(state['placed'], 'photo')} with GPS"
    for name in ("created", "changed"):
        if state[name]:
            yield name, moment_words(state[name])
    yield "on disk", f"{state['bytes'] / 1e6:,.1f} MB"
    yield "writing", "another process, now" if state["locked"] else "nobody"


def moment_words(moment: str) -> str:
    """Return an ISO time as `2026-12-01 09:30 UTC`.

    Args:
        moment: with its time zone.
    """
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def last_commit(index: Path) -> float | None:
    """Return when the newest version of the table was written.

    Args:
        index: the folder of the index.

    Returns:
        Seconds since 1970; None if there is no version.
    """
    newest = 0.0
    with suppress(FileNotFoundError):  # A damaged index may have no table.
        for entry in os.scandir(index / TABLE_FOLDER / VERSIONS):
            with suppress(FileNotFoundError):  # A writer has removed it meanwhile.
                newest = max(newest, entry.stat().st_mtime)
    return newest or None


def _last_change(index: Path) -> str | None:
    time = last_commit(index)
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # A writer has removed it meanwhile.
                continue
    return total
