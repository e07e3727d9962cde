"""Nothing leaves the machine, and nothing is written that no page of the documentation names."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from photo_server import PhotoServer
from store_server import BUCKET, store_server
from tiny import save_view

from veduta.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed; it records the look-ups"
)

RECIPE = """
augment = [{ flip = "horizontal" }]
[input]
size = 16
[network]
layers = [{ conv = 4, kernel = 3 }, { global = "average" }, { dense = "classes" }]
[training]
epochs = 1
batch = 8
[tune.space]
"training.learning_rate" = { low = 0.001, high = 0.01 }
"""

ROWS = """
[[row]]
name = "small"
recipe = "small.toml"
[[row]]
name = "fast"
encoder = "fast"
"""

# What each command is called with, so that it does its whole work. The order matters: a command
# uses what those before it have made.
CALLS: tuple[tuple[str, ...], ...] = (
    ("demo", "--photos", "photos", "--out", "demonstration"),
    ("index", "photos", "--labels", "folders"),
    ("status",),
    ("check",),
    ("search", "photos/a/0.png", "--html", "search.html"),
    ("match", "photos/a/0.png", "photos/a/1.png", "--picture", "match.png"),
    ("explain", "photos/a/0.png", "--against", "photos/a/1.png", "--png", "explain.png"),
    ("group", "--html", "groups.html", "--labels", "groups.csv"),
    ("export", "--descriptors", "descriptors.npz", "--colmap", "database.db", "--run", "all.run"),
    ("recognize", "photos/a/0.png"),
    ("repair",),
    ("index", "photos/a", "--shard", "1/2", "--index", "part1"),
    ("index", "photos/a", "--shard", "2/2", "--index", "part2"),
    ("merge", "part1", "part2", "--index", "merged"),
    ("forget", "photos/b"),
    ("describe", "photos", "--html", "describe.html"),
    ("evaluate", "photos", "--html", "evaluate.html"),
    ("clean", "photos", "--out", "findings.csv", "--html", "clean.html"),
    ("split", "photos", "--into", "train=0.5,test=0.5", "--out", "photos/labels.csv"),
    ("augment", "photos", "--recipe", "small.toml", "--out", "augmented", "--copies", "1"),
    ("train", "small.toml", "photos", "--out", "run"),
    ("tune", "small.toml", "photos", "--out", "study", "--trials", "1"),
    ("explain", "photos/a/0.png", "--model", "run", "--html", "explain.html"),
    ("compare", "run", "study/trials/0001"),
    ("table", "rows.toml", "--data", "photos", "--plan"),
    ("recipes",),
    ("models",),
    ("score", "submission.csv", "solution.csv"),
    ("keys", "create", "search"),
    ("keys", "list"),
)
NOT_CALLED_HERE = {"collect", "publish", "review", "serve"}  # They have tests of their own below.

# What docs/privacy.md names, below the home folder of the user.
KNOWN_FILES = re.compile(r"\.(cache|local/share|config)/(veduta|matplotlib)/")


def _environment(home: Path) -> dict[str, str]:
    """Return an environment as a new user on a new machine has it: no folder, no `CI` is set."""
    user = home / "user"
    user.mkdir(exist_ok=True)
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return {**kept, "HOME": str(user), "TMPDIR": str(home)}


def _tracing(record: Path) -> list[str]:
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ["strace", "-f", "--seccomp-bpf", "-o", str(record), "-e", calls]


def _traced(
    home: Path, *command: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command, and return it with the addresses that it connected or sent to."""
    record = home / "calls.txt"
    done = subprocess.run(
        [*_tracing(record), *command],
        cwd=home,
        env={**_environment(home), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done, _addresses(record.read_text("utf-8", "replace"))


def _addresses(record: str) -> list[str]:
    """Return the addresses of internet sockets, and the questions to a local cache of hosts.

    That cache also answers who the user is. Such a question names no "hosts".
    """
    return re.findall(r"\{sa_family=AF_INET.*?\}|\w+\([^\n]*hosts\\0[^\n]*", record)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("privacy")
    for scene, name in enumerate(("a", "b")):
        for number in range(6):
            save_view(home / f"photos/{name}/{number}.png", scene, number)
    (home / "small.toml").write_text(RECIPE, "utf-8")
    (home / "rows.toml").write_text(ROWS, "utf-8")
    (home / "solution.csv").write_text("id,images,Usage\nq,x y,Public\n", "utf-8")
    (home / "submission.csv").write_text("id,images\nq,x y\n", "utf-8")
    return home


@needs_strace
@pytest.mark.slow
def test_no_command_looks_up_a_name_or_leaves_an_unknown_file(home: Path) -> None:
    for call in CALLS:
        done, addresses = _traced(home, sys.executable, "-m", "veduta", *call)
        assert done.returncode in (0, 1), (call, done.stderr)  # 1: `clean` has found something.
        assert addresses == [], call
        unknown = _unknown_files(home / "user")
        assert unknown == [], call
    assert {call[0] for call in CALLS} | NOT_CALLED_HERE == set(COMMANDS)


@needs_strace
@pytest.mark.slow
def test_collect_looks_up_the_hosts_of_the_list_alone(home: Path, server: PhotoServer) -> None:
    (home / "list.txt").write_text(server.url("/photo/1.jpg"), "utf-8")
    call = ("collect", "list.txt", "--out", "collected", "--allow-private")
    done, addresses = _traced(home, sys.executable, "-m", "veduta", *call)
    assert done.returncode == 0, done.stderr
    assert addresses and all(f"htons({server.port})" in address for address in addresses)
    assert _unknown_files(home / "user") == []


@needs_strace
@pytest.mark.slow
def test_an_object_store_is_the_only_address_and_keeps_no_secret(home: Path) -> None:
    pytest.importorskip("obstore", reason="the extra veduta[cloud] is not installed")
    make = ["index", "photos/a", "--index", "stored.veduta", "--encoder", "fast"]
    assert _traced(home, sys.executable, "-m", "veduta", *make)[0].returncode == 0
    with store_server() as store:
        variables = {
            "AWS_ENDPOINT_URL": store.url,
            "AWS_ACCESS_KEY_ID": "name",
            "AWS_SECRET_ACCESS_KEY": "never-written",
            "NO_PROXY": "127.0.0.1",
        }
        address = f"s3://{BUCKET}/stored"
        for call in (
            ("publish", address, "--index", "stored.veduta"),
            ("search", "photos/a/0.png", "--index", address),
        ):
            done, addresses = _traced(home, sys.executable, "-m", "veduta", *call, **variables)
            assert done.returncode == 0, done.stderr
            port = store.url.rpartition(":")[2]
            assert addresses and all(f"htons({port})" in one for one in addresses), call
            assert _unknown_files(home / "user") == [], call
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not any(b"never-written" in path.read_bytes() for path in files)


@needs_strace
@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_the_page_of_review_answers_and_asks_nothing(home: Path) -> None:
    code = """
import os, signal, sys, threading, uvicorn
from veduta.cli.main import run

class Interrupted(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

uvicorn.Server = Interrupted
sys.exit(run(["review", "photos", "--no-open"]))
"""
    done, addresses = _traced(home, sys.executable, "-c", code)
    assert "127.0.0.1" in done.stdout + done.stderr, done
    assert addresses == []
    assert _unknown_files(home / "user") == []


@needs_strace
@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_a_service_answers_and_asks_nothing(home: Path) -> None:
    index = home / "served.veduta"
    make = ["index", "photos/a", "--index", str(index), "--encoder", "fast"]
    assert _traced(home, sys.executable, "-m", "veduta", *make)[0].returncode == 0
    record = home / "calls-of-service.txt"
    command = [sys.executable, "-m", "veduta", "serve", str(index), "--port", "0", "--json"]
    with subprocess.Popen(
        [*_tracing(record), *command],
        cwd=home,
        env=_environment(home),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as service:
        try:
            assert service.stdout is not None
            url = json.loads("".join(iter(service.stdout.readline, "}\n")) + "}")["url"]
            request = urllib.request.Request(
                f"{url}api/v1/search",
                data=b'{"photo_id": 0}',
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                assert json.load(answer)["results"] != []
        finally:
            os.killpg(service.pid, signal.SIGINT)
    assert service.returncode == 0
    assert _addresses(record.read_text("utf-8", "replace")) == []
    assert _unknown_files(home / "user") == []


@needs_strace
@pytest.mark.slow
def test_the_record_shows_a_lookup(home: Path) -> None:
    code = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    assert _traced(home, sys.executable, "-c", code)[1] != []


def test_one_module_imports_onnxruntime() -> None:
    folders = ("src", "tools", "benchmarks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    importers = [file for file in files if "onnxruntime" in _imported(file)]
    assert importers == [ROOT / "src/veduta/devices/sessions.py"]


def _imported(file: Path) -> set[str]:
    """Return the first parts of the names that a module imports anywhere in its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("module", ["veduta", "veduta.errors", "veduta.cli.main"])
def test_telemetry_is_off_after_any_import_of_the_package(module: str) -> None:
    code = (
        f"import os, sys; import {module}; print(os.environ['ORT_DISABLE_TELEMETRY'], "
        "os.environ['HF_HUB_DISABLE_TELEMETRY'], sys.modules['openvino_telemetry'])"
    )
    on = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=on, check=True)
    assert done.stdout.split() == [b"1", b"1", b"None"]


def _unknown_files(user: Path) -> list[str]:
    files = (path.relative_to(user).as_posix() for path in user.rglob("*") if path.is_file())
    return [file for file in files if not KNOWN_FILES.match(file)]
