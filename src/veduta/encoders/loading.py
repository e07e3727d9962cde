"""Opening an encoder: from its name to its model file, and to a runtime that was checked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.devices import VARIABLE, Device, device_named
from veduta.encoders.device_probe import require_same_descriptors
from veduta.encoders.model_spec import complete_spec, weights_digest
from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.encoders.presets import DEFAULT
from veduta.encoders.runtime import (
    RUNTIMES,
    open_onnxruntime,
    open_openvino,
    openvino_installed,
)
from veduta.encoders.settings import Source
from veduta.encoders.sources import resolve
from veduta.encoders.trial import tried_encoder
from veduta.errors import EncoderError, EncoderUnavailable, readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OtherModel", "load_encoder", "load_named_in_file", "open_encoder"]

# If the descriptors of the two runtimes have a lower cosine for the probe, OpenVINO is not used.
# bfloat16 moves descriptors of photos to a median cosine of 0.999, the worst of them to 0.987.
# docs/results.md has the effect on rankings.
MIN_RUNTIME_COSINE = 0.98


class OtherModel(EncoderError):
    """A model file is not the one whose digest is known."""


def load_encoder(
    name: str = DEFAULT,
    *,
    threads: int = 1,
    runtime: str | None = None,
    device: str | None = None,
) -> OnnxEncoder:
    """Load an encoder by name.

    Args:
        name: a preset ("fast", "accurate"), an embedded model ("efficientnet-lite0"), the path of
            an `.onnx` file, the folder of a run of `veduta train`, `hub:owner/name[/file.onnx]`
            or `timm:name`.
        threads: processor threads for one call of `encode`, >= 1. If several threads call at the
            same time, 1 is fastest.
        runtime: "onnxruntime" or "openvino". None chooses ONNX Runtime, which is faster at equal
            precision and opens in a tenth of the time. OpenVINO is faster only if the processor has
            bfloat16, and loses precision for it. If OpenVINO does not open the model, or if its
            descriptor of a probe has a cosine below `MIN_RUNTIME_COSINE` to that of ONNX Runtime,
            then ONNX Runtime is used, and the encoder's `notice` says so.
        device: where ONNX Runtime runs it, one of `veduta.devices.DEVICES`. None: `$VEDUTA_DEVICE`,
            or the processor. A device that is not there, or that gives other descriptors than the
            processor, is refused.

    Raises:
        UnknownEncoder: no encoder has that name.
        EncoderUnavailable: the model or the runtime is not on this machine and cannot be fetched.
        DeviceError: the device is not usable here.
        EncoderError: the file is no model for photos, is damaged, or an argument is out of range.
        QueryError: no device has that name.
    """
    return _open_own(resolve(name), threads, runtime, device)


def load_named_in_file(
    name: str,
    sha256: str | None,
    *,
    threads: int = 1,
    runtime: str | None = None,
    device: str | None = None,
) -> OnnxEncoder:
    """Load the encoder that a file names, such as the manifest of an index.

    A stranger may have written the file. So nothing is fetched, and a model of another digest is
    not opened.

    Args:
        name: as for `load_encoder`.
        sha256: the digest of the model in that file, hex; None if the file has none.
        threads: as for `load_encoder`.
        runtime: as for `load_encoder`.
        device: as for `load_encoder`.

    Raises:
        OtherModel: the model of that name has another digest.
        UnknownEncoder: no encoder has that name.
        EncoderUnavailable: the model or the runtime is not on this machine.
        DeviceError: the device is not usable here.
        EncoderError: the file is no model for photos, is damaged, or an argument is out of range.
    """
    source = resolve(name, fetch=False)
    if source.sha256 is not None:
        return _open_own(source, threads, runtime, device)
    source = replace(source, sha256=sha256)
    return open_encoder(source, threads=threads, runtime=runtime, device=device)


def _open_own(source: Source, threads: int, runtime: str | None, device: str | None) -> OnnxEncoder:
    """Open a model; if it has to have a digest, it is one of the package."""
    try:
        return open_encoder(source, threads=threads, runtime=runtime, device=device)
    except OtherModel as error:
        raise EncoderError(f"{error}; install veduta again") from error


def open_encoder(
    source: Source,
    *,
    threads: int = 1,
    runtime: str | None = None,
    device: str | None = None,
) -> OnnxEncoder:
    """Open a model file as an encoder, with settings of the caller.

    Args:
        source: the model file and its settings.
        threads: as for `load_encoder`.
        runtime: as for `load_encoder`.
        device: as for `load_encoder`.

    Raises:
        EncoderUnavailable: the runtime is not installed.
        DeviceError: the device is not usable here.
        OtherModel: the file does not have the digest of the source.
        EncoderError: the file is no model for photos, is damaged, or an argument is out of range.
    """
    if threads < 1:
        raise EncoderError(f"threads must be 1 or more, not {threads}")
    if runtime is not None and runtime not in RUNTIMES:
        raise EncoderError(f"no runtime is called {runtime!r}; known are {', '.join(RUNTIMES)}")
    if runtime == "openvino" and not openvino_installed():
        raise EncoderUnavailable(
            "the runtime openvino is not installed: pip install 'veduta[openvino]', "
            "or choose the runtime onnxruntime"
        )
    chosen = device_named(device)
    if runtime == "openvino" and not chosen.is_processor:
        raise EncoderError(
            f"the runtime openvino runs on the processor only, not on the device {chosen.name} "
            f"(--device or {VARIABLE}): choose one of the two"
        )
    digest = weights_digest(source.path)
    if source.sha256 is not None and source.sha256.lower() != digest:
        raise OtherModel(
            f"{readable(source.path)}: the file is not the one that belongs here (its SHA-256 is "
            f"{digest[:12]}…, not {source.sha256[:12]}…)"
        )
    model = open_onnxruntime(source.path, threads)
    spec = complete_spec(source, model, digest)
    if source.sha256 is None:
        encoder = tried_encoder(spec, model, _probe())
    else:
        encoder = OnnxEncoder(spec, model)
    if runtime == "openvino":
        return _on_openvino(encoder, threads)
    return encoder if chosen.is_processor else _on_device(encoder, chosen, threads)


def _on_device(reference: OnnxEncoder, device: Device, threads: int) -> OnnxEncoder:
    """Return the encoder on a device whose descriptors agree; raises DeviceError if they do not."""
    model = open_onnxruntime(reference.spec.model, threads, device)
    notice = None
    if model.nodes is not None and model.nodes[0] < model.nodes[1]:
        there, total = model.nodes
        notice = (
            f"The device {device.name} runs {there:,} of the {total:,} nodes of the network, and "
            "the processor the others"
        )
    encoder = OnnxEncoder(reference.spec, model, notice=notice)
    require_same_descriptors(encoder, reference, device, model.precision)
    return encoder


def _on_openvino(reference: OnnxEncoder, threads: int) -> OnnxEncoder:
    """Return the encoder on OpenVINO if its descriptors agree, else `reference` with a notice."""
    photo = [reference.prepare(_probe())]
    try:
        encoder = OnnxEncoder(reference.spec, open_openvino(reference.spec.model, threads))
        cosine = float((encoder.encode(photo) * reference.encode(photo)).sum())
    except EncoderError as error:
        reference.notice = f"OpenVINO is not used: {error}"
        return reference
    if cosine < MIN_RUNTIME_COSINE:
        reference.notice = (
            f"OpenVINO is not used: its descriptor of a probe has the cosine {cosine:.4f} to that "
            f"of ONNX Runtime, and {MIN_RUNTIME_COSINE} is required"
        )
        return reference
    return encoder


def _probe() -> NDArray[np.uint8]:
    """Return an artificial photo (192, 256, 3), always the same: shades, an edge and grain."""
    rows, columns = np.mgrid[0:192, 0:256].astype(np.float64)
    shades = np.stack(
        [rows / 192, columns / 256, 0.5 + 0.5 * np.sin(rows / 9 + columns / 17)], axis=2
    )
    shades[60:140, 90:170] = 1 - shades[60:140, 90:170]
    grain = np.random.default_rng(0).normal(0, 0.05, shades.shape)
    return (np.clip(shades + grain, 0, 1) * 255).astype(np.uint8)
