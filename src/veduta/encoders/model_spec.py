"""From an opened model and its settings to a full `EncoderSpec`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from veduta.encoders.pooling import OUTPUT_RANKS
from veduta.encoders.spec import EncoderSpec, Layout, Pooling
from veduta.errors import EncoderError, readable

if TYPE_CHECKING:
    from pathlib import Path

    from veduta.encoders.runtime import Model, Port
    from veduta.encoders.settings import Settings, Source

__all__ = ["complete_spec", "weights_digest"]

DEFAULT_LONG_SIDE = 448
DEFAULT_SQUARE_SIDE = 224

# Exporters give these names to the vector of a whole photo, best first.
VECTOR_NAMES = ("descriptor", "image_embeds", "embedding", "embeddings", "pooler_output")
CLASS_SCORE_NAMES = frozenset({"logits", "scores", "probabilities"})

# The pooling for an output of each rank, if the settings name none. The first rank is preferred.
_DEFAULT_POOLINGS: dict[int, Pooling] = {2: "graph", 4: "gem", 3: "cls"}


def complete_spec(source: Source, model: Model, sha256: str) -> EncoderSpec:
    """Return the full description of an encoder.

    Args:
        source: the model file, and the settings that are known.
        model: the opened model. It says what the settings leave open.
        sha256: digest of the weights, hex.

    Raises:
        EncoderError: it is no model for photos, or its shapes and the settings disagree.
    """
    settings = source.settings
    layout, fixed_side = _input(source.path, model.inputs)
    output, pooling = _output(source.path, model.outputs, settings)
    # A model with a feature map takes photos of any shape. A vector or tokens may come from a
    # network that works only at its own size, so by default such a model gets squares.
    free_shape = pooling in {"gem", "average"} and fixed_side is None
    fit = settings.fit or ("aspect" if free_shape else "squash")
    default_side = DEFAULT_LONG_SIDE if fit == "aspect" else DEFAULT_SQUARE_SIDE
    sizes = settings.sizes
    if sizes is None:
        sizes = ((fixed_side or default_side, 1.0),)
    if fixed_side is not None and (fit == "aspect" or any(side != fixed_side for side, _ in sizes)):
        raise EncoderError(
            f"{readable(source.path)}: the model takes squares of {fixed_side} pixels only, the "
            f"settings ask for {fit} at {', '.join(str(side) for side, _ in sizes)}; use fit crop "
            f"or squash and the size {fixed_side}, or export it with free height and width"
        )
    optional: dict[str, Any] = {
        "stride": settings.stride,
        "keep": settings.keep,
        "scale": settings.scale,
        "mean": settings.mean,
        "std": settings.std,
        "gem_p": settings.gem_p,
    }
    return EncoderSpec(
        name=source.name,
        model=source.path,
        sha256=sha256,
        layout=layout,
        sizes=sizes,
        output=output.name,
        fit=fit,
        pooling=pooling,
        **{name: value for name, value in optional.items() if value is not None},
    )


def weights_digest(model: Path) -> str:
    """Return the SHA-256 (hex) of a model file, and of the weights file that it names if any.

    Args:
        model: the ONNX file.

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
            advice = " It reads text: take its vision part, often named vision_model.onnx."
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
    inputs = ", ".join(str(port) for port in ports) or "nothing"
    return EncoderError(
        f"{readable(path)}: not a model for photos: it takes {inputs}; wanted is one input, "
        f"float32 N × 3 × height × width or uint8 N × height × width × 3.{advice}"
    )


def _output(path: Path, ports: tuple[Port, ...], settings: Settings) -> tuple[Port, Pooling]:
    """Choose the output, and the pooling that makes a vector of it."""
    candidates = [
        port
        for port in ports
        if port.kind in {"float32", "float16"}
        and _rank(port) in _DEFAULT_POOLINGS
        and settings.output in {None, port.name}
        and (settings.pooling is None or _rank(port) == OUTPUT_RANKS[settings.pooling])
    ]
    if not candidates:
        outputs = ", ".join(str(port) for port in ports) or "nothing"
        wanted = " and ".join(
            f"{key} {value!r}"
            for key, value in (("output", settings.output), ("pooling", settings.pooling))
            if value is not None
        )
        raise EncoderError(
            f"{readable(path)}: no output fits{' ' if wanted else ''}{wanted}: the model gives "
            f"{outputs}; wanted is a float vector N × D, a feature map N × C × h × w or tokens "
            "N × T × C"
        )
    ranks = list(_DEFAULT_POOLINGS)
    best = min(candidates, key=lambda port: (_name_order(port), ranks.index(_rank(port))))
    return best, settings.pooling or _DEFAULT_POOLINGS[_rank(best)]


def _rank(port: Port) -> int:
    """Return the rank of an output. A feature map of one pixel counts as a vector."""
    return 2 if port.shape[2:] == (1, 1) else len(port.shape)


def _name_order(port: Port) -> int:
    """Return how late an output is chosen. Class scores are last: any earlier layer is better."""
    if port.name in VECTOR_NAMES:
        return VECTOR_NAMES.index(port.name)
    return len(VECTOR_NAMES) + (port.name in CLASS_SCORE_NAMES)
