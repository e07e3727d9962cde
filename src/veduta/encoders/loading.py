"""Opening an encoder: name → model file → runtime, checked → `Encoder`."""

from __future__ import annotations

import numpy as np

from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.encoders.presets import DEFAULT
from veduta.encoders.runtime import (
    RUNTIMES,
    open_onnxruntime,
    open_openvino,
    openvino_installed,
)
from veduta.encoders.settings import Source
from veduta.encoders.signature import complete, weights_digest
from veduta.encoders.sources import resolve
from veduta.errors import EncoderError, EncoderUnavailable, readable

__all__ = ["load_encoder", "open_encoder"]

# Cosine between the descriptors of the two runtimes on the probe below which OpenVINO is not used.
# bfloat16 moves descriptors of photos to a median cosine of 0.999, the worst of them to 0.987;
# docs/results.md has what that does to rankings.
AGREEMENT = 0.98


def load_encoder(
    name: str = DEFAULT, *, threads: int = 1, runtime: str | None = None
) -> OnnxEncoder:
    """Load an encoder by name.

    Args:
        name: a preset ("fast", "accurate"), an embedded model ("efficientnet-lite0"), the path of
            an `.onnx` file, the folder of a run of `veduta train`, `hub:owner/name[/file.onnx]`
            or `timm:name`.
        threads: processor threads for one call of `Encoder.encode`, >= 1. Where several threads
            call at once, 1 is fastest.
        runtime: "onnxruntime" or "openvino"; None chooses ONNX Runtime, which is the faster one
            at equal precision and opens in a tenth of the time. OpenVINO is faster only where the
            processor has bfloat16, and gives up precision for it. Where OpenVINO does not open the
            model, or its descriptor of a probe has a cosine below `AGREEMENT` to ONNX Runtime's,
            ONNX Runtime is used all the same and the encoder's `notice` says so.

    Raises:
        UnknownEncoder: no encoder has that name.
        EncoderUnavailable: the model or the runtime is not on this machine and not to be had.
        EncoderError: the file is no model for photos, is damaged, or an argument is out of range.
    """
    return open_encoder(resolve(name), threads=threads, runtime=runtime)


def open_encoder(source: Source, *, threads: int = 1, runtime: str | None = None) -> OnnxEncoder:
    """Open a model file as an encoder; `load_encoder` for a source with settings of one's own."""
    if threads < 1:
        raise EncoderError(f"threads must be 1 or more, not {threads}")
    if runtime is not None and runtime not in RUNTIMES:
        raise EncoderError(f"no runtime is called {runtime!r}; there are {', '.join(RUNTIMES)}")
    if runtime == "openvino" and not openvino_installed():
        raise EncoderUnavailable(
            "the runtime openvino is not installed: pip install 'veduta[openvino]', "
            "or choose the runtime onnxruntime"
        )
    digest = weights_digest(source.path)
    if source.sha256 is not None and source.sha256.lower() != digest:
        raise EncoderError(
            f"{readable(source.path)}: the file is not the one that belongs here (its SHA-256 is "
            f"{digest[:12]}…, not {source.sha256[:12]}…); install veduta again"
        )
    model = open_onnxruntime(source.path, threads)
    encoder = OnnxEncoder(complete(source, model, digest), model)
    return _on_openvino(encoder, threads) if runtime == "openvino" else encoder


def _on_openvino(reference: OnnxEncoder, threads: int) -> OnnxEncoder:
    """Return the encoder on OpenVINO if its descriptors agree with `reference`'s, else that one."""
    photo = [reference.prepare(_probe())]
    try:
        encoder = OnnxEncoder(reference.spec, open_openvino(reference.spec.model, threads))
        cosine = float((encoder.encode(photo) * reference.encode(photo)).sum())
    except EncoderError as error:
        reference.notice = f"OpenVINO is not used: {error}"
        return reference
    if cosine < AGREEMENT:
        reference.notice = (
            f"OpenVINO is not used: its descriptor of a probe has the cosine "
            f"{cosine:.4f} to ONNX Runtime's, {AGREEMENT} is wanted"
        )
        return reference
    return encoder


def _probe() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A made-up photo (192, 256, 3): smooth shades, an edge and some grain, always the same."""
    rows, columns = np.mgrid[0:192, 0:256].astype(np.float64)
    shades = np.stack(
        [rows / 192, columns / 256, 0.5 + 0.5 * np.sin(rows / 9 + columns / 17)], axis=2
    )
    shades[60:140, 90:170] = 1 - shades[60:140, 90:170]
    grain = np.random.default_rng(0).normal(0, 0.05, shades.shape)
    return (np.clip(shades + grain, 0, 1) * 255).astype(np.uint8)
