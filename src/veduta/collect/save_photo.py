"""Save a response as a photo: check its content, encode it again if wanted, write the file.

A photo is written as a draft and renamed, so that each file with a photo's name is complete. It is
not synced to the disk, because thousands of files a minute would wait for that. If a power failure
leaves a file empty or removes it, the next run collects it again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from veduta.collect.outcome import Outcome, Result
from veduta.collect.response_body import ResponseBody
from veduta.collect.settings import Settings
from veduta.errors import PhotoError, PhotoTooLarge
from veduta.files import replace_file, write_by_draft
from veduta.photos import Photo, content_hash, decode, resize
from veduta.photos.formats import EXTENSIONS, HEAD_BYTES, sniff
from veduta.text import printable

__all__ = ["PhotoSaver", "photo_exists"]

_JPEG_QUALITY = 90
# The format allows 65,535 pixels, libjpeg 65,500.
_MAX_JPEG_SIDE_PIXELS = 65_500


@dataclass(frozen=True, slots=True)
class PhotoSaver:
    """Writes photos below a folder. Several threads may use it at once.

    Attributes:
        folder: where the photos go.
        drafts: a folder for unfinished files, in the same file system.
        settings: of the download.
    """

    folder: Path
    drafts: Path
    settings: Settings

    def save(self, body: ResponseBody, stem: str, draft_name: str, pending: Result) -> Result:
        """Check a body and write it as a photo.

        Args:
            body: the bytes. They are discarded at the end.
            stem: path of the photo below the folder, without extension.
            draft_name: name of the unfinished file; no other thread may use it.
            pending: what is known of the row.

        Returns:
            `pending` with the outcome and the facts of the file.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            data = body.read()
            try:
                photo_format, width, height, encoded = self._check(data, stem)
            except PhotoError as error:
                too_large = isinstance(error, PhotoTooLarge)
                outcome = Outcome.TOO_LARGE if too_large else Outcome.NOT_A_PHOTO
                return replace(pending, outcome=outcome, error=printable(error.reason))
            except _TooSmall as small:
                return replace(
                    pending,
                    outcome=Outcome.TOO_SMALL,
                    error=f"{small}, the short side is below {self.settings.min_size}",
                    width=small.width,
                    height=small.height,
                )
            if encoded is not None:
                data = encoded
            path = f"{stem}.{EXTENSIONS[photo_format][0]}"
            target = f"{self.folder}/{path}"
            if body.file is not None and encoded is None:
                replace_file(target, body.file)
            else:
                write_by_draft(target, data, self.drafts / draft_name)
            return replace(
                pending,
                outcome=Outcome.COLLECTED,
                bytes=len(data),
                width=width,
                height=height,
                format=photo_format,
                hash=content_hash(data).hex(),
                path=path,
            )
        finally:
            body.discard()

    def _check(self, data: bytes, name: str) -> tuple[str, int | None, int | None, bytes | None]:
        """Return the format, width and height, and the new bytes if the photo is encoded again."""
        if not self.settings.decode:
            return str(sniff(data[:HEAD_BYTES])), None, None, None
        if not self.settings.re_encode:
            # At the smallest scale a JPEG is still parsed to its end. Other formats have one scale.
            photo = self._decoded(data, name, 1)
            return photo.format, photo.width, photo.height, None
        import numpy as np
        import simplejpeg

        side = min(self.settings.resize or _MAX_JPEG_SIDE_PIXELS, _MAX_JPEG_SIDE_PIXELS)
        photo = self._decoded(data, name, self.settings.resize)
        scale = min(1.0, side / max(photo.width, photo.height))
        width, height = (max(1, round(scale * each)) for each in (photo.width, photo.height))
        pixels = np.ascontiguousarray(resize(photo.pixels, width, height))
        # A small photo has fine colours, so that their resolution is halved in one direction only.
        encoded: bytes = simplejpeg.encode_jpeg(
            pixels, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="422"
        )
        return "JPEG", width, height, encoded

    def _decoded(self, data: bytes, name: str, at_least: int | None) -> Photo:
        photo = decode(data, path=name, at_least=at_least, srgb=self.settings.re_encode)
        if min(photo.width, photo.height) < (self.settings.min_size or 1):
            raise _TooSmall(photo.width, photo.height)
        return photo


class _TooSmall(Exception):
    """A photo has fewer pixels than the settings ask for."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} × {height} pixels")
        self.width = width
        self.height = height


def photo_exists(folder: str, result: Result) -> bool:
    """Return whether the file of a collected row still exists and is not empty.

    Args:
        folder: where the photos are.
        result: of the row.
    """
    try:
        return os.stat(f"{folder}/{result.path}").st_size > 0
    except OSError:
        return False
