"""Keypoints and matches in HDF5, as hloc reads them.

Sarlin et al., "From Coarse to Fine: Robust Hierarchical Localization at Large Scale", CVPR 2019,
and its toolbox hloc. A file of features has a group for each photo:

- `keypoints`: (N, 2) float32, x and y in pixels of the photo at its full size. (0, 0) is the middle
  of the first pixel, as in Veduta. hloc adds 0.5 when it passes them to COLMAP, which counts from
  the corner of that pixel. The attribute `uncertainty` is the size in pixels of the full photo of
  one pixel of the photo in which the keypoints were found.
- `descriptors`: (D, N) float16, columns of length one. Bits become numbers of equal size, positive
  or negative, whose products order pairs as the Hamming distance does.
- `scores`: (N,) float32 in (0, 1], falling. An index keeps the order of the keypoints, best first,
  and not their scores, so these are ranks: (N - i) / N.
- `image_size`: (2,) int64, width and height.

A file of matches has a group for each pair, `NAME0/NAME1` with `-` for each `/` in the names:

- `matches0`: (N0,) int32, the keypoint of the second photo that each keypoint of the first one is;
  -1 if none.
- `matching_scores0`: (N0,) float16, the similarity of the descriptors, as products of the columns
  above; 0 if there is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.errors import DatasetError, readable
from veduta.files import atomic_file
from veduta.interchange.hdf5_writing import hdf5_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index.keypoint_files import StoredKeypoints
    from veduta.interchange.exported_pairs import MatchedPair, PhotoPairs
    from veduta.interchange.exported_photos import ExportedPhotos
    from veduta.keypoints import Keypoints

__all__ = ["hloc_matches", "unit_rows", "write_features"]


def unit_rows(keypoints: Keypoints) -> NDArray[np.float32]:
    """Return the descriptors of keypoints as rows of length one.

    Args:
        keypoints: of one photo.

    Returns:
        (N, D). D is the number of bits if the descriptors are bits.
    """
    rows = keypoints.descriptors
    if keypoints.binary:
        rows = 2 * np.unpackbits(rows, axis=1).astype(np.int8) - 1
    wide: NDArray[np.float32] = rows.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    wide /= lengths
    return wide


def write_features(
    file: Path,
    photos: ExportedPhotos,
    keypoints: StoredKeypoints,
    *,
    working_side: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Write the keypoints of all photos.

    Args:
        file: the file to write.
        photos: of the index.
        keypoints: of the index.
        working_side: the long side in pixels at which the keypoints were found.
        on_progress: called with (photos done, photos).

    Returns:
        (n,) the number of keypoints of each row.

    Raises:
        DatasetError: h5py is not installed.
        IndexDamaged: keypoints cannot be read.
        CannotWrite: the file cannot be written.
    """
    counts = np.zeros(len(photos), np.int64)
    with atomic_file(file) as draft, hdf5_writer(draft) as target:
        for done, row in enumerate(photos.by_name.tolist(), start=1):
            found = keypoints.read(row)
            counts[row] = n = len(found)
            arrays: dict[str, NDArray[Any]] = {
                "keypoints": found.xy.astype(np.float32),
                "descriptors": np.ascontiguousarray(unit_rows(found).T, np.float16),
                "scores": (np.arange(n, 0, -1) / max(n, 1)).astype(np.float32),
                "image_size": photos.sizes[row],
            }
            scale = max(found.width, found.height) / working_side
            uncertainty = {"keypoints": {"uncertainty": max(1.0, scale)}}
            target.add(photos.names[row], arrays, uncertainty)
            if on_progress:
                on_progress(done, len(photos))
    return counts


@contextmanager
def hloc_matches(
    file: Path, photos: ExportedPhotos, pairs: PhotoPairs
) -> Iterator[Callable[[MatchedPair], None]]:
    """Yield a function that writes one pair. The file is there at the end of the block.

    A pair that is not verified is written too, without matches, because hloc refuses a list of
    pairs of which one is missing.

    Args:
        file: the file to write.
        photos: that the pairs are of.
        pairs: all that will be written.

    Raises:
        DatasetError: h5py is not installed, or two pairs have the same name of a group.
        CannotWrite: the file cannot be written.
    """
    _check_names(file, [photos.names[row] for row in np.unique(pairs.rows).tolist()])
    with atomic_file(file) as draft, hdf5_writer(draft) as target:

        def take(pair: MatchedPair) -> None:
            names = (photos.names[pair.first], photos.names[pair.second])
            first, second = pair.inliers.T
            matches = np.full(len(pair.keypoints[0]), -1, np.int32)
            matches[first] = second
            scores = np.zeros(len(matches), np.float16)
            one, other = (unit_rows(keypoints) for keypoints in pair.keypoints)
            scores[first] = np.einsum("nd,nd->n", one[first], other[second])
            arrays: dict[str, NDArray[Any]] = {"matches0": matches, "matching_scores0": scores}
            target.add("/".join(map(_group_name, names)), arrays)

        yield take


def _group_name(name: str) -> str:
    return name.replace("/", "-")


def _check_names(file: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_group_name(name), name)
        if other != name:
            raise DatasetError(
                f"{readable(file)}: hloc takes {readable(other)} and {readable(name)} for one "
                "photo, because it writes '-' for '/'; rename one of them, and index it again"
            )
