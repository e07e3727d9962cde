"""Training on the descriptors of a frozen encoder: each photo is encoded once and kept.

Only a few layers on vectors are trained, which takes seconds on a processor. The run's
`model.onnx` is the encoder's network with these layers as its head.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veduta import photos
from veduta.encoders import Encoder, OnnxEncoder, load_encoder
from veduta.encoders.pooling import unit
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import LearnError
from veduta.evaluation.dataset_index import OnProgress, cache_folder
from veduta.index import UpdateProgress, open_snapshot, update_cached_index
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.models.networks import Net
from veduta.learn.runs.card import Card, Parameters, Start
from veduta.learn.runs.encoder_with_head import require_one_size, write_encoder_with_head
from veduta.learn.runs.export import (
    DESCRIPTOR,
    MAX_RELATIVE_DIFFERENCE,
    export_module,
    save_weights,
)
from veduta.learn.runs.run_folder import run_on_splits, write_run_folder
from veduta.learn.runs.starting_run import StartingRun, report_start
from veduta.learn.training.loop import TrainingResult, fit
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.scoring import to_logits
from veduta.recognize.model import LOGITS

if TYPE_CHECKING:
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.schedule import Epoch

__all__ = ["Descriptors", "describe", "descriptors_of", "train_frozen", "train_head"]


class Descriptors:
    """Descriptors as training examples: `veduta.learn.data.examples.Examples`.

    Attributes:
        values: (N, D) float32, rows of length one.
        encoder_identity: the identity of their encoder; "" if it is not known.
    """

    in_memory = True

    def __init__(self, descriptors: NDArray[np.floating], encoder_identity: str = "") -> None:
        """Take descriptors (N, D) of any float type."""
        self.values = np.asarray(descriptors, np.float32)
        self.encoder_identity = encoder_identity

    def batch(self, rows: NDArray[np.intp] | Sequence[int]) -> Tensor:
        """Return the descriptors of n rows: (n, D) float32."""
        return torch.from_numpy(self.values[np.asarray(rows, np.intp)])

    def network_input(self, batch: Tensor) -> Tensor:
        """Return the batch itself: a descriptor needs no normalisation."""
        return batch


def train_frozen(
    recipe: Recipe,
    splits: DatasetSplits,
    out: Path,
    *,
    start_run: StartingRun | None = None,
    on_start: Callable[[Start], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Card:
    """Train the layers of a recipe whose backbone is "encoder:NAME", and write the run folder.

    Args:
        recipe: the recipe. Its `input` is not used, because the encoder prepares the photos.
        splits: which photos are in which split.
        out: the run folder.
        start_run: the run that it goes on from.
        on_start: as for `veduta.learn.runs.train.train`.
        on_epoch: called after each epoch. An exception that it raises ends the run.
        on_progress: called with (activity, done, total).
        command: the command line of the run, for its card.

    Returns:
        The card of the run.

    Raises:
        RecipeError: the recipe names something that descriptors cannot have.
        LearnError: training fails, or layers cannot be joined to the encoder's network.
        UnknownEncoder: see `veduta.encoders.load_encoder`.
        EncoderUnavailable: see `veduta.encoders.load_encoder`.
        EncoderError: see `veduta.encoders.load_encoder`.
    """
    encoder = load_encoder(recipe.network.encoder)
    require_one_size(encoder.spec)
    descriptors, splits = describe(splits, encoder, on_progress)
    trained = train_head(
        recipe,
        splits,
        descriptors,
        out,
        start_run=start_run,
        on_start=on_start,
        on_epoch=on_epoch,
        on_progress=on_progress,
    )
    return write_run_folder(
        out,
        recipe,
        splits,
        trained,
        run_on_splits(trained.net, splits, descriptors),
        _parameters(encoder, trained.net),
        partial(_export, encoder, trained.net),
        command=command,
        start_run=start_run,
    )


def train_head(
    recipe: Recipe,
    splits: DatasetSplits,
    descriptors: Descriptors,
    folder: Path,
    *,
    start_run: StartingRun | None = None,
    on_start: Callable[[Start], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
) -> TrainingResult:
    """Train the layers of such a recipe on descriptors.

    Args:
        recipe: the recipe.
        splits: which photos are in which split.
        descriptors: row by row those of the photos of `splits`.
        folder: for the checkpoint.
        start_run: the run that it goes on from.
        on_start: as for `veduta.learn.runs.train.train`.
        on_epoch: as for `veduta.learn.training.loop.fit`.
        on_progress: as for `veduta.learn.training.loop.fit`.

    Returns:
        The trained layers and the history.

    Raises:
        RecipeError: as for `veduta.learn.training.loop.fit`.
        LearnError: as for `veduta.learn.training.loop.fit`.
    """
    torch.manual_seed(recipe.training.seed)
    first = None if start_run is None else start_run.first_weights(splits.class_names)
    dimension = descriptors.values.shape[1]
    net = build_network(recipe, len(splits.class_names), dimension=dimension, first=first)
    report_start(net, recipe, start_run, on_start)
    return fit(recipe, net, splits, descriptors, folder, on_epoch=on_epoch, on_progress=on_progress)


def describe(
    splits: DatasetSplits, encoder: Encoder, on_progress: OnProgress | None = None
) -> tuple[Descriptors, DatasetSplits]:
    """Encode the photos of all splits, except those that were encoded before.

    Args:
        splits: which photos are in which split.
        encoder: the encoder.
        on_progress: called with (activity, done, total).

    Returns:
        The descriptors, and `splits` without the unreadable photos, row by row the same.

    Raises:
        LearnError: fewer than two classes are left to train on.
    """
    rows, unreadable = descriptors_of(
        [splits.root / path for path in splits.paths], encoder, on_progress
    )
    remaining = splits.without(unreadable)
    # A class without any training photo left is gone, and all its other photos with it.
    row_of = {path: row for row, path in enumerate(splits.paths)}
    kept = rows[[row_of[path] for path in remaining.paths]]
    return Descriptors(kept, encoder.identity), remaining


def descriptors_of(
    files: Sequence[Path], encoder: Encoder, on_progress: OnProgress | None = None
) -> tuple[NDArray[np.float16], dict[int, str]]:
    """Return the descriptors of photos, which are kept in the user's cache folder.

    The cache is an index of exactly these files. A photo that was encoded before and has not
    changed since is not encoded again.

    Args:
        files: the photos.
        encoder: the encoder. Photos are decoded as large as `veduta index` decodes them.
        on_progress: called with (activity, done, total).

    Returns:
        The descriptors (N, D), rows of length one, and zeros for unreadable photos; and the reason
        for each row that is unreadable.
    """
    # An index with keypoints decodes a photo once, at the larger of both sizes. Training does too.
    encoder = copy(encoder)
    encoder.long_side = max(encoder.long_side, LONG_SIDE)
    paths = [os.path.abspath(file) for file in files]
    made_by = (encoder.identity, str(encoder.describe()["precision"]), str(encoder.long_side))
    key = "\n".join((*sorted(paths), *made_by))
    index = cache_folder() / photos.content_hash(os.fsencode(key)).hex()[:20]

    def report(progress: UpdateProgress) -> None:
        if on_progress:
            on_progress("Encoding photos", progress.done, progress.total)

    update = update_cached_index(
        index, [Path(path) for path in paths], encoder, None, on_progress=report, graph=False
    )
    if update.interrupted:
        raise KeyboardInterrupt
    snapshot = open_snapshot(index)
    indexed = snapshot.rows["path"].to_pylist()[: snapshot.photos]
    row_of = {os.fsdecode(path): row for row, path in enumerate(indexed)}
    descriptors = np.zeros((len(paths), encoder.dimension), np.float16)
    reasons = dict(update.unreadable)
    unreadable = {}
    for row, path in enumerate(paths):
        if path in row_of and path not in reasons:
            descriptors[row] = snapshot.descriptors[row_of[path]]
        else:
            unreadable[row] = reasons.get(path, "no longer exists")
    return descriptors, unreadable


def _parameters(encoder: OnnxEncoder, net: Net) -> Parameters:
    """Count the weights of the frozen encoder and those of the layers."""
    import onnx

    graph = onnx.load(os.fspath(encoder.spec.model), load_external_data=False).graph
    float_types = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    frozen = sum(
        int(np.prod(weights.dims))
        for weights in graph.initializer
        if weights.data_type in float_types
    )
    statistics = sum(buffer.numel() for buffer in net.buffers() if buffer.is_floating_point())
    trainable = sum(weights.numel() for weights in net.parameters())
    return Parameters(frozen + statistics + trainable, trainable)


class _Head(nn.Module):  # type: ignore[misc]
    """The exported outputs of the layers: features, and logits if there are scores."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, descriptors: Tensor) -> tuple[Tensor, ...]:
        """(N, D) → (N, d), and with scores also (N, C)."""
        outputs = self.net(descriptors)
        # ONNX allows no input that is also an output, as it would be without layers before the cut.
        features = outputs.features * 1
        if outputs.scores is None:
            return (features,)
        return features, to_logits(outputs.scores, probabilities=self.net.gives_probabilities)


def _export(encoder: OnnxEncoder, net: Net, folder: Path) -> float:
    """Write the encoder with its head; return its largest difference to the trained layers."""
    output_names = [DESCRIPTOR, LOGITS] if net.has_scores else [DESCRIPTOR]
    rng = np.random.default_rng(0)
    sides = [(192, 256), (256, 192), (224, 224)]
    noise = [rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    prepared = [encoder.prepare(photo) for photo in noise]
    sample = torch.from_numpy(encoder.encode(prepared))
    save_weights(net, folder / "model.safetensors")
    head = _Head(net).eval()
    with tempfile.TemporaryDirectory() as temporary:
        head_file = Path(temporary) / "head.onnx"
        difference = export_module(head, sample, head_file, "descriptors", output_names)
        write_encoder_with_head(encoder.spec, head_file, output_names, folder / RUN_MODEL)
    exported = load_encoder(str(folder / RUN_MODEL))
    with torch.no_grad():
        expected = [output.numpy() for output in head(sample)]
    expected[0] = unit(expected[0])
    outputs = [exported.encode(prepared)]
    if net.has_scores:
        outputs.append(exported.class_scores(prepared, LOGITS))
    for one, other in zip(expected, outputs, strict=True):
        difference = max(difference, float(np.abs(one - other).max() / np.abs(one).max()))
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise LearnError(
            f"{RUN_MODEL}: the encoder joined to the layers gives other numbers than the encoder "
            f"followed by the layers: they differ by {difference:.1e} of the largest, "
            f"{MAX_RELATIVE_DIFFERENCE:g} is allowed"
        )
    return difference
