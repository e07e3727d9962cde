"""How `veduta collect` treats servers: limits by host, back-off, opt-outs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_server import PhotoServer

from veduta.collect.content_encoding import decoder_of
from veduta.collect.host_queues import HostQueues
from veduta.collect.politeness import back_off, opts_out, retry_after


class TestHostQueues:
    def test_no_host_holds_up_another(self) -> None:
        async def run() -> tuple[int, list[str]]:
            queues: HostQueues[int] = HostQueues(per_host=2, max_jobs=50)
            at_once = {"slow": 0, "quick": 0}
            most = 0
            order: list[str] = []

            async def worker() -> None:
                nonlocal most
                while (taken := await queues.take()) is not None:
                    host, _ = taken
                    at_once[host] += 1
                    most = max(most, *at_once.values())
                    await asyncio.sleep(0.02 if host == "slow" else 0.0005)
                    at_once[host] -= 1
                    order.append(host)
                    queues.release_host(host)
                    queues.finish()

            jobs = [[("slow", number) for number in range(20)]]
            jobs += [[("quick", number)] for number in range(20)]
            await asyncio.gather(queues.feed(jobs), *(worker() for _ in range(8)))
            return most, order

        most, order = asyncio.run(run())
        assert most == 2
        assert len(order) == 40
        assert order[:30].count("quick") == 20, "the quick host is done while the slow one is not"

    def test_jobs_that_come_back(self) -> None:
        async def run() -> list[tuple[str, int]]:
            loop = asyncio.get_running_loop()
            queues: HostQueues[int] = HostQueues(per_host=1, max_jobs=2)
            seen: list[tuple[str, int]] = []

            async def worker() -> None:
                while (taken := await queues.take()) is not None:
                    host, job = taken
                    seen.append(taken)
                    if seen.count(taken) == 1 and job == 0:
                        queues.pause(host, 0.05)
                        began = loop.time()
                        queues.release_host(host)
                        queues.retry_later(host, job, 0.01)
                        continue
                    if job == 0:
                        assert loop.time() - began >= 0.05
                    queues.release_host(host)
                    queues.finish()

            await asyncio.gather(queues.feed([[("a", 0), ("b", 1)], [("b", 2)]]), worker())
            return seen

        assert asyncio.run(run()) == [("a", 0), ("b", 1), ("b", 2), ("a", 0)]

    def test_limits_hold_against_a_server(self, gather, server: PhotoServer) -> None:
        server.delay = 0.01
        wanted = {f"p{number}": f"photo/{number}" for number in range(60)}
        gather(wanted, per_host=3, connections=20)
        assert server.most_at_once == 3


class TestPoliteness:
    def test_back_off_doubles_and_is_capped(self) -> None:
        for attempt, most in ((1, 1), (2, 2), (5, 16), (9, 60), (4000, 60)):
            waits = [back_off(attempt, 1.0, 60.0) for _ in range(200)]
            assert most / 2 <= min(waits) < max(waits) <= most
            assert max(waits) - min(waits) > most / 4, "they spread"

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120),
            ("0", 0),
            ("Fri, 01 Jan 2027 00:01:00 GMT", 60),
            ("Fri, 01 Jan 2021 00:00:00 GMT", 0),
            ("-5", None),
            ("soon", None),
            ("", None),
            (None, None),
            ("1.5", None),
            ("9" * 50, None),
        ],
    )
    def test_retry_after(self, value: str | None, seconds: float | None) -> None:
        assert retry_after(value, datetime(2027, 1, 1, tzinfo=UTC)) == seconds

    @pytest.mark.parametrize(
        ("headers", "answer"),
        [
            (["noindex"], "noindex"),
            (["nofollow", "NOAI"], "noai"),
            (["none"], "none"),
            (["googlebot: noindex"], None),
            (["googlebot: nofollow, noindex"], None),
            (["veduta: noindex"], "noindex"),
            (["*: noai"], "noai"),
            ([], None),
            (["unavailable_after: 25 Jun 2010 15:00:00 PST"], None),
            (["index, noimageindex"], "noimageindex"),
            (["noindexed"], None),
        ],
    )
    def test_robots_tag(self, headers: list[str], answer: str | None) -> None:
        assert opts_out(headers) == answer

    @given(st.binary(max_size=5000), st.integers(1, 700))
    def test_inflating_in_pieces(self, data: bytes, size: int) -> None:
        import gzip

        packed = gzip.compress(data)
        decoder = decoder_of("gzip", packed)
        pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
        assert b"".join(out for piece in pieces for out in decoder.feed(piece)) == data
        decoder.finish()
