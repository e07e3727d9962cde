"""A trained network as files that the rest of Veduta, and others, can use without it.

`model.onnx` with `model.json` is an encoder (`veduta index --encoder RUN`), and where the network
names classes also what `recognizer/` asks for its scores. The weights lie beside it as safetensors.
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

from veduta.encoders.sources import RUN_MODEL
from veduta.errors import LearnError, readable
from veduta.files import atomic_files
from veduta.learn.training.scoring import to_logits
from veduta.recognize.model import LOGITS

if TYPE_CHECKING:
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Input, Recipe

__all__ = ["AGREEMENT", "DESCRIPTOR", "export", "export_graph", "load_weights", "save_weights"]

AGREEMENT = 1e-4
"""Largest difference between torch and ONNX Runtime, relative to the largest value."""

DESCRIPTOR = "descriptor"
OPSET = 18
_ONE_FILE = 1.9e9  # bytes; a protobuf message ends at 2 GiB
_TRIED = 3  # photos of the comparison; another number than in the trace


def export(net: Net, recipe: Recipe, folder: Path) -> float:
    """Write a network into `folder`, and compare what ONNX Runtime makes of it with torch.

    `model.onnx` takes `photos`, float32 (N, 3, S, S), which are (rgb / 255 - mean) / std, and gives
    `descriptor` (N, D), not of length one, and for a network with scores `logits` (N, C), C >= 2,
    whose softmax is the probability of each class. `model.json` has the settings of the encoder,
    `model.safetensors` the weights. A network that reconstructs also leaves `decoder.onnx`, from
    `features` (N, D) to `photos` (N, 3, H, W) in [0, 1], `encoder.safetensors` and
    `decoder.safetensors`.

    Args:
        net: on any device; unchanged.
        recipe: what it was built by.
        folder: where to; files of these names are replaced, all together.

    Returns:
        The largest difference on random photos, over the largest value of that output.

    Raises:
        LearnError: the network cannot be exported, or differs by more than `AGREEMENT`.
        OSError: the folder cannot be written to.
    """
    generator = np.random.default_rng(0)
    with atomic_files(folder, last=RUN_MODEL) as draft, _exportable(net) as still:
        seen = recipe.input
        photos = _random_photos(generator, seen)
        outputs = [DESCRIPTOR, LOGITS] if net.has_scores else [DESCRIPTOR]
        (draft / RUN_MODEL).with_suffix(".json").write_text(
            json.dumps(_settings(seen), indent=1) + "\n", "utf-8"
        )
        save_weights(still, draft / "model.safetensors")
        with _without_sigmoid(still) as probabilities:
            graph = _Graph(still, probabilities=probabilities).eval()
            difference = export_graph(graph, photos, draft / RUN_MODEL, "photos", outputs)
        if recipe.network.decoder:
            encoder, decoder = still.encoder_part(), still.decoder_part()
            save_weights(encoder, draft / "encoder.safetensors")
            save_weights(decoder, draft / "decoder.safetensors")
            with torch.no_grad():
                features = still.features(photos)
            difference = max(
                difference,
                export_graph(decoder, features, draft / "decoder.onnx", "features", ["photos"]),
            )
    return difference


def export_graph(
    graph: nn.Module, sample: Tensor, file: Path, input_name: str, output_names: Sequence[str]
) -> float:
    """Export one module with a free batch size, and return its largest relative difference.

    Args:
        graph: in eval mode on the CPU; takes one tensor, gives one or a tuple of them.
        sample: (3 or more, …) float32 on the CPU: what it is traced and compared with.
        file: the .onnx file. Weights of more than 2 GB lie beside it in `FILE.data`.
        input_name, output_names: of the graph.

    Raises:
        LearnError: as `export`.
    """
    large = sum(one.numel() * one.element_size() for one in graph.state_dict().values())
    try:
        with warnings.catch_warnings():
            # The exporter warns of its own insides, in words that change with its version.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (sample[:2],),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: torch.export.Dim("N")},),
            )
            _forget_origins(program.model)
            program.save(os.fspath(file), external_data=large > _ONE_FILE)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        why = " ".join(str(error).split())[:300]
        raise LearnError(f"{file.name}: the network cannot be exported to ONNX ({why})") from error
    with torch.no_grad():
        wanted = graph(sample)
    given = _run(file, sample.numpy())
    pairs = zip(wanted if isinstance(wanted, tuple) else [wanted], given, strict=True)
    # Not `max` of Python, which passes over what is no number.
    difference = float(np.max([_apart(one.numpy(), other) for one, other in pairs]))
    if not difference <= AGREEMENT:
        raise LearnError(
            f"{file.name}: ONNX Runtime gives other numbers than torch: they differ by "
            f"{difference:.1e} of the largest, {AGREEMENT:g} is allowed. The network may have "
            "grown numbers that float32 does not hold: train it with a lower learning rate."
        )
    return difference


def save_weights(module: nn.Module, file: Path) -> None:
    """Write a module's weights and statistics as safetensors.

    Raises `LearnError` when they cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies, since the format has no two names for one tensor.
    weights = {
        name: one.detach().cpu().contiguous().clone() for name, one in module.state_dict().items()
    }
    try:
        save_file(weights, os.fspath(file), metadata={"format": "pt"})
    except SafetensorError as error:
        raise LearnError(f"{readable(file)}: the weights cannot be written: {error}") from error


def load_weights(module: nn.Module, file: Path) -> None:
    """Read weights that `save_weights` wrote into a module of the same shape.

    Raises `LearnError` when the file does not read or is of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(os.fspath(file)))
    except (OSError, SafetensorError) as error:
        raise LearnError(f"{readable(file)}: the weights cannot be read: {error}") from error
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise LearnError(f"{readable(file)}: the weights of another network: {why}") from error


class _Graph(nn.Module):  # type: ignore[misc]
    """What is exported: photos → features, and logits where there are scores."""

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
def _exportable(net: Net) -> Iterator[Net]:
    """Yield the network on the CPU in eval mode; afterwards it is as it was."""
    device, learning = next(iter(net.parameters())).device, net.training
    net.cpu().eval()
    try:
        yield net
    finally:
        net.to(device).train(learning)


@contextmanager
def _without_sigmoid(net: Net) -> Iterator[bool]:
    """Take out the sigmoid that a network ends in; yield whether it still gives probabilities.

    Near 1 float32 does not tell probabilities apart, so their log-odds would be coarse.
    """
    *_, (name, last) = net.layers.named_modules() if len(net.layers) else [("", None)]
    if not net.has_scores or net.cut == len(net.layers) or not isinstance(last, nn.Sigmoid):
        yield net.gives_probabilities
        return
    parent, _, place = name.rpartition(".")
    holder = net.layers.get_submodule(parent)
    setattr(holder, place, nn.Identity())
    try:
        yield False
    finally:
        setattr(holder, place, last)


def _settings(seen: Input) -> dict[str, Any]:
    return {
        "sizes": [seen.size],
        "fit": seen.fit,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "scale": 1 / 255,
        "pooling": "graph",
        "output": DESCRIPTOR,
    }


def _random_photos(generator: np.random.Generator, seen: Input) -> Tensor:
    values = generator.random((_TRIED, 3, seen.size, seen.size), np.float32)
    mean, std = (np.asarray(one, np.float32)[:, None, None] for one in (seen.mean, seen.std))
    return torch.from_numpy((values - mean) / std)


def _forget_origins(model: Any) -> None:
    """Take out where in the code each node comes from: it names folders of this machine."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))


def _run(file: Path, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        os.fspath(file), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {session.get_inputs()[0].name: batch}))
