"""Run a network as on a processor with AVX2 and nothing newer, to compare what it gives.

    python -m benchmarks.avx2_only [--avx2-only] MODEL SIDE PHOTOS.npz RESULTS.npz

`MODEL` is a model of the package: of an encoder, which sees photos with a long side of `SIDE`, or
of XFeat, which ignores that. Each photo is seen `REPEATS` times. The last line of the output is the
time of the fastest of them for each photo, in milliseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import ROOT
from veduta.keypoints import Keypoints
from veduta.keypoints.xfeat import XFeat, XFeatIn32Bits

SOURCE = Path(__file__).with_suffix(".c")
REPEATS = 3

KEYPOINTS = 512

_XFEAT = {version.model: version for version in (XFeat, XFeatIn32Bits)}

Result = TypeVar("Result")
Run = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], list[float]]]

__all__ = ["can_hide", "descriptors", "keypoints"]


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
    rows, milliseconds = _results(list(photos), model, side, avx2_only=avx2_only)
    return np.stack(rows), milliseconds


def keypoints(
    photos: Sequence[NDArray[np.uint8]], model: str, *, avx2_only: bool
) -> list[Keypoints]:
    """Find keypoints in photos, each (H, W, 3), with a model of XFeat, in a process of its own."""
    rows, _ = _results(photos, model, 0, avx2_only=avx2_only)
    return [
        Keypoints.unpack(row.tobytes(), photo.shape[1], photo.shape[0])
        for row, photo in zip(rows, photos, strict=True)
    ]


def _results(
    photos: Sequence[NDArray[np.uint8]], model: str, side: int, *, avx2_only: bool
) -> tuple[list[NDArray[Any]], float]:
    """Return what a network gives for each photo, and the milliseconds of a photo."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("photos.npz", "results.npz")]
        np.savez(files[0], *photos)
        options = ["--avx2-only"] if avx2_only else []
        command = [sys.executable, "-m", "benchmarks.avx2_only", *options, model, str(side), *files]
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with np.load(files[1]) as results:
            return [results[name] for name in results.files], float(done.stdout.split()[-1])


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
    parser.add_argument("results", type=Path)
    options = parser.parse_args(arguments)
    if options.avx2_only:
        hide_newer_instructions()

    run = _keypoint_run(options.model) if options.model in _XFEAT else _encoder_run(options)
    rows, milliseconds = [], []
    with np.load(options.photos) as stored:
        for name in stored.files:
            row, times = run(stored[name])
            rows.append(row)
            milliseconds.append(1000 * min(times))
    np.savez(options.results, *rows)
    print(float(np.median(milliseconds)))


def _encoder_run(options: argparse.Namespace) -> Run:
    from veduta.encoders.embedded import embedded_source
    from veduta.encoders.loading import open_encoder

    source = embedded_source(options.model, options.model, ((options.side, 1.0),))
    encoder = open_encoder(source)

    def run(photo: NDArray[np.uint8]) -> tuple[NDArray[Any], list[float]]:
        prepared = encoder.prepare(photo)
        rows, times = _repeated(lambda: encoder.encode([prepared]))
        return rows[0], times

    return run


def _keypoint_run(model: str) -> Run:
    extractor = _XFEAT[model].load(KEYPOINTS, 1)

    def run(photo: NDArray[np.uint8]) -> tuple[NDArray[Any], list[float]]:
        height, width = photo.shape[:2]
        found, times = _repeated(lambda: extractor.extract(photo, width, height))
        return np.frombuffer(found.pack(), np.uint8), times

    return run


def _repeated(work: Callable[[], Result]) -> tuple[Result, list[float]]:
    times = []
    for _ in range(REPEATS):
        started = time.thread_time()
        result = work()
        times.append(time.thread_time() - started)
    return result, times


if __name__ == "__main__":
    main()
