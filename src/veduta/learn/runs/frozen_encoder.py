"""Training on the descriptors of a frozen encoder: each photo is encoded once, ever.

What is left to train are a few layers on vectors, which takes seconds on a processor. The run's
`model.onnx` is the encoder's network with these layers behind it.
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
from veduta.errors import LearnError, RecipeError
from veduta.evaluation.dataset_index import OnProgress, cache_folder
from veduta.index import MANIFEST_FILE, UpdateProgress, create_index, open_snapshot, update_index
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.models.networks import Net, build
from veduta.learn.runs.card import Card, Parameters
from veduta.learn.runs.encoder_with_head import require_one_size, write_composed
from veduta.learn.runs.export import AGREEMENT, DESCRIPTOR, export_graph, save_weights
from veduta.learn.runs.run_folder import PARTS, Learned, Scored, write_leavings
from veduta.learn.training.loop import TrainingResult, fit
from veduta.learn.training.scoring import run_network, to_logits
from veduta.recognize.model import LOGITS

if TYPE_CHECKING:
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.schedule import Epoch

__all__ = ["Descriptors", "describe", "descriptors_of", "train_frozen", "trained_on"]


class Descriptors:
    """Descriptors as training examples: `veduta.learn.data.examples.Examples`.

    Attributes:
        values: (N, D) float32, rows of length one.
    """

    in_memory = True

    def __init__(self, descriptors: NDArray[np.floating]) -> None:
        """Take descriptors (N, D) of any float type."""
        self.values = np.asarray(descriptors, np.float32)

    def batch(self, rows: NDArray[np.intp] | Sequence[int]) -> Tensor:
        """Return the descriptors of n rows: (n, D) float32."""
        return torch.from_numpy(self.values[np.asarray(rows, np.intp)])

    def network_input(self, batch: Tensor) -> Tensor:
        """Return the batch itself: a descriptor needs no normalisation."""
        return batch


def train_frozen(
    recipe: Recipe,
    parts: DatasetSplits,
    out: Path,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Card:
    """Train the layers of a recipe whose backbone is "encoder:NAME", and write the run folder.

    Args:
        recipe: what to train. Its `input` is not used: the encoder has its own.
        parts: the photos.
        out: the run folder.
        on_epoch, on_progress, command: as in `veduta.learn.runs.run.train`.

    Raises:
        RecipeError: the recipe asks for what cannot be had of descriptors.
        LearnError: training fails, or the encoder's network cannot be written with layers behind.
        UnknownEncoder, EncoderUnavailable, EncoderError: see `veduta.encoders.load_encoder`.
    """
    _check(recipe)
    encoder = load_encoder(recipe.network.encoder)
    require_one_size(encoder.spec)
    descriptors, parts = describe(parts, encoder, on_progress)
    trained = trained_on(
        recipe, parts, descriptors, out, on_epoch=on_epoch, on_progress=on_progress
    )
    learned = Learned(
        trained.history,
        trained.best_epoch,
        trained.seconds,
        trained.device,
        trained.stop_reason,
        _parameters(encoder, trained.net),
    )
    return write_leavings(
        out,
        recipe,
        parts,
        _scored(trained, parts, descriptors),
        learned,
        partial(_export, encoder, trained.net),
        command=command,
    )


def trained_on(
    recipe: Recipe,
    parts: DatasetSplits,
    descriptors: Descriptors,
    folder: Path,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
) -> TrainingResult:
    """Train the layers of such a recipe on descriptors.

    Args:
        recipe: what to train.
        parts, descriptors: row by row the same photos.
        folder: for the checkpoint.
        on_epoch, on_progress: as in `veduta.learn.training.loop.fit`.

    Raises:
        RecipeError, LearnError: as `veduta.learn.training.loop.fit`.
    """
    torch.manual_seed(recipe.training.seed)
    net = build(recipe, len(parts.class_names), dimension=descriptors.values.shape[1])
    return fit(
        recipe,
        net,
        parts,
        descriptors,
        folder,
        on_epoch=on_epoch,
        on_progress=on_progress,
    )


def describe(
    parts: DatasetSplits, encoder: Encoder, on_progress: OnProgress | None = None
) -> tuple[Descriptors, DatasetSplits]:
    """Encode the photos of all parts, those that were before excepted.

    Returns:
        the descriptors, and the parts without the photos that are unreadable, row by row the same.

    Raises:
        LearnError: fewer than two classes are left to train on.
    """
    rows, broken = descriptors_of([parts.root / path for path in parts.paths], encoder, on_progress)
    remaining = parts.without(broken)
    # A class can leave with its last photo to train on, and its other photos with it.
    row_of = {path: row for row, path in enumerate(parts.paths)}
    return Descriptors(rows[[row_of[path] for path in remaining.paths]]), remaining


def descriptors_of(
    files: Sequence[Path], encoder: Encoder, on_progress: OnProgress | None = None
) -> tuple[NDArray[np.float16], dict[int, str]]:
    """Return the descriptors (N, D) of photos, kept where evaluations keep theirs.

    That is in the user's cache folder, as an index of exactly these files: what was encoded before
    and has not changed since is not encoded again.

    Args:
        files: of the photos.
        encoder: makes the descriptors; of photos decoded as large as `veduta index` has them.
        on_progress: called with (what, done, total).

    Returns:
        the descriptors, rows of length one, of zeros where there is no photo; and row → why.
    """
    # An index with keypoints decodes a photo once, at the larger of both sizes. Training does too.
    encoder = copy(encoder)
    encoder.long_side = max(encoder.long_side, LONG_SIDE)
    places = [os.path.abspath(file) for file in files]
    made_by = (encoder.identity, str(encoder.describe()["precision"]), str(encoder.long_side))
    key = "\n".join((*sorted(places), *made_by))
    index = cache_folder() / photos.content_hash(os.fsencode(key)).hex()[:20]
    if not (index / MANIFEST_FILE).exists():
        create_index(index, encoder, None)

    def tell(state: UpdateProgress) -> None:
        if on_progress:
            on_progress("Encoding photos", state.done, state.total)

    wanted = [Path(place) for place in places]
    done = update_index(index, wanted, encoder, on_progress=tell, graph=False)
    if done.interrupted:
        raise KeyboardInterrupt
    snapshot = open_snapshot(index)
    found = snapshot.rows["path"].to_pylist()[: snapshot.photos]
    row_of = {os.fsdecode(path): row for row, path in enumerate(found)}
    rows = np.zeros((len(places), encoder.dimension), np.float16)
    reasons = dict(done.unreadable)
    broken = {}
    for place, file in enumerate(places):
        if file in row_of:
            rows[place] = snapshot.descriptors[row_of[file]]
        else:
            broken[place] = reasons.get(file, "gone since")
    return rows, broken


def _check(recipe: Recipe) -> None:
    if recipe.augment:
        raise RecipeError(
            f"{recipe.name}: augment changes photos, but {recipe.network.backbone} sees each photo "
            'once, as it is; leave it out, or take a backbone such as "embedded:efficientnet-lite0"'
        )
    if recipe.network.decoder:
        raise RecipeError(
            f"{recipe.name}: network.decoder makes photos again, but {recipe.network.backbone} "
            "hands on descriptors; a network that reconstructs needs layers of its own"
        )


def _scored(trained: TrainingResult, parts: DatasetSplits, descriptors: Descriptors) -> Scored:
    features, probabilities = {}, {}
    for part in PARTS:
        rows = getattr(parts, part)
        features[part], shares = run_network(trained.net, descriptors, rows)
        if shares is not None:
            probabilities[part] = shares
    return Scored(features, probabilities or None)


def _parameters(encoder: OnnxEncoder, net: Net) -> Parameters:
    """Count the numbers of the encoder's network, which do not learn, and those of the layers."""
    import onnx

    graph = onnx.load(os.fspath(encoder.spec.model), load_external_data=False).graph
    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    fixed = sum(int(np.prod(one.dims)) for one in graph.initializer if one.data_type in kinds)
    statistics = sum(one.numel() for one in net.buffers() if one.is_floating_point())
    learning = sum(one.numel() for one in net.parameters())
    return Parameters(fixed + statistics + learning, learning)


class _Head(nn.Module):  # type: ignore[misc]
    """What is exported: descriptors → features, and logits where there are scores."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, descriptors: Tensor) -> tuple[Tensor, ...]:
        """(N, D) → (N, d), and with scores also (N, C)."""
        outputs = self.net(descriptors)
        # What comes in cannot also be what comes out, as it would be without layers before the cut.
        features = outputs.features * 1
        if outputs.scores is None:
            return (features,)
        return features, to_logits(outputs.scores, probabilities=self.net.gives_probabilities)


def _export(encoder: OnnxEncoder, net: Net, folder: Path) -> float:
    """Write the encoder with the layers behind it; return how far it is from the trained layers."""
    outputs = [DESCRIPTOR, LOGITS] if net.has_scores else [DESCRIPTOR]
    rng = np.random.default_rng(0)
    sides = [(192, 256), (256, 192), (224, 224)]
    noise = [rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    prepared = [encoder.prepare(photo) for photo in noise]
    sample = torch.from_numpy(encoder.encode(prepared))
    save_weights(net, folder / "model.safetensors")
    with tempfile.TemporaryDirectory() as elsewhere:
        head = Path(elsewhere) / "head.onnx"
        difference = export_graph(_Head(net).eval(), sample, head, "descriptors", outputs)
        write_composed(encoder.spec, head, outputs, folder / RUN_MODEL)
    whole = load_encoder(str(folder / RUN_MODEL))
    with torch.no_grad():
        wanted = [one.numpy() for one in _Head(net)(sample)]
    given = [whole.encode(prepared)]
    wanted[0] = unit(wanted[0])
    if net.has_scores:
        given.append(whole.class_scores(prepared, LOGITS))
    for one, other in zip(wanted, given, strict=True):
        difference = max(difference, float(np.abs(one - other).max() / np.abs(one).max()))
    if not difference <= AGREEMENT:
        raise LearnError(
            f"{RUN_MODEL}: the encoder with the layers behind it gives other numbers than both "
            f"one after the other: they differ by {difference:.1e} of the largest, "
            f"{AGREEMENT:g} is allowed"
        )
    return difference
