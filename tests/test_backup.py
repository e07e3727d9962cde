"""An index is copied while it is served, as docs/running.md says, and the copy is whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from command_line import run_veduta
from service_server import made_index, serving

import veduta

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")

PAGE = Path(__file__).resolve().parents[1] / "docs/running.md"


def test_a_copy_that_is_made_meanwhile_is_an_index(tmp_path: Path) -> None:
    index = made_index(tmp_path, scenes=2, views=2)
    (command,) = re.findall(
        r"^(flock .*?[^\\])\n", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    for documented, here in {
        "/var/lib/veduta/index": index,
        "/backup/index": tmp_path / "copy",
    }.items():
        assert documented in command
        command = command.replace(documented, str(here))
    with serving(index) as server:
        assert server.ask("PATCH", "/photos/0", {"label": "by hand"}).status == 200
        found = server.post("/search", {"photo_id": 0}).json["results"]
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
        with subprocess.Popen(["flock", index / "writer.lock", "sleep", "60"]) as copying:
            while not server.get("/indexes").json["indexes"][0]["locked"]:
                time.sleep(0.05)
            assert server.ask("PATCH", "/photos/0", {"label": "other"}).status == 409
            assert server.post("/search", {"photo_id": 0}).json["results"] == found
            copying.terminate()
    checked = run_veduta(tmp_path, "check", "--index", tmp_path / "copy")
    assert checked.returncode == 0, checked.stdout
    with veduta.open(tmp_path / "copy") as copy:
        assert [hit.id for hit in copy.search_like(0)] == [one["id"] for one in found]
        assert next(photo.label for photo in copy if photo.id == 0) == "by hand"
