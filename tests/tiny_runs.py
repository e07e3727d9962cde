"""Small runs for tests: photos in noisy colours, three recipes, and the model asked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.runs.card import Card

RunAndCard = tuple[Path, Card]

SIDE = 16
NAMES = ("arch, the “old”", 'dome|"1"', "tower\n2", "ärch", "zoo")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

CLASSES = """
about = "A tiny network."
[input]
size = 16
mean = [0.4, 0.5, 0.6]
std = [0.2, 0.25, 0.3]
[network]
layers = [
  { conv = 4, activation = "relu" }, { batch-norm = true }, { pool = "max" }, { flatten = true },
  { dense = 12 }, { dropout = 0.2 }, { dense = "classes" },
]
[training]
epochs = 4
batch = 16
learning_rate = 0.01
"""
PAIR = """
input = { size = 16 }
[network]
layers = [
  { conv = 4, activation = "relu" }, { pool = "max" }, { flatten = true },
  { dense = 6, activation = "relu" }, { dense = 1, activation = "sigmoid" },
]
[loss]
name = "binary-cross-entropy"
[training]
epochs = 2
"""
DRAWING = """
input = { size = 16 }
[network]
layers = [
  { noise = 0.1 }, { conv = 4, padding = "same", activation = "relu" }, { pool = "max" },
  { flatten = true }, { dense = 10 },
]
decoder = [
  { dense = 256, activation = "relu" }, { reshape = [4, 8, 8] },
  { deconv = 3, kernel = 3, stride = 2, padding = "same", activation = "sigmoid" },
]
[loss]
name = "mse"
[training]
epochs = 2
monitor = "val_loss"
"""


def painted(
    root: Path, names: tuple[str, ...], counts: dict[str, int], side: int = SIDE, seed: int = 0
) -> Path:
    """Noise in a colour of each class, close enough to each other that some are confused."""
    generator = np.random.default_rng(seed)
    for part, count in counts.items():
        for code, name in enumerate(names):
            folder = root / part / name
            folder.mkdir(parents=True)
            colour = 255 * np.array([code / len(names), 0.5, 1 - code / len(names)])
            for number in range(count):
                tint = colour + generator.normal(0, 45, 3)
                noise = generator.normal(0, 50, (side, side, 3)) + tint
                pixels = np.clip(noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def recipe_of(folder: Path, text: str, name: str = "tiny") -> Recipe:
    file = folder / f"{name}.toml"
    file.write_text(text, "utf-8")
    return open_recipe(str(file))


def ask_model(run: Path, files: list[Path], mean: Any = MEAN, std: Any = STD) -> list[NDArray[Any]]:
    """Ask `model.onnx` by hand: Pillow, numpy and ONNX Runtime alone."""
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float64) for file in files])
    batch = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(run / "model.onnx"))
    return session.run(None, {"photos": batch})


def files_of(root: Path, part: str) -> tuple[list[Path], list[str]]:
    files = sorted((root / part).glob("*/*.png"))
    return files, [file.parent.name for file in files]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread, so that a training can be repeated bit by bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def trained(
    home: Path, text: str, name: str, photos: str, folder: str, *, command: str = ""
) -> RunAndCard:
    """Train the recipe `text` on the photos in home/photos, and return its folder and card."""
    from veduta.learn.runs.train import train

    recipe = recipe_of(home, text, name)
    with one_torch_thread():
        return home / folder, train(recipe, home / photos, home / folder, command=command)
