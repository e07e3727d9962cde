"""How faithful the maps of `veduta explain` are, and what they cost.

Similarities: queries of landmarks30 and same_place with a right hit that keypoints verify. Classes:
two networks trained on landmarks30 by `cls_split`, and photos of its test split. Three maps that
know nothing of the network are controls. Trained runs are kept in --work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.class_maps import TASKS, ExplainedRun
from benchmarks.explained_pairs import verified_pairs
from benchmarks.explanation_measures import (
    CHECKED_PHOTOS,
    CONTROLS,
    NOISE,
    STEPS,
    Measured,
    comparison_table,
    faithfulness_score,
    measure_controls,
    measure_method,
    measures_table,
)
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish
from benchmarks.similarity_maps import makers, makers_with_random_weights, networks
from veduta.encoders import load_encoder
from veduta.errors import QueryError
from veduta.explanation.methods import methods_for

SETS = ("landmarks30", "same_place")
PHOTOS = 6
SIDE = 384
"""Long side of the photos: that at which the default encoder runs."""

COMPARED = ("grad-cam", *CONTROLS)
SIMILARITY_DEFAULT = "shares"
CLASS_METHODS = [name for name in methods_for("class") if name != "shares"]
"""The shares of a network's class are what the method "cam" gives."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("explanations", __doc__)
    add_data_option(options)
    options.add_argument("--photos", type=int, default=PHOTOS, help="of each set or network")
    options.add_argument("--only", choices=("similarity", "classes"), help="one of the two parts")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, SETS)
    torch.manual_seed(0)
    if chosen.only != "classes":
        body = similarity_part(chosen.data, chosen.photos)
        publish("explanations", body, chosen.docs, section="explanations-similarity")
    if chosen.only != "similarity":
        body = classes_part(
            chosen.data / "landmarks30", chosen.work / "explanations", chosen.photos
        )
        publish("explanations", body, chosen.docs, section="explanations-classes")


def similarity_part(data: Path, number: int) -> str:
    encoder = load_encoder("accurate")
    trained, random = networks()
    parts = []
    together: dict[str, Measured] = {}
    for name in SETS:
        found: dict[str, Measured] = {}
        pairs = verified_pairs(data / name, encoder, SIDE, number)
        for count, pair in enumerate(pairs):
            print(f"{name} {count + 1} of {len(pairs)}", flush=True)
            checks = {}
            if count < CHECKED_PHOTOS:
                checks = makers_with_random_weights(encoder, random, pair)
            for method, make in makers(encoder, trained, pair).items():
                measure_method(
                    found.setdefault(method, Measured()),
                    make,
                    checks.get(method),
                    pair.query,
                    pair.scorer,
                    pair.shared,
                )
            measure_controls(found, pair.query, pair.scorer, pair.shared)
        shared = sum(float(pair.shared.mean()) for pair in pairs) / len(pairs)
        parts += [
            f"#### {name}",
            f"{len(pairs)} pairs. The verified region covers {100 * shared:.0f} % of a query.",
            measures_table(found),
            "Differences, photo by photo; positive is in favour of `shares`:",
            comparison_table(found, SIMILARITY_DEFAULT, COMPARED),
        ]
        for method, one in found.items():
            together.setdefault(method, Measured()).add(one)
    return "\n\n".join([*parts, best_sentence(together), HOW_TO_READ])


def classes_part(folder: Path, work: Path, number: int) -> str:
    parts = []
    for name in TASKS:
        explained = ExplainedRun.trained(name, folder, work)
        photos, seen = explained.test_photos(number)
        found: dict[str, Measured] = {}
        reasons: dict[str, str] = {}
        for count, pixels in enumerate(photos):
            print(f"{name} {count + 1} of {len(photos)}", flush=True)
            class_id = explained.likeliest(pixels)
            scorer = explained.scorer(class_id)
            for method in CLASS_METHODS:
                if method in reasons:
                    continue
                make = explained.maker(method, class_id)
                check = explained.random_maker(method, class_id)
                try:
                    measure_method(
                        found.setdefault(method, Measured()),
                        make,
                        check if count < CHECKED_PHOTOS else None,
                        pixels,
                        scorer,
                        None,
                    )
                except QueryError as error:  # This network has no such map.
                    reasons[method] = str(error)
                    del found[method]
            measure_controls(found, pixels, scorer, None)
        parts += [
            f"#### {name}",
            f"{explained.describe()} {len(photos)} test photos, each explained for the class with "
            f"the highest score. {seen} were looked at; those whose class stays without any pixel "
            "are left out. The score is the probability of the class.",
            measures_table(found),
            best_sentence(found),
            *(f"`{method}`: {reason}" for method, reason in reasons.items()),
        ]
    return "\n\n".join([*parts, HOW_TO_READ])


def best_sentence(found: dict[str, Measured]) -> str:
    methods = [name for name in found if name not in CONTROLS]
    best = sorted(methods, key=lambda name: -faithfulness_score(found[name]))
    listed = ", ".join(f"{name} ({faithfulness_score(found[name]):.3f})" for name in best)
    return f"By insertion minus deletion, mean of both fills, the order is: {listed}."


HOW_TO_READ = f"""Deletion: area under the score while the highest pixels are removed, lower is
better. Insertion: while they are shown, higher is better. 1 is the score of the whole photo, 0 that
of the photo without any pixel. The curves have {STEPS} steps. Removed pixels are blurred, or filled
from their neighbours (ROAD). *inside*: the region of the query that verified keypoints share with
the hit. *noise*: rank correlation with the map of the photo with noise (standard deviation
{NOISE:g} of 255). *random weights*: with the map of the same network before any training. A map
that stays the same, near 1, does not show what the network learned. Both are means over
{CHECKED_PHOTOS} photos. In brackets: 95 % bootstrap intervals over photos. *ms*: median time of a
map, with the runs of the network.""".replace("\n", " ")


if __name__ == "__main__":
    main()
