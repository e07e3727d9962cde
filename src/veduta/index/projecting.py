"""Give an index a projection: fitted on its own descriptors, or one from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import Projection, fit_projection
from veduta.errors import EncoderMismatch, readable
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.snapshot import build_snapshot, descriptor_array
from veduta.index.table import Table, open_table, writer_lock


def set_projection(index: Path, projection: Projection | int | None, power: float = 0.0) -> None:
    """Make searches of `index` go through a projection, or through none.

    It is saved under the name of its hash, and named by the manifest; the stored descriptors are
    not changed.

    Args:
        index: the index.
        projection: a fitted one; a number of dimensions: a PCA to as many, fitted in one pass over
            the stored descriptors; None takes the projection away.
        power: of that PCA: 0 rotates only, 1 whitens fully.

    Raises:
        EncoderMismatch: the projection is for descriptors of another encoder.
        EncoderError: too few photos for that many dimensions.
        IndexLocked: another process is writing to it.
    """
    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table(index)
        name = None
        if isinstance(projection, int):
            projection = fit_projection(_descriptors(table), dimension=projection, power=power)
        if projection is not None:
            _require_fit(projection, manifest, index)
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


def _require_fit(projection: Projection, manifest: Manifest, index: Path) -> None:
    identity = str(manifest.encoder["identity"])
    if len(projection.mean) != manifest.dimension or projection.encoder not in {"", identity}:
        raise EncoderMismatch(
            f"this projection is for descriptors of {len(projection.mean)} numbers by the encoder "
            f"{projection.encoder or '(not known)'}, but those of {readable(index)} have "
            f"{manifest.dimension}, by {identity} ({manifest.encoder['name']}); "
            "fit it on descriptors of that encoder"
        )


def _descriptors(table: Table) -> Iterator[NDArray[np.float32]]:
    for batch in table.batches(["descriptor"], "problem IS NULL"):
        yield descriptor_array(batch.column("descriptor"))
