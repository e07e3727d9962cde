"""What the Containerfile installs and starts works as an unprivileged user who may write nowhere.

No container engine is needed. The steps are those of the Containerfile, and `sandbox.py` is in the
place of the engine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sandbox import NOBODY, PREFIX
from test_running_files import ROOT, health_command, instructions, last_stage
from tiny import save_view

# Asks a service for something, and prints the answer.
CLIENT = """
import json, sys, urllib.request
path, key, body = sys.argv[1:]
headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
url = "http://127.0.0.1:8642/api/v1" + path
asked = urllib.request.Request(url, body.encode() or None, headers)
print(urllib.request.urlopen(asked, timeout=60).read().decode())
"""


def can_make_name_spaces() -> bool:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "true"], check=False, capture_output=True
    )
    return tried.returncode == 0 and shutil.which("setpriv") is not None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_make_name_spaces(), reason="only root can make name spaces"),
]


@dataclass
class Installed:
    """A folder with what an image would have."""

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def photos(self) -> Path:
        return self.home / "photos"

    def here(self, text: str) -> str:
        """Replace the places of the image by those of this machine."""
        return text.replace("/opt/veduta", str(self.home / "venv")).replace("/data", str(self.data))

    @property
    def environment(self) -> dict[str, str]:
        words = " ".join(last_stage()["ENV"]).split()
        return {
            name: self.here(value) for name, _, value in (word.partition("=") for word in words)
        }

    def command(self, *arguments: str) -> list[str]:
        (entry,) = json.loads(last_stage()["ENTRYPOINT"][0])
        program = shutil.which(entry, path=self.environment["PATH"])
        assert program == str(self.home / "venv/bin/veduta")
        return [*PREFIX, str(self.data), str(self.photos), program, *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """Start what the image starts."""
        (arguments,) = last_stage()["CMD"]
        with subprocess.Popen(
            self.command(*json.loads(arguments)),
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def beside(
        self, process: subprocess.Popen[str], *command: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where the service runs, as its user."""
        spaces = ["nsenter", f"--target={process.pid}", "--net", "--mount", "--"]
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return subprocess.run(
            [*spaces, *user, *command],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def ask(self, process: subprocess.Popen[str], path: str, key: str, body: Any = None) -> Any:
        sent = "" if body is None else json.dumps(body)
        answer = self.beside(process, "python", "-c", CLIENT, path, key, sent)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """Install as the Containerfile does, as nobody, from the files that it copies."""
    # Not below /tmp, which is empty in the sandbox.
    home = Path(tempfile.mkdtemp(prefix="veduta-installed-", dir="/var/tmp"))
    try:
        home.chmod(0o755)
        for folder in ("venv", "data", "empty"):
            (home / folder).mkdir()
            os.chown(home / folder, NOBODY, NOBODY)
        copy_the_source(home / "source")
        for number in range(3):
            save_view(home / f"photos/place/{number}.png", 4, number)
        # Compiling takes longer than all that is tested here.
        environment = {**os.environ, "HOME": str(home / "empty"), "PIP_NO_COMPILE": "1"}
        (step,) = [rest for word, rest in instructions() if word == "RUN" and "install.sh" in rest]
        step = step.replace("/source", f"{home}/source").replace("/opt/veduta", f"{home}/venv")
        # A machine may keep the address of its package index where only root can read it.
        probe = "python3 -m pip download -q --no-deps --no-cache-dir --dest . click"
        if (done := as_nobody(probe, home / "empty", environment)).returncode != 0:
            pytest.skip(f"nobody reaches no package index: {done.stderr[-200:]}")
        done = as_nobody(step, home / "empty", environment)
        assert done.returncode == 0, done.stderr[-2000:]
        yield Installed(home)
    finally:
        shutil.rmtree(home)


def as_nobody(
    command: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        check=False,
        capture_output=True,
        text=True,
    )


def copy_the_source(to: Path) -> None:
    copies = [rest.split() for word, rest in instructions() if word == "COPY"]
    for *names, target in copies:
        if names[0].startswith("--from"):
            continue
        for name in names:
            into = to / target.removeprefix("/source/")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                file = into / name if target.endswith("/") else into
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, file)


def test_it_serves_and_writes_only_to_its_folder(installed: Installed) -> None:
    before = {file: file.stat() for file in installed.photos.rglob("*")}
    installed.run("index", str(installed.photos), "--labels", "folders", "--encoder", "fast")
    key = installed.run("keys", "create", "admin").strip()
    with installed.serving() as process:
        wait_until_healthy(installed, process)
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == [str(NOBODY)] * 4
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16)) == (0, 0)
        assert fields["NoNewPrivs"] == "1"

        found = installed.ask(process, "/search", key, {"photo_id": 0})
        assert len(found["results"]) == 2
        assert len(installed.ask(process, "/explain", key, {"photo_id": 0, "hit_id": 1})["map"])
        job = installed.ask(process, "/jobs/index", key, {"reread": True})
        while (state := installed.ask(process, f"/jobs/{job['id']}", key))["state"] != "done":
            assert state["state"] in ("waiting", "running"), state
            time.sleep(0.2)

        for place in (installed.home, installed.photos, Path("/usr")):
            refused = installed.beside(process, "touch", str(place / "written"))
            assert "Read-only file system" in refused.stderr
        process.terminate()
        assert process.stderr is not None
        log = process.stderr.read()
    assert process.returncode == -signal.SIGTERM, "uvicorn ends, and then ends by the signal"
    assert "Traceback" not in log and key not in log
    after = {file: file.stat() for file in installed.photos.rglob("*")}
    assert {file: (one.st_mtime_ns, one.st_mode) for file, one in before.items()} == {
        file: (one.st_mtime_ns, one.st_mode) for file, one in after.items()
    }


def wait_until_healthy(installed: Installed, process: subprocess.Popen[str]) -> None:
    """Run the health check of the Containerfile until it succeeds."""
    assert installed.beside(process, "false").returncode == 1
    deadline = time.monotonic() + 60
    while (checked := installed.beside(process, *health_command())).returncode != 0:
        assert process.poll() is None and time.monotonic() < deadline, checked.stderr
        time.sleep(0.2)
