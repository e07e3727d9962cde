"""Finished parts in an object store: one object a part, so it is there whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from veduta.errors import IndexDamaged
from veduta.files import is_path_inside, scratch_folder
from veduta.index.storage_errors import system_errors
from veduta.ray_indexing.part_files import copy_part, require_whole
from veduta.stored_index import ObjectMissing, open_store

__all__ = ["StoreStaging"]

_PLAN = "plan.json"
_SUFFIX = ".tar"
_SCRATCH_NAME = "veduta-block"


class StoreStaging:
    """Objects below an address, and on the driver's machine a folder of the parts to be merged."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        """Open the store. Nothing is asked of it yet.

        Args:
            url: of the objects, as for `veduta.stored_index.open_store`.
            folder: gets the parts that are taken; None on a worker, which takes none.

        Raises:
            StoreError: `veduta[cloud]` is not installed, or a setting in the environment is wrong.
        """
        self._store = open_store(url)
        self._folder = folder

    @property
    def where(self) -> str:
        """The place, for messages."""
        return self._store.url

    @property
    def settings(self) -> dict[str, str]:
        """What `veduta.ray_indexing.places.staging_of` needs on another machine."""
        return {"store": self._store.url}

    def plan(self) -> bytes | None:
        """Return the plan, None if there is none.

        Raises:
            StoreError: the store refuses, or does not answer.
        """
        try:
            return self._store.get(_PLAN)
        except ObjectMissing:
            return None

    def keep_plan(self, plan: bytes) -> None:
        """Write a plan.

        Args:
            plan: its content.

        Raises:
            StoreError: the store refuses, or does not answer.
        """
        self._store.put(_PLAN, plan)

    def has(self, name: str) -> bool:
        """Tell whether a part is there.

        Args:
            name: of the part.
        """
        return self._store.size(name + _SUFFIX) is not None

    def like(self, prefix: str) -> list[str]:
        """Return the names of parts that begin with a prefix. A store may list some of them late.

        Args:
            prefix: of the names.
        """
        names = (name.removesuffix(_SUFFIX) for name in self._store.list() if name != _PLAN)
        return sorted(name for name in names if name.startswith(prefix))

    def put(self, name: str, part: Path) -> None:
        """Deliver a part, unless it is there.

        Args:
            name: of the part.
            part: the folder of its index.

        Raises:
            StoreError: the store refuses, or does not answer.
            StorageError: the disk of this machine has no room for the object.
        """
        if self.has(name):
            return
        with scratch_folder(_SCRATCH_NAME) as scratch, system_errors(scratch, "write"):
            (scratch / "part").mkdir()
            copy_part(part, scratch / "part")
            file = scratch / f"part{_SUFFIX}"
            with tarfile.open(file, "w") as archive:
                archive.add(scratch / "part", arcname="")
            self._store.put_file(name + _SUFFIX, file)

    def take(self, name: str) -> Path:
        """Return the folder of a part on this machine. It is fetched if it is not there, whole.

        Args:
            name: of the part.

        Raises:
            IndexDamaged: it is missing, or a file of it is missing or changed.
            StoreError: the store refuses, or does not answer.
            StorageError: the disk of this machine has no room for it.
        """
        assert self._folder is not None  # noqa: S101
        part = self._folder / name
        if part.is_dir():
            try:
                require_whole(part)
            except IndexDamaged:
                shutil.rmtree(part)
            else:
                return part
        with system_errors(self._folder, "write"):
            part.mkdir(parents=True)
        self.fetch(name, part)
        return part

    def fetch(self, name: str, target: Path) -> None:
        """Fetch a part into a folder.

        Args:
            name: of the part.
            target: an empty folder.

        Raises:
            IndexDamaged: it is missing, or a file of it is missing or changed.
            StoreError: the store refuses, or does not answer.
            StorageError: the disk of this machine has no room for it.
        """
        where = f"{self.where}/{name}{_SUFFIX}"
        with scratch_folder(_SCRATCH_NAME) as scratch, system_errors(target, "write"):
            file = scratch / f"part{_SUFFIX}"
            try:
                self._store.get_file(name + _SUFFIX, file)
                _unpack(file, target)
            except ObjectMissing as error:
                raise IndexDamaged(f"{where} is missing, so its block is read again") from error
            except tarfile.TarError as error:
                raise IndexDamaged(f"{where} is damaged, so its block is read again") from error
            require_whole(target)

    def remove(self, name: str) -> None:
        """Remove a part.

        Args:
            name: of the part.

        Raises:
            StoreError: the store refuses, or does not answer.
        """
        self._store.delete(name + _SUFFIX)
        if self._folder is not None:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def clear(self) -> None:
        """Remove the plan and all parts.

        Raises:
            StoreError: the store refuses, or does not answer.
        """
        # First, so that a clearing that is cut off is not taken for a run to be continued.
        self._store.delete(_PLAN)
        for name in list(self._store.list()):
            self._store.delete(name)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _unpack(file: Path, target: Path) -> None:
    """Unpack the plain files of an archive; raises TarError if one of them leads elsewhere."""
    with tarfile.open(file, "r:") as archive:
        for member in archive:
            if not member.isfile():
                continue
            content = archive.extractfile(member)
            if content is None or not is_path_inside(member.name):
                raise tarfile.TarError(f"'{member.name}' is no file of a part")
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("xb") as stream:
                shutil.copyfileobj(content, stream)
