"""The folder of a run. All files appear together, when the run is complete.

recipe.toml                     the recipe
model.onnx, model.json          the encoder: `veduta index --encoder RUN`
model.safetensors               the weights
encoder.safetensors, decoder.safetensors, decoder.onnx      if the network reconstructs photos
recognizer/                     `veduta recognize --model RUN`; if the network names classes
card.json, card.md              recipe, photos, machine and figures
history.csv, accuracy.png, loss.png                         epoch by epoch
answers.csv, classification.txt, confusion.csv, confusion.png        photo by photo
reconstructions/, reconstructions.png, samples.png
                                of an autoencoder; written while it trains
submission.csv, solution.csv    the answers in the format of Google Landmarks: `veduta score`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import load_encoder
from veduta.encoders.sources import RUN_MODEL
from veduta.evaluation.classification import classification_figures
from veduta.files import atomic_files, write_text
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.runs.card import CARD_FILE, Card, Parameters
from veduta.learn.runs.card_text import card_markdown
from veduta.learn.runs.history import HISTORY_FILE, write_curves, write_history
from veduta.learn.runs.landmark_files import gap_of_answers, write_landmark_files
from veduta.learn.runs.prediction_files import (
    ANSWERS_FILE,
    PhotoAnswer,
    classification_text,
    write_answers,
    write_confusion,
)
from veduta.learn.runs.provenance import hardware, package_versions
from veduta.learn.runs.starting_run import StartingRun, licence_of_start, start_record
from veduta.learn.training import scoring
from veduta.learn.training.checkpoint import remove_checkpoint
from veduta.learn.training.figures import ClassificationFigures
from veduta.learn.training.schedule import monitored
from veduta.learn.training.scoring import Predictions
from veduta.recognize.confidence import Confidence
from veduta.recognize.model import IN_A_RUN, Model
from veduta.recognize.network_scores import fit_confidence, log_odds

if TYPE_CHECKING:
    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.loop import TrainingResult

__all__ = ["SplitOutputs", "run_on_splits", "write_run_folder"]

_SPLITS = ("train", "val", "test", "unknown")


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutputs:
    """The outputs of a network for the photos of "train", "val", "test" and "unknown".

    Attributes:
        features: of each split (n, D) float32, in the order of its rows.
        probabilities: of each split (n, C) float64. None if the network has no scores.
        reconstruction: of each split the mean squared error of the pixels. Empty if the network
            does not reconstruct photos.
    """

    features: Mapping[str, NDArray[np.float32]]
    probabilities: Mapping[str, NDArray[np.float64]] | None
    reconstruction: Mapping[str, float | None] = field(default_factory=dict)


def run_on_splits(net: Net, splits: DatasetSplits, examples: Examples) -> SplitOutputs:
    """Return the outputs of a network for the photos of all splits.

    Args:
        net: the network. It runs on its device, in eval mode.
        splits: which photos are in which split.
        examples: row by row the photos of `splits`.
    """
    features, probabilities, reconstruction = {}, {}, {}
    for split in _SPLITS:
        rows = getattr(splits, split)
        features[split], of_classes = scoring.run_network(net, examples, rows)
        if of_classes is not None:
            probabilities[split] = of_classes
        if net.decoder is not None and split != "unknown":
            reconstruction[split] = scoring.reconstruction_error(net, examples, rows)
    return SplitOutputs(features, probabilities or None, reconstruction)


def write_run_folder(
    folder: Path,
    recipe: Recipe,
    splits: DatasetSplits,
    trained: TrainingResult,
    outputs: SplitOutputs,
    parameters: Parameters,
    export_network: Callable[[Path], float],
    *,
    command: str,
    start_run: StartingRun | None = None,
) -> Card:
    """Write all files of a run, and then remove its checkpoint.

    Args:
        folder: of the run.
        recipe: that was trained.
        splits: the photos, without unreadable ones.
        trained: the network and the history of its training.
        outputs: the outputs of the network for the photos.
        parameters: numbers of weights.
        export_network: writes `model.onnx` and `model.json` into the folder that it is given, and
            returns the largest difference to the trained network. The model has an output "logits"
            (N, C) if `outputs` has probabilities.
        command: the command line of the run, for its card.
        start_run: the run that it goes on from.

    Returns:
        The card of the run.

    Raises:
        LearnError: the network cannot be exported.
        OSError: the folder cannot be written to.
    """
    confidence = _fit_confidence(splits, outputs)
    predictions = _predictions(splits, outputs, confidence)
    answers: dict[str, list[PhotoAnswer]] = {
        split: _photo_answers(splits, predictions, split)
        for split in ("val", "test")
        if split in predictions
    }
    judged = next((split for split in ("test", "val") if split in answers), "")
    best_figure, _ = monitored(trained.history, recipe.training, "best")
    figures = {
        split: _figures(splits, outputs, predictions[split], found, split)
        for split, found in answers.items()
    }
    with atomic_files(folder, last=CARD_FILE) as draft:
        onnx_difference = export_network(draft)
        if confidence is not None:
            _write_recognizer(draft, splits, confidence)
        card = Card(
            recipe=recipe.name,
            values=recipe.as_json(),
            recipe_digest=recipe.digest(),
            dataset=splits.root.resolve().name,
            dataset_digest=splits.digest,
            photos={split: len(getattr(splits, split)) for split in _SPLITS},
            classes=splits.class_names,
            held_out=splits.held_out,
            seed=recipe.training.seed,
            answers="scores" if outputs.probabilities is not None else "nearest training photo",
            judged=judged,
            val=figures.get("val"),
            test=figures.get("test"),
            retrieval=scoring.evaluate_retrieval(
                outputs.features["test"],
                splits.class_ids[splits.test],
                outputs.features["train"],
                splits.class_ids[splits.train],
            ),
            features=int(outputs.features["train"].shape[1]),
            parameters=parameters,
            epochs=len(trained.history),
            best_epoch=trained.best_epoch,
            seconds=trained.seconds,
            stopped=trained.stop_reason,
            onnx_difference=onnx_difference,
            versions=package_versions(),
            hardware=hardware(trained.device),
            licence=licence_of_start(recipe, start_run),
            confidence_questions=confidence.examples if confidence is not None else 0,
            problems=splits.problems,
            command=command,
            generated=datetime.now(UTC).isoformat(timespec="seconds"),
            epoch_chosen_by=_chosen_by(best_figure, splits),
            best_figure=best_figure,
            start=start_record(trained.net.first_weights, recipe, start_run),
        )
        write_history(trained.history, draft / HISTORY_FILE)
        write_curves(
            trained.history, trained.best_epoch, recipe.name, draft, test=splits.test_chooses
        )
        if judged:
            _write_answers(draft, answers[judged], judged)
        write_text(draft / "card.md", card_markdown(card))
        write_text(draft / CARD_FILE, json.dumps(card.as_json(), indent=1) + "\n")
    remove_checkpoint(folder)
    return card


def _chosen_by(best_figure: str, splits: DatasetSplits) -> str:
    """Return the split whose photos chose the epoch."""
    if best_figure.startswith("train_"):
        return "train"
    return "test" if splits.test_chooses else "val"


def _fit_confidence(splits: DatasetSplits, outputs: SplitOutputs) -> Confidence | None:
    """Fit the confidence to the photos that chose the epoch; None without scores."""
    if outputs.probabilities is None:
        return None
    # Without photos that choose, the validation photos are empty, and nothing is fitted.
    split = "test" if splits.test_chooses else "val"
    return fit_confidence(_logits(outputs.probabilities[split]), splits.class_ids[splits.choosing])


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of probabilities, which are logits too."""
    return np.log(np.maximum(probabilities, 1e-300))


def _predictions(
    splits: DatasetSplits, outputs: SplitOutputs, confidence: Confidence | None
) -> dict[str, Predictions]:
    """Return the predictions for the photos of "val", "test" and "unknown", if there are any."""
    predictions = {}
    for split in ("val", "test", "unknown"):
        if not len(getattr(splits, split)):
            continue
        if outputs.probabilities is not None and confidence is not None:
            found = scoring.predict_by_scores(outputs.probabilities[split])
            evidence = log_odds(_logits(outputs.probabilities[split])).max(axis=1)
            calibrated = confidence.probabilities(evidence[:, None])
            predictions[split] = replace(found, confidence=calibrated)
        else:
            predictions[split] = scoring.predict_by_nearest(
                outputs.features[split],
                outputs.features["train"],
                splits.class_ids[splits.train],
            )
    return predictions


def _photo_answers(
    splits: DatasetSplits, predictions: Mapping[str, Predictions], split: str
) -> list[PhotoAnswer]:
    """Return the answers to the photos of a split; the unknown photos belong to "test"."""
    answers = []
    for part in (split, "unknown") if split == "test" and "unknown" in predictions else (split,):
        rows: NDArray[np.intp] = getattr(splits, part)
        found = predictions[part]
        for row, answer, confidence in zip(
            rows.tolist(), found.class_ids.tolist(), found.confidence.tolist(), strict=True
        ):
            label = None if part == "unknown" else splits.class_names[splits.class_ids[row]]
            answers.append(
                PhotoAnswer(splits.paths[row], label, splits.class_names[answer], confidence)
            )
    return answers


def _figures(
    splits: DatasetSplits,
    outputs: SplitOutputs,
    predictions: Predictions,
    answers: Sequence[PhotoAnswer],
    split: str,
) -> ClassificationFigures:
    figures = scoring.evaluate_predictions(
        predictions,
        splits.class_ids[getattr(splits, split)],
        splits.class_names,
        outputs.reconstruction.get(split),
    )
    return replace(
        figures,
        gap=gap_of_answers(answers),
        unknown=sum(one.label is None for one in answers),
    )


def _write_recognizer(draft: Path, splits: DatasetSplits, confidence: Confidence) -> None:
    encoder = load_encoder(str(draft / RUN_MODEL))
    # Training and an index with keypoints decode photos at least as large as this.
    long_side = max(encoder.long_side, LONG_SIDE)
    Model(encoder, splits.class_names, None, confidence, long_side).save(draft / IN_A_RUN)


def _write_answers(draft: Path, answers: Sequence[PhotoAnswer], split: str) -> None:
    write_answers(draft / ANSWERS_FILE, answers)
    write_landmark_files(draft, answers)
    judged = [(one.label, one.answer) for one in answers if one.label is not None]
    figures = classification_figures(
        [label for label, _ in judged], [answer for _, answer in judged]
    )
    split_name = {"test": "test", "val": "validation"}[split]
    write_text(draft / "classification.txt", classification_text(figures, split_name))
    write_confusion(figures, split_name, draft)
