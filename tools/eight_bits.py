"""Arithmetic in eight bits, for the tools that write networks: steps, rounding, and its nodes.

- *Weights*: a step for each output channel. What rounding adds to the sum of a channel for a mean
  photo is subtracted from its bias (Nagel et al., "Data-Free Quantization Through Weight
  Equalization and Bias Correction", ICCV 2019).
- *No saturation*: processors with AVX2 and without VNNI add two products in 16 bits before they add
  in 32. The steps are so large that two such products always fit. So every processor computes the
  same whole numbers.

ONNX Runtime makes operators on bytes of the pairs QuantizeLinear, DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from export_models import GraphWriter
from numpy.typing import NDArray

LEVELS = 255
"""Steps between the smallest and the largest byte."""

LARGEST = 127
"""The largest weight."""

LARGEST_PAIR = 128
"""The largest sum of two weights of one sign whose products are added in 16 bits: a byte is up to
255, and 255 × 128 is below 2¹⁵."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RoundedConvolution:
    """The whole numbers of a convolution of bytes.

    Attributes:
        weight: (outputs, inputs, k, k) whole numbers.
        bias: (outputs,) whole numbers.
        step: (outputs,) of the weights.
        product: (outputs,) float32: of the bias and of the sums.
    """

    weight: Values
    bias: Values
    step: Values
    product: NDArray[np.float32]


def rounded_convolution(
    weight: Values, bias: Values, step: float, mean: Values | None, *, keep_sums: bool = False
) -> RoundedConvolution:
    """Round a convolution.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs,).
        step: of the bytes that it takes.
        mean: (inputs,) of the numbers that it takes, over many photos; None: not known.
        keep_sums: round so that each kernel keeps its sum.
    """
    depthwise = weight.shape[1] == 1
    # The bias is a whole number of 32 bits, in steps of the product.
    steps = np.maximum(weight_steps(weight), np.abs(bias) / (step * 2.0**30))
    exact = weight / steps[:, None, None, None]
    whole = np.clip(np.round(exact), -LARGEST, LARGEST)
    if keep_sums:
        whole = with_kept_sums(exact, whole)
    if mean is not None:
        added = ((whole - exact) * steps[:, None, None, None]).sum((2, 3))
        bias = bias - (added[:, 0] * mean if depthwise else added @ mean)
    if not depthwise and largest_pair(whole) > LARGEST_PAIR:
        raise ValueError("two products may not fit into 16 bits")
    product = np.float32(step) * steps.astype(np.float32)
    return RoundedConvolution(whole, np.round(bias / product), steps, product)


def whole_numbers(
    graph: GraphWriter, name: str, values: Values, step: Values, dtype: type[np.signedinteger]
) -> str:
    """Store whole numbers with a step for each output channel and return their name."""
    inputs = [
        graph.constant(f"{name}.bytes", values, dtype),
        graph.constant(f"{name}.step", step),
        graph.constant(f"{name}.zero", np.zeros(step.size), dtype),
    ]
    return graph.add("DequantizeLinear", inputs, name, axis=0)


def rounded_to_bytes(
    graph: GraphWriter, x: str, name: str, low: float, high: float
) -> tuple[float, str]:
    """Append the rounding of the tensor `x` to bytes, and return the step and its new name."""
    step = np.float32((high - low) / LEVELS)
    scale = graph.constant(f"{name}.step", step)
    zero = graph.constant(f"{name}.zero", round(-low / step), np.uint8)
    rounded = graph.add("QuantizeLinear", [x, scale, zero], f"{name}.bytes")
    return float(step), graph.add("DequantizeLinear", [rounded, scale, zero], f"{name}.numbers")


def weight_steps(weight: Values) -> Values:
    """Return the smallest step for each output channel of (outputs, inputs, k, k) that is allowed.

    Products of depthwise layers are added in 32 bits.
    """
    steps = np.abs(weight).max(axis=(1, 2, 3)) / LARGEST
    if weight.shape[1] > 1:
        # Rounding adds up to 1 to a pair.
        steps = np.maximum(steps, pair_sums(weight).max(axis=1) / (LARGEST_PAIR - 1))
    allowed: Values = np.maximum(steps, 1e-12)
    return allowed


def pair_sums(weight: Values) -> Values:
    """Return the sums (outputs, pairs) of weights of one sign whose products may be added first.

    These are neighbouring channels of one pixel. Of an odd number of channels, any two weights.
    """
    rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    signed = np.stack([np.maximum(rows, 0), np.maximum(-rows, 0)], axis=1)
    if weight.shape[1] % 2:
        signed = np.sort(signed, axis=2)[:, :, -2:]
    return (signed[:, :, ::2] + signed[:, :, 1::2]).reshape(len(weight), -1)


def largest_pair(whole: Values) -> float:
    """Return the largest of all such sums."""
    return float(pair_sums(whole).max())


def with_kept_sums(exact: Values, whole: Values) -> Values:
    """Change rounded weights (outputs, inputs, k, k) so that each kernel keeps its sum."""
    kernels, rounded = (part.reshape(-1, exact.shape[2] ** 2) for part in (exact, whole.copy()))
    for kernel, out in zip(kernels, rounded, strict=True):
        while abs(missing := kernel.sum() - out.sum()) > 0.5:
            sign = np.sign(missing)
            room = np.where(np.abs(out + sign) <= LARGEST, sign * (kernel - out), -np.inf)
            out[np.argmax(room)] += sign
    return rounded.reshape(exact.shape)
