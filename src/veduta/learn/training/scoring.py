"""What a trained network makes of the photos, and what that is worth.

Classification goes by the network's scores. Networks without any (embeddings, autoencoders) are
asked as a search is: the answer for a photo is the class of the training photo whose features are
nearest. All of them are also judged by retrieval, so that they can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.pooling import unit
from veduta.evaluation.classification import classification_figures
from veduta.evaluation.metrics import judge, top_k_accuracy
from veduta.learn.training.figures import ClassificationFigures, RetrievalFigures

if TYPE_CHECKING:
    from veduta.learn.data.examples import Examples

__all__ = [
    "BATCH",
    "Predictions",
    "evaluate_predictions",
    "evaluate_retrieval",
    "predict_by_nearest",
    "predict_by_scores",
    "reconstruction_error",
    "run_network",
    "to_logits",
]

BATCH = 64
_QUERIES = 256  # whose similarities to the gallery are in memory at a time
_LEAST = 1e-30  # probability under which float32 no longer tells apart
_SURE = 1e-6  # distance from 1 under which float32 no longer does

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What n photos were taken for.

    `class_ids`: (n,) int64. `confidence`: (n,), the probability of the class, or the cosine to the
    nearest training photo. `probabilities`: (n, C) float64, rows of sum one; None without scores.
    """

    class_ids: Codes
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None


def to_logits(scores: Any, *, probabilities: bool) -> Any:
    """Bring scores of any network to logits with one column a class.

    Args:
        scores: tensor (N, C) or (N, 1), see `networks.Outputs`. One column is
            the second of two classes.
        probabilities: the scores are such, and not logits.

    Returns:
        (N, C), for one column (N, 2): softmax over the columns gives the probabilities. Of
        probabilities it is the logarithm, of one column the log-odds beside a zero.
    """
    import torch

    if scores.shape[1] > 1:
        return torch.log(scores.clamp(min=_LEAST)) if probabilities else scores
    if probabilities:
        sure = scores.clamp(min=_SURE, max=1 - _SURE)
        scores = torch.log(sure) - torch.log1p(-sure)
    return torch.cat([torch.zeros_like(scores), scores], dim=1)


def run_network(
    net: Any, examples: Examples, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Return what a network gives for photos.

    Args:
        net: `networks.Net`, in whichever mode; asked in eval mode, on its device.
        examples: what it is asked about.
        rows: (n,) of them.

    Returns:
        features (n, D) float32, and probabilities (n, C) float64 with rows of sum one; None for a
        network without scores.
    """
    import torch

    features, probabilities = [], []
    for _, outputs in _asked(net, examples, rows):
        features.append(outputs.features.float().cpu().numpy())
        if outputs.scores is not None:
            logits = to_logits(outputs.scores.float(), probabilities=net.gives_probabilities)
            probabilities.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    found = np.concatenate(features) if features else np.empty((0, net.feature_size), np.float32)
    if probabilities:
        return found, np.concatenate(probabilities)
    return found, np.empty((0, net.classes)) if net.has_scores and not len(rows) else None


def reconstruction_error(net: Any, examples: Examples, rows: NDArray[np.intp]) -> float | None:
    """Return the mean squared error of the pixels, in [0, 1], of photos made again.

    None of a network that does not reconstruct, and without photos. Arguments as `run_network`.
    """
    total, pixels = 0.0, 0
    for photos, outputs in _asked(net, examples, rows):
        if outputs.reconstruction is None:
            return None
        wanted = photos.to(outputs.reconstruction.device).float() / 255
        total += float((outputs.reconstruction.float() - wanted).square().double().sum())
        pixels += wanted.numel()
    return total / pixels if pixels else None


def _asked(net: Any, examples: Examples, rows: NDArray[np.intp]) -> Iterator[tuple[Any, Any]]:
    """Yield (examples, outputs) of a batch at a time."""
    import torch

    device = next(iter(net.parameters())).device
    learning = net.training
    net.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), BATCH):
                batch = examples.batch(rows[start : start + BATCH])
                yield batch, net(examples.network_input(batch.to(device)))
    finally:
        net.train(learning)


def predict_by_scores(probabilities: NDArray[np.float64]) -> Predictions:
    """Answer with the likeliest class of each row of (n, C)."""
    codes = probabilities.argmax(axis=1).astype(np.int64)
    return Predictions(codes, probabilities[np.arange(len(codes)), codes], probabilities)


def predict_by_nearest(
    features: NDArray[np.float32], known: NDArray[np.float32], codes: Codes
) -> Predictions:
    """Answer with the class of the nearest known photo by cosine; of equally near ones the first.

    `features`: (n, D). `known`: (m, D) with m of 1 or more, `codes` (m,) their classes.
    """
    nearest, cosine = np.empty(len(features), np.int64), np.empty(len(features))
    for part, similar in _similarities(features, known):
        nearest[part] = similar.argmax(axis=1)
        cosine[part] = similar.max(axis=1)
    return Predictions(codes[nearest], cosine)


def evaluate_predictions(
    answers: Predictions, codes: Codes, names: Sequence[str], reconstruction: float | None = None
) -> ClassificationFigures:
    """Return how n photos were answered; `codes` (n,) are their classes, n of 1 or more."""
    judged = classification_figures(
        [names[code] for code in codes.tolist()],
        [names[code] for code in answers.class_ids.tolist()],
    )
    top3 = top10 = loss = None
    if answers.probabilities is not None:
        of_class = answers.probabilities[np.arange(len(codes)), codes]
        loss = float(-np.log(np.maximum(of_class, _LEAST)).mean())
        top3, top10 = (_within(answers.probabilities, codes, k) for k in (3, 10))
    return ClassificationFigures(
        len(codes), judged.accuracy, judged.balanced_accuracy, top3, top10, loss, reconstruction
    )


def _within(probabilities: NDArray[np.float64], codes: Codes, k: int) -> float | None:
    """Share of the photos whose class is among the k likeliest; None where all classes are."""
    if probabilities.shape[1] <= k:
        return None
    likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((likely == codes[:, None]).any(axis=1).mean())


def evaluate_retrieval(
    queries: NDArray[np.float32],
    query_class_ids: Codes,
    gallery: NDArray[np.float32],
    gallery_class_ids: Codes,
) -> RetrievalFigures | None:
    """Look for photos of a class among others, by the cosine of their features.

    `queries`: (n, D), `gallery`: (m, D), with their classes (n,) and (m,). None where no query has
    a photo of its class in the gallery.
    """
    results = []
    for part, similar in _similarities(queries, gallery):
        for code, scores in zip(query_class_ids[part].tolist(), similar, strict=True):
            results.append(judge("", None, scores, gallery_class_ids == code, keep=0))
    answerable = [result for result in results if result.positives]
    if not answerable:
        return None
    top1, top3, top10 = (top_k_accuracy(answerable, k) for k in (1, 3, 10))
    mean = math.fsum(result.ap for result in answerable) / len(answerable)
    return RetrievalFigures(
        len(answerable), len(results) - len(answerable), len(gallery), top1, top3, top10, mean
    )


def _similarities(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield which queries, and their cosines to the whole gallery."""
    if not len(queries) or not len(gallery):
        return
    known = unit(gallery)
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        yield part, unit(queries[part]) @ known.T
