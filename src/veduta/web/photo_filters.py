"""Conditions on a list of photos, as the address of a request has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Query
from numpy.typing import NDArray

from veduta.index import Snapshot
from veduta.index.places import places_of, within_box
from veduta.search import SearchOptions
from veduta.search.filters import allowed_rows
from veduta.web.api_types import MAX_LIMIT, MAX_TEXT_LETTERS, PhotoId

__all__ = ["PhotoFilters", "Text", "photo_filters", "read_options"]

Text = Annotated[str | None, Query(max_length=MAX_TEXT_LETTERS)]

_NO_DATE = "none"
_NUMBER = r"-?[0-9]{1,3}(\.[0-9]{1,12})?"


@dataclass(frozen=True, slots=True)
class PhotoFilters:
    """A photo must meet all conditions that are given.

    Attributes:
        options: conditions that searches have, too.
        unlabelled: photos without a label; with labels in `options`, those too.
        month: of exposure, such as "2014-05"; "none" for photos without a date.
        ids: one of these photos.
        group: of the group that this photo is in. `rows` does not know groups.
        within: taken in this box: south, west, north, east in degrees.
    """

    options: SearchOptions
    unlabelled: bool = False
    month: str | None = None
    ids: tuple[int, ...] = ()
    group: int | None = None
    within: tuple[float, float, float, float] | None = None

    def rows(self, snapshot: Snapshot) -> NDArray[np.bool_]:
        """Return which photos meet the conditions.

        Args:
            snapshot: n photos.

        Returns:
            (n,) bool.

        Raises:
            QueryError: `after` or `before` is no date.
        """
        met = self._labelled(snapshot)
        allowed = allowed_rows(snapshot, replace(self.options, labels=()))
        if allowed is not None:
            met = met & allowed
        if self.month is not None:
            taken = _column(snapshot, "taken").to_numpy(zero_copy_only=False)
            if self.month == _NO_DATE:
                met = met & np.isnat(taken)
            else:
                met = met & (taken.astype("datetime64[M]") == np.datetime64(self.month, "M"))
        if self.ids:
            met = met & np.isin(_column(snapshot, "id").to_numpy(), self.ids)
        if self.within is not None:
            met = met & within_box(places_of(snapshot), self.within)
        return met

    def _labelled(self, snapshot: Snapshot) -> NDArray[np.bool_]:
        with_label = allowed_rows(snapshot, SearchOptions(labels=self.options.labels))
        if not self.unlabelled:
            return np.ones(snapshot.photos, np.bool_) if with_label is None else with_label
        without = np.asarray(_column(snapshot, "label").is_null(), np.bool_)
        return without if with_label is None else np.logical_or(without, with_label)


def photo_filters(
    label: Annotated[list[str] | None, Query(description="One of these labels.")] = None,
    unlabelled: Annotated[bool, Query(description="Photos without a label.")] = False,
    folder: Text = None,
    after: Text = None,
    before: Text = None,
    month: Annotated[
        str | None,
        Query(
            pattern="^([0-9]{4}-(0[1-9]|1[0-2])|none)$",
            description='The month of exposure, or "none" for photos without a date.',
        ),
    ] = None,
    id: Annotated[  # noqa: A002
        list[PhotoId] | None, Query(max_length=MAX_LIMIT, description="One of these photos.")
    ] = None,
    group: Annotated[
        PhotoId | None, Query(description="Of the group that this photo is in.")
    ] = None,
    within: Annotated[
        str | None,
        Query(
            pattern=f"^{_NUMBER}(,{_NUMBER}){{3}}$",
            description="Taken in this box: south,west,north,east in degrees. If west is greater "
            "than east, the box goes over the 180th meridian.",
        ),
    ] = None,
) -> PhotoFilters:
    """Read the conditions from the address of a request."""
    filters = {"label": label, "folder": folder, "after": after, "before": before}
    options = read_options({name: value for name, value in filters.items() if value is not None})
    return PhotoFilters(options, unlabelled, month, tuple(id or ()), group, _box(within))


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    south, west, north, east = map(float, text.split(","))
    return south, west, north, east


def read_options(filters: dict[str, Any], **options: Any) -> SearchOptions:
    """Return the options of a search with the filters of a request."""
    folder = filters.pop("folder", None)
    return replace(
        SearchOptions(**options),
        labels=tuple(filters.pop("label", None) or ()),
        under=None if folder is None else Path(folder),
        **filters,
    )


def _column(snapshot: Snapshot, name: str) -> Any:
    return snapshot.rows[name].slice(0, snapshot.photos).combine_chunks()
