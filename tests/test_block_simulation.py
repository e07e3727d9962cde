"""The simulation of machines with blocks of work, beside closed formulas."""

from __future__ import annotations

import math

import pytest
from benchmarks.block_simulation import (
    Block,
    Machines,
    Run,
    expected_seconds_of_restarts,
    simulate,
)


def run(blocks: int, block: Block, machines: Machines, seed: int = 1) -> Run:
    return simulate(blocks, lambda _: block, machines, seed)


@pytest.mark.parametrize("machines", [1, 2, 4, 64, 256])
def test_without_limits_and_failures_scaling_is_ideal(machines: int) -> None:
    result = run(512, Block(50, 90.0, 70), Machines(machines))
    assert result.seconds == 512 // machines * 90.0
    assert result.computing == 512 * 90.0
    assert (result.downloading, result.uploading, result.lost, result.failures) == (0, 0, 0, 0)


def test_the_last_blocks_leave_machines_without_work() -> None:
    assert run(5, Block(0, 10, 0), Machines(4)).seconds == 20


def test_two_transfers_that_overlap_share_the_bandwidth_by_hand() -> None:
    """Two machines download 10 MB at 2 MB/s together, compute 5 s and upload 4 MB."""
    result = run(2, Block(10, 5, 4), Machines(2, storage=2))
    assert result.seconds == 10 + 5 + 4
    assert result.downloading == 2 * 10
    assert result.uploading == 2 * 4


def test_a_transfer_is_not_faster_than_the_network_of_its_machine_by_hand() -> None:
    """Alone, 8 MB take 8 s at 1 MB/s, although the storage has 1.5."""
    assert run(1, Block(8, 0, 0), Machines(1, network=1, storage=1.5)).seconds == 8
    assert run(2, Block(8, 0, 0), Machines(2, network=1, storage=1.5)).seconds == 16 / 1.5


def test_different_sizes_by_hand() -> None:
    """4 MB and 10 MB at 2 MB/s: both get 1 MB/s for 4 s, then the other 2 MB/s for 3 s."""
    sizes = iter((4.0, 10.0))
    result = simulate(2, lambda _: Block(next(sizes), 0, 0), Machines(2, storage=2), 1)
    assert (result.seconds, result.downloading) == (7, 4 + 7)


@pytest.mark.parametrize("machines", [1, 3, 12])
def test_a_shared_storage_has_the_throughput_of_the_closed_queue(machines: int) -> None:
    """Mean value analysis of one queue with shared service and machines that think.

    Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing networks", J. ACM 1980.
    It holds for any distribution of both times, so one is constant here and one exponential.
    """
    service, think, waiting = 2.0, 10.0, 0.0
    for number in range(1, machines + 1):
        time = service * (1 + waiting)
        throughput = number / (think + time)
        waiting = throughput * time
    blocks = 20_000
    result = simulate(
        blocks,
        lambda rng: Block(8, rng.expovariate(1 / think), 0),
        Machines(machines, storage=4),
        3,
    )
    assert blocks / result.seconds == pytest.approx(throughput, rel=0.015)


def test_failures_take_as_long_as_the_closed_formula_says() -> None:
    blocks, seconds, mean, restart = 20_000, 50.0, 100.0, 7.0
    result = run(blocks, Block(0, seconds, 0), Machines(1, math.inf, math.inf, mean, restart))
    expected = expected_seconds_of_restarts(seconds, mean, restart)
    assert expected == pytest.approx((math.exp(0.5) - 1) * 107)
    assert result.seconds / blocks == pytest.approx(expected, rel=0.02)
    assert result.failures / blocks == pytest.approx(math.exp(0.5) - 1, rel=0.03)
    assert result.seconds == pytest.approx(
        result.computing + result.lost + result.restarting, rel=1e-9
    )


@pytest.mark.parametrize("storage", [math.inf, 30.0])
def test_each_block_is_done_once_whatever_fails(storage: float) -> None:
    machines = Machines(16, 5, storage, mean_seconds_to_failure=40, restart_seconds=3)
    result = simulate(700, lambda rng: Block(9, rng.uniform(5, 30), 6), machines, 5)
    assert sorted(result.done) == list(range(700))
    assert result.failures > 100
    assert result.lost > 0


def test_a_machine_that_is_idle_takes_the_block_of_one_that_fails() -> None:
    """Both are busy at first, so the last block can only be lost while the other is idle."""
    for seed in range(40):
        machines = Machines(2, mean_seconds_to_failure=25, restart_seconds=1e6)
        result = run(2, Block(0, 10, 0), machines, seed)
        if result.failures == 1:
            assert 10 < result.seconds <= 20
            return
    pytest.fail("no run had one failure")


def test_the_same_seed_gives_the_same_run() -> None:
    machines = Machines(5, 10, 20, mean_seconds_to_failure=60, restart_seconds=5)

    def once(seed: int) -> Run:
        return simulate(100, lambda rng: Block(10, rng.uniform(5, 15), 10), machines, seed)

    assert once(4) == once(4)
    assert once(4).seconds != once(5).seconds


@pytest.mark.parametrize("mean", [math.inf, 300.0])
def test_the_short_way_without_waiting_gives_the_same(mean: float) -> None:
    """A storage that is just too small for all networks is simulated transfer by transfer."""

    def seconds(storage: float) -> float:
        machines = Machines(3, 10, storage, mean, 5)
        return simulate(400, lambda rng: Block(10, rng.uniform(5, 15), 20), machines, 2).seconds

    assert seconds(29.999999) == pytest.approx(seconds(30), rel=1e-4)


def test_a_step_that_never_ends_takes_for_ever() -> None:
    assert expected_seconds_of_restarts(10, math.inf, 5) == 10
    assert expected_seconds_of_restarts(1e6, 10, 5) == math.inf


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(ValueError, match="0 blocks and 1 machines"):
        run(0, Block(0, 0, 0), Machines(1))


def test_a_block_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a block of 300 s never ends .* after 10 s"):
        run(1, Block(0, 300, 0), Machines(1, mean_seconds_to_failure=10))
