"""What a trained network predicts for photos, and how good its predictions are.

The class of a photo comes from the scores of the network. A network without scores (embeddings,
autoencoders) gives the class of the training photo with the nearest features, as a search does.
All networks are also evaluated by retrieval, so that they can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.pooling import unit
from veduta.evaluation.classification import classification_figures
from veduta.evaluation.metrics import judge, top_k_accuracy
from veduta.learn.training.figures import ClassificationFigures, RetrievalFigures

if TYPE_CHECKING:
    from torch import Tensor

    from veduta.learn.data.examples import Examples
    from veduta.learn.models.networks import Net, Outputs

__all__ = [
    "BATCH_SIZE",
    "Predictions",
    "evaluate_predictions",
    "evaluate_retrieval",
    "predict_by_nearest",
    "predict_by_scores",
    "reconstruction_error",
    "run_network",
    "to_logits",
]

BATCH_SIZE = 64
QUERIES_PER_BLOCK = 256
"""The similarities of this many queries to the gallery are in memory at a time."""

MIN_PROBABILITY = 1e-30
"""Smaller probabilities are not distinguished in float32."""

MIN_DISTANCE_FROM_ONE = 1e-6
"""Probabilities nearer to one are not distinguished in float32."""

ClassIds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predicted classes of n photos.

    Attributes:
        class_ids: (n,) int64.
        confidence: (n,) float64, the probability of the class, or the cosine to the nearest
            training photo.
        probabilities: (n, C) float64, rows with the sum one; None without scores.
    """

    class_ids: ClassIds
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None


def to_logits(scores: Tensor, *, probabilities: bool) -> Tensor:
    """Return the scores of any network as logits, with one column for each class.

    Args:
        scores: (N, C), or (N, 1) for two classes; see `veduta.learn.models.networks.Outputs`.
        probabilities: the scores are probabilities, not logits.

    Returns:
        (N, C), or (N, 2) for one column; a softmax over the columns gives the probabilities. These
        are logarithms of probabilities, or the log-odds beside a zero for one column.
    """
    import torch

    if scores.shape[1] > 1:
        return torch.log(scores.clamp(min=MIN_PROBABILITY)) if probabilities else scores
    if probabilities:
        clipped = scores.clamp(min=MIN_DISTANCE_FROM_ONE, max=1 - MIN_DISTANCE_FROM_ONE)
        scores = torch.log(clipped) - torch.log1p(-clipped)
    return torch.cat([torch.zeros_like(scores), scores], dim=1)


def run_network(
    net: Net, examples: Examples, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Return the outputs of a network for some examples.

    Args:
        net: the network. It runs in eval mode on its device, and its mode is restored.
        examples: the examples.
        rows: (n,), which examples.

    Returns:
        Features (n, D) float32, and probabilities (n, C) float64, rows with the sum one; None for a
        network without scores.
    """
    import torch

    features, probabilities = [], []
    for _, outputs in _batches(net, examples, rows):
        features.append(outputs.features.float().cpu().numpy())
        if outputs.scores is not None:
            logits = to_logits(outputs.scores.float(), probabilities=net.gives_probabilities)
            probabilities.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    if not features:
        none = np.empty((0, net.feature_size), np.float32)
        return none, np.empty((0, net.classes)) if net.has_scores else None
    return np.concatenate(features), np.concatenate(probabilities) if probabilities else None


def reconstruction_error(net: Net, examples: Examples, rows: NDArray[np.intp]) -> float | None:
    """Return the mean squared error of reconstructed pixels in [0, 1].

    Args:
        net: the network.
        examples: the examples.
        rows: (n,), which examples.

    Returns:
        The error; None without examples, or for a network that does not reconstruct.
    """
    total, pixels = 0.0, 0
    for photos, outputs in _batches(net, examples, rows):
        if outputs.reconstruction is None:
            return None
        targets = photos.to(outputs.reconstruction.device).float() / 255
        total += float((outputs.reconstruction.float() - targets).square().double().sum())
        pixels += targets.numel()
    return total / pixels if pixels else None


def _batches(
    net: Net, examples: Examples, rows: NDArray[np.intp]
) -> Iterator[tuple[Tensor, Outputs]]:
    """Yield batches of examples with the outputs of the network."""
    import torch

    device = next(iter(net.parameters())).device
    was_training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), BATCH_SIZE):
                batch = examples.batch(rows[start : start + BATCH_SIZE])
                yield batch, net(examples.network_input(batch.to(device)))
    finally:
        net.train(was_training)


def predict_by_scores(probabilities: NDArray[np.float64]) -> Predictions:
    """Predict the most probable class of each row of (n, C)."""
    class_ids = probabilities.argmax(axis=1).astype(np.int64)
    confidence = probabilities[np.arange(len(class_ids)), class_ids]
    return Predictions(class_ids, confidence, probabilities)


def predict_by_nearest(
    features: NDArray[np.float32], gallery: NDArray[np.float32], gallery_class_ids: ClassIds
) -> Predictions:
    """Predict the class of the nearest gallery photo by cosine, the first of equally near ones.

    Args:
        features: (n, D).
        gallery: (m, D), at least one row.
        gallery_class_ids: (m,).
    """
    nearest, cosine = np.empty(len(features), np.int64), np.empty(len(features))
    for block, similarities in _similarities(features, gallery):
        nearest[block] = similarities.argmax(axis=1)
        cosine[block] = similarities.max(axis=1)
    return Predictions(gallery_class_ids[nearest], cosine)


def evaluate_predictions(
    predictions: Predictions,
    class_ids: ClassIds,
    class_names: Sequence[str],
    reconstruction: float | None = None,
) -> ClassificationFigures:
    """Compare predictions with the true classes.

    Args:
        predictions: the predictions for n photos.
        class_ids: (n,), the true classes, at least one.
        class_names: (C,).
        reconstruction: the reconstruction error, which the figures include.
    """
    figures = classification_figures(
        [class_names[one] for one in class_ids.tolist()],
        [class_names[one] for one in predictions.class_ids.tolist()],
    )
    top3 = top10 = loss = None
    if predictions.probabilities is not None:
        of_true_class = predictions.probabilities[np.arange(len(class_ids)), class_ids]
        loss = float(-np.log(np.maximum(of_true_class, MIN_PROBABILITY)).mean())
        top3, top10 = (_top_k(predictions.probabilities, class_ids, k) for k in (3, 10))
    return ClassificationFigures(
        len(class_ids),
        figures.accuracy,
        figures.balanced_accuracy,
        top3,
        top10,
        loss,
        reconstruction,
    )


def _top_k(probabilities: NDArray[np.float64], class_ids: ClassIds, k: int) -> float | None:
    """Return the share of photos whose class is in the top k; None with at most k classes."""
    if probabilities.shape[1] <= k:
        return None
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((top == class_ids[:, None]).any(axis=1).mean())


def evaluate_retrieval(
    queries: NDArray[np.float32],
    query_class_ids: ClassIds,
    gallery: NDArray[np.float32],
    gallery_class_ids: ClassIds,
) -> RetrievalFigures | None:
    """Search for gallery photos of the class of each query, by the cosine of the features.

    Args:
        queries: (n, D).
        query_class_ids: (n,).
        gallery: (m, D).
        gallery_class_ids: (m,).

    Returns:
        The figures; None if no query has a photo of its class in the gallery.
    """
    results = []
    for block, similarities in _similarities(queries, gallery):
        for class_id, scores in zip(query_class_ids[block].tolist(), similarities, strict=True):
            results.append(judge("", None, scores, gallery_class_ids == class_id, keep=0))
    answerable = [result for result in results if result.positives]
    if not answerable:
        return None
    top1, top3, top5, top10 = (top_k_accuracy(answerable, k) for k in (1, 3, 5, 10))
    mean = math.fsum(result.ap for result in answerable) / len(answerable)
    return RetrievalFigures(
        len(answerable), len(results) - len(answerable), len(gallery), top1, top3, top10, mean, top5
    )


def _similarities(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield blocks of queries with their cosines to the whole gallery."""
    if not len(queries) or not len(gallery):
        return
    normalised = unit(gallery)
    for start in range(0, len(queries), QUERIES_PER_BLOCK):
        block = slice(start, start + QUERIES_PER_BLOCK)
        yield block, unit(queries[block]) @ normalised.T
