"""Opening an extractor of keypoints by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from veduta.errors import QueryError
from veduta.keypoints.orb import load_orb
from veduta.keypoints.sift import load_sift
from veduta.keypoints.surf import load_surf
from veduta.keypoints.xfeat import load_xfeat
from veduta.text import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

__all__ = ["KINDS", "Extractor", "load_extractor"]

KINDS = ("xfeat", "sift", "orb", "surf")


class Extractor(Protocol):
    """Photo → keypoints. `extract` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def identity(self) -> str:
        """16 hex digits that change with the method, its settings and its weights."""
        ...

    @property
    def count(self) -> int:
        """At most so many keypoints a photo."""
        ...

    @property
    def long_side(self) -> int:
        """Pixels: a photo decoded to at least this long side loses nothing."""
        ...

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, best first, in pixels of its full size.

        Args:
            pixels: (H, W, 3) RGB, upright, maybe scaled down at decode.
            width, height: of the upright photo at its full size, in pixels.

        A photo without features, of few pixels or of an extreme shape has few keypoints or none.
        """
        ...


def load_extractor(name: str = "xfeat", *, count: int = 512, threads: int = 1) -> Extractor:
    """Return the extractor `name`; for the same arguments the same one.

    Args:
        name: one of `KINDS`.
        count: at most so many keypoints a photo, >= 1.
        threads: processor threads for one call of `extract`, >= 1. For "xfeat" only: "surf" uses
            one, "sift" and "orb" as many as OpenCV is set to.

    Raises:
        QueryError: no extractor has that name, or an argument is out of range.
        EncoderUnavailable: what it needs is not on this machine.
    """
    if name not in KINDS:
        advice = did_you_mean(name, KINDS) or f"known are {', '.join(KINDS)}"
        raise QueryError(f"no keypoints are called {name!r}; {advice}")
    if count < 1:
        raise QueryError(f"count must be 1 or more keypoints, not {count}")
    if threads < 1:
        raise QueryError(f"threads must be 1 or more, not {threads}")
    return _load(name, count, threads)


@cache
def _load(name: str, count: int, threads: int) -> Extractor:
    match name:
        case "sift":
            return load_sift(count)
        case "orb":
            return load_orb(count)
        case "surf":
            return load_surf(count)
        case _:
            return load_xfeat(count, threads)
