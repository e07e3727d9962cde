"""What several test files need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


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
