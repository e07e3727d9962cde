"""A folder, such as one of a shared disk, as an object store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veduta.errors import StoreError
from veduta.files import atomic_file, is_draft, is_path_inside, system_failure, write_bytes
from veduta.photos import content_hash
from veduta.stored_index.addresses import StoreAddress
from veduta.stored_index.store import MAX_WHOLE_BYTES, ObjectMissing, Store, Tag, Tagged

__all__ = ["FolderStore"]

_LOCK_FILE = ".lock"
_LOCK_SECONDS = 30.0


class FolderStore(Store):
    """A folder whose files are the objects. The file system must have locks."""

    def __init__(self, address: StoreAddress) -> None:
        """Name a folder, which need not exist before something is put into it."""
        self.url = str(address)
        self._folder = Path(address.path)

    def get_tagged(self, name: str, *, most_bytes: int = MAX_WHOLE_BYTES) -> Tagged:
        """Return the content of an object, and the hash of it."""
        path = self._path(name)
        with self._errors(name):
            size = path.stat().st_size
            if size > most_bytes:
                raise StoreError(f"{self.url}/{name} has {size:,} bytes instead of {most_bytes:,}.")
            data = path.read_bytes()
        return Tagged(data, Tag(content_hash(data).hex()))

    def get_file(self, name: str, path: Path) -> None:
        """Copy an object into a file."""
        with atomic_file(path) as draft, self._errors(name):
            shutil.copyfile(self._path(name), draft)

    def size(self, name: str) -> int | None:
        """Return the size of an object; None if there is none."""
        try:
            with self._errors(name):
                return self._path(name).stat().st_size
        except ObjectMissing:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        path = self._path(name)
        with self._errors(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data, durable=True)

    def put_file(self, name: str, path: Path) -> None:
        """Copy a file as an object."""
        with path.open("rb") as content, self._errors(name):
            target = self._path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target, durable=True) as draft, draft.open("wb") as stream:
                shutil.copyfileobj(content, stream)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write an object if there is none, under the lock of the folder."""
        with self._locked():
            if self.size(name) is not None:
                return False
            self.put(name, data)
            return True

    def put_if_unchanged(self, name: str, data: bytes, tag: Tag) -> bool:
        """Replace an object if its hash is still the same, under the lock of the folder."""
        with self._locked():
            try:
                if self.get_tagged(name).tag != tag:
                    return False
            except ObjectMissing:
                return False
            self.put(name, data)
            return True

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the files below a folder."""
        top = self._path(prefix) if prefix else self._folder
        with self._errors(prefix):
            files = [path for path in top.rglob("*") if path.is_file()] if top.is_dir() else []
        for path in sorted(files):
            if not is_draft(path) and path.name != _LOCK_FILE:
                yield path.relative_to(self._folder).as_posix()

    def delete(self, name: str) -> None:
        """Remove an object."""
        with self._errors(name):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not is_path_inside(name):
            raise StoreError(f"{self.url}: '{name}' cannot be the name of an object.")
        return self._folder / name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        with self._errors(_LOCK_FILE):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / _LOCK_FILE, timeout=_LOCK_SECONDS)
            try:
                lock.acquire()
            except Timeout:
                raise StoreError(
                    f"{self.url}: another process holds the lock of this folder for more than "
                    f"{_LOCK_SECONDS:.0f} s. Run the same command again."
                ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"{self.url} has no {name}.") from None
        except OSError as error:
            failure = system_failure(error)
            reason = failure.reason if failure else error.strerror or os.strerror(error.errno or 0)
            remedy = failure.remedy if failure else "Look at the folder"
            raise StoreError(
                f"{self.url}: {name} cannot be read or written: {reason}. {remedy}, and run the "
                "same command again."
            ) from error
