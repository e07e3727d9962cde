"""The place of finished parts, by what its settings say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from veduta.ray_indexing.staging import FolderStaging, Staging
from veduta.ray_indexing.store_staging import StoreStaging

__all__ = ["staging_of"]


def staging_of(settings: Mapping[str, str]) -> Staging:
    """Return the place that `Staging.settings` of another process describes.

    Args:
        settings: of it.

    Raises:
        StoreError: what object stores need is not installed, or a variable is wrong.
    """
    if "store" in settings:
        return StoreStaging(settings["store"])
    return FolderStaging(Path(settings["folder"]))
