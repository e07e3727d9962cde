"""Pictures of what an autoencoder learns: photos with their reconstructions, and samples.

`reconstructions/epoch-003.png` has photos above and their reconstructions below, pixel by pixel.
`reconstructions.png` shows the same photos after each of these epochs. They depend only on the
history, so a run that continues after an interruption writes what it would have written without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.files import atomic_file
from veduta.learn.training.schedule import Epoch, best_epoch, monitored
from veduta.pages.photo_grid import draw_photo_grid

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Training

__all__ = [
    "MAX_EPOCHS",
    "improved_epochs",
    "shown_photos",
    "write_reconstructions",
    "write_samples",
]

MAX_EPOCHS = 16
"""Epochs with pictures. Of more, every second, fourth, … and the last one are kept."""

_PHOTOS = 6
_SAMPLES_IN_ROW, _SAMPLE_ROWS = 6, 4

_FOLDER, _SHEET, _SAMPLES = "reconstructions", "reconstructions.png", "samples.png"

Pixels = NDArray[np.uint8]


def shown_photos(splits: DatasetSplits) -> NDArray[np.intp]:
    """Return the rows of the photos in all pictures of a run.

    Args:
        splits: up to six photos of those that choose the epoch, from all over them; training photos
            if there are none.
    """
    rows = splits.choosing if len(splits.choosing) else splits.train
    places = np.linspace(0, len(rows) - 1, min(_PHOTOS, len(rows))).round().astype(np.intp)
    return rows[places]


def improved_epochs(history: Sequence[Epoch], training: Training) -> list[int]:
    """Return the numbers of the epochs that were the best one so far, at most `MAX_EPOCHS`.

    Args:
        history: one epoch or more.
        training: what the best epoch is.
    """
    improved = [
        epoch.number
        for done, epoch in enumerate(history, 1)
        if best_epoch(history[:done], training) == epoch.number
    ]
    stride = 1
    while len(kept := sorted({*improved[::stride], improved[-1]})) > MAX_EPOCHS:
        stride *= 2
    return kept


def write_reconstructions(
    net: Net,
    examples: Examples,
    rows: NDArray[np.intp],
    history: Sequence[Epoch],
    training: Training,
    folder: Path,
) -> None:
    """Write the pictures after the newest epoch, which is the best one.

    Args:
        net: the network with a decoder. It stays as it is, and no random number is drawn.
        examples: photos.
        rows: (n,) from `shown_photos`.
        history: the epochs so far.
        training: the settings.
        folder: of the run.

    Raises:
        OSError: a picture cannot be written.
    """
    strips = folder / _FOLDER
    strips.mkdir(parents=True, exist_ok=True)
    photos = examples.batch(rows)
    inputs, outputs = _as_pixels(photos), _reconstructed(net, examples, photos)
    _write(strips / _name(history[-1].number), _strip(inputs, outputs))
    kept = improved_epochs(history, training)
    for file in strips.glob("epoch-*.png"):
        if file.name not in map(_name, kept):
            file.unlink()
    figure, values = monitored(history, training, "best")
    grid = [("input", inputs)]
    for number in kept:
        if (shown := _read_outputs(strips / _name(number), inputs.shape)) is not None:
            value = f"{figure.replace('_', ' ')} {abs(values[number - 1]):.4g}"
            grid.append((f"epoch {number}: {value}", shown))
    _write(folder / _SHEET, draw_photo_grid(grid))


def write_samples(net: Net, seed: int, folder: Path) -> None:
    """Write photos that the decoder makes of numbers drawn from the normal distribution N(0, 1).

    Args:
        net: a variational autoencoder, on the CPU, in eval mode.
        seed: of the numbers.
        folder: of the run.

    Raises:
        OSError: the picture cannot be written.
    """
    import torch

    count = _SAMPLES_IN_ROW * _SAMPLE_ROWS
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn((count, net.feature_size), generator=generator)
    with torch.no_grad():
        photos = _as_pixels(net.decoder_part()(numbers) * 255)
    first = f"decoded from numbers drawn from N(0, 1), seed {seed}"
    rows = [
        (first if not start else "", photos[start : start + _SAMPLES_IN_ROW])
        for start in range(0, count, _SAMPLES_IN_ROW)
    ]
    _write(folder / _SAMPLES, draw_photo_grid(rows))


def _name(epoch: int) -> str:
    return f"epoch-{epoch:03}.png"


def _reconstructed(net: Net, examples: Examples, photos: Tensor) -> Pixels:
    import torch

    device = next(iter(net.parameters())).device
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            outputs = net(examples.network_input(photos.to(device)))
    finally:
        for module, was_training in modes:
            module.training = was_training
    return _as_pixels(outputs.reconstruction.float() * 255)


def _as_pixels(photos: Tensor) -> Pixels:
    """Return (n, 3, S, S) from 0 to 255 as (n, S, S, 3) uint8."""
    rounded = photos.float().round().clamp(0, 255).byte()
    pixels: Pixels = rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def _strip(inputs: Pixels, outputs: Pixels) -> Image.Image:
    from PIL import Image

    both = [np.concatenate(list(photos), axis=1) for photos in (inputs, outputs)]
    return Image.fromarray(np.concatenate(both, axis=0))


def _read_outputs(file: Path, shape: tuple[int, ...]) -> Pixels | None:
    """Return the reconstructions (n, S, S, 3) of a strip; None if it is gone or was changed."""
    from PIL import Image

    count, side = shape[:2]
    try:
        with Image.open(file, formats=["PNG"]) as opened:
            strip = np.asarray(opened.convert("RGB"))
    except OSError:
        return None
    if strip.shape != (2 * side, count * side, 3):
        return None
    return np.stack(np.split(strip[side:], count, axis=1))


def _write(file: Path, picture: Image.Image) -> None:
    with atomic_file(file) as draft:
        picture.save(draft, "PNG")
