"""Run an ONNX file with ONNX Runtime on a device, or with OpenVINO if it is installed.

The two libraries are imported when a model is opened, not before.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from veduta.devices import PROCESSOR, Device, open_session
from veduta.devices.sessions import (
    errors_of_onnxruntime,
    nodes_on_device,
    run_options,
    shared_photos,
)
from veduta.errors import EncoderError, readable
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RUNTIMES", "Model", "Port", "open_onnxruntime", "open_openvino", "openvino_installed"]

RUNTIMES = ("onnxruntime", "openvino")

_NUMPY_KINDS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "u8": "uint8"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: of the port.
        kind: data type, such as "float32".
        shape: None for each size that is free.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = " × ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} ({self.kind}, {sizes or 'scalar'})"


class Model(Protocol):
    """An opened model.

    Attributes:
        runtime: one of `RUNTIMES`.
        device: where it runs, one of `veduta.devices.DEVICES`.
        nodes: how many nodes of the graph run there, and how many there are; None if unknown.
        shared_photos: how many photos of several threads share a run; 1: none do.
        precision: of the arithmetic, such as "float32". It is "int8" if some of it is in bytes.
        inputs: of the graph.
        outputs: of the graph.
    """

    runtime: str
    device: str
    nodes: tuple[int, int] | None
    shared_photos: int
    precision: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, batch: NDArray[Any], *outputs: str) -> tuple[NDArray[np.float32], ...]:
        """Run the model once. Several threads may call this at the same time.

        Args:
            batch: an array for the first input.
            *outputs: names of the outputs to return, in this order.

        Raises:
            EncoderError: the model fails on this input.
        """
        ...

    def stop(self) -> None:
        """End the runs of other threads soon, if the library can do that. No other run follows."""
        ...


def openvino_installed() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return find_spec("openvino") is not None


def open_onnxruntime(path: Path, threads: int, device: Device = PROCESSOR) -> Model:
    """Open an ONNX file with ONNX Runtime.

    Args:
        path: the file.
        threads: of the processor that one call of `run` uses, >= 1.
        device: that runs the model.

    Raises:
        DeviceError: the device is not usable here.
        EncoderError: the file is no ONNX model, or has operators that ONNX Runtime does not know.
    """
    try:
        session = open_session(path, threads=threads, device=device)
        return _OnnxRuntimeModel(path, session, device)
    except errors_of_onnxruntime() as error:  # ValueError: the name of a port is not UTF-8.
        raise _cannot_open(path, "ONNX Runtime", error) from error


class _OnnxRuntimeModel:
    runtime = "onnxruntime"

    def __init__(self, path: Path, session: Any, device: Device) -> None:
        self._path = path
        self.device = device.name
        self.nodes = None if device.is_processor else nodes_on_device(session, device)
        self.shared_photos = shared_photos(session)
        # The operators that make bytes of numbers are named in the file.
        self.precision = "int8" if b"QuantizeLinear" in path.read_bytes() else "float32"
        self._session = session
        self._options = run_options()
        self.inputs = tuple(_port(node) for node in session.get_inputs())
        self.outputs = tuple(_port(node) for node in session.get_outputs())

    def run(self, batch: NDArray[Any], *outputs: str) -> tuple[NDArray[np.float32], ...]:
        feed = {self.inputs[0].name: batch}
        try:
            results = self._session.run(list(outputs), feed, self._options)
        except errors_of_onnxruntime() as error:
            raise _cannot_run(self._path, batch, error) from error
        return tuple(np.asarray(result, dtype=np.float32) for result in results)

    def stop(self) -> None:
        self._options.terminate = True


def _port(node: Any) -> Port:
    kind = {"tensor(float)": "float32"}.get(node.type, node.type.removeprefix("tensor(")[:-1])
    return Port(
        node.name,
        kind,
        tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape),
    )


def open_openvino(path: Path, threads: int) -> Model:
    """Open an ONNX file with OpenVINO on the processor.

    The arithmetic is the one that the processor does fastest: bfloat16 if it has it. `precision` of
    the result says which.

    Args:
        path: the file.
        threads: number that one call of `run` uses, >= 1. Other calls run at the same time on the
            other cores.

    Raises:
        EncoderError: OpenVINO does not open the file.
    """
    import openvino

    # One call uses one stream. If all streams are in use, a caller waits for a free one.
    streams = max(1, processor_cores() // threads)
    settings: dict[str, object] = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * threads,
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(os.fspath(path)), "CPU", settings)
    except RuntimeError as error:
        raise _cannot_open(path, "OpenVINO", error) from error
    return _OpenvinoModel(path, compiled)


class _OpenvinoModel:
    runtime = "openvino"
    device = PROCESSOR.name
    nodes: tuple[int, int] | None = None
    shared_photos = 1

    def __init__(self, path: Path, compiled: Any) -> None:
        self._path = path
        self._compiled = compiled
        # An infer request holds its own buffers and serves one call at a time.
        self._local = threading.local()
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = _NUMPY_KINDS.get(hint, hint)
        self.inputs = tuple(_openvino_port(node) for node in compiled.inputs)
        self.outputs = tuple(_openvino_port(node) for node in compiled.outputs)

    def run(self, batch: NDArray[Any], *outputs: str) -> tuple[NDArray[np.float32], ...]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        try:
            results = request.infer({self.inputs[0].name: batch})
        except RuntimeError as error:
            raise _cannot_run(self._path, batch, error) from error
        return tuple(np.array(results[output], dtype=np.float32) for output in outputs)

    def stop(self) -> None:
        request = getattr(self._local, "request", None)
        if request is not None:
            request.cancel()


def _openvino_port(node: Any) -> Port:
    kind = node.get_element_type().get_type_name()
    shape = tuple(
        None if size.is_dynamic else size.get_length() for size in node.get_partial_shape()
    )
    return Port(node.get_any_name(), _NUMPY_KINDS.get(kind, kind), shape)


def _cannot_open(path: Path, library: str, error: Exception) -> EncoderError:
    return EncoderError(
        f"{readable(path)}: {library} cannot open this model ({_first_line(error)}). "
        "Check that it is a complete ONNX file, with its weights file beside it if it has one."
    )


def _cannot_run(path: Path, batch: NDArray[Any], error: Exception) -> EncoderError:
    return EncoderError(
        f"{readable(path)}: the model fails on an input of shape {batch.shape} "
        f"({_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
