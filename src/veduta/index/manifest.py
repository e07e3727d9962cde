"""`index.json`: what an index is, apart from its rows. `index-copy.json` beside it is a copy.

Both files carry a checksum, so a change that Veduta did not make is found. If one of the two is
damaged or lost, `restore_manifest` makes it again from the other.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from veduta._version import __version__
from veduta.encoders import Encoder
from veduta.encoders.region_descriptors import RegionEncoder
from veduta.errors import (
    CollectionError,
    EncoderMismatch,
    IndexDamaged,
    NotAnIndex,
    QueryError,
    readable,
)
from veduta.files import system_failure, write_bytes
from veduta.index.columns import FORMAT_VERSION
from veduta.index.shards import SHARD_FEATURE, Shard
from veduta.index.storage_errors import (
    index_errors,
    not_an_index,
    repair_command,
    storage_error,
)
from veduta.index.table import has_rows
from veduta.keypoints import Extractor, keypoints_option
from veduta.photos import content_hash
from veduta.text import veduta_command
from veduta.validation import InvalidValue, convert, read_json

MANIFEST_FILE = "index.json"
MANIFEST_COPY = "index-copy.json"
DAMAGED_FOLDER = "damaged"
"""Where a repair moves files that do not read."""

KNOWN_FEATURES = frozenset({SHARD_FEATURE})
"""What this version of Veduta can use of `Manifest.needs`."""

_FORMAT_WITH_NEEDS = FORMAT_VERSION + 1
"""The layout that `index.json` names if the index needs a feature. The files are as without. A
Veduta that does not look at `needs` refuses this number."""

_VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,40}")
_CHECKSUM = "checksum"
_CHECKSUM_LETTERS = 16
_MAX_DIMENSION = 65_536

_Text = Annotated[str, msgspec.Meta(pattern=r"^[^\0]+\Z")]


class _Encoder(msgspec.Struct):
    """The facts about the encoder that an index needs. There are more in the file."""

    name: _Text
    identity: _Text
    dimension: Annotated[int, msgspec.Meta(ge=1, le=_MAX_DIMENSION)]


class _Keypoints(msgspec.Struct):
    """The facts about the keypoints that an index needs."""

    name: _Text
    identity: _Text
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _Regions(msgspec.Struct):
    """The facts about the codes of regions that an index needs."""

    version: int
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=_MAX_DIMENSION)]


class _Needs(msgspec.Struct):
    """What decides whether this version of Veduta can use an index."""

    needs: Annotated[list[_Text], msgspec.Meta(max_length=1000)] = []
    written_by: str = ""


class _Required(msgspec.Struct):
    encoder: _Encoder
    folders: list[_Text]
    keypoints: _Keypoints | None = None
    regions: _Regions | None = None
    labels: _Text | None = None
    projection: Annotated[str, msgspec.Meta(pattern=r"^projection-[0-9a-f]+\.npz\Z")] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The identity of an index.

    Attributes:
        encoder: what `Encoder.describe()` said when the index was created. Its `identity` and
            `dimension` decide which descriptors the index accepts.
        folders: the folders that were indexed, absolute. An update without folders updates these.
        labels: where labels come from: None, `"folders"`, or the path of a CSV.
        exclude: patterns of what updates pass over, in the syntax of gitignore.
        projection: file name of the projection that searches apply, or None.
        keypoints: name, identity and number of the keypoints that are stored of each photo, or
            None.
        regions: `RegionEncoder.facts` of the regions of each photo that are described, or None.
        approximate: whether searches use the approximate index.
        decoders: of the last update that was not interrupted, see `veduta.photos.decoders`. An
            update with others tries the photos again that were refused.
        created: when the index was created, ISO 8601, UTC.
        shard: which part of a collection the index is; None if it is the whole.
        unfinished: whether the last run of a shard was cut off, or is at work.
        needs: the features that a Veduta must know to use the index, see `KNOWN_FEATURES`. An
            ordinary index needs none.
        written_by: the version of Veduta that wrote the manifest.
        format: version of the layout on disk.
    """

    encoder: dict[str, Any]
    folders: tuple[str, ...] = ()
    labels: str | None = None
    exclude: tuple[str, ...] = ()
    projection: str | None = None
    keypoints: dict[str, Any] | None = None
    regions: dict[str, Any] | None = None
    approximate: bool = False
    decoders: str = ""
    created: str = ""
    shard: Shard | None = None
    unfinished: bool = False
    needs: tuple[str, ...] = ()
    written_by: str = ""
    format: int = FORMAT_VERSION

    @property
    def dimension(self) -> int:
        """Length D of a stored descriptor, before any projection."""
        return int(self.encoder["dimension"])

    @property
    def region_shape(self) -> tuple[int, int] | None:
        """Number of regions of a photo, and bytes of the code of each; None without regions."""
        return (self.regions["count"], self.regions["bytes"]) if self.regions else None

    @classmethod
    def new(cls, encoder: Encoder, extractor: Extractor | None, *, regions: bool = False) -> Self:
        """Return the manifest of an empty index.

        Args:
            encoder: makes its descriptors.
            extractor: finds its keypoints; None for an index without keypoints.
            regions: describe regions of the photos too.

        Raises:
            EncoderError: the encoder has no descriptors of regions.
            QueryError: regions are stored with keypoints, and there are none.
        """
        if regions and extractor is None:
            raise QueryError(
                "The regions of photos are stored with their keypoints. Leave out --regions, or "
                "--keypoints none."
            )
        keypoints = None
        if extractor is not None:
            keypoints = {
                "name": extractor.name,
                "identity": extractor.identity,
                "count": extractor.count,
            }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        # The descriptors of all devices are compared with each other: see docs/devices.md.
        facts = encoder.describe()
        return cls(
            encoder={name: fact for name, fact in facts.items() if name != "device"},
            keypoints=keypoints,
            regions=RegionEncoder(encoder).facts if regions else None,
            created=created,
            written_by=__version__,
        )

    def of_shard(self, shard: Shard) -> Self:
        """Return the manifest of the same index as a shard whose run is not at its end yet."""
        needs = tuple(sorted({*self.needs, SHARD_FEATURE}))
        return dataclasses.replace(self, shard=shard, needs=needs, unfinished=True)

    def of_no_shard(self) -> Self:
        """Return the manifest of the same index as a whole collection."""
        needs = tuple(one for one in self.needs if one != SHARD_FEATURE)
        return dataclasses.replace(self, shard=None, needs=needs, unfinished=False)

    @classmethod
    def read(cls, index: Path) -> Self:
        """Read the manifest of the index in the folder `index`.

        Args:
            index: the folder.

        Raises:
            NotAnIndex: there is no manifest.
            IndexDamaged: the manifest does not read, or another version of Veduta wrote it.
            StorageError: the disk does not read.
        """
        file = index / MANIFEST_FILE
        try:
            return cls._parse(file, index)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_manifest(index) from None
        except OSError as error:
            if system_failure(error) is not None:
                raise storage_error(error, index, "read") from error
            raise _damaged(index, error.strerror or str(error)) from error
        except InvalidValue as error:
            raise _damaged(index, str(error)) from error

    @classmethod
    def _parse(cls, file: Path, index: Path) -> Self:
        """Read a manifest; raises OSError, InvalidValue or _OtherVersion."""
        values = read_json(file, dict[str, Any])
        # An index that 0.1.0 wrote has no checksum until its next update.
        checksum = values.pop(_CHECKSUM, None)
        unchanged = checksum is None or checksum == _checksum(values)
        version = values.get("format", FORMAT_VERSION)
        if unchanged and isinstance(version, int) and not _is_read(values):
            raise _other_version(index, version)
        needs = convert(values, _Needs)
        if unchanged and (unknown := sorted(set(needs.needs) - KNOWN_FEATURES)):
            raise _unknown_feature(index, unknown, needs.written_by)
        manifest = cls._converted(values)
        if not unchanged:
            raise InvalidValue("it was changed after Veduta wrote it: its checksum does not match")
        return manifest

    @classmethod
    def _converted(cls, values: dict[str, Any]) -> Self:
        """Return the manifest with these values, of a layout that is read; raises InvalidValue."""
        convert(values, _Required)
        return dataclasses.replace(convert(values, cls), format=FORMAT_VERSION)

    def write(self, index: Path) -> None:
        """Write the manifest of the index in the folder `index`, and its copy, if they changed.

        Each file is replaced in one step. If they hold this manifest already, nothing is written,
        so an update that has nothing to do needs no room on the disk.

        Args:
            index: the folder.

        Raises:
            IndexDamaged: something else is in the place of a file.
            StorageFull: the disk is full.
            StorageError: the disk does not accept the files.
        """
        values = dataclasses.asdict(self)
        values["written_by"] = __version__
        values["format"] = _FORMAT_WITH_NEEDS if self.needs else self.format
        values[_CHECKSUM] = _checksum(values)
        data = json.dumps(values, indent=2).encode()
        with index_errors(index, "write"):
            for name in (MANIFEST_FILE, MANIFEST_COPY):
                file = index / name
                if os.path.lexists(file) and not file.is_file() and not file.is_symlink():
                    raise IndexDamaged(
                        f"{readable(file)} is not a file. Repair it with: {repair_command(index)}"
                    )
                if not file.is_file() or file.read_bytes() != data:
                    write_bytes(file, data, durable=True)

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
                f"Use --encoder {self.encoder['name']}, or index "
                f"{_again(index, '--encoder', encoder.name)}"
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
        again = _again(index, "--keypoints", keypoints_option(extractor) if extractor else "none")
        raise EncoderMismatch(
            f"{readable(index)} holds {held}; this run uses: {wanted}. Index {again}"
        )

    def require_regions(self, index: Path) -> None:
        """Refuse an index whose photos have no descriptors of regions.

        Args:
            index: the folder of the index, for the message.

        Raises:
            EncoderMismatch: it has none.
        """
        if self.regions is None:
            raise EncoderMismatch(
                f"{readable(index)} has no regions, and only a new index gets them. Index "
                + _again(index, "--regions")
            )


def region_encoder_of(manifest: Manifest, encoder: Encoder) -> RegionEncoder | None:
    """Return what describes the regions of an index.

    Args:
        manifest: of the index.
        encoder: of the index.

    Returns:
        None if the index has no regions.

    Raises:
        EncoderMismatch: another version of Veduta made its regions.
    """
    if manifest.regions is None:
        return None
    made = RegionEncoder(encoder)
    if made.facts != manifest.regions:
        raise EncoderMismatch(
            f"The regions of the index are of version {manifest.regions['version']}; this Veduta "
            f"makes version {made.facts['version']}. Index the photos again into another folder."
        )
    return made


def restore_manifest(index: Path) -> bool:
    """Make a manifest that does not read again, from its copy.

    If the copy does not read either, and the manifest has no other fault than that it was changed
    by hand, the change is accepted. A file that is replaced is moved to the folder "damaged".

    Args:
        index: the folder of the index. The caller holds the writer's lock.

    Returns:
        Whether something had to be restored.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: neither file reads, or another version of Veduta wrote them.
        StorageError: the disk does not read or write.
    """
    try:
        Manifest.read(index)
    except _OtherVersion:
        raise
    except IndexDamaged:
        manifest = _restorable(index)
        if manifest is None:
            raise
    else:
        return False
    for name in (MANIFEST_FILE, MANIFEST_COPY):
        move_to_damaged(index, index / name)
    manifest.write(index)
    return True


def _restorable(index: Path) -> Manifest | None:
    """Return what a manifest that does not read can be restored to, None if there is nothing."""
    with index_errors(index, "read"):
        try:
            return Manifest._parse(index / MANIFEST_COPY, index)
        except (OSError, InvalidValue) as error:
            if not isinstance(error, FileNotFoundError) and system_failure(error) is not None:
                raise
        # The copy is of no use. A manifest that was changed by hand is, if its values are possible.
        try:
            values = read_json(index / MANIFEST_FILE, dict[str, Any])
            manifest = Manifest._converted(values)
        except (OSError, InvalidValue):
            return None
        known = _is_read(values) and KNOWN_FEATURES.issuperset(manifest.needs)
        return manifest if known else None


def move_to_damaged(index: Path, path: Path) -> None:
    """Move a file or folder of an index that does not read to the folder "damaged" in it.

    Args:
        index: the folder of the index.
        path: what is moved. It may be missing.

    Raises:
        StorageError: the disk does not accept it.
    """
    if not os.path.lexists(path):
        return
    target = index / DAMAGED_FOLDER / path.name
    if os.path.lexists(target.parent) and not target.parent.is_dir():
        raise CollectionError(
            f"{readable(target.parent)} is not a folder. Remove it, and run the same command again."
        )
    with index_errors(index, "write"):
        target.parent.mkdir(exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        path.replace(target)


def _is_read(values: dict[str, Any]) -> bool:
    """Tell whether this version of Veduta reads the layout that a manifest names."""
    wanted = _FORMAT_WITH_NEEDS if values.get("needs") else FORMAT_VERSION
    return bool(values.get("format", FORMAT_VERSION) == wanted)


def _checksum(values: dict[str, Any]) -> str:
    """Return the checksum of the values of a manifest; raises InvalidValue if they have none."""
    try:
        text = json.dumps(values, sort_keys=True)
    except RecursionError as error:
        raise InvalidValue("it is nested too deeply") from error
    return content_hash(text.encode()).hex()[:_CHECKSUM_LETTERS]


def _no_manifest(index: Path) -> NotAnIndex | IndexDamaged:
    """Return the error for a folder without a manifest."""
    if (index / MANIFEST_COPY).is_file() or has_rows(index):
        return _damaged(index, "it is gone")
    return not_an_index(index)


def _damaged(index: Path, reason: str) -> IndexDamaged:
    file = readable(index / MANIFEST_FILE)
    if _restorable(index) is not None:
        return IndexDamaged(
            f"{file} does not read ({reason}). Repair it with: {repair_command(index)}"
        )
    return IndexDamaged(
        f"{file} does not read ({reason}), and there is no sound {MANIFEST_COPY} to repair it "
        f"from. Index {_again(index)}"
    )


def _again(index: Path, *options: str) -> str:
    """Return the end of the remedy "index the photos again", with the command."""
    other = index.with_name(f"{index.name}-new") if index.name else index / "new"
    command = veduta_command("index", "FOLDER", "--index", other, *options)
    return f"the photos again into another folder: {command}"


class _OtherVersion(IndexDamaged):
    """Another version of Veduta wrote the index."""


def _other_version(index: Path, version: int) -> _OtherVersion:
    newer = version > FORMAT_VERSION
    remedy = "Update Veduta, or index" if newer else "Index"
    return _OtherVersion(
        f"{readable(index)} was written by {'a newer' if newer else 'an older'} Veduta (layout "
        f"{version}, this one reads {FORMAT_VERSION}). {remedy} {_again(index)}"
    )


def _unknown_feature(index: Path, unknown: list[str], version: str) -> _OtherVersion:
    features = " and ".join(f"'{readable(one)}'" for one in unknown)
    writer, wanted = "a newer Veduta", "veduta"
    if _VERSION.fullmatch(version):
        writer, wanted = f"Veduta {version}", f"veduta>={version}"
    return _OtherVersion(
        f"{readable(index)} was written by {writer} and needs the "
        f"{'feature' if len(unknown) == 1 else 'features'} {features}, which this Veduta "
        f"({__version__}) does not know. Install a Veduta that does: pip install --upgrade "
        f"'{wanted}'. Or index {_again(index)}"
    )
