"""A run explained without torch: its exported model is asked about changed copies of the photo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.encoders import load_encoder
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import QueryError, readable
from veduta.explanation.model_maps import explain_model
from veduta.explanation.pairs import explain_pair
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.runs.card import read_card
from veduta.processor_cores import processor_cores
from veduta.recognize.model import open_model

if TYPE_CHECKING:
    from veduta.explanation.explanation import Explanation
    from veduta.search import PhotoSource

__all__ = ["explain_class_by_changes", "explain_embedding_by_changes", "no_classes"]


def explain_class_by_changes(
    run: Path,
    photo: PhotoSource,
    class_name: str | None,
    method: str,
    *,
    name: str | None = None,
) -> Explanation:
    """Explain the score that a run gives a class, by "occlusion" or "rise".

    Args:
        run: the folder of the run.
        photo: a path, or (h, w, 3) uint8 RGB, upright.
        class_name: the class; None: the one with the highest score.
        method: "occlusion" or "rise".
        name: of the photo; None: its path.

    Raises:
        PhotoError: the photo cannot be read.
        LearnError: the run cannot be used.
        CollectionError: its recogniser is damaged.
        EncoderError: its exported model is damaged.
        QueryError: the run has no such class, or none at all.
    """
    if read_card(run).answers != "scores":
        raise no_classes(run)
    return explain_model(open_model(run), photo, class_name, method=method, name=name)


def explain_embedding_by_changes(
    run: Path,
    photo: PhotoSource,
    other: PhotoSource,
    method: str,
    *,
    name: str | None = None,
    other_name: str | None = None,
) -> Explanation:
    """Explain the similarity of two photos by the network of a run, by "occlusion" or "rise".

    Args:
        run: the folder of the run.
        photo: a path, or (h, w, 3) uint8 RGB, upright.
        other: the other photo.
        method: "occlusion" or "rise".
        name: of the photo; None: its path.
        other_name: of the other photo; None: its path.

    Raises:
        PhotoError: a photo cannot be read.
        LearnError: the run cannot be used.
        EncoderError: the exported model is damaged.
    """
    read_card(run)
    encoder = load_encoder(os.fspath(run / RUN_MODEL), threads=processor_cores())
    return explain_pair(
        encoder,
        photo,
        other,
        method=method,
        at_least=max(encoder.long_side, LONG_SIDE),
        name=name,
        other_name=other_name,
    )


def no_classes(run: Path) -> QueryError:
    """Return the error for a run whose network names no classes."""
    return QueryError(
        f"{readable(run)}: its network names no classes. It explains the similarity of two photos: "
        "name the other photo."
    )
