"""Write HDF5 files, also when the disk is full or Ctrl-C is pressed.

The HDF5 library crashes the process at its exit after a write that failed. So it writes through an
object that accepts everything after the first failure, and the failure is raised afterwards. An
interrupt waits for the end of a call of the library for the same reason: about a millisecond.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import FrameType
from typing import Any

from numpy.typing import NDArray

from veduta.interchange.descriptor_formats import require_h5py

__all__ = ["Hdf5Writer", "hdf5_writer"]


class _Sink(FileIO):
    """The file as h5py writes it. To write never fails; the first error is kept.

    Attributes:
        error: the first one; None: there was none.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0


class Hdf5Writer:
    """Adds groups of arrays to a new file, see `hdf5_writer`."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        with _interrupts_wait():
            self._file: Any = require_h5py().File(sink, "w")

    def add(
        self,
        path: str,
        arrays: Mapping[str, NDArray[Any]],
        attributes: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Write the datasets of a group.

        Args:
            path: of the group, with "/" between its parts. It is made if it is missing.
            arrays: the datasets by their names.
            attributes: those of some datasets, by the name of the dataset.

        Raises:
            OSError: the file cannot be written.
        """
        with _interrupts_wait():
            group = self._file.require_group(path)
            for name, array in arrays.items():
                dataset = group.create_dataset(name, data=array)
                dataset.attrs.update((attributes or {}).get(name, {}))
        self._raise()

    def close(self) -> None:
        """Write the rest.

        Raises:
            OSError: the file cannot be written.
        """
        with _interrupts_wait():
            self._file.close()
        self._raise()

    def _raise(self) -> None:
        if self._sink.error is not None:
            raise self._sink.error


@contextmanager
def hdf5_writer(draft: Path) -> Iterator[Hdf5Writer]:
    """Yield a writer of a file, which is whole at the end of the block.

    Args:
        draft: the file to write, from `veduta.files.atomic_file`. It must exist.

    Raises:
        DatasetError: h5py is not installed.
        OSError: the file cannot be written.
    """
    require_h5py()
    with _Sink(draft, "r+") as sink:
        writer = Hdf5Writer(sink)
        try:
            yield writer
        finally:
            writer.close()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            before(*pressed[0])
