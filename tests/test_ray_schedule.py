"""Blocks on machines that fail: each block is done or given up, and no run hangs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_workers import FakePool, Fates

from veduta import errors
from veduta.index.shards import RelativePaths, Shard, shard_number
from veduta.photos import Candidate
from veduta.ray_indexing.address import RayAddress
from veduta.ray_indexing.blocks import Block, block_count, divide
from veduta.ray_indexing.pool import Event, Joined, NotStarted, SetAside
from veduta.ray_indexing.schedule import MAX_FAILURES, MAX_LOST_MACHINES, Done, run_blocks


def blocks(count: int, files: int = 2) -> list[Block]:
    made = [Candidate(b"/p/%d" % number, 1, 1) for number in range(files)]
    return [Block(Shard(number, count), tuple(made), "token") for number in range(1, count + 1)]


class Clock:
    """Time that passes only while a run waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ran(
    count: int,
    fates: Fates | None = None,
    machines: Sequence[str] = "AB",
    damaged: Sequence[int] = (),
) -> tuple[Done, FakePool, list[int], list[str]]:
    """Run blocks; parts of the `damaged` blocks are damaged once."""
    pool = FakePool(machines, fates)
    accepted: list[int] = []
    said: list[str] = []
    bad = list(damaged)

    def accept(block: Block) -> None:
        if block.shard.number in bad:
            bad.remove(block.shard.number)
            raise errors.IndexDamaged("the part is damaged")
        accepted.append(block.shard.number)

    done = run_blocks(blocks(count), pool, accept, say=said.append)
    return done, pool, accepted, said


def test_each_block_is_done_once() -> None:
    done, pool, accepted, said = ran(7)
    assert sorted(accepted) == list(range(1, 8)) and len(pool.given) == 7
    assert (done.failed, done.set_aside, done.encoded, done.runtime) == ([], [], 14, "tiny")
    assert {machine for machine, _ in pool.given} == {"A", "B"} and not said
    assert pool.wanted[0] == 7


@pytest.mark.parametrize("fate", ["dies", "dies late", "fails", "machine"])
def test_a_block_of_a_worker_that_fails_is_done_on_another_machine(fate: str) -> None:
    done, pool, accepted, said = ran(
        4, lambda _machine, block, times: fate if block.shard.number == 2 and not times else "done"
    )
    assert sorted(accepted) == [1, 2, 3, 4] and not done.failed
    first, second = (machine for machine, number in pool.given if number == 2)
    assert first != second and len(said) == 1 and said[0].startswith("Block 2/4 is done again. ")


def test_a_block_that_ends_each_worker_is_given_up_and_the_others_are_done() -> None:
    done, pool, accepted, said = ran(
        5, lambda _machine, block, _times: "dies" if block.shard.number == 3 else "done"
    )
    assert sorted(accepted) == [1, 2, 4, 5]
    ((block, failed),) = done.failed
    assert (block.shard.number, failed.block, failed.photos) == (3, "3/5", 2)
    assert len(failed.reasons) == MAX_FAILURES == sum(number == 3 for _, number in pool.given)
    assert all("its process ended" in reason for reason in failed.reasons)
    assert any("Block 3/5 of 2 photos is given up after 3 attempts" in one for one in said)


def test_machines_that_go_are_not_the_fault_of_a_block() -> None:
    _, _, accepted, _ = ran(2, lambda *one: "machine" if one[2] < MAX_FAILURES + 1 else "done")
    assert sorted(accepted) == [1, 2]
    done, pool, _, _ = ran(1, lambda *_: "machine")
    assert len(pool.given) == MAX_LOST_MACHINES and len(done.failed) == 1


def test_a_damaged_part_is_made_again() -> None:
    done, pool, accepted, _ = ran(3, damaged=[1, 1])
    assert sorted(accepted) == [1, 2, 3] and len(pool.given) == 5 and not done.failed
    done, _, accepted, _ = ran(3, damaged=[1, 1, 1])
    assert len(done.failed) == 1 and sorted(accepted) == [2, 3]


def test_a_machine_that_does_not_fit_any_more_is_left_out() -> None:
    done, pool, accepted, said = ran(6, lambda machine, *_: "unfit" if machine == "B" else "done")
    assert sorted(accepted) == list(range(1, 7))
    assert [machine for machine, _ in pool.given].count("B") == 1
    assert done.set_aside == said == ["B is not used: it has no disk."]


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.lists(st.sampled_from(["done", "dies", "dies late", "machine", "fails"]), max_size=40),
)
def test_whatever_fails_each_block_is_done_or_given_up(
    count: int, machines: int, fates: list[str]
) -> None:
    left = list(fates)
    done, pool, accepted, _ = ran(
        count, lambda *_: left.pop() if left else "done", machines="ABCD"[:machines]
    )
    given_up = [block.shard.number for block, _ in done.failed]
    assert sorted([*accepted, *given_up]) == list(range(1, count + 1))
    assert len(pool.given) <= count + len(fates)


class EmptyPool(FakePool):
    """A cluster where nothing can work; a worker may come later."""

    def __init__(self, clock: Clock, events: dict[int, Event]) -> None:
        super().__init__([])
        self.clock = clock
        self.later = events

    def wait(self, seconds: float) -> Sequence[Event]:
        self.clock.now += seconds
        event = self.later.pop(round(self.clock.now), None)
        if isinstance(event, Joined):
            self.machine_of[event.worker] = event.machine
        return [event] if event else super().wait(seconds)


def test_a_run_waits_for_workers_and_says_so() -> None:
    clock = Clock()
    said: list[str] = []
    pool = EmptyPool(clock, {100: Joined(0, "A")})
    run_blocks(blocks(2), pool, lambda _: None, say=said.append, clock=clock)
    assert said == ["Waiting for workers: there are no machines."] * 3


def test_machines_that_all_do_not_fit_end_the_run() -> None:
    clock = Clock()
    pool = EmptyPool(
        clock, {1: SetAside(0, "A", "it has Veduta 9"), 2: SetAside(1, "B", "no disk")}
    )
    with pytest.raises(errors.ServiceError) as caught:
        run_blocks(blocks(2), pool, lambda _: None, clock=clock)
    assert "A is not used: it has Veduta 9. B is not used: no disk." in str(caught.value)
    assert 30 <= clock.now < 40


def test_workers_that_do_not_start_end_the_run() -> None:
    clock = Clock()
    events: dict[int, Event] = {n: NotStarted(f"A did not start: {n}.") for n in range(1, 8)}
    with pytest.raises(errors.ServiceError, match=r"A did not start: 7\."):
        run_blocks(blocks(2), EmptyPool(clock, events), lambda _: None, clock=clock)


def test_the_number_of_blocks() -> None:
    assert block_count(0, 4) == block_count(1, 64) == block_count(50, 0) == 1
    assert block_count(1_000_000, 64) == 500
    assert block_count(10_000, 16) == 64
    assert block_count(10**9, 64) == 100_000
    for files in (51, 999, 12_345):
        assert block_count(files, 1) <= 4 or files / block_count(files, 1) <= 2000


def test_files_are_divided_as_shards_are() -> None:
    files = [Candidate(b"/photos/%d.jpg" % number, number, 1) for number in range(60)]
    made = divide(files, ["/photos"], 50, "token")
    assert sorted(file.path for block in made for file in block.files) == sorted(
        file.path for file in files
    )
    paths = RelativePaths(["/photos"])
    for block in made:
        assert {shard_number(paths.of(file.path), 50) for file in block.files} == {
            block.shard.number
        }
    assert all(block.files for block in made) and len(made) < 50


def test_a_part_of_another_name_has_other_files() -> None:
    files = (Candidate(b"/p/a", 1, 1), Candidate(b"/p/b", 1, 1))
    names = {
        Block(shard, some, token).part
        for shard, some, token in [
            (Shard(1, 2), files, "token"),
            (Shard(2, 2), files, "token"),
            (Shard(1, 2), files[:1], "token"),
            (Shard(1, 2), (files[0], Candidate(b"/p/b", 1, 2)), "token"),
            (Shard(1, 2), (files[0], Candidate(b"/p/b", 2, 1)), "token"),
            (Shard(1, 2), files, "other"),
        ]
    }
    assert len(names) == 6
    assert len({name for name in names if name.startswith("part-000001-token-")}) == 4


@pytest.mark.parametrize("text", ["auto", "local", "10.0.0.1:6379", "head.cluster:1", "[::1]:6379"])
def test_addresses(text: str) -> None:
    assert RayAddress.parse(text).text == text


@pytest.mark.parametrize(
    "text", ["", "head", "head:", "head:0", "head:99999", "ray://head:10001", "a b:1", ":6379"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(errors.QueryError, match=r"10\.0\.0\.1:6379"):
        RayAddress.parse(text)
