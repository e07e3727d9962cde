"""The PyTorch peer as a process of its own, with the settings of the same work as Veduta's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.processes import ROOT
from veduta.encoders import OnnxEncoder


def peer_settings(encoder: OnnxEncoder) -> dict[str, Any]:
    """Return the settings with which the peer computes the descriptors of an embedded encoder."""
    spec = encoder.spec
    manifest = json.loads((spec.model.parent / "manifest.json").read_text("utf-8"))
    entry = manifest["models"][spec.model.stem]
    return {
        "networks": entry.get("networks", [spec.model.stem]),
        "sizes": list(spec.sizes),
        "output": spec.output,
    }


class Peer:
    """A process of `benchmarks.peers.torch_faiss` with its network loaded. It ends with `with`."""

    def __init__(self, encoder: OnnxEncoder) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.peers.torch_faiss",
                json.dumps(peer_settings(encoder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._answer()

    def seconds(
        self, paths: Sequence[Path], *, workers: int = 0, save: Path | None = None
    ) -> float:
        """Index `paths` and return the seconds; write the descriptors to the file `save`."""
        order = {
            "paths": [str(path) for path in paths],
            "workers": workers,
            "save": save and str(save),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate()
