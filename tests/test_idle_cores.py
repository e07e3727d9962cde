"""Work that threads share while cores are idle: all of it is done, once, and in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from veduta import idle_cores
from veduta.idle_cores import map_with_help


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cores = idle_cores._Cores(4)
    with ThreadPoolExecutor(3) as threads:
        monkeypatch.setattr(idle_cores, "processor_cores", lambda: 4)
        monkeypatch.setattr(idle_cores, "_cores", lambda: cores)
        monkeypatch.setattr(idle_cores, "_threads", lambda: threads)
        yield


def slowly(number: int) -> tuple[int, str]:
    time.sleep(0.002)
    return number, threading.current_thread().name


def test_results_come_in_order_and_idle_cores_help() -> None:
    found = list(map_with_help(slowly, range(100)))
    assert [number for number, _ in found] == list(range(100))
    names = {name for _, name in found}
    assert threading.current_thread().name in names and len(names) > 1
    assert list(map_with_help(slowly, [])) == []


def test_nobody_helps_when_each_core_has_its_own_work() -> None:
    cores = idle_cores._cores()
    for _ in range(3):
        assert cores.occupy(only_idle=True)
    mine = threading.current_thread().name
    assert {name for _, name in map_with_help(slowly, range(50))} == {mine}
    cores.leave()
    assert {name for _, name in map_with_help(slowly, range(50))} > {mine}


def test_helpers_leave_when_another_search_begins() -> None:
    cores = idle_cores._cores()
    results = map_with_help(slowly, range(200))
    assert len({next(results)[1] for _ in range(100)}) > 1
    for _ in range(3):
        cores.occupy(only_idle=False)
    begun_before = 60
    names = [name for _, name in results][begun_before:]
    assert set(names) == {threading.current_thread().name}


def test_an_error_is_raised_where_the_results_are_used() -> None:
    def fail_at_ten(number: int) -> int:
        if number == 10:
            raise ValueError("ten")
        return number

    results = map_with_help(fail_at_ten, range(1000))
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="ten"):
        next(results)
    assert idle_cores._cores()._busy <= 3, "the calling thread counts no more"


def test_closed_nothing_else_begins() -> None:
    begun: list[int] = []

    def note(number: int) -> int:
        begun.append(number)
        time.sleep(0.001)
        return number

    results = map_with_help(note, range(10_000))
    next(results)
    results.close()
    time.sleep(0.05)
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 200


def test_work_can_share_its_own_work() -> None:
    def inner(number: int) -> int:
        return sum(map_with_help(lambda other: number * other, range(20)))

    assert list(map_with_help(inner, range(30))) == [190 * number for number in range(30)]
    with ThreadPoolExecutor(20) as pool:
        sums = list(pool.map(lambda _: sum(map_with_help(inner, range(30))), range(40)))
    assert sums == [190 * 435] * 40
