"""Tiny ONNX models, written without the onnx package, and photos for them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from veduta import photos
from veduta.encoders import Encoder

# The few messages of the protobuf schema of ONNX.
FLOAT, UINT8, INT64, BOOL = 1, 2, 7, 9


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: a varint or a length-delimited value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def port(name: str, kind: int, *shape: int | str) -> bytes:
    sizes = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape
    )
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))


def node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    out = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            out += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            out += field(
                5, field(1, name) + b"".join(field(8, part) for part in value) + field(20, 7)
            )
    return out


def constant(name: str, values: list[int] | list[float], kind: int) -> bytes:
    form = {FLOAT: "f", INT64: "q"}[kind]
    raw = struct.pack(f"<{len(values)}{form}", *values)
    return field(1, len(values)) + field(2, kind) + field(8, name) + field(9, raw)


def onnx(
    nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], constants: tuple[bytes, ...] = ()
) -> bytes:
    graph = field(2, "tiny")
    for number, parts in ((1, nodes), (5, constants), (11, inputs), (12, outputs)):
        graph += b"".join(field(number, part) for part in parts)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


PHOTOS = port("pixels", FLOAT, "N", 3, "H", "W")


def mirror(photos_port: bytes = PHOTOS) -> bytes:
    """The feature map is the normalised photo itself."""
    return onnx(
        [node("Identity", ["pixels"], "features")],
        [photos_port],
        [port("features", FLOAT, "N", 3, "h", "w")],
    )


def tokens() -> bytes:
    """Three tokens, one a colour channel, of 16 numbers, one a pixel."""
    return onnx(
        [node("Reshape", ["pixels", "shape"], "last_hidden_state")],
        [port("pixels", FLOAT, "N", 3, 4, 4)],
        [port("last_hidden_state", FLOAT, "N", 3, 16)],
        (constant("shape", [0, 3, 16], INT64),),
    )


def channel_means() -> bytes:
    """Bytes in, mean of each channel out."""
    return onnx(
        [
            node("Cast", ["pixels"], "numbers", to=FLOAT),
            node("ReduceMean", ["numbers"], "descriptor", axes=[1, 2], keepdims=0),
        ],
        [port("pixels", UINT8, "N", "H", "W", 3)],
        [port("descriptor", FLOAT, "N", 3)],
    )


def logarithm() -> bytes:
    """Minus infinity on black."""
    return onnx(
        [node("Log", ["pixels"], "features")],
        [PHOTOS],
        [port("features", FLOAT, "N", 3, "h", "w")],
    )


def logarithm_of_means() -> bytes:
    """Minus infinity on a black photo only."""
    return onnx(
        [
            node("ReduceMean", ["pixels"], "means", axes=[2, 3], keepdims=0),
            node("Log", ["means"], "descriptor"),
        ],
        [PHOTOS],
        [port("descriptor", FLOAT, "N", 3)],
    )


def endless() -> bytes:
    """The mean of each channel, after a loop that never ends."""
    body = field(2, "body") + b"".join(
        field(1, node("Identity", [before], after))
        for before, after in (("go", "still_go"), ("value", "next_value"))
    )
    scalar = {"number": INT64, "go": BOOL}
    body += b"".join(field(11, port(name, kind)) for name, kind in scalar.items())
    body += field(11, port("value", FLOAT, "N", 3))
    body += field(12, port("still_go", BOOL)) + field(12, port("next_value", FLOAT, "N", 3))
    loop = node("Loop", ["", "true", "means"], "descriptor")
    loop += field(5, field(1, "body") + field(6, body) + field(20, 5))
    means = node("ReduceMean", ["pixels"], "means", axes=[2, 3], keepdims=0)
    true = field(2, BOOL) + field(8, "true") + field(9, b"\x01")
    return onnx([means, loop], [PHOTOS], [port("descriptor", FLOAT, "N", 3)], (true,))


SIGLIP_CONFIG = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": 384, "width": 384},
}
"""A `preprocessor_config.json` as SigLIP has it on the hub."""

PLAIN = {"mean": [0, 0, 0], "std": [1, 1, 1], "scale": 1}


def write(folder: Path, content: bytes, settings: dict[str, object] | None = None) -> str:
    path = folder / "model.onnx"
    path.write_bytes(content)
    if settings is not None:
        path.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    return str(path)


def colour(*rgb: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), rgb, dtype=np.uint8)


def encode(encoder: Encoder, *pictures: np.ndarray) -> np.ndarray:
    return encoder.encode([encoder.prepare(picture) for picture in pictures])


def scene(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    """Coarse random patches: edges and colours at a scale that survives the resize."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return photos.resize(coarse, width, height)
