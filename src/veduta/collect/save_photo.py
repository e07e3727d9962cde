"""An answer to a file: its content checked, maybe made smaller, and put in its place at once.

A file is written under another name and renamed, so that what stands under a photo's name is whole.
It is not forced to disk: thousands of files a minute would wait for it. After a power failure a
file that is empty or gone is collected again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from veduta.collect.body import Body
from veduta.collect.outcome import Outcome, Result
from veduta.collect.settings import Settings
from veduta.errors import PhotoError, PhotoTooLarge
from veduta.photos import content_hash, decode, resize
from veduta.photos.formats import EXTENSIONS, HEAD_BYTES, sniff
from veduta.text import printable

__all__ = ["Saver", "is_there"]

_QUALITY = 90
_JPEG_SIDE = 65_500
_SMALLEST = 1


@dataclass(frozen=True, slots=True)
class Saver:
    """Writes photos below a folder. May be called by several threads at once."""

    folder: Path
    drafts: Path
    """A folder of the same file system, for files that are not finished."""
    settings: Settings

    def save(self, body: Body, stem: str, draft: str, so_far: Result) -> Result:
        """Check a body and put it in its place, `stem` with the extension of its content.

        Returns `so_far`, completed. Raises OSError when the disk does not take it.
        """
        try:
            data = body.read()
            try:
                kind, width, height, changed = self._checked(data, stem)
            except PhotoError as error:
                large = isinstance(error, PhotoTooLarge)
                outcome = Outcome.TOO_LARGE if large else Outcome.NOT_A_PHOTO
                return replace(so_far, outcome=outcome, error=printable(error.reason))
            if changed is not None:
                data = changed
            path = f"{stem}.{EXTENSIONS[kind][0]}"
            if body.spilled is not None and changed is None:
                self._rename(body.spilled, path)
            else:
                self._write(data, self.drafts / draft, path)
            return replace(
                so_far,
                outcome=Outcome.COLLECTED,
                bytes=len(data),
                width=width,
                height=height,
                format=kind,
                hash=content_hash(data).hex(),
                path=path,
            )
        finally:
            body.drop()

    def _checked(self, data: bytes, name: str) -> tuple[str, int | None, int | None, bytes | None]:
        """Return format, width, height, and the new bytes if they are written anew."""
        if not self.settings.decode:
            return str(sniff(data[:HEAD_BYTES])), None, None, None
        if not self.settings.re_encode:
            # The smallest scale: a JPEG is parsed to its end at any, and other formats have one.
            photo = decode(data, path=name, at_least=_SMALLEST)
            return photo.format, photo.width, photo.height, None
        import numpy as np
        import simplejpeg

        side = min(self.settings.resize or _JPEG_SIDE, _JPEG_SIDE)
        photo = decode(data, path=name, at_least=self.settings.resize)
        scale = min(1.0, side / max(photo.width, photo.height))
        width, height = (max(1, round(scale * each)) for each in (photo.width, photo.height))
        pixels = np.ascontiguousarray(resize(photo.pixels, width, height))
        written: bytes = simplejpeg.encode_jpeg(
            pixels, quality=_QUALITY, colorspace="RGB", colorsubsampling="420"
        )
        return "JPEG", width, height, written

    def _write(self, data: bytes, draft: Path, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        descriptor = os.open(draft, flags, 0o666)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self._rename(draft, path)

    def _rename(self, draft: Path, path: str) -> None:
        place = f"{self.folder}/{path}"
        try:
            os.replace(draft, place)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.replace(draft, place)


def is_there(folder: str, result: Result) -> bool:
    """Tell whether the file of a collected row still stands in its place, and is not empty."""
    try:
        return os.stat(f"{folder}/{result.path}").st_size > 0
    except OSError:
        return False
