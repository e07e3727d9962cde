"""Looking at an opened model: is it one for photos, and what does it take and give?"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from veduta.encoders.pooling import RANK
from veduta.encoders.spec import EncoderSpec, Layout, Pooling
from veduta.errors import EncoderError, readable

if TYPE_CHECKING:
    from pathlib import Path

    from veduta.encoders.runtime import Model, Port
    from veduta.encoders.settings import Settings, Source

__all__ = ["complete", "weights_digest"]

# Outputs that exporters give to the vector of a whole photo, best first.
VECTOR_NAMES = ("descriptor", "image_embeds", "embedding", "embeddings", "pooler_output")


def complete(source: Source, model: Model, sha256: str) -> EncoderSpec:
    """Fill what `source` leaves open with what the opened model says of itself.

    Raises:
        EncoderError: it is not a model for photos, or its shapes and the settings disagree.
    """
    known = source.settings
    layout, fixed = _input(source.path, model.inputs)
    output, pooling = _output(source.path, model.outputs, known)
    defaults = EncoderSpec(source.name, source.path, sha256, layout, ((224, 1.0),), output.name)
    # A feature map stands for any shape of photo; a vector or tokens may hide a network that
    # only works at its own size, so such a model sees squares unless told otherwise.
    free_shape = pooling in {"gem", "average"} and fixed is None
    fit = known.fit or ("aspect" if free_shape else "squash")
    usual = 448 if fit == "aspect" else 224
    sizes = ((fixed or usual, 1.0),) if known.sizes is None else known.sizes
    if fixed is not None and (fit == "aspect" or any(side != fixed for side, _ in sizes)):
        raise EncoderError(
            f"{readable(source.path)}: the model takes squares of {fixed} pixels only, the "
            f"settings ask for {fit} at {', '.join(str(side) for side, _ in sizes)}; "
            f"use fit crop or squash and the size {fixed}, or export it with free height and width"
        )
    return EncoderSpec(
        name=source.name,
        model=source.path,
        sha256=sha256,
        layout=layout,
        sizes=sizes,
        output=output.name,
        fit=fit,
        stride=defaults.stride if known.stride is None else known.stride,
        keep=defaults.keep if known.keep is None else known.keep,
        scale=defaults.scale if known.scale is None else known.scale,
        mean=defaults.mean if known.mean is None else known.mean,
        std=defaults.std if known.std is None else known.std,
        pooling=pooling,
        gem_p=defaults.gem_p if known.gem_p is None else known.gem_p,
    )


def weights_digest(model: Path) -> str:
    """Return the SHA-256 (hex) of a model file, and of the weights file that it refers to if any.

    Raises:
        EncoderError: a file cannot be read.
    """
    try:
        content = model.read_bytes()
        digest = hashlib.sha256(content)
        for weights in (model.with_name(f"{model.name}{end}") for end in ("_data", ".data")):
            if weights.is_file() and weights.name.encode() in content:
                with weights.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise EncoderError(f"{readable(model)}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _input(path: Path, ports: tuple[Port, ...]) -> tuple[Layout, int | None]:
    """Return the layout of the only input, and the side of the square if it takes only that."""
    if len(ports) != 1 or len(ports[0].shape) != 4:
        advice = ""
        if any(port.name in {"input_ids", "attention_mask"} for port in ports):
            advice = " It reads text: take the vision part of it, often named vision_model.onnx."
        raise _no_photo_model(path, ports, advice)
    port = ports[0]
    layout: Layout
    if port.kind == "uint8" and port.shape[3] in {3, None} and port.shape[1] != 3:
        layout = "uint8-nhwc"
    elif port.kind in {"float32", "float16"} and port.shape[3] == 3 and port.shape[1] != 3:
        layout = "float-nhwc"
    elif port.kind in {"float32", "float16"} and port.shape[1] in {3, None}:
        layout = "float-nchw"
    else:
        raise _no_photo_model(path, ports, "")
    height, width = port.shape[2:] if layout == "float-nchw" else port.shape[1:3]
    if height != width:
        raise EncoderError(
            f"{readable(path)}: the model takes {height or 'any'} × {width or 'any'} pixels; "
            "only squares or free sizes are supported: export it with one of these"
        )
    return layout, height


def _no_photo_model(path: Path, ports: tuple[Port, ...], advice: str) -> EncoderError:
    found = ", ".join(str(port) for port in ports) or "nothing"
    return EncoderError(
        f"{readable(path)}: not a model for photos: it takes {found}; wanted is one input, "
        f"float32 N × 3 × height × width or uint8 N × height × width × 3.{advice}"
    )


def _output(path: Path, ports: tuple[Port, ...], known: Settings) -> tuple[Port, Pooling]:
    """Choose the output, and the pooling that makes a vector of it."""
    candidates = [port for port in ports if port.kind in {"float32", "float16"}]
    if known.output is not None:
        candidates = [port for port in candidates if port.name == known.output]
    if known.pooling is not None:
        candidates = [port for port in candidates if _rank(port) == RANK[known.pooling]]
    default: dict[int, Pooling] = {2: "graph", 4: "gem", 3: "cls"}
    candidates = [port for port in candidates if _rank(port) in default]
    if not candidates:
        found = ", ".join(str(port) for port in ports) or "nothing"
        asked = [
            f"{key} {value!r}"
            for key, value in (("output", known.output), ("pooling", known.pooling))
            if value is not None
        ]
        raise EncoderError(
            f"{readable(path)}: no output fits{' ' if asked else ''}{' and '.join(asked)}: the "
            f"model gives {found}; wanted is a float vector N × D, a feature map N × C × h × w "
            "or tokens N × T × C"
        )
    order = {2: 0, 4: 1, 3: 2}
    best = min(candidates, key=lambda port: (_name_rank(port), order[_rank(port)]))
    return best, known.pooling or default[_rank(best)]


def _rank(port: Port) -> int:
    """The rank of an output; a feature map of one pixel counts as a vector."""
    return 2 if port.shape[2:] == (1, 1) else len(port.shape)


def _name_rank(port: Port) -> int:
    if port.name in VECTOR_NAMES:
        return VECTOR_NAMES.index(port.name)
    # Class scores say less of a place than any layer before them.
    return len(VECTOR_NAMES) + (port.name in {"logits", "scores", "probabilities"})
