"""An encoder's own network with trained layers behind it, as one ONNX file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import compose, parser, version_converter

from veduta.encoders.pooling import GEM_FLOOR
from veduta.errors import LearnError, readable
from veduta.files import write_text
from veduta.learn.runs.export import MAX_PROTOBUF_BYTES, OPSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veduta.encoders.spec import EncoderSpec, Pooling

__all__ = ["encoder_settings", "require_one_size", "write_encoder_with_head"]

# The version of the file format. All runtimes of opset 18 read it.
_IR_VERSION = 10
_FLOAT = onnx.TensorProto.FLOAT

# Pooling → shape of the network's output, and the operators of `veduta.encoders.pooling.pool`.
_POOLING_OPERATORS: dict[Pooling, tuple[str, str]] = {
    "graph": ("N, D", "pooled = Flatten <axis = 1> (floats)"),
    "average": ("N, D, h, w", "pooled = ReduceMean <keepdims = 0> (floats, pixels)"),
    "gem": (
        "N, D, h, w",
        "raised = Max (floats, floor)  powers = Pow (raised, p)"
        "  mean = ReduceMean <keepdims = 0> (powers, pixels)  pooled = Pow (mean, root)",
    ),
    "cls": ("N, T, D", "pooled = Gather <axis = 1> (floats, first)"),
    "mean_tokens": (
        "N, T, D",
        "patches = Slice (floats, one, end, one)"
        "  pooled = ReduceMean <keepdims = 0> (patches, one)",
    ),
}

# The operators of `veduta.encoders.pooling.unit`: a row of zeros gets equal components.
_UNIT_OPERATORS = """
sizes = Abs (pooled)  largest = ReduceMax <keepdims = 1> (sizes, one)
known = Greater (largest, nothing)  divisor = Where (known, largest, full)
shares = Div (pooled, divisor)  scaled = Where (known, shares, full)
length = ReduceL2 <keepdims = 1> (scaled, one)  unit = Div (scaled, length)
"""


def require_one_size(spec: EncoderSpec) -> None:
    """Check that layers can be joined to an encoder's network.

    Args:
        spec: of the encoder.

    Raises:
        LearnError: it runs at several sizes and adds their descriptors outside of the network.
    """
    if len(spec.sizes) > 1:
        sides = ", ".join(str(side) for side, _ in spec.sizes)
        raise LearnError(
            f"the encoder {spec.name!r} runs at several sizes ({sides} pixels) and adds their "
            "descriptors, but an ONNX file takes a photo at one size, so layers after the sum "
            "cannot be part of it; name an encoder of one size, such as encoder:accurate"
        )


def encoder_settings(spec: EncoderSpec) -> dict[str, Any]:
    """Return the settings of an encoder with a head: photos are prepared as for the encoder."""
    settings: dict[str, Any] = {
        "sizes": [side for side, _ in spec.sizes],
        "fit": spec.fit,
        "pooling": "graph",
        "output": "descriptor",
    }
    if spec.fit == "aspect":
        settings["stride"] = spec.stride
    if spec.fit == "crop":
        settings["keep"] = spec.keep
    if spec.layout != "uint8-nhwc":
        settings |= {"scale": spec.scale, "mean": list(spec.mean), "std": list(spec.std)}
    return settings


def write_encoder_with_head(
    spec: EncoderSpec, head: Path, outputs: Sequence[str], file: Path
) -> None:
    """Write an encoder's network joined to a head as one ONNX file, and its settings.

    Args:
        spec: of the encoder, which has one size.
        head: an ONNX file from descriptors of length one (N, D) to `outputs`.
        outputs: names of the head's outputs, which are also those of the result.
        file: the file to write. The settings get the same name with the ending .json.

    Raises:
        LearnError: the encoder's network cannot be joined to another one.
        OSError: the files cannot be written.
    """
    require_one_size(spec)
    try:
        model = _joined(spec, onnx.load(os.fspath(spec.model)), onnx.load(os.fspath(head)), outputs)
        # `weights_digest` reads weights of two gigabytes or more from a file beside the model.
        is_large = sum(one.ByteSize() for one in model.graph.initializer) > MAX_PROTOBUF_BYTES
        onnx.save(
            model,
            os.fspath(file),
            save_as_external_data=is_large,
            location=f"{file.name}.data",
        )
    except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise LearnError(
            f"{readable(spec.model)}: layers cannot be joined to this network ({reason}); "
            "use encoder:accurate or encoder:fast"
        ) from error
    write_text(file.with_suffix(".json"), json.dumps(encoder_settings(spec), indent=1) + "\n")


def _joined(spec: EncoderSpec, network: Any, head: Any, outputs: Sequence[str]) -> Any:
    """Return one model: the network, its pooling to length one, the head."""
    opset = max(OPSET, _opset(network))
    pooling = _pooling_model(spec, network)
    models = [_with_opset(model, opset) for model in (network, pooling, head)]
    newest = max(model.ir_version for model in models)
    for model in models:
        model.ir_version = newest
    network, pooling, head = models
    # The network may have outputs of the same names as the head.
    network = compose.add_prefix(network, "encoder/", rename_inputs=False)
    pooling = compose.add_prefix(pooling, "between/")
    head = compose.add_prefix(head, "head/", rename_outputs=False)
    encoder = compose.merge_models(
        network, pooling, [(f"encoder/{spec.output}", "between/values")], outputs=["between/unit"]
    )
    head_input = head.graph.input[0].name
    return compose.merge_models(
        encoder, head, [("between/unit", head_input)], outputs=list(outputs)
    )


def _pooling_model(spec: EncoderSpec, network: Any) -> Any:
    """Return the model from an output of the network to descriptors of length one."""
    port = next(one for one in network.graph.output if one.name == spec.output)
    cast = "" if port.type.tensor_type.elem_type == _FLOAT else "float16"
    shape, pooled = _POOLING_OPERATORS[spec.pooling]
    if spec.pooling == "graph":  # The output may be a vector, or a map of one pixel.
        shape = ", ".join(["N", "D", "h", "w"][: len(port.type.tensor_type.shape.dim)])
    numbers = {
        "floor": f"{GEM_FLOOR:e}",
        "p": f"{spec.gem_p:.9e}",
        "root": f"{1 / spec.gem_p:.9e}",
        "nothing": "0.0",
        "full": "1.0",
    }
    axes = {"pixels": "{2, 3}", "one": "{1}", "end": "{9223372036854775807}"}
    constants = ["int64 first = {0}"]
    constants += [f"float {name} = {{{value}}}" for name, value in numbers.items()]
    constants += [f"int64[{value.count(',') + 1}] {name} = {value}" for name, value in axes.items()]
    return parser.parse_model(f"""
        <ir_version: {_IR_VERSION}, opset_import: ["" : {OPSET}]>
        between ({cast or "float"}[{shape}] values) => (float[N, D] unit) <{", ".join(constants)}>
        {{ floats = Cast <to = {_FLOAT}> (values)  {pooled}  {_UNIT_OPERATORS} }}
    """)


def _with_opset(model: Any, opset: int) -> Any:
    return model if _opset(model) == opset else version_converter.convert_version(model, opset)


def _opset(model: Any) -> int:
    return int(max(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}))
