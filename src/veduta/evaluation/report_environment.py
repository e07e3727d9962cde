"""The environment of an evaluation, for readers who want to reproduce its figures."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from veduta._version import __version__
from veduta.pages.report_page import Provenance
from veduta.processor_cores import processor_cores

__all__ = ["environment", "provenance_of"]

_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
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
"""Packages that can change a figure or a page; those that are not installed are left out."""


def provenance_of(command: str) -> Provenance:
    """Return this environment, the current date and a command line, for a report."""
    current = environment()
    return Provenance(current, command, str(current["date"]))


def environment() -> dict[str, object]:
    """Return the versions of Veduta, Python and the packages, the system, the CPU and the date.

    The values are strings, except `cores` (an int) and `packages` (name → version). Nothing in it
    names the user or the machine.
    """
    return {
        "veduta": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{_system()}, {platform.machine()}",
        "cpu": _cpu(),
        "cores": processor_cores(),
        "packages": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not Linux, or without this file
        return f"{platform.system()} {platform.release()}"


def _cpu() -> str:
    """Return the name of the processor, or its family if the system hides the name."""
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
                field, _, value = line.partition(":")
                if field.strip() == "model name" and value.strip():
                    return value.strip()
        except OSError:  # /proc is not mounted
            pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
