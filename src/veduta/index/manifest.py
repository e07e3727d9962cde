"""`index.json`: what an index is, beside the rows that it holds."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from veduta.encoders import Encoder
from veduta.errors import EncoderMismatch, IndexDamaged, NotAnIndex, readable
from veduta.keypoints import Extractor

MANIFEST_FILE = "index.json"
FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The identity of an index.

    Attributes:
        encoder: what `Encoder.describe()` said when the index was created; `identity` and
            `dimension` in it decide which descriptors the index takes.
        folders: the folders that were indexed, absolute; a later run without folders updates these.
        labels: where labels come from: None, `"folders"`, or the path of a CSV.
        projection: file name of the projection that searches apply, or None.
        keypoints: name, identity and number of the keypoints stored of each photo, or None.
        approximate: whether searches use the approximate index.
        created: when, ISO 8601, UTC.
        format: version of the layout on disk.
    """

    encoder: dict[str, Any]
    folders: tuple[str, ...] = ()
    labels: str | None = None
    projection: str | None = None
    keypoints: dict[str, Any] | None = None
    approximate: bool = False
    created: str = ""
    format: int = FORMAT_VERSION

    @property
    def dimension(self) -> int:
        """Length of one stored descriptor, before any projection."""
        return int(self.encoder["dimension"])

    @classmethod
    def new(cls, encoder: Encoder, extractor: Extractor | None) -> Self:
        """Return the manifest of an empty index for descriptors of `encoder` and keypoints."""
        keypoints = None
        if extractor is not None:
            keypoints = {
                "name": extractor.name,
                "identity": extractor.identity,
                "count": extractor.count,
            }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(encoder=encoder.describe(), keypoints=keypoints, created=created)

    @classmethod
    def read(cls, index: Path) -> Self:
        """Read the manifest of the index at `index`.

        Raises:
            NotAnIndex: there is none.
            IndexDamaged: it does not parse, or a newer Veduta wrote it.
        """
        file = index / MANIFEST_FILE
        try:
            text = file.read_text("utf-8")
        except FileNotFoundError:
            what = "is not an index" if index.exists() else "does not exist"
            raise NotAnIndex(
                f"{readable(index)} {what} (no {MANIFEST_FILE} in it). Build one with: "
                f"veduta index FOLDER --index {readable(index)}"
            ) from None
        except NotADirectoryError:
            raise NotAnIndex(f"{readable(index)} is a file, not an index.") from None
        try:
            fields = json.loads(text)
            fields["folders"] = tuple(fields["folders"])
            manifest = cls(**fields)
            version, _ = manifest.format, manifest.dimension
        except (ValueError, TypeError, KeyError) as error:
            raise IndexDamaged(
                f"{readable(file)} does not parse ({error}). "
                f"Restore it: veduta repair --index {readable(index)}"
            ) from error
        if version != FORMAT_VERSION:
            which, remedy = (
                ("a newer", "Update Veduta, or index")
                if version > FORMAT_VERSION
                else ("an older", "Index")
            )
            raise IndexDamaged(
                f"{readable(index)} was written by {which} Veduta (layout {version}, this one "
                f"reads {FORMAT_VERSION}). {remedy} again into another folder."
            )
        return manifest

    def write(self, index: Path) -> None:
        """Replace the manifest of `index` in one step, so that no reader sees half of it."""
        write_whole(index / MANIFEST_FILE, json.dumps(dataclasses.asdict(self), indent=2).encode())

    def require_encoder(self, encoder: Encoder, index: Path) -> None:
        """Raise EncoderMismatch, naming both, unless `encoder` made the descriptors of `index`."""
        if encoder.identity != self.encoder["identity"]:
            raise EncoderMismatch(
                f"{readable(index)} holds descriptors of encoder '{self.encoder['name']}' "
                f"({self.encoder['identity']}); this is '{encoder.name}' ({encoder.identity}). "
                f"Use --encoder {self.encoder['name']}, or index again into another folder."
            )

    def require_extractor(self, extractor: Extractor | None, index: Path) -> None:
        """Raise EncoderMismatch, naming both, unless `extractor` made the keypoints of `index`."""
        have = self.keypoints
        if (have and have["identity"]) == (extractor and extractor.identity):
            return
        there = f"keypoints '{have['name']}' ({have['identity']})" if have else "no keypoints"
        this = f"'{extractor.name}' ({extractor.identity})" if extractor else "none"
        raise EncoderMismatch(
            f"{readable(index)} holds {there}; asked for: {this}. Index again into another folder."
        )


def write_whole(file: Path, data: bytes) -> None:
    """Write `data` to `file` so that a crash leaves the old content or the new, never a part."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
