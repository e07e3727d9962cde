"""A run of `veduta collect` continues after a kill, an interrupt and a full disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from collecting import QUICK, wait_for
from photo_server import PhotoServer, photo

from veduta.collect import Settings, collect
from veduta.collect import save_photo as saving
from veduta.collect.journal import Journal
from veduta.collect.outcome import Outcome, Result
from veduta.collect.rows import Row
from veduta.errors import DatasetError, StorageFull
from veduta.photos import content_hash


class TestResuming:
    def test_a_second_run_fetches_what_is_missing(self, gather, server: PhotoServer) -> None:
        wanted = {f"p{number}": f"photo/{number}" for number in range(20)}
        first = gather(wanted)
        assert (first.summary.collected, first.summary.already) == (20, 0)
        (first.folder / "x/p3.jpg").unlink()
        (first.folder / "x/p4.jpg").write_bytes(b"")  # as a power failure may leave it
        (first.folder / "x/p5.jpg").write_bytes(b"edited")
        second = gather({**wanted, "p20": "photo/20"})
        assert (second.summary.collected, second.summary.already) == (3, 18)
        asked = {path: times for path, times in server.requests.items() if times > 1}
        assert asked == {"photo/3": 2, "photo/4": 2}
        assert (first.folder / "x/p5.jpg").read_bytes() == b"edited"
        assert {row["outcome"] for row in second.rows} == {"collected"}
        assert [row["row"] for row in second.rows] == list(range(1, 22))

    def test_rows_may_move_and_repeat(self, gather, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "place.txt"
        urls = [server.url(f"photo/{number}") for number in range(5)]
        file.write_text("\n".join(urls))
        collect([file], tmp_path / "out", Settings(**QUICK))
        file.write_text("\n".join([urls[4], urls[4], *urls[:4]]))
        done = collect([file], tmp_path / "out", Settings(**QUICK))
        assert (done.collected, done.already) == (0, 5)
        assert dict(done.outcomes) == {"collected": 5, "repeated": 1}
        assert max(server.requests.values()) == 1
        rows = pq.read_table(tmp_path / "out/collected.parquet").to_pylist()
        assert (rows[1]["outcome"], rows[1]["error"]) == ("repeated", "the same as row 1")

    @pytest.mark.slow
    def test_kill_9_in_the_middle(self, server: PhotoServer, tmp_path: Path) -> None:
        number, connections = 400, 8
        server.delay = 0.02
        file = tmp_path / "place.txt"
        file.write_text("\n".join(server.url(f"photo/{each}") for each in range(number)))
        out = tmp_path / "out"
        command = [
            sys.executable,
            "-m",
            "veduta",
            "collect",
            str(file),
            "--out",
            str(out),
            "--allow-private",
            "--per-host",
            str(connections),
            "--json",
        ]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: len(list(out.glob("place/*"))) >= 60)
        running.send_signal(signal.SIGKILL)
        running.wait(10)
        there = {path.name: path.read_bytes() for path in out.glob("place/*")}
        assert 60 <= len(there) < number
        server.delay = 0.0
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        summary = json.loads(done.stdout)
        assert summary["photos"] == number
        assert summary["already"] >= len(there) - connections - 33  # those on their way
        assert sum(server.requests.values()) <= number + connections + 33 + 1
        for name, data in there.items():
            assert (out / "place" / name).read_bytes() == data
        hashes = {content_hash(path.read_bytes()) for path in out.glob("place/*")}
        assert hashes == {content_hash(photo(each)) for each in range(number)}
        assert not (out / ".veduta-collect/drafts").exists()

    @pytest.mark.slow
    @pytest.mark.usefixtures("interruptible")
    def test_ctrl_c_and_a_second_run(self, server: PhotoServer, tmp_path: Path) -> None:
        server.delay = 0.02
        file = tmp_path / "place.txt"
        file.write_text("\n".join(server.url(f"photo/{each}") for each in range(300)))
        out = tmp_path / "out"
        command = [
            sys.executable,
            "-m",
            "veduta",
            "collect",
            str(file),
            "--out",
            str(out),
            "--allow-private",
        ]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(list(out.glob("place/*"))) >= 30)
        running.send_signal(signal.SIGINT)
        text, errors = running.communicate(timeout=10)
        assert running.returncode == 130
        message = "Interrupted. What was collected is kept. Run the same command to continue."
        assert message in errors
        assert "Traceback" not in errors
        kept = len(list(out.glob("place/*")))
        assert f"{kept:,} collected, 0 failed" in text
        server.delay = 0.0
        asked = sum(server.requests.values())
        done = collect([file], out, Settings(**QUICK))
        assert (done.collected, done.already) == (300 - kept, kept)
        assert sum(server.requests.values()) - asked == 300 - kept

    def test_an_interrupt_between_keeping_and_counting(
        self, server: PhotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "place.txt"
        file.write_text("\n".join(server.url(f"photo/{number}") for number in range(300)))
        append = Journal.append
        times = iter(range(100))

        def interrupted(journal: Journal, done: Any) -> None:
            append(journal, done)
            if next(times) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)

        def as_the_command_does(number: int, frame: Any) -> None:
            signal.default_int_handler(number, frame)

        monkeypatch.setattr(Journal, "append", interrupted)
        before = signal.signal(signal.SIGINT, as_the_command_does)
        try:
            done = collect([file], tmp_path / "out", Settings(**QUICK))
        finally:
            signal.signal(signal.SIGINT, before)
        assert done.interrupted
        assert 4 <= done.collected < 300
        assert done.collected == len(list(tmp_path.glob("out/place/*")))

    def test_one_process_at_a_time(self, gather, tmp_path: Path) -> None:
        from filelock import FileLock

        (tmp_path / "out/.veduta-collect").mkdir(parents=True)
        with (
            FileLock(tmp_path / "out/.veduta-collect/lock"),
            pytest.raises(DatasetError, match="another process is collecting into this folder"),
        ):
            gather({"a": "photo/1"})

    def test_a_full_disk(self, gather, server, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = {f"p{number}": f"photo/{number}" for number in range(50)}
        write = saving.write_by_draft
        room = threading.Semaphore(20)

        def until_full(file: str, data: bytes, draft: Path) -> None:
            if not room.acquire(blocking=False):
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data, draft)

        monkeypatch.setattr(saving, "write_by_draft", until_full)
        with pytest.raises(StorageFull, match=r"the disk is full\. What was collected is kept"):
            gather(wanted)
        monkeypatch.undo()
        done = gather(wanted)
        assert (done.summary.already, done.summary.collected) == (20, 30)

    def test_a_folder_that_cannot_be_written(self, gather, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(DatasetError, match="cannot be written"):
            gather({"a": "photo/1"})


class TestJournal:
    ROW = Row("a", "x", "http://h/a.jpg")

    def test_a_torn_line_is_cut_off(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        other = Row("b", None, "http://h/b.jpg")
        journal = Journal(file, {})
        done = Result(Outcome.COLLECTED, hash="ab" * 32, path="x/a.jpg", attempts=2)
        journal.append([(self.ROW, Result(Outcome.BUSY, status=503)), (self.ROW, done)])
        journal.append([(other, Result(Outcome.REFUSED, error="x" * 5000))])
        journal.close()
        whole = file.read_bytes()
        for cut in (1, 100, 5000):
            file.write_bytes(whole[:-cut])
            journal = Journal(file, {})
            found = journal.find([self.ROW, other, Row("a", "x", "http://other/")])
            assert found == [done, None, None], "the last line about a row counts"
            journal.append([(other, Result(Outcome.REFUSED))])
            journal.refresh()
            assert journal.find([other]) == [Result(Outcome.REFUSED)]
            journal.close()

    def test_zeros_and_nonsense_within(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        journal = Journal(file, {})
        journal.append([(self.ROW, Result(Outcome.REFUSED))])
        journal.close()
        head, line = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(head + bytes(4096) + b"\n" + line[:40] + b"\n" + line)
        journal = Journal(file, {})
        assert journal.find([self.ROW]) == [Result(Outcome.REFUSED)]
        journal.close()

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (f'"hash": "{"ab" * 32}"', '"hash": "s3://bucket/outside"'),
            (f'"hash": "{"ab" * 32}"', '"hash": ""'),
            (f'"hash": "{"ab" * 32}"', '"hash": 7'),
            ('"width": 40', '"width": -1'),
            ('"width": 40', '"width": 2147483648'),
            ('"bytes": 900', '"bytes": 9223372036854775808'),
            ('"attempts": 1', '"attempts": 1e400'),
        ],
    )
    def test_a_line_that_a_stranger_wrote_is_no_result(
        self, tmp_path: Path, before: str, after: str
    ) -> None:
        file = tmp_path / "journal"
        journal = Journal(file, {})
        done = Result(Outcome.COLLECTED, bytes=900, width=40, hash="ab" * 32, attempts=1)
        journal.append([(self.ROW, done)])
        journal.close()
        data = file.read_bytes()
        assert data.count(before.encode()) == 1
        file.write_bytes(data.replace(before.encode(), after.encode()))
        journal = Journal(file, {})
        assert journal.find([self.ROW]) == [None], "the row is collected again"
        journal.close()

    def test_a_full_disk_leaves_whole_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "journal", {})
        journal.append([(self.ROW, Result(Outcome.REFUSED))])
        write = os.write
        calls = iter(range(10))

        def half(descriptor: int, data: memoryview) -> int:
            if next(calls):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:20])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            journal.append([(Row("b", None, "u"), Result(Outcome.REFUSED))])
        monkeypatch.undo()
        journal.close()
        assert (tmp_path / "journal").read_bytes().count(b"\n") == 2
        assert (tmp_path / "journal").read_bytes().endswith(b"}\n")

    def test_not_a_journal(self, tmp_path: Path) -> None:
        (tmp_path / "journal").write_text("my diary\n")
        with pytest.raises(DatasetError, match="not a journal"):
            Journal(tmp_path / "journal", {})
        assert (tmp_path / "journal").read_text() == "my diary\n"
