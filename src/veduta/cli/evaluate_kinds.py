"""Which kind of evaluation the arguments of `veduta evaluate` ask for, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

__all__ = [
    "METHODS",
    "OXFORD_OR_PARIS",
    "PUBLISHED_PROTOCOL",
    "RECOGNITION_METHODS",
    "check_options",
    "kind_of",
]

OXFORD_OR_PARIS = "a gnd_*.pkl of Oxford or Paris"
PUBLISHED_PROTOCOL = "a published protocol"

# These are copies from veduta.evaluation and veduta.recognize, which are too slow to load for
# `--help`. Tests keep them equal.
METHODS = ("sift", "orb", "surf", "xfeat", "vlad-xfeat")
RECOGNITION_METHODS = ("evidence", "knn", "inliers", "prototypes", "linear")

# The options that do not go with each kind of evaluation.
_GALLERY_OPTIONS = (
    "distance",
    "project",
    "rerank",
    "verify",
    "effort",
    "keypoints",
    "photos",
    "as_dict",
    "matrix",
    "html",
    "png",
    "rows",
    "show",
    "descriptors",
    "ranking",
    "protocol",
    "variant",
    "allow_missing",
    "without_distractors",
)
# Of datasets with labels.
_LABELLED_OPTIONS = (
    "task",
    "labels",
    "queries",
    "gallery",
    "distractors",
    "unknown",
    "exclude",
    "column",
    "project",
    "method",
    "precision",
    "matrix",
    "submission",
    "solution",
    "model",
)
_PAGE_OPTIONS = ("html", "maps", "png", "rows", "show")
# Of published protocols.
_PROTOCOL_OPTIONS = ("protocol", "variant", "allow_missing", "without_distractors")
_UNUSED_OPTIONS = {
    "retrieve": ("precision", "photos", "solution", *_PROTOCOL_OPTIONS),
    "retrieve with a keypoint method": (
        "maps",
        "encoder",
        "runtime",
        "distance",
        "project",
        "rerank",
        "verify",
        "effort",
        "keypoints",
        "orientation",
        "precision",
        "photos",
        "solution",
        "descriptors",
        "ranking",
        *_PROTOCOL_OPTIONS,
    ),
    "recognize": _GALLERY_OPTIONS,
    "recognize with --model": (
        *_GALLERY_OPTIONS,
        "maps",
        "queries",
        "gallery",
        "distractors",
        "encoder",
        "runtime",
        "method",
        "orientation",
        "k",
    ),
    OXFORD_OR_PARIS: (
        *_LABELLED_OPTIONS,
        *_PAGE_OPTIONS,
        "distance",
        "keypoints",
        "as_dict",
        "k",
        "protocol",
        "variant",
    ),
    PUBLISHED_PROTOCOL: (*_LABELLED_OPTIONS, *_PAGE_OPTIONS, "without_distractors"),
}

_GIVEN_ANSWERS = "answers from a file (--descriptors, --ranking)"
_UNUSED_WITH_GIVEN_ANSWERS = (
    "maps",
    "encoder",
    "runtime",
    "project",
    "rerank",
    "verify",
    "effort",
    "keypoints",
    "orientation",
    "method",
    "precision",
    "model",
    "matrix",
    "submission",
    "solution",
)


def kind_of(dataset: Path | None, options: Mapping[str, Any]) -> str:
    """Return the kind of evaluation, a key of the table of options.

    Args:
        dataset: the dataset, if one is named.
        options: of the command, by their names.

    Raises:
        UsageError: --model and --task contradict each other.
    """
    from veduta.datasets.protocols import find_protocol
    from veduta.datasets.revisited import protocol_file

    task: str = options["task"]
    method: str | None = options["method"]
    source = click.get_current_context().get_parameter_source("task")
    retrieves = task == "retrieve" and source is click.core.ParameterSource.COMMANDLINE
    if options["model"] is not None:
        if retrieves:
            raise click.UsageError(
                "--model names what photos show. To rank photos by the descriptors of a run, name "
                "it as --encoder."
            )
        return "recognize with --model"
    if options["protocol"] is not None:
        return PUBLISHED_PROTOCOL
    if dataset is not None and protocol_file(dataset) is not None:
        return OXFORD_OR_PARIS
    if task == "recognize":
        return task
    is_labelled = options["labels"] or options["queries"] or options["gallery"]
    if dataset is not None and not is_labelled and find_protocol(dataset) is not None:
        return PUBLISHED_PROTOCOL
    return "retrieve with a keypoint method" if method in METHODS else "retrieve"


def check_options(kind: str, method: str | None, *, given_answers: bool) -> None:
    """Refuse options that do not go with this kind of evaluation, even at their defaults.

    Args:
        kind: of `kind_of`.
        method: the value of --method.
        given_answers: whether the answers are those of a file.

    Raises:
        UsageError: an option does not go with it.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        if name in _UNUSED_OPTIONS[kind]:
            raise click.UsageError(f"{parameter.opts[0]} does not go with: {kind}.")
        if given_answers and name in _UNUSED_WITH_GIVEN_ANSWERS:
            raise click.UsageError(f"{parameter.opts[0]} does not go with: {_GIVEN_ANSWERS}.")
    fitting = RECOGNITION_METHODS if kind.startswith("recognize") else METHODS
    if method is not None and method not in fitting:
        raise click.UsageError(
            f"--method {method} does not go with: {kind}. Choose one of {', '.join(fitting)}."
        )
