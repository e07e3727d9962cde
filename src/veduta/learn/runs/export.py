"""A trained network as files that Veduta and other programs use without its recipe.

`model.onnx` with `model.json` is an encoder (`veduta index --encoder RUN`). If the network names
classes, `recognizer/` takes its scores from the same file. `model.safetensors` holds the weights.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veduta.devices import open_session
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import LearnError, readable
from veduta.files import atomic_file, atomic_files, write_text
from veduta.learn.models.networks import without_activation
from veduta.learn.training.scoring import to_logits
from veduta.recognize.model import LOGITS

if TYPE_CHECKING:
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Input, Recipe

__all__ = [
    "DESCRIPTOR",
    "MAX_PROTOBUF_BYTES",
    "MAX_RELATIVE_DIFFERENCE",
    "OPSET",
    "export_module",
    "export_network",
    "load_weights",
    "save_weights",
]

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Between torch and ONNX Runtime, relative to the largest value."""

DESCRIPTOR = "descriptor"
OPSET = 18

MAX_PROTOBUF_BYTES = 1.9e9
"""A protobuf message ends at 2 GiB. Larger weights are written beside the ONNX file."""

# The network is traced with 2 photos, so 3 show that the batch size is free.
_COMPARED_PHOTOS = 3


def export_network(net: Net, recipe: Recipe, folder: Path) -> float:
    """Write a network into a folder, and compare ONNX Runtime's outputs with torch's.

    `model.onnx` takes `photos`, float32 (N, 3, S, S), which are (rgb / 255 - mean) / std, and gives
    `descriptor` (N, D), not of length one, and for a network with scores `logits` (N, C), C >= 2,
    whose softmax is the probability of each class. `model.json` has the settings of the encoder,
    `model.safetensors` the weights. A network that reconstructs photos also gets `decoder.onnx`,
    from `features` (N, D) to `photos` (N, 3, H, W) in [0, 1], `encoder.safetensors` and
    `decoder.safetensors`.

    Args:
        net: the network, on any device. It is not changed.
        recipe: the recipe that it was built from.
        folder: where the files are written. Files of these names are replaced, all together.

    Returns:
        The largest difference on random photos, relative to the largest value of that output.

    Raises:
        LearnError: the network cannot be exported, or differs by more than
            `MAX_RELATIVE_DIFFERENCE`.
        OSError: the folder cannot be written to.
    """
    generator = np.random.default_rng(0)
    with atomic_files(folder, last=RUN_MODEL) as draft, _on_cpu_in_eval_mode(net):
        photos = _random_photos(generator, recipe.input)
        outputs = [DESCRIPTOR, LOGITS] if net.has_scores else [DESCRIPTOR]
        settings = json.dumps(_encoder_settings(recipe.input), indent=1)
        write_text((draft / RUN_MODEL).with_suffix(".json"), f"{settings}\n")
        save_weights(net, draft / "model.safetensors")
        with _without_last_activation(net) as probabilities:
            module = _FeaturesAndLogits(net, probabilities=probabilities).eval()
            difference = export_module(module, photos, draft / RUN_MODEL, "photos", outputs)
        if recipe.network.decoder:
            encoder, decoder = net.encoder_part(), net.decoder_part()
            save_weights(encoder, draft / "encoder.safetensors")
            save_weights(decoder, draft / "decoder.safetensors")
            with torch.no_grad():
                features = net.features(photos)
            difference = max(
                difference,
                export_module(decoder, features, draft / "decoder.onnx", "features", ["photos"]),
            )
    return difference


def export_module(
    module: nn.Module, sample: Tensor, file: Path, input_name: str, output_names: Sequence[str]
) -> float:
    """Export one module with a free batch size, and compare ONNX Runtime's outputs with torch's.

    Args:
        module: in eval mode on the CPU. It takes one tensor and gives one or a tuple of them.
        sample: (3 or more, …) float32 on the CPU, for the trace and the comparison.
        file: the .onnx file. Weights of more than 2 GB are written to `FILE.data`.
        input_name: name of the input in the ONNX file.
        output_names: names of the outputs.

    Returns:
        The largest difference, relative to the largest value of that output.

    Raises:
        LearnError: the module cannot be exported, or differs by more than
            `MAX_RELATIVE_DIFFERENCE`.
    """
    weights_bytes = sum(one.numel() * one.element_size() for one in module.state_dict().values())
    try:
        with warnings.catch_warnings():
            # The exporter warns about its own class_id, in words that change with its version.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (sample[:2],),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: torch.export.Dim("N")},),
            )
            _remove_code_locations(program.model)
            program.save(os.fspath(file), external_data=weights_bytes > MAX_PROTOBUF_BYTES)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:300]
        raise LearnError(
            f"{file.name}: the network cannot be exported to ONNX ({reason})"
        ) from error
    with torch.no_grad():
        expected = module(sample)
    expected = expected if isinstance(expected, tuple) else (expected,)
    outputs = _onnx_outputs(file, sample.numpy())
    differences = [
        _relative_difference(one.numpy(), other)
        for one, other in zip(expected, outputs, strict=True)
    ]
    # Python's `max` would skip NaN.
    difference = float(np.max(differences))
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise LearnError(
            f"{file.name}: ONNX Runtime gives other numbers than torch: they differ by "
            f"{difference:.1e} of the largest, {MAX_RELATIVE_DIFFERENCE:g} is allowed. Numbers of "
            "the network may be too large for float32: train it with a lower learning rate."
        )
    return difference


def save_weights(module: nn.Module, file: Path) -> None:
    """Write a module's weights and statistics as safetensors.

    Args:
        module: the module, on any device.
        file: the file.

    Raises:
        LearnError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # The format cannot hold one tensor under two names, so each is copied.
    weights = {
        name: one.detach().cpu().contiguous().clone() for name, one in module.state_dict().items()
    }
    try:
        with atomic_file(file) as draft:
            save_file(weights, os.fspath(draft), metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise LearnError(f"{readable(file)}: the weights cannot be written: {error}") from error


def load_weights(module: nn.Module, file: Path) -> None:
    """Read weights that `save_weights` wrote into a module of the same shape.

    Args:
        module: the module. Its weights are replaced.
        file: the file.

    Raises:
        LearnError: the file cannot be read, or is of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(os.fspath(file)))
    except (OSError, SafetensorError) as error:
        raise LearnError(f"{readable(file)}: the weights cannot be read: {error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise LearnError(f"{readable(file)}: the weights of another network: {reason}") from error


class _FeaturesAndLogits(nn.Module):  # type: ignore[misc]
    """The exported outputs of a network: features, and logits if it has scores."""

    def __init__(self, net: Net, *, probabilities: bool) -> None:
        super().__init__()
        self.net = net
        self.probabilities = probabilities

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) → (N, D), and with scores also (N, C)."""
        if not self.net.has_scores:
            return (self.net.features(photos),)
        outputs = self.net(photos)
        return outputs.features, to_logits(outputs.scores, probabilities=self.probabilities)


@contextmanager
def _on_cpu_in_eval_mode(net: Net) -> Iterator[None]:
    """Move the network to the CPU and into eval mode, and back at the end of the block."""
    device, is_training = next(iter(net.parameters())).device, net.training
    net.cpu().eval()
    try:
        yield
    finally:
        net.to(device).train(is_training)


@contextmanager
def _without_last_activation(net: Net) -> Iterator[bool]:
    """Remove a softmax, or the sigmoid of one unit, at the end of the network.

    float32 cannot represent the differences of probabilities near 1, so their logarithms would be
    coarse. Also, the scores before the activation are those that maps explain.

    Yields:
        Whether its scores are still probabilities.
    """
    layers, number = net.layers, net.last_active
    # The features are the output of this layer if the cut is behind it.
    if not net.gives_probabilities or number < net.cut:
        yield net.gives_probabilities
        return
    described = net.layer_table[number]
    if described.activation != ("sigmoid" if described.shape == (1,) else "softmax"):
        yield True
        return
    whole = layers[number]
    layers[number] = without_activation(whole)
    try:
        yield False
    finally:
        layers[number] = whole


def _encoder_settings(network_input: Input) -> dict[str, Any]:
    return {
        "sizes": [network_input.size],
        "fit": network_input.fit,
        "mean": list(network_input.mean),
        "std": list(network_input.std),
        "scale": 1 / 255,
        "pooling": "graph",
        "output": DESCRIPTOR,
    }


def _random_photos(generator: np.random.Generator, network_input: Input) -> Tensor:
    side = network_input.size
    values = generator.random((_COMPARED_PHOTOS, 3, side, side), np.float32)
    mean = np.asarray(network_input.mean, np.float32)[:, None, None]
    std = np.asarray(network_input.std, np.float32)[:, None, None]
    return torch.from_numpy((values - mean) / std)


def _remove_code_locations(model: Any) -> None:
    """Remove the place in the class_id of each node, which names folders of this machine."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None


def _relative_difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))


def _onnx_outputs(file: Path, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = open_session(file, threads=1)
    return list(session.run(None, {session.get_inputs()[0].name: batch}))
