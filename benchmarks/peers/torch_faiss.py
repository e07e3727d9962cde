"""The usual program for this work: Pillow, EfficientNet-Lite in eager PyTorch, a flat FAISS index.

Each photo is decoded whole and resized with Pillow to the sizes of Veduta's input. Photos of one
shape share a batch of up to 16. PyTorch has its default number of threads. With `workers` 0, decode
and network take turns. Otherwise a DataLoader decodes in that many processes while the network
runs. The network is the converter's own, which shares no code with Veduta's graphs.

The program reads orders on standard input, one JSON object a line, `{"paths": […], "workers": 0,
"save": null}`, and answers each with `{"seconds": …}`. It is a process of its own, so it shares
neither threads nor memory with Veduta.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tools import export_models as export
from torch.utils.data import DataLoader, Dataset

BATCH_PHOTOS = 16

Sizes = Sequence[tuple[int, float]]


class Photos(Dataset[list[torch.Tensor]]):
    """Decoded photos, one (3, h, w) tensor for each input size."""

    def __init__(self, paths: Sequence[str], sizes: Sequence[int]) -> None:
        self.paths = paths
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> list[torch.Tensor]:
        with Image.open(self.paths[position]) as photo:
            rgb = photo.convert("RGB")
        return [self._resized(rgb, side) for side in self.sizes]

    def _resized(self, photo: Image.Image, side: int) -> torch.Tensor:
        factor = side / max(photo.size)
        width, height = (
            max(1, int(length * factor / export.STRIDE + 0.5)) * export.STRIDE
            for length in photo.size
        )
        # Veduta uses the same filters, so that the descriptors can be compared.
        enlarges = width > photo.width or height > photo.height
        resampling = Image.Resampling.BICUBIC if enlarges else Image.Resampling.HAMMING
        pixels = np.array(photo.resize((width, height), resampling))
        return torch.from_numpy(pixels).permute(2, 0, 1)


class Network:
    """One EfficientNet-Lite with a pooling of Veduta's: `descriptor` (GeM) or `centred`."""

    def __init__(self, name: str, output: str) -> None:
        source = export.SOURCES[name]
        self.network = export.pytorch_network(source)
        self.common = None
        if output == "centred":
            direction = export.common_direction(export.read_weights(source.weights))
            self.common = torch.from_numpy(export.CENTRED_SHARE * direction)

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        features = self.network.extract_features((photos.float() - export.MEAN) / export.STD)
        cubes = features.clamp(min=export.GEM_EPS).pow(export.GEM_P).mean((2, 3))
        if self.common is None:
            return cubes.pow(1 / export.GEM_P)
        peaks = torch.nn.functional.normalize(cubes.pow(1 / export.CENTRED_ROOT))
        return torch.nn.functional.normalize(peaks - self.common)


class Describer:
    """Turns photos into descriptors of length one."""

    def __init__(self, networks: Sequence[str], sizes: Sizes, output: str) -> None:
        self.networks = [Network(name, output) for name in networks]
        self.sizes = sizes

    def describe(self, paths: Sequence[str], workers: int = 0) -> NDArray[np.float32]:
        """Return (n, d) float32 in the order of `paths`."""
        photos = Photos(paths, [side for side, _ in self.sizes])
        loader = DataLoader(photos, batch_size=BATCH_PHOTOS, num_workers=workers, collate_fn=list)
        with torch.inference_mode():
            parts = [self._batch(batch) for batch in loader]
        descriptors: NDArray[np.float32] = torch.cat(parts).numpy()
        return descriptors

    def _batch(self, batch: list[list[torch.Tensor]]) -> torch.Tensor:
        total = None
        for level, (_, weight) in enumerate(self.sizes):
            rows_of_shape: dict[torch.Size, list[int]] = defaultdict(list)
            for row, tensors in enumerate(batch):
                rows_of_shape[tensors[level].shape].append(row)
            for rows in rows_of_shape.values():
                photos = torch.stack([batch[row][level] for row in rows])
                descriptors = torch.cat([network(photos) for network in self.networks], dim=1)
                weighted = weight * torch.nn.functional.normalize(descriptors)
                if total is None:
                    total = torch.zeros(len(batch), weighted.shape[1])
                total[rows] += weighted
        assert total is not None
        return torch.nn.functional.normalize(total)


def index(describer: Describer, paths: Sequence[str], workers: int) -> NDArray[np.float32]:
    """Describe `paths`, put the descriptors into a flat FAISS index, and return them."""
    descriptors = describer.describe(paths, workers)
    flat = faiss.IndexFlatIP(descriptors.shape[1])
    flat.add(descriptors)
    return descriptors


def main() -> None:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    describer = Describer(settings["networks"], settings["sizes"], settings["output"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        descriptors = index(describer, order["paths"], order["workers"])
        seconds = time.perf_counter() - started
        if order.get("save"):
            np.save(Path(order["save"]), descriptors)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
