"""Photos at a network's input: the same pixels that an index gives the trained network later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.placement import long_side, place
from veduta.encoders.spec import EncoderSpec
from veduta.errors import LearnError, PhotoError
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.photos import load, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Input

__all__ = ["ImageCache", "cache_images", "normalise", "read_image"]

OnProgress = Callable[[str, int, int], None]

_AT_ONCE = 64  # photos in work between two reports


class ImageCache:
    """N photos as squares of bytes: those that fit are in memory, the others decoded when asked."""

    def __init__(
        self,
        files: Sequence[Path],
        spec: EncoderSpec,
        input: Input,  # noqa: A002 - as the recipe calls it
        kept: NDArray[np.uint8],
        slots: NDArray[np.intp],
        workers: int,
    ) -> None:
        """`kept`: (m, size, size, 3). `slots`: (N,) the place there of each photo, or -1."""
        self.files = tuple(files)
        self.spec = spec
        self.size = spec.sizes[0][0]
        self.input = input
        self._kept = kept
        self._slots = slots
        self._workers = workers

    @cached_property
    def in_memory(self) -> bool:
        """Whether no photo has to be decoded again."""
        return bool((self._slots >= 0).all())

    def batch(self, rows: NDArray[np.intp] | Sequence[int]) -> Tensor:
        """Return (n, 3, size, size) uint8 RGB; the pixels of a photo lie side by side in memory.

        Raises:
            LearnError: a photo that is not in memory does not decode any more.
        """
        import torch

        wanted = np.asarray(rows, np.intp)
        slots = self._slots[wanted]
        if (slots >= 0).all():
            pixels = self._kept[slots]
        else:
            pixels = np.empty((len(wanted), self.size, self.size, 3), np.uint8)
            pixels[slots >= 0] = self._kept[slots[slots >= 0]]
            absent = np.flatnonzero(slots < 0)
            files = [self.files[row] for row in wanted[absent].tolist()]
            for at, found in zip(absent, self._decoded(files), strict=True):
                pixels[at] = found
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def network_input(self, batch: Tensor) -> Tensor:
        """Return a batch with the mean and standard deviation of the recipe's input: float32."""
        return normalise(batch, self.input)

    def _decoded(self, files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        from torch.utils.data import get_worker_info

        # Each loading process decodes its own batch: they are as many as there are cores for them.
        alone = get_worker_info() is not None or self._workers < 2 or len(files) < 2
        try:
            if alone:
                yield from (read_image(file, self.spec) for file in files)
                return
            with ThreadPoolExecutor(self._workers, "veduta-pictures") as pool:
                yield from pool.map(lambda file: read_image(file, self.spec), files)
        except PhotoError as error:
            raise LearnError(
                f"{error}. It did when training began: put it back, or begin anew without it"
            ) from error


def cache_images(
    parts: DatasetSplits,
    input: Input,  # noqa: A002 - as the recipe calls it
    *,
    workers: int,
    max_bytes: int,
    on_progress: OnProgress | None = None,
) -> tuple[ImageCache, DatasetSplits]:
    """Decode the photos of all parts, and leave out those that do not.

    Args:
        parts: which photos.
        input: their size, and how they are brought to it.
        workers: threads that decode.
        max_bytes: the memory for decoded photos. Training photos are kept first and test photos,
            which are used only once, last.
        on_progress: called with (what, done, total).

    Returns:
        the photos, and the parts without those that are unreadable, row by row the same.

    Raises:
        LearnError: fewer than two classes are left to train on.
    """
    spec = _spec(input)
    files = [parts.root / path for path in parts.paths]
    room = min(len(files), max_bytes // (input.size * input.size * 3))
    kept = np.empty((room, input.size, input.size, 3), np.uint8)
    slots = np.full(len(files), -1, np.intp)
    order = np.concatenate([parts.train, parts.val, parts.test]).tolist()
    broken: dict[int, str] = {}
    used = 0

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            return read_image(files[row], spec)
        except PhotoError as error:
            return error.reason

    with ThreadPoolExecutor(max(1, workers), "veduta-pictures") as pool:
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            for row, found in zip(rows, pool.map(read, rows), strict=True):
                if isinstance(found, str):
                    broken[row] = found
                elif used < room:
                    kept[used] = found
                    slots[row] = used
                    used += 1
            if on_progress:
                on_progress("Reading photos", start + len(rows), len(order))
    remaining = parts.without(broken)
    # A class can leave with its last photo to train on, and its other photos with it.
    row_of = {path: row for row, path in enumerate(parts.paths)}
    same = np.array([row_of[path] for path in remaining.paths], np.intp)
    pictures = ImageCache([files[row] for row in same], spec, input, kept, slots[same], workers)
    return pictures, remaining


def read_image(file: Path, spec: EncoderSpec) -> NDArray[np.uint8]:
    """Read a photo as `Encoder.prepare` brings it to a network: (size, size, 3) uint8, upright.

    Raises:
        PhotoError: it does not decode.
    """
    # An index decodes a photo once for its encoder and its keypoints, at the larger of both sizes.
    pixels = load(file, at_least=max(long_side(spec), LONG_SIDE)).pixels
    height, width = pixels.shape[:2]
    to = place(width, height, spec.sizes[0][0], spec)
    return resize(pixels[to.top : to.bottom, to.left : to.right], to.width, to.height)


def normalise(photos: Tensor, input: Input) -> Tensor:  # noqa: A002 - as the recipe calls it
    """Return (N, 3, H, W) float32 (rgb / 255 - mean) / std of (N, 3, H, W) uint8."""
    import torch

    std = torch.tensor(input.std, dtype=torch.float32, device=photos.device)
    mean = torch.tensor(input.mean, dtype=torch.float32, device=photos.device)
    # One multiplication and one subtraction a pixel, as the encoders do it.
    factor, offset = torch.tensor(1 / 255, device=photos.device) / std, mean / std
    return photos.float().mul_(factor[:, None, None]).sub_(offset[:, None, None])


def _spec(input: Input) -> EncoderSpec:  # noqa: A002 - as the recipe calls it
    return EncoderSpec(
        name="input",
        model=Path(),
        sha256="",
        layout="float-nchw",
        sizes=((input.size, 1.0),),
        output="",
        fit=input.fit,
    )
