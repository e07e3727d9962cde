"""How much of the speed of a device `veduta index` reaches, and when decoding is the limit.

"Alone" are the two networks of a photo (encoder and XFeat), on inputs that are ready, by as many
threads as an index uses. "Index" is the whole way of a photo from its file to its row, without
links. A simulated device computes nothing. It answers after the time that a device of that speed
would take, with results of a photo of the same shape, and does one batch after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.processes import run_child
from benchmarks.report import busy_warning, format_number, parser, publish, table
from veduta.devices import DEVICES
from veduta.devices.shared_runs import SharedRuns
from veduta.encoders import OnnxEncoder, load_encoder
from veduta.index import create_index, update_index
from veduta.index.decoding_turns import workers_of
from veduta.keypoints import load_extractor
from veduta.keypoints.xfeat import XFeat
from veduta.ordered_threads import map_in_order
from veduta.processor_cores import processor_cores

NEARLY_ALL = 0.9
"""The share from which on the device, and not the processor, counts as the limit."""


def main(arguments: list[str] | None = None) -> None:
    options = parser("device_share", __doc__)
    add_data_option(options)
    options.add_argument("--photos", type=int, default=600, help="number of photos")
    options.add_argument("--device", nargs="*", choices=tuple(DEVICES), default=["cpu"])
    options.add_argument(
        "--simulated",
        nargs="*",
        type=float,
        default=[12.5, 25, 50, 100, 200, 400, 800],
        help="photos/s of simulated devices",
    )
    options.add_argument("--most-photos", type=int, default=16, help="of a batch of them")
    options.add_argument("--child", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    folders = [chosen.data / name for name in present_sets(options, chosen.data, SETS)]
    files = spread(sorted(each for folder in folders for each in folder.rglob("*.jpg")), chosen)
    if chosen.child:
        print(json.dumps(measure(chosen, files)))
        return
    warning = busy_warning()
    if warning:
        print(warning)
    settings = ("--data", chosen.data, "--work", chosen.work, "--photos", chosen.photos)
    measured = [
        run_child("device_share", "--child", name, "--most-photos", chosen.most_photos, *settings)
        for name in (*chosen.device, *(f"{speed:g}" for speed in chosen.simulated), "inf")
    ]
    publish("device_share", page(measured, len(files), chosen.most_photos), chosen.docs)


def spread(files: Sequence[Path], chosen: argparse.Namespace) -> list[Path]:
    """Return the chosen number of the files, spread over all of them."""
    number = min(chosen.photos, len(files))
    return [files[place] for place in np.linspace(0, len(files) - 1, number).astype(int)]


def measure(chosen: argparse.Namespace, files: Sequence[Path]) -> dict[str, Any]:
    """Measure one device, in this process.

    Args:
        chosen: the options. `child` is the name of a device, or the speed of a simulated one.
        files: the photos.
    """
    is_real = chosen.child in DEVICES
    device = chosen.child if is_real else "cpu"
    encoder, extractor = load_encoder(device=device), load_extractor(device=device)
    assert isinstance(extractor, XFeat)
    sessions = [encoder._model._session, extractor._session]  # type: ignore[attr-defined]
    if not is_real:
        seconds = 1 / float(chosen.child) / len(sessions)
        is_free = threading.Lock()
        sessions = [
            SharedRuns(Simulated(session, seconds, is_free), chosen.most_photos)
            for session in sessions
        ]
        encoder.shared_photos = chosen.most_photos
    runs: list[int] = []
    for session in sessions:
        if isinstance(session, SharedRuns):
            session._session = Counted(session._session, runs)
    calls: list[Callable[[], object]] = []
    of_encoder, of_extractor = (Recorded(session, calls) for session in sessions)
    encoder._model._session = of_encoder  # type: ignore[attr-defined]
    extractor = replace(extractor, _session=of_extractor)
    # The first time costs imports and buffers, and a simulated device computes its answers.
    index(chosen.work, files[: 4 * processor_cores()] if is_real else files, encoder, extractor)
    calls.clear()
    runs.clear()
    seconds = index(chosen.work, files, encoder, extractor)
    photos_a_run = sum(runs) / len(runs) if runs else 1.0
    workers = workers_of(encoder, extractor)
    started = time.perf_counter()
    for _ in map_in_order(list(calls), lambda call: call(), workers):
        pass
    alone = time.perf_counter() - started
    return {
        "name": chosen.child,
        "alone": len(files) / alone,
        "index": len(files) / seconds,
        "workers": workers,
        "photos_a_run": photos_a_run,
    }


def index(work: Path, files: Sequence[Path], encoder: OnnxEncoder, extractor: Any) -> float:
    """Return the seconds in which photos get into a new index, without links."""
    folder = work / "device-share"
    shutil.rmtree(folder, ignore_errors=True)
    create_index(folder, encoder, extractor)
    started = time.perf_counter()
    report = update_index(folder, files, encoder, extractor, graph=False)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    if report.encoded + report.copied + report.unchanged < len(files):
        print(report.unreadable)
    return seconds


class Simulated:
    """A session that computes nothing: it answers like a photo of the same shape, after a time."""

    def __init__(self, real: Any, seconds: float, is_free: threading.Lock) -> None:
        """Take the place of a session.

        Args:
            real: computes the answer for the first photo of each shape.
            seconds: that a photo takes.
            is_free: one device does one thing at a time.
        """
        self._real, self._seconds, self._is_free = real, seconds, is_free
        self._answers: dict[Any, list[NDArray[Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run(self, names: list[str], feed: dict[str, NDArray[Any]], options: Any = None) -> Any:
        ((name, photos),) = feed.items()
        key = tuple(names), photos.shape[1:]
        if key not in self._answers:
            self._answers[key] = self._real.run(names, {name: photos[:1]})
        with self._is_free:
            time.sleep(self._seconds * len(photos))
        # Results are not copied: ONNX Runtime copies them while other threads compute.
        return [
            np.broadcast_to(answer, (len(photos), *answer.shape[1:]))
            for answer in self._answers[key]
        ]


class Counted:
    """A session, and the number of photos of each of its runs."""

    def __init__(self, session: Any, runs: list[int]) -> None:
        self._session, self._runs = session, runs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, NDArray[Any]], options: Any = None) -> Any:
        self._runs.append(len(next(iter(feed.values()))))
        return self._session.run(names, feed, options)


class Recorded:
    """A session whose calls can be repeated. One input of each shape is kept."""

    def __init__(self, session: Any, calls: list[Callable[[], object]]) -> None:
        self._session, self._calls = session, calls
        self._inputs: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, NDArray[Any]], options: Any = None) -> Any:
        shape = next(iter(feed.values())).shape
        kept = self._inputs.setdefault(shape, feed)
        self._calls.append(lambda: self._session.run(names, kept, options))
        return self._session.run(names, feed, options)


def page(measured: Sequence[dict[str, Any]], photos: int, most_photos: int) -> str:
    """Return the section."""
    limit = next(each["index"] for each in measured if each["name"] == "inf")
    lines = [
        [
            each["name"] if each["name"] in DEVICES else f"simulated, {each['name']} photos/s",
            format_number(each["alone"]),
            format_number(each["index"]),
            f"{each['index'] / each['alone']:.2f}",
            f"{each['photos_a_run']:.1f}",
            each["workers"],
        ]
        for each in measured
        if each["name"] != "inf"
    ]
    speeds = [
        float(each["name"])
        for each in measured
        if each["name"] not in (*DEVICES, "inf") and each["index"] / each["alone"] < NEARLY_ALL
    ]
    found = (
        f"From {min(speeds):g} photos/s on, less than {NEARLY_ALL:.0%} of the device are reached."
        if speeds
        else f"All of these devices reach {NEARLY_ALL:.0%}."
    )
    text = table(
        ["networks on", "alone, photos/s", "index, photos/s", "share", "photos a run", "threads"],
        lines,
    )
    return (
        f"{photos:,} photos, {processor_cores()} cores, batches of up to {most_photos}.\n\n{text}"
        f"\n\nWith a device that needs no time, the processor indexes {format_number(limit)} "
        f"photos/s. {found}"
    )


if __name__ == "__main__":
    main()
