"""Where the photos of an index were taken, as GPS told their cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index.snapshot import Snapshot

__all__ = ["PLACE_COLUMNS", "has_places", "places_of", "within_box"]

PLACE_COLUMNS = ("latitude", "longitude")


def has_places(snapshot: Snapshot) -> bool:
    """Return whether an index stores places. Those of older versions of Veduta do not."""
    return set(PLACE_COLUMNS) <= set(snapshot.rows.column_names)


def places_of(snapshot: Snapshot) -> NDArray[np.float64]:
    """Return the places of the photos.

    Args:
        snapshot: n photos.

    Returns:
        (n, 2) latitude and longitude in degrees; NaN for photos without a place.
    """
    if not has_places(snapshot):
        return np.full((snapshot.photos, 2), np.nan)
    rows = snapshot.rows.slice(0, snapshot.photos)
    columns = [rows[name].to_numpy() for name in PLACE_COLUMNS]
    return np.stack(columns, axis=1).astype(np.float64)


def within_box(
    places: NDArray[np.float64], box: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """Return which places are in a box of latitudes and longitudes, (n,) bool.

    Args:
        places: (n, 2) from `places_of`.
        box: south, west, north, east in degrees. A box whose west is greater than its east goes
            over the 180th meridian.
    """
    south, west, north, east = box
    latitude, longitude = places.T
    inside = (south <= latitude) & (latitude <= north)
    from_west, to_east = west <= longitude, longitude <= east
    across = (from_west & to_east) if west <= east else (from_west | to_east)
    return np.asarray(inside & across, np.bool_)
