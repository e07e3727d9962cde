"""ONNX Runtime with a device that is not there: the processor computes in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from veduta.devices import DEVICES, comparison
from veduta.keypoints import loading

CUDA = DEVICES["cuda"]

Alter = Callable[[list[Any]], list[Any]]


class FakeSession:
    """A session that says it runs on a device.

    Attributes:
        shapes: of the input of each run.
    """

    def __init__(self, real: Any, providers: list[str], cuda: FakeCuda) -> None:
        self.real, self.providers, self.cuda = real, providers, cuda
        self.shapes: list[tuple[int, ...]] = []

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def get_provider_graph_assignment_info(self) -> list[Any]:
        if self.cuda.nodes is None:
            return []
        there, total = self.cuda.nodes
        return [Part(CUDA.provider, there), Part("CPUExecutionProvider", total - there)]

    def run(self, names: list[str], feed: dict[str, Any], options: Any = None) -> list[Any]:
        (batch,) = feed.values()
        self.shapes.append(batch.shape)
        time.sleep(self.cuda.seconds)
        if self.cuda.fails_from is not None and len(batch) >= self.cuda.fails_from:
            raise RuntimeError("out of memory on the device")
        # One photo after the other: a result must not depend on the others of its batch.
        rows = [self.real.run(names, dict.fromkeys(feed, row[None]), options) for row in batch]
        found = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        return found if self.cuda.alter is None else self.cuda.alter(found)


class Part:
    def __init__(self, ep_name: str, nodes: int) -> None:
        self.ep_name, self.nodes = ep_name, nodes

    def get_nodes(self) -> list[int]:
        return list(range(self.nodes))


class FakeCuda:
    """What `install` puts in the place of ONNX Runtime's sessions.

    Attributes:
        sessions: that were opened on the device.
        asked: the arguments with which they were opened.
        starts: whether the device starts. None: it raises an error.
        alter: changes the results of the device.
        nodes: how many nodes of a model the device runs, and how many there are.
        fails_from: number of photos of a batch that is too large for the device.
        seconds: of each run, besides those that the processor needs.
    """

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.asked: list[dict[str, Any]] = []
        self.starts: bool | None = True
        self.alter: Alter | None = None
        self.nodes: tuple[int, int] | None = None
        self.fails_from: int | None = None
        self.seconds = 0.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = onnxruntime.InferenceSession
        known = [CUDA.provider, "CPUExecutionProvider"]

        def session(model: Any, options: Any, *, providers: list[Any], **further: Any) -> Any:
            on_processor = real(model, options, providers=["CPUExecutionProvider"])
            if providers == ["CPUExecutionProvider"]:
                return on_processor
            self.asked.append({"providers": providers, **further})
            if self.starts is None:
                raise RuntimeError("CUDA failure 35: the driver is too old\nmore")
            there = known if self.starts else known[1:]
            fake = FakeSession(on_processor, there, self)
            self.sessions.append(fake)
            return fake

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
        monkeypatch.setattr(comparison, "_compared", set())
        loading._load.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Let ONNX Runtime have a device "cuda" until the test ends."""
    fake = FakeCuda()
    fake.install(monkeypatch)
    monkeypatch.delenv("VEDUTA_DEVICE", raising=False)
    return fake
