"""Run the command that follows as a container would: `sandbox.py WRITABLE READ_ONLY COMMAND …`.

The caller is root, in name spaces of its own for mounts and the network. The command runs as the
user nobody without any capability. It can write to the folder WRITABLE and to an empty /tmp. The
only network is the loopback device.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

NOBODY = 65534
PREFIX = ("unshare", "--mount", "--net", "--", sys.executable, str(Path(__file__).resolve()))
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x1 | 0x40


def main(writable: str, read_only: str, *command: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", _UP_AND_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
    for mount in (
        ("--bind", writable, writable),
        ("--bind", read_only, read_only),
        ("--options", "remount,bind,ro", read_only),
        ("--types", "tmpfs", "tmpfs", "/tmp"),
        ("--options", "remount,bind,ro", "/"),
    ):
        subprocess.run(["mount", *mount], check=True)
    os.chdir("/")
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    user += ["--bounding-set=-all", "--inh-caps=-all"]
    os.execvp("setpriv", ["setpriv", *user, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
