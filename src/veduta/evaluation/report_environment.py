"""What an evaluation ran on, for those who want to get the same figures again."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from veduta._version import __version__

__all__ = ["environment"]

_PACKAGES = (
    "numpy",
    "onnxruntime",
    "openvino",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "pi-heif",
    "poselib",
    "mahotas",
    "numkong",
    "pyarrow",
    "pylance",
    "matplotlib",
    "torch",
    "timm",
)
"""Those that can move a figure or draw it; what is not installed is left out."""


def environment() -> dict[str, object]:
    """Return the versions of Veduta, Python and the packages, the system, the CPU and the date.

    The values are strings, but for `cores` (an int) and `packages` (name → version). Nothing in it
    names the user or the machine.
    """
    return {
        "veduta": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{_system()}, {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "packages": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux, or one that does not say
        return f"{platform.system()} {platform.release()}"


def _cpu() -> str:
    """Return the processor's name as it gives it, or the family where the system hides it."""
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
                field, _, value = line.partition(":")
                if field.strip() == "model name" and value.strip():
                    return value.strip()
        except OSError:  # not mounted
            pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
