"""The database of COLMAP: photos, cameras, keypoints and verified matches.

Schönberger & Frahm, "Structure-from-Motion Revisited", CVPR 2016. The tables are those that COLMAP
3.x makes. What is in them:

- `cameras`: one for each photo, of the model SIMPLE_RADIAL (f, cx, cy, k): the focal length is 1.2
  times the longer side, the centre is the middle of the photo, k is 0. `prior_focal_length` is 0,
  because the focal length is a guess.
- `images`: the photos in the order of their names, from number 1.
- `keypoints`: (N, 2) float32. COLMAP counts from the corner of the first pixel, so the middle of
  that pixel, which is (0, 0) in Veduta, is (0.5, 0.5) here.
- `descriptors`: (N, 128) uint8, only of SIFT keypoints. COLMAP matches no others, and does not
  need them for pairs that are matched.
- `matches`: (m, 2) uint32, all matches of the pairs that are verified.
- `two_view_geometries`: the matches that agree on a geometric model, with the model as 9 float64,
  row by row. The configuration is 6 (planar or panoramic) with a homography, 3 (uncalibrated) with
  a fundamental matrix. What is not known is null.

The number of a pair is id1 · 2147483647 + id2, with id1 < id2.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.errors import CannotWrite, DatasetError, readable
from veduta.files import atomic_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index.keypoint_files import StoredKeypoints
    from veduta.interchange.exported_pairs import MatchedPair
    from veduta.interchange.exported_photos import ExportedPhotos
    from veduta.keypoints import Keypoints

__all__ = ["MAX_IMAGE_ID", "ColmapDatabase", "colmap_database"]

MAX_IMAGE_ID = 2**31 - 1
_SIMPLE_RADIAL = 2
_FOCAL_FACTOR = 1.2
_CONFIGURATIONS = {"homography": 6, "fundamental": 3}
_SIFT = "sift"
_SIFT_UNIT = 512
"""What a number 1 of a SIFT descriptor of length one is in COLMAP."""

_INT8_UNIT = 127

_TO_CORNER = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
"""From pixels counted from the middle of the first one to those counted from its corner."""

_BLOB_TABLE = """
CREATE TABLE {} (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
    cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
"""

_SCHEMA = f"""
CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB,
    prior_focal_length INTEGER NOT NULL);
CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE,
    camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL,
    prior_tx REAL, prior_ty REAL, prior_tz REAL,
    CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < {MAX_IMAGE_ID}),
    FOREIGN KEY(camera_id) REFERENCES cameras(camera_id));
CREATE UNIQUE INDEX index_name ON images(name);
{_BLOB_TABLE.format("keypoints")}
{_BLOB_TABLE.format("descriptors")}
CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
    cols INTEGER NOT NULL, data BLOB);
CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
    cols INTEGER NOT NULL, data BLOB, config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB,
    tvec BLOB);
"""


class ColmapDatabase:
    """A database that is being written, see `colmap_database`."""

    def __init__(self, connection: sqlite3.Connection, photos: ExportedPhotos) -> None:
        self._run = connection.execute
        self._photos = photos
        self._ids = photos.ranks + 1

    def add_photos(
        self,
        keypoints: StoredKeypoints,
        kind: str,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.int64]:
        """Write all photos with their cameras and keypoints.

        Args:
            keypoints: of the index.
            kind: of the keypoints, such as "sift".
            on_progress: called with (photos done, photos).

        Returns:
            (n,) the number of keypoints of each row.

        Raises:
            IndexDamaged: keypoints cannot be read.
        """
        counts = np.zeros(len(self._photos), np.int64)
        for done, row in enumerate(self._photos.by_name.tolist(), start=1):
            found = keypoints.read(row)
            counts[row] = len(found)
            number = int(self._ids[row])
            width, height = self._photos.sizes[row].tolist()
            self._run(
                "INSERT INTO cameras VALUES (?, ?, ?, ?, ?, 0)",
                (number, _SIMPLE_RADIAL, width, height, _camera(width, height)),
            )
            self._run(
                "INSERT INTO images (image_id, name, camera_id) VALUES (?, ?, ?)",
                (number, self._photos.names[row], number),
            )
            positions = found.xy + np.float32(0.5)
            self._run("INSERT INTO keypoints VALUES (?, ?, ?, ?)", _blob(number, positions, "<f4"))
            if kind == _SIFT:
                rows = _sift_descriptors(found)
                self._run("INSERT INTO descriptors VALUES (?, ?, ?, ?)", _blob(number, rows, "u1"))
            if on_progress:
                on_progress(done, len(self._photos))
        return counts

    def add_pair(self, pair: MatchedPair) -> None:
        """Write the matches of a pair. Nothing is written if it is not verified.

        Args:
            pair: of photos that were added. The name of the first comes before the other's.
        """
        verification = pair.verification
        if verification is None or verification.model is None or verification.matrix is None:
            return
        number = int(self._ids[pair.first]) * MAX_IMAGE_ID + int(self._ids[pair.second])
        self._run("INSERT INTO matches VALUES (?, ?, ?, ?)", _blob(number, pair.matches, "<u4"))
        to_middle = np.linalg.inv(_TO_CORNER)
        fundamental = homography = None
        if verification.model == "homography":
            homography = _matrix(_TO_CORNER @ verification.matrix @ to_middle)
        else:
            fundamental = _matrix(to_middle.T @ verification.matrix @ to_middle)
        self._run(
            "INSERT INTO two_view_geometries (pair_id, rows, cols, data, config, F, H) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *_blob(number, verification.inliers, "<u4"),
                _CONFIGURATIONS[verification.model],
                fundamental,
                homography,
            ),
        )


@contextmanager
def colmap_database(file: Path, photos: ExportedPhotos) -> Iterator[ColmapDatabase]:
    """Yield an empty database. The file is there at the end of the block.

    Args:
        file: the file to write. One that is there is replaced.
        photos: of the index.

    Raises:
        DatasetError: another program has the database open, or ended while it wrote it.
        CannotWrite: the file cannot be written.
    """
    for ending in ("-wal", "-journal"):
        journal = Path(f"{file}{ending}")
        if os.path.lexists(journal):
            # SQLite would write its content into the new database.
            raise DatasetError(
                f"{readable(journal)} is there: another program has {readable(file)} open, or "
                "ended while it wrote it; end the program or delete that file, or name another one"
            )
    with atomic_file(file) as draft:
        try:
            with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                # The draft becomes the database only if it is whole.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                connection.executescript(_SCHEMA)
                connection.execute("BEGIN")
                yield ColmapDatabase(connection, photos)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            number = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise CannotWrite(file, OSError(number, str(error))) from error


def _camera(width: int, height: int) -> bytes:
    focal = _FOCAL_FACTOR * max(width, height)
    return np.array([focal, width / 2, height / 2, 0], "<f8").tobytes()


def _sift_descriptors(keypoints: Keypoints) -> NDArray[np.uint8]:
    scaled = np.rint(keypoints.descriptors.astype(np.float32) * (_SIFT_UNIT / _INT8_UNIT))
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def _blob(number: int, rows: NDArray[Any], dtype: str) -> tuple[int, int, int, bytes]:
    return number, len(rows), rows.shape[1], np.ascontiguousarray(rows, dtype).tobytes()


def _matrix(matrix: NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(matrix, "<f8").tobytes()
