"""What several test files need."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return `shared_data(name)`: the folder of a set of real photos beside the repository.

    Those photos are no part of the repository; a test that asks for an absent set is skipped.
    """
    root = Path(__file__).resolve().parents[2] / "shared" / "data"

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"the photos of ../shared/data/{name} are not on this machine")
        return root / name

    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this test and the processes that it starts.

    A process in the background or under `nohup` ignores SIGINT, and so do its children. A child of
    a process that handles the signal starts with the default action instead.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return headless Chromium; a test of a page is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
