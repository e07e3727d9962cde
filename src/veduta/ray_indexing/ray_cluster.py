"""Connect to a Ray cluster in bounded time, or start one on this machine, and stay silent.

Ray is not asked before this module has set what keeps it silent, because Ray reads its environment
when it is imported. A cluster that Veduta starts listens on the loopback interface alone, asks each
process for a token, and reaches nothing outside the machine.
"""

from __future__ import annotations

import io
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from veduta.errors import ServiceError
from veduta.files import scratch_folder
from veduta.processor_cores import processor_cores
from veduta.ray_indexing.address import RayAddress

__all__ = ["CLUSTER_ENVIRONMENT", "connected", "require_ray"]

_NOWHERE = "http://127.0.0.1:9"
"""A port of this machine that nothing listens on."""

CLUSTER_ENVIRONMENT = {
    # With "0" alone, the head of a cluster of several machines reports that it does not report.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": _NOWHERE,
    # The head asks the addresses of three clouds whether it runs there.
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE),
}
"""What a process that starts the head of a cluster must have in its environment."""

_CONNECT_SECONDS = 5.0
_TRIAL_SECONDS = 60.0
_STORE_BYTES = 256 * 2**20
"""Room for objects of a cluster on this machine. Photos and parts do not pass through it."""
_SCRATCH_NAME = "veduta-ray"
_MAX_FOLDER_LETTERS = 18

_TRIAL = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""


def require_ray() -> None:
    """Refuse to go on without the package.

    Raises:
        ServiceError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise ServiceError(
            "To index with Ray, install it on all machines: pip install 'veduta[ray]'"
        )


@contextmanager
def connected(address: RayAddress) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster until the end of the block.

    Args:
        address: of the cluster.

    Raises:
        ServiceError: Ray is not installed, or the cluster cannot be reached.
    """
    require_ray()
    # Ray prints what happens to workers to the standard output, where the result goes. What it
    # keeps back, to print equal lines once, would come at the end of the process.
    at_once = {"RAY_DEDUP_LOGS": "0"}
    with ExitStack() as stack, redirect_stdout(io.StringIO()), _environment(at_once):
        if address.is_local:
            yield stack.enter_context(_started())
        else:
            yield stack.enter_context(_joined(address))


@contextmanager
def _started() -> Iterator[Any]:
    """Start a cluster on this machine, and end it at the end of the block."""
    variables = {
        **CLUSTER_ENVIRONMENT,
        # All ports are of the loopback interface, as Ray has it on Windows and macOS.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        # Otherwise Ray would write one into the home folder.
        "RAY_AUTH_TOKEN": _token(),
    }
    with scratch_folder(_SCRATCH_NAME, _short_folder()) as folder:
        with _environment(variables), warnings.catch_warnings():
            import ray

            try:
                # Ray starts programs by a fork, and Lance warns of forks that go on in Python.
                warnings.filterwarnings("ignore", "lance is not fork-safe")
                ray.init(
                    address="local",
                    num_cpus=processor_cores(),
                    object_store_memory=_STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    _temp_dir=str(folder),
                )
            except Exception as error:  # Some of Ray's errors are of no other class.
                raise ServiceError(
                    f"Ray does not start on this machine: {_first_line(error)}. Install it again: "
                    "pip install --upgrade 'veduta[ray]'"
                ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _short_folder() -> Path | None:
    """Return where the folder of a cluster lies; None: where the system has temporary files.

    The paths of the sockets in it may have about 100 letters on Linux and macOS.
    """
    is_long = len(tempfile.gettempdir()) > _MAX_FOLDER_LETTERS
    return Path("/tmp") if is_long and os.path.isdir("/tmp") else None  # noqa: S108


@cache
def _token() -> str:
    """Return the word that all processes of a cluster must know. Ray remembers the first one."""
    return secrets.token_hex(32)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment during the block. What is started then keeps them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _joined(address: RayAddress) -> Iterator[Any]:
    """Connect to a running cluster."""
    _require_reachable(address)
    import ray

    try:
        ray.init(address=address.text, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Some of Ray's errors are of no other class.
        raise _unreachable(address, _first_line(error)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(address: RayAddress) -> None:
    """Refuse a cluster that does not answer. Ray itself would try for minutes."""
    if address.host is not None:
        try:
            socket.create_connection((address.host, address.port), _CONNECT_SECONDS).close()
        except OSError as error:
            raise _unreachable(address, error.strerror or str(error)) from error
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, address.text],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        reason = f"no answer as of Ray in {_TRIAL_SECONDS:.0f} seconds"
        raise _unreachable(address, reason) from error
    if trial.returncode:
        lines = [line for line in trial.stderr.splitlines() if ": " in line] or ["it failed"]
        raise _unreachable(address, lines[-1].partition(": ")[2] or lines[-1])


def _unreachable(address: RayAddress, reason: str) -> ServiceError:
    return ServiceError(
        f"The Ray cluster '{address.text}' cannot be used: {reason.strip().rstrip('.')}. Run this "
        "command on a machine of a cluster with the same versions of Ray and Python (ray start "
        "--head, and ray start --address=HOST:6379 on the others), or use --ray local for this "
        "machine alone."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
