"""`veduta score`: score a Google Landmarks submission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, say
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.google_landmarks import LandmarkRecognition, LandmarkRetrieval

# A copy from veduta.datasets.google_landmarks, which is too slow to load for `--help`. A test keeps
# the two equal.
USAGES = ("Public", "Private", "all")


@click.command("score")
@click.argument("submission", type=click.Path(path_type=Path))
@click.argument("solution", type=click.Path(path_type=Path))
@click.option(
    "--usage",
    type=click.Choice(USAGES, case_sensitive=False),
    default="all",
    show_default=True,
    help="Which queries count; those marked Ignored never do.",
)
@json_option
def command(submission: Path, solution: Path, usage: str, as_json: bool) -> None:
    """Score SUBMISSION against SOLUTION as the Google Landmarks competitions do.

    \b
    id,images      retrieval: photo ids, best first, by mAP@100
    id,landmarks   recognition: "landmark confidence" or nothing, by GAP

    SOLUTION has a third column, Usage. Which task it is follows from the columns. A run of `veduta
    train` has both files, submission.csv and solution.csv.
    """
    from veduta.datasets import google_landmarks as files
    from veduta.errors import DatasetError, readable
    from veduta.evaluation.google_landmarks import landmark_recognition, landmark_retrieval

    tasks = [files.landmark_task(file) for file in (submission, solution)]
    if tasks[0] != tasks[1]:
        raise DatasetError(
            f"{readable(submission)} is of {tasks[0]}, but {readable(solution)} is of {tasks[1]}; "
            "name a submission and a solution of one task"
        )
    if files.is_solution(submission):
        raise DatasetError(
            f"{readable(submission)} has a column Usage, as solutions have: name the submission "
            "first, the solution second"
        )
    summary: dict[str, Any] = {"task": tasks[0], "usage": usage}
    lines: list[str]
    if tasks[0] == "retrieval":
        photos = files.read_retrieval_solution(solution, usage)
        listed = files.read_retrieval_submission(submission, photos)
        retrieval = landmark_retrieval(listed, photos.answers, ignored=photos.ignored)
        cut = sum(len(row) > files.MAX_SCORED_PHOTOS for row in listed.values())
        summary |= {**retrieval.as_json(), "rows_cut": cut, "ignored": len(photos.ignored)}
        lines = _retrieval(retrieval, cut)
    else:
        landmarks = files.read_recognition_solution(solution, usage)
        named = files.read_recognition_submission(submission, landmarks)
        recognition = landmark_recognition(named, landmarks.answers, ignored=landmarks.ignored)
        summary |= {**recognition.as_json(), "ignored": len(landmarks.ignored)}
        lines = _recognition(recognition)
    if as_json:
        print_json(summary)
        return
    for line in lines:
        say(line)
    if summary["ignored"]:
        say(f"  {summary['ignored']:,} more in the solution are not scored")


def _retrieval(score: LandmarkRetrieval, cut: int) -> list[str]:
    lines = [
        f"retrieval, queries: {score.queries:,}",
        _figure("mAP@100", score.map100, score.map100_interval),
    ]
    if score.missing:
        lines.append(f"  {score.missing:,} of them not answered, each scores 0")
    if cut:
        lines.append(f"  {count(cut, 'row')} with more than 100 photos, the first 100 count")
    if score.queries_without_positives:
        lines.append(f"  {score.queries_without_positives:,} more without a right photo, left out")
    return lines


def _recognition(score: LandmarkRecognition) -> list[str]:
    without = score.queries - score.with_landmark
    return [
        f"recognition, queries: {score.with_landmark:,} with a landmark, {without:,} without",
        _figure("GAP", score.gap, score.gap_interval),
        f"  named right  {score.accuracy:.5f} of those with a landmark",
        f"  {score.predicted:,} queries answered",
    ]


def _figure(name: str, value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"  {name:8} {value:.5f}   95 % [{low:.5f}, {high:.5f}]"
