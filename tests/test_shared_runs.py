"""Threads that share runs of a device get what they would get alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_devices
import numpy as np
import pytest
from fake_devices import FakeCuda
from PIL import Image
from tiny_onnx import channel_means, scene, write

import veduta
from veduta.devices.pictures import generated_picture
from veduta.devices.shared_runs import SharedRuns
from veduta.encoders import load_encoder
from veduta.errors import EncoderError
from veduta.index import open_snapshot
from veduta.index.decoding_turns import Turn, turns_of, workers_of
from veduta.index.keypoint_files import KeypointReader, keypoint_places
from veduta.keypoints.loading import _load
from veduta.keypoints.xfeat import XFeat, XFeatIn32Bits
from veduta.ordered_threads import map_in_order
from veduta.processor_cores import processor_cores


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    yield fake_devices.install(monkeypatch)
    _load.cache_clear()


class Sums:
    """A session that adds the numbers of each photo. The first run waits until it may end."""

    def __init__(self, work: Callable[[Any], Any] | None = None, first: int | str = "N") -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._work = work or (lambda photos: photos.reshape(len(photos), -1).sum(axis=1))
        self._port = SimpleNamespace(name="photos", shape=[first, "H", "W"])

    def get_inputs(self) -> list[Any]:
        return [self._port]

    get_outputs = get_inputs

    def run(self, names: list[str], feed: dict[str, Any], options: Any = None) -> list[Any]:
        self.shapes.append(feed["photos"].shape)
        self.begun.set()
        assert self.may_end.wait(30)
        return [self._work(feed["photos"])]


def asked(session: Sums, photos: list[Any], most_photos: int) -> list[Any]:
    """Ask for each photo in a thread of its own, all while the first run is under way."""
    shared = SharedRuns(session, most_photos)

    def sum_of(photo: Any) -> Any:
        try:
            return shared.run(["sums"], {"photos": photo[None]})[0].tolist()
        except (RuntimeError, KeyboardInterrupt) as error:
            return repr(error)

    with ThreadPoolExecutor(len(photos)) as pool:
        first = pool.submit(sum_of, photos[0])
        assert session.begun.wait(30)
        others = []
        for number, photo in enumerate(photos[1:], start=1):
            others.append(pool.submit(sum_of, photo))
            deadline = time.monotonic() + 30
            while len(shared._waiting) < number and time.monotonic() < deadline:
                time.sleep(0.001)
        session.may_end.set()
        return [each.result(timeout=30) for each in (first, *others)]


def photos_of(*values: float, size: tuple[int, int] = (2, 2)) -> list[Any]:
    return [np.full(size, value, np.float32) for value in values]


def test_calls_that_wait_share_a_run():
    session = Sums()
    assert asked(session, photos_of(1, 2, 3, 4, 5, 6), 4) == [[4 * n] for n in range(1, 7)]
    assert session.shapes == [(1, 2, 2), (4, 2, 2), (1, 2, 2)]


def test_only_photos_of_one_shape_share_a_run():
    session = Sums()
    flat = photos_of(1, 2, size=(1, 4))
    square = photos_of(3, 4, 5)
    order = [square[0], flat[0], square[1], flat[1], square[2]]
    assert asked(session, order, 4) == [[12], [4], [16], [8], [20]]
    assert session.shapes == [(1, 2, 2), (2, 1, 4), (2, 2, 2)]


@pytest.mark.parametrize("most_photos", [1, 4])
def test_a_session_of_a_fixed_number_of_photos_is_not_shared(most_photos):
    session = Sums(first=1 if most_photos == 4 else "N")
    assert asked(session, photos_of(1, 2, 3), most_photos) == [[4], [8], [12]]
    assert session.shapes == [(1, 2, 2)] * 3


def test_one_photo_at_fault_fails_alone():
    def refuse_two(photos: Any) -> Any:
        if (photos == 2).any():
            raise RuntimeError("two")
        return photos.sum(axis=(1, 2))

    session = Sums(refuse_two)
    assert asked(session, photos_of(1, 3, 2, 4), 4) == [[4], [12], "RuntimeError('two')", [16]]
    assert session.shapes == [(1, 2, 2), (3, 2, 2), *[(1, 2, 2)] * 3]


def test_a_batch_that_is_too_large_is_taken_apart():
    def refuse_batches(photos: Any) -> Any:
        if len(photos) > 1:
            raise RuntimeError("out of memory")
        return photos.sum(axis=(1, 2))

    assert asked(Sums(refuse_batches), photos_of(1, 2, 3), 4) == [[4], [8], [12]]


def test_results_without_an_axis_of_photos_end_the_sharing():
    session = Sums(lambda photos: photos.sum(axis=(1, 2))[:1])
    assert asked(session, photos_of(1, 2, 3), 4) == [[4], [8], [12]]


def test_an_interrupt_leaves_the_others_their_results():
    interrupts = iter([True])

    def interrupted(photos: Any) -> Any:
        if len(photos) > 1 and next(interrupts, False):
            raise KeyboardInterrupt
        return photos.sum(axis=(1, 2))

    answers = asked(Sums(interrupted), photos_of(1, 2, 3, 4), 4)
    wanted = [[4], [8], [12], [16]]
    assert answers.count("KeyboardInterrupt()") == 1
    assert all(a == b or a == "KeyboardInterrupt()" for a, b in zip(answers, wanted, strict=True))


def test_many_threads_get_their_own_results():
    session = Sums()
    session.may_end.set()
    shared = SharedRuns(session, 8)
    photos = [np.full((2, 1 + n % 3), n, np.float32) for n in range(400)]
    results = map_in_order(photos, lambda p: shared.run(["s"], {"photos": p[None]})[0][0], 24)
    assert list(results) == [photo.sum() for photo in photos]
    assert max(shape[0] for shape in session.shapes) <= 8
    assert sum(shape[0] for shape in session.shapes) == 400


@pytest.mark.parametrize("name", ["accurate-int8", "fast"])
def test_a_batch_on_the_processor_gives_the_bits_of_single_photos(name):
    encoder = load_encoder(name)
    prepared = [encoder.prepare(generated_picture(seed, 240, 320)) for seed in range(3)]
    alone = [encoder.encode([one]) for one in prepared]
    np.testing.assert_array_equal(encoder.encode(prepared), np.concatenate(alone))


@pytest.mark.parametrize("kind", [XFeat, XFeatIn32Bits])
def test_a_batch_of_xfeat_gives_the_bits_of_single_photos(kind):
    session = kind.load(64, 1)._session
    names = [output.name for output in session.get_outputs()]
    photos = np.stack([generated_picture(seed, 192, 256) for seed in range(3)])
    if kind is XFeat:
        photos = photos[..., 0]
    together = session.run(names, {"photos": photos})
    for row, photo in enumerate(photos):
        for whole, part in zip(together, session.run(names, {"photos": photo[None]}), strict=True):
            np.testing.assert_array_equal(whole[row], part[0])


def test_an_index_on_a_device_is_that_of_the_processor(cuda, tmp_path):
    """Photos of two shapes and a broken one, and then all batches are too large."""
    model = write(tmp_path, channel_means())
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        size = (48, 64) if number % 3 else (64, 48)
        Image.fromarray(scene(*size, seed=number)).save(folder / f"{number:02}.png")
    broken = folder / "07.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with veduta.create(tmp_path / "cpu", model, "xfeat:64") as index:
        wanted = index.add(folder)
    cuda.seconds = 0.005
    for name, fails_from in (("cuda", None), ("small", 2)):
        cuda.fails_from = fails_from
        with veduta.create(tmp_path / name, model, "xfeat:64", device="cuda") as index:
            found = index.add(folder)
        assert found.added == wanted.added == 19 and found.unreadable == wanted.unreadable
        assert [path for path, _ in found.unreadable] == [str(broken)]
        assert contents(tmp_path / name) == contents(tmp_path / "cpu")
    sizes = {shape[0] for session in cuda.sessions for shape in session.shapes}
    assert 1 in sizes and 4 < max(sizes) <= fake_devices.CUDA.most_photos


def contents(index: Path) -> list[Any]:
    """Return path, descriptor and keypoints of each photo of an index, in order."""
    snapshot, reader = open_snapshot(index), KeypointReader(index)
    rows = snapshot.rows.slice(0, snapshot.photos)
    places = keypoint_places(rows)
    return [
        (path, row.tobytes(), reader.read(place, 64, 64).pack())
        for path, row, place in zip(
            rows["path"].to_pylist(), snapshot.descriptors, places, strict=True
        )
    ]


def test_workers_and_turns():
    device = SimpleNamespace(shared_photos=16)
    processor = SimpleNamespace(shared_photos=1)
    plain: Any = object()
    cores = processor_cores()
    assert workers_of(plain, None) == workers_of(processor, plain) == cores
    assert turns_of(plain, None) is None is turns_of(processor, processor)
    assert workers_of(device, processor) == cores + 32 and workers_of(device, device) == cores + 64
    turns = turns_of(device, None)
    assert turns is not None
    with pytest.raises(EncoderError), Turn(turns) as turn:
        turn.end_if_small(1000)
        turn.end_if_small(1000)
        raise EncoderError
    with Turn(turns) as turn:
        turn.end_if_small(10**9)
        free = [turns.acquire(blocking=False) for _ in range(cores)]
        assert free.count(True) == cores - 1
    assert turns.acquire(blocking=False) and not turns.acquire(blocking=False)


def test_a_simulated_device_takes_its_time_and_answers_by_shape():
    from benchmarks.device_share import Simulated, page

    real = Sums()
    real.may_end.set()
    simulated = Simulated(real, 0.01, threading.Lock())
    started = time.perf_counter()
    for photos in (photos_of(1, 1, 1), photos_of(1, 1), photos_of(1, size=(1, 3))):
        (answer,) = simulated.run(["sums"], {"photos": np.stack(photos)})
        assert answer.tolist() == [photos[0].size] * len(photos)
    assert time.perf_counter() - started >= 0.06
    assert real.shapes == [(1, 2, 2), (1, 1, 3)]
    facts = {"workers": 2, "photos_a_run": 1.0}
    text = page(
        [
            {"name": "cpu", "alone": 20.0, "index": 15.0, **facts},
            {"name": "50", "alone": 50.0, "index": 48.0, **facts},
            {"name": "100", "alone": 100.0, "index": 80.0, **facts},
            {"name": "inf", "alone": 1000.0, "index": 90.0, **facts},
        ],
        600,
        16,
    )
    assert "| cpu | 20.0 | 15.0 | 0.75 |" in text and "| 90.0 |" not in text
    assert "the processor indexes 90.0 photos/s. From 100 photos/s on" in text
