"""A query: the photo as it is given, its pixels, and what it is encoded to."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.errors import QueryError, readable
from veduta.keypoints import Keypoints
from veduta.photos.orientation import UPRIGHT, Box, Orientation
from veduta.search.options import is_whole_number

__all__ = [
    "Box",
    "EncodedQuery",
    "PhotoSource",
    "QueryPhoto",
    "RegionQuery",
    "mean_descriptor",
    "photo_name",
    "read_photo",
]


@dataclass(frozen=True, slots=True)
class QueryPhoto:
    """The pixels of a photo, or of a region of it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright. Large photos are decoded at a reduced size.
        width: of the photo or region at its full size, in pixels.
        height: of the photo or region at its full size, in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    def turned(self, orientation: Orientation) -> QueryPhoto:
        """Return the photo or region in another orientation."""
        if not orientation.is_turned:
            return self
        size = orientation.size(self.width, self.height)
        return QueryPhoto(orientation.apply(self.pixels), *size)


PhotoSource = str | os.PathLike[str] | bytes | NDArray[np.uint8] | QueryPhoto
"""A photo: its path, or its pixels, (H, W, 3) uint8 RGB, upright; or what `read_photo` returned."""


@dataclass(frozen=True, slots=True)
class RegionQuery:
    """What a query is compared with regions of photos by. In a region things are seen smaller.

    Attributes:
        code: (b,) uint8, of the query at smaller sizes (`veduta.encoders.region_codes`).
        keypoints: of each photo of the query at half its size, in pixels of its full size.
    """

    code: NDArray[np.uint8]
    keypoints: tuple[Keypoints, ...]


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """What a query is compared by: one descriptor, and the keypoints of each of its photos.

    Attributes:
        descriptor: (d,) float32, of length one.
        keypoints: one entry for each photo; empty if the query is not verified by geometry.
            Positions are in pixels of the photo, or of the region that is searched for, as it was
            turned.
        corner: x, y of that region in the photo as it was given.
        space: how it was encoded; empty if that is not known. An index that encodes in another way
            refuses it.
        orientation: how the photos were turned before they were encoded.
        in_regions: by which it is compared with the regions of photos; None: it is not.
    """

    descriptor: NDArray[np.float32]
    keypoints: tuple[Keypoints, ...] = ()
    corner: tuple[int, int] = (0, 0)
    space: str = ""
    orientation: Orientation = UPRIGHT
    in_regions: RegionQuery | None = None

    def in_given_photo(self, xy: NDArray[np.float32], keypoints: Keypoints) -> NDArray[np.float32]:
        """Return points of a turned photo in pixels of the photo as it was given.

        Args:
            xy: (n, 2) x, y in pixels of the turned photo, or of the turned region of it.
            keypoints: of the same photo or region.

        Returns:
            (n, 2) x, y in pixels of the whole photo.
        """
        given = self.orientation.inverse.points(xy, keypoints.width, keypoints.height)
        return np.asarray(given + self.corner, np.float32)


def read_photo(photo: PhotoSource, at_least: int | None, crop: Box | None = None) -> QueryPhoto:
    """Return the pixels of a photo.

    Args:
        photo: a path or pixels. A `QueryPhoto` is returned as it is: it is the region already.
        at_least: the long side in pixels that the photo keeps when it is decoded at a reduced
            size; None: decode it at its full size. A region is cut from the full size.
        crop: take only this region.

    Raises:
        PhotoError: the photo cannot be read.
        QueryError: an array is not a photo, or the region is not within the photo.
    """
    if crop is not None:
        _check_whole_numbers(crop)
    if isinstance(photo, QueryPhoto):  # Its region was cut out when it was read.
        return photo
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise QueryError(
                "A photo array must be (height, width, 3) uint8 RGB, not "
                f"{photo.shape} {photo.dtype}."
            )
        whole = QueryPhoto(photo, photo.shape[1], photo.shape[0])
    else:
        loaded = photos.load(photo, at_least=None if crop else at_least)
        whole = QueryPhoto(loaded.pixels, loaded.width, loaded.height)
    if crop is None:
        return whole
    return QueryPhoto(_cropped(whole.pixels, crop), crop[2], crop[3])


def photo_name(photo: PhotoSource, default: str) -> str:
    """Return what messages and pages call a photo: its path, or `default` for pixels."""
    return default if isinstance(photo, (np.ndarray, QueryPhoto)) else readable(photo)


def check_region(region: Box, width: int, height: int) -> None:
    """Check that a region is within a photo.

    Args:
        region: x, y, width, height in pixels.
        width: of the photo, in pixels.
        height: of the photo, in pixels.

    Raises:
        QueryError: it is not, or it is empty, or its numbers are not whole.
    """
    _check_whole_numbers(region)
    x, y, region_width, region_height = region
    inside = x >= 0 and y >= 0 and x + region_width <= width and y + region_height <= height
    if region_width < 1 or region_height < 1 or not inside:
        raise QueryError(
            f"The region {x},{y},{region_width},{region_height} is not within the photo, which has "
            f"{width} × {height} pixels."
        )


def mean_descriptor(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the descriptor of a query of several photos of one thing.

    Args:
        descriptors: (m, d) float32, one row for each photo.

    Returns:
        (d,) float32 of length one, in the direction of their mean.

    Raises:
        QueryError: the mean is zero.
    """
    mean = descriptors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise QueryError("These photos have nothing in common: their descriptors cancel out.")
    return np.asarray(mean / length, np.float32)


def _cropped(pixels: NDArray[np.uint8], crop: Box) -> NDArray[np.uint8]:
    check_region(crop, pixels.shape[1], pixels.shape[0])
    x, y, width, height = crop
    return pixels[y : y + height, x : x + width]


def _check_whole_numbers(region: Box) -> None:
    if len(region) != 4 or not all(map(is_whole_number, region)):
        raise QueryError(f"A region is x, y, width, height in whole pixels, not {region!r}.")
