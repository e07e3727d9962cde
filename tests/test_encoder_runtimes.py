"""ONNX Runtime and OpenVINO give the same descriptors, or OpenVINO is not used."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_onnx import (
    encode,
    scene,
)

from veduta.encoders import (
    Encoder,
    load_encoder,
)
from veduta.encoders.runtime import openvino_installed
from veduta.errors import EncoderError, EncoderUnavailable


@pytest.fixture(scope="module")
def fast() -> Encoder:
    return load_encoder("fast")


@pytest.mark.slow
def test_the_runtime_is_no_part_of_the_identity(fast):
    if not openvino_installed():
        pytest.skip("OpenVINO is not installed")
    other = load_encoder("fast", runtime="openvino")
    assert other.describe()["runtime"] == "openvino"
    assert other.describe()["precision"] in ("float32", "bfloat16")
    assert other.identity == fast.identity
    assert (encode(other, scene()) * encode(fast, scene())).sum() > 0.98
    prepared = [fast.prepare(scene(seed=n)) for n in range(8)]
    with ThreadPoolExecutor(4) as pool_of_threads:
        results = np.concatenate(list(pool_of_threads.map(lambda p: other.encode([p]), prepared)))
    assert ((results * fast.encode(prepared)).sum(axis=1) > 0.98).all()


@pytest.mark.slow
def test_openvino_reports_nothing_to_its_makers():
    if not openvino_installed():
        pytest.skip("OpenVINO is not installed")
    code = (
        "import os, sys, warnings; warnings.simplefilter('error')\n"
        "import lance\n"  # warns of a fork
        "from veduta.encoders import load_encoder\n"
        "print(load_encoder('fast', runtime='openvino').describe()['runtime'])\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino", "[]"]


def test_openvino_that_disagrees_is_not_used(fast, monkeypatch):
    from veduta.encoders import loading

    class Stranger:
        runtime, precision, shared_photos = "openvino", "float32", 1
        inputs, outputs = fast._model.inputs, fast._model.outputs

        def run(self, batch, *outputs):
            return tuple(-result for result in fast._model.run(batch, *outputs))

    monkeypatch.setattr(loading, "openvino_installed", lambda: True)
    monkeypatch.setattr(loading, "open_openvino", lambda path, threads: Stranger())
    encoder = load_encoder("fast", runtime="openvino")
    assert encoder.describe()["runtime"] == "onnxruntime"
    assert "-1.0000" in str(encoder.describe()["notice"])

    def broken(path, threads):
        raise EncoderError("no such operation")

    monkeypatch.setattr(loading, "open_openvino", broken)
    encoder = load_encoder("fast", runtime="openvino")
    assert encoder.describe()["runtime"] == "onnxruntime"
    assert "no such operation" in str(encoder.describe()["notice"])


def test_openvino_that_is_not_installed(monkeypatch):
    from veduta.encoders import loading

    monkeypatch.setattr(loading, "openvino_installed", lambda: False)
    with pytest.raises(EncoderUnavailable, match=r"veduta\[openvino\]"):
        load_encoder("fast", runtime="openvino")
