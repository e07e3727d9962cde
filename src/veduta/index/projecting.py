"""Give an index a projection: one fitted on its own descriptors, or one from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import Projection, fit_projection
from veduta.errors import EncoderMismatch, readable
from veduta.index.distinct_photos import distinct_photos
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.projection_file import projection_name
from veduta.index.snapshot import Snapshot, as_float32, build_snapshot
from veduta.index.storage_errors import index_errors
from veduta.index.table import open_table_to_write, writer_lock

_BLOCK_ROWS = 4096


def set_projection(index: Path, projection: Projection | int | None, power: float = 0.0) -> None:
    """Make searches of an index use a projection, or none.

    The projection is saved under the name of its hash, and the manifest names it. The stored
    descriptors do not change.

    Args:
        index: the folder of the index.
        projection: a fitted projection; or a number of dimensions, for a PCA that is fitted in one
            pass over the stored descriptors; or None for searches without a projection.
        power: of the whitening of that PCA: 0 only rotates, 1 whitens fully.

    Raises:
        EncoderMismatch: the projection is for descriptors of another encoder.
        EncoderError: there are too few photos for that many dimensions.
        IndexLocked: another process is writing to the index.
        StorageError: the disk does not read or write.
    """
    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table_to_write(index)
        name = None
        is_fitted_here = isinstance(projection, int)
        if isinstance(projection, int):
            plain = build_snapshot(index, replace(manifest, projection=None), table)
            projection = fit_projection(_descriptors(plain), dimension=projection, power=power)
        if projection is not None:
            _require_same_encoder(projection, manifest, index)
            name = projection_name(projection)
            with index_errors(index, "write"):
                projection.save(index / name)
        if name == manifest.projection and not is_fitted_here:
            return  # The snapshot is right already.
        manifest = replace(manifest, projection=name)
        manifest.write(index)
        build_graph(index, manifest, build_snapshot(index, manifest, table))
        with index_errors(index, "write"):
            for file in index.glob("projection-*.npz"):
                if file.name != name:
                    file.unlink()


def _require_same_encoder(projection: Projection, manifest: Manifest, index: Path) -> None:
    identity = str(manifest.encoder["identity"])
    if len(projection.mean) != manifest.dimension or projection.encoder not in {"", identity}:
        raise EncoderMismatch(
            f"this projection is for descriptors of {len(projection.mean)} numbers by the encoder "
            f"{projection.encoder or '(not known)'}, but those of {readable(index)} have "
            f"{manifest.dimension}, by {identity} ({manifest.encoder['name']}); "
            "fit it on descriptors of that encoder"
        )


def _descriptors(snapshot: Snapshot) -> Iterator[NDArray[np.float32]]:
    """Yield the descriptors by content hash, so that the order of the rows changes nothing.

    Where the variances of two axes are equal, the last bits of a sum decide where they point.
    """
    rows = np.argsort(distinct_photos(snapshot).photo_of_row, kind="stable")
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield as_float32(snapshot.descriptors[rows[start : start + _BLOCK_ROWS]])
