"""The parts of a service, one by one: batches, queue, cursors, keys, decoding."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import TinyEncoder

from veduta.errors import BrokenPhoto, EncoderError, PhotoError, PhotoTooLarge, QueryError

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")

from veduta.web.admission import Admission
from veduta.web.batched_encoder import BatchedEncoder
from veduta.web.cursors import PhotoCursor, SearchCursor, read_photo_cursor, read_search_cursor
from veduta.web.decoding import DecodingProcesses
from veduta.web.keys import SCOPES, KeyFile, allows
from veduta.web.listening import is_loopback
from veduta.web.problems import Problem
from veduta.web.serving import names_of


class SlowEncoder(TinyEncoder):
    """Waits until it may begin, and notes the size of each run."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_begin = threading.Event()
        self.runs: list[int] = []

    def encode(self, prepared):  # type: ignore[no-untyped-def]
        self.has_begun.set()
        self.may_begin.wait(10)
        self.runs.append(len(prepared))
        if any(part[0].max() == 0 for part in prepared):
            raise EncoderError("black")
        return super().encode(prepared)


def wait_for(batched: BatchedEncoder, photos: int) -> None:
    """Wait until so many photos wait for a run."""
    deadline = time.monotonic() + 10
    while batched._waiting.qsize() < photos:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_photos_that_wait_share_a_run_and_each_gets_its_own_descriptor() -> None:
    slow = SlowEncoder()
    batched = BatchedEncoder(slow, max_photos=4)
    random = np.random.default_rng(0)
    photos = [random.integers(1, 255, (8, 8, 3), dtype=np.uint8) for _ in range(9)]
    results: dict[int, np.ndarray] = {}

    def encode(number: int) -> None:
        results[number] = batched.encode([(photos[number],)])

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(9)]
    # The first photo has a run of its own. The others come while it lasts.
    threads[0].start()
    assert slow.has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for(batched, 8)
    slow.may_begin.set()
    for thread in threads:
        thread.join(10)
    assert sum(slow.runs) == 9
    assert slow.runs == [1, 4, 4]
    for number, photo in enumerate(photos):
        assert np.array_equal(results[number], TinyEncoder().encode([(photo,)]))


def test_a_photo_that_fails_does_not_spoil_its_batch() -> None:
    slow = SlowEncoder()
    batched = BatchedEncoder(slow)
    outcomes: list[object] = []

    def encode(value: int) -> None:
        try:
            outcomes.append(batched.encode([(np.full((8, 8, 3), value, np.uint8),)]).shape)
        except EncoderError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=encode, args=(value,)) for value in (0, 7, 9)]
    threads[0].start()
    assert slow.has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for(batched, 2)
    slow.may_begin.set()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, outcomes)) == ["(1, 192)", "(1, 192)", "black"]


def test_a_full_queue_says_when_to_come_again() -> None:
    admission = Admission(2, threads=1)
    with (
        admission.place(),
        admission.place(),
        pytest.raises(Problem) as refused,
        admission.place(),
    ):
        pass
    assert refused.value.status_code == 429
    assert refused.value.headers is not None
    assert int(refused.value.headers["Retry-After"]) >= 1
    with admission.place():
        assert admission.taken == 1
    assert (admission.taken, admission.refused) == (0, 1)


@given(st.integers(0, 2**40), st.text("0123456789abcdef", min_size=1))
def test_cursors_come_back(offset: int, version: str) -> None:
    text = SearchCursor(offset, version).text()
    assert read_search_cursor(text, version) == offset
    with pytest.raises(Problem) as changed:
        read_search_cursor(text, version + "0")
    assert changed.value.status_code == 409


@given(st.integers(0, 2**62), st.integers(0, 2**40))
def test_photo_cursors_come_back(last_id: int, position: int) -> None:
    cursor = PhotoCursor(last_id, position)
    assert read_photo_cursor(cursor.text()) == cursor


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_a_cursor(text: str) -> None:
    for read in (lambda: read_search_cursor(text, "v"), lambda: read_photo_cursor(text)):
        try:
            read()
        except Problem as problem:
            assert problem.status_code in (409, 422)


def test_the_file_holds_no_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "new/keys.json")
    made = {scope: keys.create(scope) for scope in SCOPES}
    text = keys.file.read_text()
    assert not any(key in text or key.rpartition("_")[2] in text for key in made.values())
    assert keys.file.stat().st_mode & 0o077 == 0
    for scope, key in made.items():
        assert keys.scope_of(key) == scope
        for wrong in (key[:-1], key + "x", key.swapcase(), "", "\udcff"):
            assert keys.scope_of(wrong) is None


def test_another_process_sees_a_revoked_key_at_once(tmp_path: Path) -> None:
    server, owner = KeyFile(tmp_path / "keys.json"), KeyFile(tmp_path / "keys.json")
    assert server.scope_of("x") is None
    key = owner.create("edit")
    assert server.scope_of(key) == "edit"
    owner.revoke(owner.known()[0].id)
    assert server.scope_of(key) is None
    with pytest.raises(QueryError, match="veduta keys list"):
        owner.revoke("nothing")


def test_a_scope_allows_what_is_before_it() -> None:
    assert [[allows(has, needed) for needed in SCOPES] for has in SCOPES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_only_addresses_of_this_machine_are_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "")))


def test_indexes_of_one_name_are_told_apart() -> None:
    paths = (Path("a/x.veduta"), Path("b/x.veduta"), Path("x"), Path("y"))
    assert list(names_of(paths)) == ["x", "x-2", "x-3", "y"]


def picture(width: int = 40, height: int = 20, kind: str = "PNG") -> bytes:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.mark.slow
def test_decoding_processes() -> None:
    decoders = DecodingProcesses(1, max_pixels=1_000_000, seconds=30)

    async def run() -> None:
        data = picture()
        whole = await decoders.decode(data, "q", at_least=None)
        assert (whole.width, whole.height) == (40, 20)
        assert np.array_equal(whole.pixels, np.asarray(Image.open(io.BytesIO(data))))
        part = await decoders.decode(data, "q", at_least=8, box=(3, 4, 10, 6))
        assert np.array_equal(part.pixels, whole.pixels[4:10, 3:13])
        with pytest.raises(QueryError, match="not within the photo"):
            await decoders.decode(data, "q", at_least=8, box=(35, 4, 10, 6))
        with pytest.raises(PhotoTooLarge, match="q: "):
            await decoders.decode(picture(1200, 1000), "q", at_least=None)
        with pytest.raises(BrokenPhoto):
            await decoders.decode(data[:60], "q", at_least=None)
        with pytest.raises(PhotoError, match="not a photo"):
            await decoders.decode(b"GET / HTTP/1.1\n" * 50, "q", at_least=None)
        shown = Image.open(io.BytesIO(await decoders.jpeg(data, "q", 20)))
        assert (shown.format, shown.size) == ("JPEG", (20, 10))
        # A process that ends, or that is too slow, is replaced. A stopped one does not answer.
        process = decoders._all[0].start()
        process.send_signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.1, process.kill)
        with pytest.raises(BrokenPhoto, match="process"):
            await decoders.decode(data, "q", at_least=None)
        again = await decoders.decode(data, "q", at_least=None)
        assert np.array_equal(again.pixels, whole.pixels)
        process = decoders._all[0].start()
        process.kill()
        process.wait()  # It ended while nobody waited for it.
        again = await decoders.decode(data, "q", at_least=None)
        assert np.array_equal(again.pixels, whole.pixels)
        decoders._seconds = 0.1
        decoders._all[0].start().send_signal(signal.SIGSTOP)
        with pytest.raises(PhotoTooLarge, match="not decoded after"):
            await decoders.decode(data, "q", at_least=None)
        decoders._seconds = 30
        again = await decoders.decode(data, "q", at_least=None)
        assert np.array_equal(again.pixels, whole.pixels)

    try:
        asyncio.run(run())
    finally:
        decoders.close()
