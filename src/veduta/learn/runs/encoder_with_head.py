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
from veduta.learn.runs.export import OPSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veduta.encoders.spec import EncoderSpec, Pooling

__all__ = ["require_one_size", "settings_of", "write_composed"]

_IR = 10  # of ONNX files; what all runtimes of opset 18 read
_ONE_FILE = 1.9e9  # bytes; a protobuf message ends at 2 GiB
_FLOAT = onnx.TensorProto.FLOAT

# What `veduta.encoders.pooling.pool` does, on the output of each rank.
_POOLING: dict[Pooling, tuple[str, str]] = {
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

# As `veduta.encoders.pooling.unit`: a row of zeros becomes one of equal components.
_UNIT = """
sizes = Abs (pooled)  largest = ReduceMax <keepdims = 1> (sizes, one)
known = Greater (largest, nothing)  divisor = Where (known, largest, full)
shares = Div (pooled, divisor)  scaled = Where (known, shares, full)
length = ReduceL2 <keepdims = 1> (scaled, one)  unit = Div (scaled, length)
"""


def require_one_size(spec: EncoderSpec) -> None:
    """Check that layers can be put behind an encoder's network.

    Raises:
        LearnError: it runs at several sizes; their descriptors are added up outside of the network.
    """
    if len(spec.sizes) > 1:
        sides = ", ".join(str(side) for side, _ in spec.sizes)
        raise LearnError(
            f"the encoder {spec.name!r} runs at several sizes ({sides} pixels) and adds up what "
            "its network gives for each, but an ONNX file sees a photo once, so layers behind the "
            "sum cannot become part of it; name an encoder of one size, such as encoder:accurate"
        )


def settings_of(spec: EncoderSpec) -> dict[str, Any]:
    """Return what stands beside the composed file: the photos are prepared as for the encoder."""
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


def write_composed(spec: EncoderSpec, head: Path, outputs: Sequence[str], file: Path) -> None:
    """Write an encoder with a head behind it, and its settings beside it.

    Args:
        spec: of the encoder, of one size.
        head: an ONNX file from descriptors of length one (N, D) to `outputs`.
        outputs: of the head, which become those of the whole.
        file: to write; `file` with the ending .json gets the settings.

    Raises:
        LearnError: the encoder's network cannot be joined with anything.
        OSError: the files cannot be written.
    """
    require_one_size(spec)
    try:
        whole = _joined(spec, onnx.load(os.fspath(spec.model)), onnx.load(os.fspath(head)), outputs)
        # Weights of two gigabytes or more lie beside the file, as `weights_digest` expects.
        large = sum(one.ByteSize() for one in whole.graph.initializer) > _ONE_FILE
        onnx.save(whole, os.fspath(file), save_as_external_data=large, location=f"{file.name}.data")
    except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        why = " ".join(str(error).split())[:300]
        raise LearnError(
            f"{readable(spec.model)}: layers cannot be put behind this network ({why}); "
            "encoder:accurate and encoder:fast can be trained on"
        ) from error
    file.with_suffix(".json").write_text(json.dumps(settings_of(spec), indent=1) + "\n", "utf-8")


def _joined(spec: EncoderSpec, body: Any, head: Any, outputs: Sequence[str]) -> Any:
    """Return the model: network, pooling and length one, head."""
    opset = max(OPSET, _opset(body))
    parts = [_brought_to(one, opset) for one in (body, _between(spec, body), head)]
    newest = max(one.ir_version for one in parts)
    for one in parts:
        one.ir_version = newest
    network, between, last = parts
    # The network may have outputs of the same names as the head.
    network = compose.add_prefix(network, "encoder/", rename_inputs=False)
    between = compose.add_prefix(between, "between/")
    last = compose.add_prefix(last, "head/", rename_outputs=False)
    described = compose.merge_models(
        network, between, [(f"encoder/{spec.output}", "between/values")], outputs=["between/unit"]
    )
    taken = last.graph.input[0].name
    return compose.merge_models(described, last, [("between/unit", taken)], outputs=list(outputs))


def _between(spec: EncoderSpec, body: Any) -> Any:
    """Return the model that makes descriptors of length one of what a network gives."""
    port = next(one for one in body.graph.output if one.name == spec.output)
    cast = "" if port.type.tensor_type.elem_type == _FLOAT else "float16"
    shape, pooled = _POOLING[spec.pooling]
    if spec.pooling == "graph":  # a map of one pixel is a vector too
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
        <ir_version: {_IR}, opset_import: ["" : {OPSET}]>
        between ({cast or "float"}[{shape}] values) => (float[N, D] unit) <{", ".join(constants)}>
        {{ floats = Cast <to = {_FLOAT}> (values)  {pooled}  {_UNIT} }}
    """)


def _brought_to(model: Any, opset: int) -> Any:
    return model if _opset(model) == opset else version_converter.convert_version(model, opset)


def _opset(model: Any) -> int:
    return int(max(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}))
