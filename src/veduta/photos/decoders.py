"""What decides whether a photo is read, so that a refused one is tried again when it changes."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from veduta._version import __version__
from veduta.photos.memory_budget import budget_bytes

__all__ = ["decoders"]

_LIBRARIES = (
    "imagecodecs",
    "opencv-python-headless",
    "pi-heif",
    "pillow",
    "rawpy",
    "simplejpeg",
)


def decoders() -> str:
    """Return the version of Veduta and of each library that decodes photos, and their memory.

    A photo that was refused may be read by other versions, by a library that was installed since,
    or with more memory.

    Raises:
        QueryError: the setting of the budget of memory is no number.
    """
    return f"{_versions()}; {budget_bytes() // 1_000_000} MB"


@cache
def _versions() -> str:
    installed = [f"veduta {__version__}"]
    for name in _LIBRARIES:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # Some are optional.
            continue
    return ", ".join(installed)
