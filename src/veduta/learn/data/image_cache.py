"""Photos as training sees them: decoded, resized and kept in memory as far as possible.

The pixels are those that an index gives the trained network later.
"""

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

__all__ = [
    "ImageCache",
    "cache_images",
    "fit_to_input",
    "input_spec",
    "normalise",
    "read_image",
]

OnProgress = Callable[[str, int, int], None]

PHOTOS_PER_REPORT = 64


class ImageCache:
    """N square photos: `veduta.learn.data.examples.Examples`.

    Photos that fit into memory are decoded once. The others are decoded for every batch.

    Attributes:
        files: (N,) the files of the photos.
        size: the side of the photos in pixels.
        settings: the input of the recipe.
    """

    def __init__(
        self,
        files: Sequence[Path],
        settings: Input,
        pixels: NDArray[np.uint8],
        positions: NDArray[np.intp],
        workers: int,
    ) -> None:
        """Take decoded photos.

        Args:
            files: (N,) the files of the photos.
            settings: the input of the recipe.
            pixels: (m, size, size, 3), the decoded photos.
            positions: (N,) the position of each photo in `pixels`; -1 for a photo that is not in
                memory.
            workers: threads that decode.
        """
        self.files = tuple(files)
        self.settings = settings
        self.size = settings.size
        self._spec = input_spec(settings)
        self._pixels = pixels
        self._positions = positions
        self._workers = workers

    encoder_identity = ""

    @cached_property
    def in_memory(self) -> bool:
        """Whether all photos are in memory."""
        return bool((self._positions >= 0).all())

    def batch(self, rows: NDArray[np.intp] | Sequence[int]) -> Tensor:
        """Return the photos of some rows.

        Args:
            rows: (n,).

        Returns:
            (n, 3, size, size) uint8 RGB, in torch's memory format channels_last.

        Raises:
            LearnError: a photo that is not in memory cannot be decoded any more.
        """
        import torch

        wanted = np.asarray(rows, np.intp)
        positions = self._positions[wanted]
        if (positions >= 0).all():
            pixels = self._pixels[positions]
        else:
            pixels = np.empty((len(wanted), self.size, self.size, 3), np.uint8)
            pixels[positions >= 0] = self._pixels[positions[positions >= 0]]
            missing = np.flatnonzero(positions < 0)
            files = [self.files[row] for row in wanted[missing].tolist()]
            for number, image in zip(missing, self._decode(files), strict=True):
                pixels[number] = image
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def network_input(self, batch: Tensor) -> Tensor:
        """Return a batch with the mean and standard deviation of the recipe's input: float32."""
        return normalise(batch, self.settings)

    def _decode(self, files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        from torch.utils.data import get_worker_info

        # A data loader starts as many processes as there are cores, so each decodes in one thread.
        in_loader_process = get_worker_info() is not None
        try:
            if in_loader_process or self._workers < 2 or len(files) < 2:
                yield from (read_image(file, self._spec) for file in files)
                return
            with ThreadPoolExecutor(self._workers, "veduta-images") as pool:
                yield from pool.map(lambda file: read_image(file, self._spec), files)
        except PhotoError as error:
            raise LearnError(
                f"{error}. It could be read when training started: restore it, or start again "
                "without it"
            ) from error


def cache_images(
    splits: DatasetSplits,
    settings: Input,
    *,
    workers: int,
    max_bytes: int,
    on_progress: OnProgress | None = None,
) -> tuple[ImageCache, DatasetSplits]:
    """Decode the photos of all splits, and leave out unreadable ones.

    Args:
        splits: the photos.
        settings: the input of the recipe.
        workers: threads that decode.
        max_bytes: the memory for decoded photos. Training photos are kept first and test photos,
            which are used only once, last.
        on_progress: called with (what, done, total).

    Returns:
        The photos, and the splits without unreadable photos, in the same rows.

    Raises:
        LearnError: fewer than two classes have training photos left.
    """
    spec = input_spec(settings)
    files = [splits.root / path for path in splits.paths]
    capacity = min(len(files), max_bytes // (settings.size * settings.size * 3))
    pixels = np.empty((capacity, settings.size, settings.size, 3), np.uint8)
    positions = np.full(len(files), -1, np.intp)
    order = np.concatenate([splits.train, splits.val, splits.test, splits.unknown]).tolist()
    unreadable: dict[int, str] = {}
    used = 0

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            return read_image(files[row], spec)
        except PhotoError as error:
            return error.reason

    with ThreadPoolExecutor(max(1, workers), "veduta-images") as pool:
        for start in range(0, len(order), PHOTOS_PER_REPORT):
            rows = order[start : start + PHOTOS_PER_REPORT]
            for row, result in zip(rows, pool.map(read, rows), strict=True):
                if isinstance(result, str):
                    unreadable[row] = result
                elif used < capacity:
                    pixels[used] = result
                    positions[row] = used
                    used += 1
            if on_progress:
                on_progress("Reading photos", start + len(rows), len(order))
    remaining = splits.without(unreadable)
    # A class without training photos is left out with all of its photos, so rows can move.
    row_of = {path: row for row, path in enumerate(splits.paths)}
    rows_left = np.array([row_of[path] for path in remaining.paths], np.intp)
    files_left = [files[row] for row in rows_left]
    return ImageCache(files_left, settings, pixels, positions[rows_left], workers), remaining


def read_image(file: Path, spec: EncoderSpec) -> NDArray[np.uint8]:
    """Read a photo as `Encoder.prepare` prepares it.

    Args:
        file: the photo.
        spec: an encoder of one size.

    Returns:
        (size, size, 3) uint8, upright.

    Raises:
        PhotoError: it cannot be decoded.
    """
    # An index decodes a photo once for its encoder and its keypoints, at the larger of both sizes.
    return fit_to_input(load(file, at_least=max(long_side(spec), LONG_SIDE)).pixels, spec)


def fit_to_input(pixels: NDArray[np.uint8], spec: EncoderSpec) -> NDArray[np.uint8]:
    """Return the part of a photo that the network gets, at its size.

    Args:
        pixels: (h, w, 3) uint8 RGB, upright.
        spec: an encoder of one size.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = pixels.shape[:2]
    target = place(width, height, spec.sizes[0][0], spec)
    cut = pixels[target.top : target.bottom, target.left : target.right]
    return resize(cut, target.width, target.height)


def normalise(photos: Tensor, settings: Input) -> Tensor:
    """Return (rgb / 255 - mean) / std.

    Args:
        photos: (N, 3, H, W) uint8.
        settings: the input of the recipe.

    Returns:
        (N, 3, H, W) float32.
    """
    import torch

    std = torch.tensor(settings.std, dtype=torch.float32, device=photos.device)
    mean = torch.tensor(settings.mean, dtype=torch.float32, device=photos.device)
    # The encoders also multiply once and subtract once for each pixel.
    factor, offset = torch.tensor(1 / 255, device=photos.device) / std, mean / std
    return photos.float().mul_(factor[:, None, None]).sub_(offset[:, None, None])


def input_spec(settings: Input) -> EncoderSpec:
    """Return the input of a recipe as an encoder of one size, which places photos alike.

    Args:
        settings: the input of the recipe.
    """
    return EncoderSpec(
        name="input",
        model=Path(),
        sha256="",
        layout="float-nchw",
        sizes=((settings.size, 1.0),),
        output="",
        fit=settings.fit,
    )
