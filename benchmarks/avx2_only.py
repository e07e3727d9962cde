"""Run an encoder as on a processor with AVX2 and nothing newer, to compare the descriptors.

    python -m benchmarks.avx2_only [--avx2-only] MODEL SIDE PHOTOS.npy DESCRIPTORS.npy

`MODEL` is a model of the package. Each photo is seen `REPEATS` times. The last line of the output
is the time of the fastest of them for each photo, in milliseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import ROOT

SOURCE = Path(__file__).with_suffix(".c")
REPEATS = 3

__all__ = ["can_hide", "descriptors"]


def can_hide() -> bool:
    """Return whether this machine can hide the newer instructions from a process."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "cpuid_fault" in flags and "avx2" in flags and shutil.which("cc") is not None


def descriptors(
    photos: NDArray[np.uint8], model: str, side: int, *, avx2_only: bool
) -> tuple[NDArray[np.float32], float]:
    """Describe photos in a process of its own.

    Args:
        photos: (N, H, W, 3).
        model: a model of the package.
        side: the long side in pixels at which it sees them.
        avx2_only: whether newer instructions are hidden from the process.

    Returns:
        The descriptors (N, D), and the milliseconds of a photo, the median over the photos.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("photos.npy", "descriptors.npy")]
        np.save(files[0], photos)
        options = ["--avx2-only"] if avx2_only else []
        command = [sys.executable, "-m", "benchmarks.avx2_only", *options, model, str(side), *files]
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return np.load(files[1]), float(done.stdout.split()[-1])


def hide_newer_instructions() -> None:
    """Hide from this process every instruction set after AVX2. ONNX Runtime must not be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "avx2_only.so"
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True)
        if ctypes.CDLL(str(library)).avx2_only() != 0:
            raise RuntimeError("this processor cannot hide its instructions (no cpuid_fault)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the descriptors."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--avx2-only", action="store_true")
    parser.add_argument("model")
    parser.add_argument("side", type=int)
    parser.add_argument("photos", type=Path)
    parser.add_argument("descriptors", type=Path)
    options = parser.parse_args(arguments)
    if options.avx2_only:
        hide_newer_instructions()

    from veduta.encoders.embedded import embedded_source
    from veduta.encoders.loading import open_encoder

    source = embedded_source(options.model, options.model, ((options.side, 1.0),))
    encoder = open_encoder(source)
    rows, milliseconds = [], []
    for photo in np.load(options.photos):
        prepared = encoder.prepare(photo)
        seconds = []
        for _ in range(REPEATS):
            started = time.thread_time()
            (row,) = encoder.encode([prepared])
            seconds.append(time.thread_time() - started)
        rows.append(row)
        milliseconds.append(1000 * min(seconds))
    np.save(options.descriptors, np.stack(rows))
    print(float(np.median(milliseconds)))


if __name__ == "__main__":
    main()
