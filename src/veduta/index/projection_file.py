"""The file of the projection of an index. Its name holds the hash of its content."""

from __future__ import annotations

from pathlib import Path

from veduta.encoders.projection import Projection
from veduta.errors import EncoderError, IndexDamaged, readable
from veduta.index.manifest import Manifest
from veduta.index.storage_errors import repair_command

__all__ = ["load_projection", "projection_name", "read_projection"]


def projection_name(projection: Projection) -> str:
    """Return the name of the file of a projection."""
    return f"projection-{projection.identity}.npz"


def load_projection(file: Path, name: str) -> Projection:
    """Read a projection and compare it with the hash in its name.

    Args:
        file: the file.
        name: what `projection_name` returns for it.

    Raises:
        EncoderError: it is missing or damaged.
    """
    projection = Projection.load(file)
    if projection_name(projection) != name:
        raise EncoderError(f"{readable(file)}: it does not match the hash in its name")
    return projection


def read_projection(index: Path, manifest: Manifest) -> Projection | None:
    """Return the projection of an index, None if it has none.

    Args:
        index: the folder of the index.
        manifest: of the index.

    Raises:
        IndexDamaged: it is missing or damaged.
    """
    if manifest.projection is None:
        return None
    try:
        return load_projection(index / manifest.projection, manifest.projection)
    except EncoderError as error:
        raise IndexDamaged(f"{error}. Mend it with: {repair_command(index)}") from error
