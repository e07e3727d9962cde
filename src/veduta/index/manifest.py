"""`index.json`: what an index is, apart from its rows."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from veduta.encoders import Encoder
from veduta.errors import EncoderMismatch, IndexDamaged, NotAnIndex, readable
from veduta.files import write_bytes
from veduta.index.columns import FORMAT_VERSION
from veduta.keypoints import Extractor
from veduta.validation import InvalidValue, convert, read_json

MANIFEST_FILE = "index.json"


class _Encoder(msgspec.Struct):
    """The facts about the encoder that an index needs. There are more in the file."""

    name: str
    identity: str
    dimension: int


class _Keypoints(msgspec.Struct):
    """The facts about the keypoints that an index needs."""

    name: str
    identity: str
    count: int


class _Required(msgspec.Struct):
    encoder: _Encoder
    folders: list[str]
    keypoints: _Keypoints | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The identity of an index.

    Attributes:
        encoder: what `Encoder.describe()` said when the index was created. Its `identity` and
            `dimension` decide which descriptors the index accepts.
        folders: the folders that were indexed, absolute. An update without folders updates these.
        labels: where labels come from: None, `"folders"`, or the path of a CSV.
        projection: file name of the projection that searches apply, or None.
        keypoints: name, identity and number of the keypoints that are stored of each photo, or
            None.
        approximate: whether searches use the approximate index.
        created: when the index was created, ISO 8601, UTC.
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
        """Length D of a stored descriptor, before any projection."""
        return int(self.encoder["dimension"])

    @classmethod
    def new(cls, encoder: Encoder, extractor: Extractor | None) -> Self:
        """Return the manifest of an empty index.

        Args:
            encoder: makes its descriptors.
            extractor: finds its keypoints; None for an index without keypoints.
        """
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
        """Read the manifest of the index in the folder `index`.

        Args:
            index: the folder.

        Raises:
            NotAnIndex: there is no manifest.
            IndexDamaged: the manifest does not read, or another version of Veduta wrote it.
        """
        file = index / MANIFEST_FILE
        try:
            values = read_json(file, dict[str, Any])
            version = values.get("format", FORMAT_VERSION)
            if isinstance(version, int) and version != FORMAT_VERSION:
                raise _other_version(index, version)
            convert(values, _Required)
            return convert(values, cls)
        except FileNotFoundError:
            what = "is not an index" if index.exists() else "does not exist"
            raise NotAnIndex(
                f"{readable(index)} {what} (no {MANIFEST_FILE} in it). Build one with: "
                f"veduta index FOLDER --index {readable(index)}"
            ) from None
        except NotADirectoryError:
            raise NotAnIndex(f"{readable(index)} is a file, not an index.") from None
        except InvalidValue as error:
            raise IndexDamaged(
                f"{readable(file)} does not read ({error}). "
                f"Restore it from a copy, or index again into another folder."
            ) from error

    def write(self, index: Path) -> None:
        """Replace the manifest of the index in the folder `index` in one step."""
        data = json.dumps(dataclasses.asdict(self), indent=2).encode()
        write_bytes(index / MANIFEST_FILE, data, durable=True)

    def require_encoder(self, encoder: Encoder, index: Path) -> None:
        """Refuse an encoder that did not make the descriptors of the index.

        Args:
            encoder: the encoder to use.
            index: the folder of the index, for the message.

        Raises:
            EncoderMismatch: it is another encoder. The message names both.
        """
        if encoder.identity != self.encoder["identity"]:
            raise EncoderMismatch(
                f"{readable(index)} holds descriptors of encoder '{self.encoder['name']}' "
                f"({self.encoder['identity']}); this is '{encoder.name}' ({encoder.identity}). "
                f"Use --encoder {self.encoder['name']}, or index again into another folder."
            )

    def require_extractor(self, extractor: Extractor | None, index: Path) -> None:
        """Refuse an extractor that did not make the keypoints of the index.

        Args:
            extractor: the extractor to use; None for no keypoints.
            index: the folder of the index, for the message.

        Raises:
            EncoderMismatch: it is another extractor. The message names both.
        """
        stored = self.keypoints
        if (stored and stored["identity"]) == (extractor and extractor.identity):
            return
        held = f"keypoints '{stored['name']}' ({stored['identity']})" if stored else "no keypoints"
        wanted = f"'{extractor.name}' ({extractor.identity})" if extractor else "none"
        raise EncoderMismatch(
            f"{readable(index)} holds {held}; this run uses: {wanted}. Index again into another "
            "folder."
        )


def _other_version(index: Path, version: int) -> IndexDamaged:
    newer = version > FORMAT_VERSION
    remedy = "Update Veduta, or index" if newer else "Index"
    return IndexDamaged(
        f"{readable(index)} was written by {'a newer' if newer else 'an older'} Veduta (layout "
        f"{version}, this one reads {FORMAT_VERSION}). {remedy} again into another folder."
    )
