"""URLs and redirects of strangers that lead to private addresses.

The case runs in a network of its own, in which this machine has a public address. A trap listens on
the loopback address and on private ones; no request may reach it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from attack.case import Attack, Case, PromiseBroken
from attack.commands import FAULT

PUBLIC_ADDRESS = "9.9.9.9"
PRIVATE_ADDRESSES = ("10.1.2.3", "192.168.7.7", "169.254.169.254", "100.64.0.1", "172.16.5.5")


def missing() -> str:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "needs unshare and ip"
    command = ["unshare", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return "no permission for a network of its own"
    return ""


def run(case: Case) -> None:
    case.kind = "addresses"
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-m"]
    command += ["attack.private_network", str(case.folder), f"{case.seed} {case.number}"]
    done = subprocess.run(
        command, cwd=case.folder, capture_output=True, text=True, timeout=100, check=False
    )
    case.note(done.stdout + done.stderr)
    if done.returncode:
        raise PromiseBroken(f"it ended with {done.returncode}: {done.stderr}")
    facts = json.loads(done.stdout.splitlines()[-1])
    if facts["reached"]:
        raise PromiseBroken(f"{facts['reached']} requests reached a private address: {facts}")
    if facts["code"] == FAULT or facts["photos"] != 1:
        raise PromiseBroken(f"the public photo was not collected: {facts}")
    if not facts["redirects"] or not facts["allowed"]:
        raise RuntimeError(f"nothing was tried: {facts}")
    case.tries = facts["rows"]
    case.outcome = "none reached"


ATTACK = Attack(
    inputs="100 spellings of private addresses a case, and redirects to them from a public one",
    promise="no request reaches a private address",
    run=run,
    cases=6,
    seconds=110,
    missing=missing,
)
