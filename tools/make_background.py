"""Write the background of recognition: what 100 classes of ImageNet look like to the networks.

    python -m tools.make_background

needs the packages that `tools/export_models.py` names, and writes
`src/veduta/recognize/background.npz`. No photo is needed.

A network of the package was trained to tell 1,000 classes apart. Before its last ReLU6, a channel
has about the normal distribution over ImageNet that its batch normalisation describes. For the
photos of one class the mean of the channel is shifted. Of normal distributions with the same
variances, the classifier's weight is the shift divided by the variance (Fisher's discriminant). So
the shift is taken as `SHIFT` times the variance times the weight. The descriptor of a typical photo
of the class follows from the shifted distribution as in the exported graph: the mean cube after
ReLU6, its square root, without the common direction.

Every tenth class is enough. With all of them, too many labels resemble one of the classes.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tools.export_models import (
    CENTRED_ROOT,
    CENTRED_SHARE,
    GEM_P,
    SOURCES,
    Weights,
    common_direction,
    read_weights,
)

from veduta.files import atomic_file
from veduta.recognize.background import BACKGROUND_FILE

NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")

STEP = 10
"""Every class of this number is taken. 5 and 20 give the same results on objects20."""

SHIFT = 8.0
"""With this value the photos of objects20 resemble the class of what they show as much as each
other. 5 gives worse results there."""

_QUANTILES = 128
"""How many values stand for a normal distribution."""


def class_descriptors(weights: Weights) -> NDArray[np.float64]:
    """Return the descriptors (c, C) of typical photos of every `STEP`-th class, of length one."""
    std = np.abs(weights["_bn1.weight"].astype(np.float64))
    classifier = weights["_fc.weight"].astype(np.float64)
    classifier = (classifier - classifier.mean(axis=0))[::STEP]
    means = weights["_bn1.bias"] + SHIFT * std**2 * classifier
    normal = statistics.NormalDist()
    cubes = np.zeros_like(means)
    for i in range(_QUANTILES):
        quantile = normal.inv_cdf((i + 0.5) / _QUANTILES)
        cubes += np.clip(means + std * quantile, 0, 6) ** GEM_P
    peaks = _unit((cubes / _QUANTILES) ** (1 / CENTRED_ROOT))
    return _unit(peaks - CENTRED_SHARE * common_direction(weights))


def quantised(rows: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return rows as int8, each scaled to use the whole range."""
    return np.round(rows * (127 / np.abs(rows).max(axis=1, keepdims=True))).astype(np.int8)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--file", type=Path, default=BACKGROUND_FILE)
    options = parser.parse_args()
    arrays = {
        name: quantised(class_descriptors(read_weights(SOURCES[name].weights))) for name in NETWORKS
    }
    with atomic_file(options.file) as draft, draft.open("wb") as out:
        np.savez_compressed(out, **arrays)
    print(f"{options.file}: {options.file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
