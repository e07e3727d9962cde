"""Machines of a Ray cluster on this one: each in a network of its own, if the user may make them.

A head without workers, and machines with one core each. With the rights of root they lie in network
namespaces that a bridge joins, so each has an address of its own and traffic goes over a network.
Otherwise they are processes that share the address of this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from veduta.ray_indexing.ray_cluster import CLUSTER_ENVIRONMENT

BRIDGE = "vedutabridge"
NETWORK = "10.77.0"
PORT = 6379
_START_SECONDS = 60.0
_SILENT = ("--include-dashboard=false", "--disable-usage-stats")
_WORKER = "ray::VedutaWorker"


def can_make_networks() -> bool:
    """Tell whether this user can make network namespaces."""
    return os.name == "posix" and os.geteuid() == 0 and shutil.which("ip") is not None


@dataclass
class Machine:
    """A machine of the cluster.

    Attributes:
        name: also of its network.
        address: of it.
        prefix: what a command begins with that runs on it.
        process: `ray start`, which ends with the machine; None if it is not running.
    """

    name: str
    address: str
    prefix: list[str]
    process: subprocess.Popen[bytes] | None = None

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the machine that run now."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def named(self, word: str) -> list[psutil.Process]:
        """Return its processes whose command has a word."""
        found = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if word in " ".join(process.cmdline()[:1]):
                    found.append(process)
        return found

    def kill_worker(self) -> bool:
        """Kill a worker with kill -9; return whether there was one."""
        return _killed(self.named(_WORKER)[:1])

    def kill_raylet(self) -> bool:
        """Kill what makes it a machine of the cluster, with kill -9."""
        return _killed(self.named("raylet/raylet")[:1])

    def end(self) -> None:
        """End all its processes, as if it lost its power."""
        if self.process is None:
            return
        everything = self.processes()
        self.process.kill()
        self.process.wait()
        _killed(everything)
        psutil.wait_procs(everything, timeout=10)
        self.process = None


def _killed(processes: Sequence[psutil.Process]) -> bool:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return bool(processes)


@dataclass
class Cluster:
    """A head and two machines.

    Attributes:
        head: runs no blocks. Drivers run on it.
        workers: machines with one core each.
        server: the address of this machine, as the machines see it.
        work: folder for the logs.
        temporary: folder of Ray. Its path is short, because sockets lie in it.
        environment: of all processes.
    """

    head: Machine
    workers: list[Machine]
    server: str
    work: Path
    temporary: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    def start_head(self) -> None:
        temporary = f"--temp-dir={self.temporary}"
        self._start(
            self.head,
            ["--head", f"--port={PORT}", "--num-cpus=0", temporary, *_SILENT],
            {**self.environment, **CLUSTER_ENVIRONMENT},
        )

    def start_worker(self, machine: Machine, core: int) -> None:
        """Let a machine join, which has one core of this one."""
        self._start(machine, [f"--address={self.address}", "--num-cpus=1"], self.environment, core)

    def _start(
        self, machine: Machine, options: list[str], environment: dict[str, str], core: int = -1
    ) -> None:
        pinned = ["taskset", "-c", str(core)] if core >= 0 and shutil.which("taskset") else []
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        common = [
            f"--node-ip-address={machine.address}",
            f"--object-store-memory={100 * 2**20}",
        ]
        with (self.work / f"{machine.name}.log").open("ab") as log:
            machine.process = subprocess.Popen(
                [*machine.prefix, *pinned, *ray, *common, *options],
                env=environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not machine.named("raylet/raylet"):
            if machine.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{machine.name} did not start: see {log.name}")
            time.sleep(0.2)

    def run(self, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a command on the head."""
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [*self.head.prefix, *command], env=self.environment, text=True, **options
        )

    def end(self) -> None:
        for machine in (*self.workers, self.head):
            machine.end()


@contextmanager
def cluster_of_machines(work: Path) -> Iterator[Cluster]:
    """Give a cluster whose head runs. Everything ends with the block."""
    names = ["vedutahead", "vedutaa", "vedutab"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    networks = can_make_networks()
    if networks:
        machines = [
            Machine(name, f"{NETWORK}.{10 + number}", ["ip", "netns", "exec", name])
            for number, name in enumerate(names)
        ]
    else:
        machines = [Machine(name, "127.0.0.1", []) for name in names]
    server = f"{NETWORK}.1" if networks else "127.0.0.1"
    temporary = Path(tempfile.mkdtemp(prefix="ray"))
    cluster = Cluster(machines[0], machines[1:], server, work, temporary, environment)
    try:
        if networks:
            _make_networks(machines)
        cluster.start_head()
        yield cluster
    finally:
        cluster.end()
        if networks:
            _remove_networks(machines)
        shutil.rmtree(temporary, ignore_errors=True)


def _make_networks(machines: Sequence[Machine]) -> None:
    _remove_networks(machines)
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    for machine in machines:
        inner, outer = f"{machine.name}1", f"{machine.name}0"
        _ip("netns", "add", machine.name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", machine.name)
        _ip("link", "set", outer, "master", BRIDGE, "up")
        _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", inner)
        _ip("-n", machine.name, "link", "set", inner, "up")
        _ip("-n", machine.name, "link", "set", "lo", "up")
        # Ray finds its own address by a route to another network. Nothing is sent there.
        _ip("-n", machine.name, "route", "add", "default", "via", f"{NETWORK}.1")


def _remove_networks(machines: Sequence[Machine]) -> None:
    """Remove the networks, also those that a killed run left."""
    namespaces = [["netns", "del", machine.name] for machine in machines]
    for words in [*namespaces, ["link", "del", BRIDGE]]:
        subprocess.run(["ip", *words], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
