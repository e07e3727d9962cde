"""Fit the projection of an index on its own descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import fit_projection
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.snapshot import build_snapshot, vectors
from veduta.index.store import Table, open_table, writing


def set_projection(index: Path, dimension: int | None, power: float = 0.0) -> None:
    """Make searches of `index` go through a PCA, or through none.

    It is fitted in one pass over the stored descriptors, saved under the name of its hash, and
    named by the manifest; the stored descriptors are not changed.

    Args:
        index: the index.
        dimension: to project to; None takes the projection away.
        power: 0 rotates only, 1 whitens fully.

    Raises:
        EncoderError: too few photos for `dimension`.
        IndexLocked: another process is writing to it.
    """
    with writing(index):
        manifest = Manifest.read(index)
        table = open_table(index)
        name = None
        if dimension is not None:
            projection = fit_projection(_descriptors(table), dimension=dimension, power=power)
            name = f"projection-{projection.identity}.npz"
            projection.save(index / name)
        if name == manifest.projection:
            return  # as it is: the snapshot need not be written again
        manifest = replace(manifest, projection=name)
        manifest.write(index)
        build_graph(index, manifest, build_snapshot(index, manifest, table))
        for file in index.glob("projection-*.npz"):
            if file.name != name:
                file.unlink()


def _descriptors(table: Table) -> Iterator[NDArray[np.float32]]:
    for batch in table.batches(["descriptor"], "problem IS NULL"):
        yield vectors(batch.column("descriptor"))
