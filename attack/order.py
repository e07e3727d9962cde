"""The same photos, indexed in other orders and batches, with removals and names that change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from attack.case import Attack, Case
from attack.commands import succeeds
from attack.material import answers, collection, prepared, require_same

PHOTOS = 24
QUERIES_EVERY = 5
MAX_BATCHES = 5


def prepare(shared: Path) -> None:
    case = prepared(shared)
    files = collection(shared / "photos", PHOTOS)
    shutil.copy(files[0], files[0].with_name("copy.jpg"))
    index = shared / "index"
    succeeds(case, "index", shared / "photos", "--index", index, "--labels", "folders")
    expected = answers(case, index, queries_of(shared), shared / "photos")
    (shared / "answers.json").write_text(json.dumps(expected))


def queries_of(shared: Path) -> list[Path]:
    """Return the photos that are searched."""
    return sorted((shared / "photos").rglob("*.jpg"))[::QUERIES_EVERY]


def run(case: Case) -> None:
    photos, index = case.folder / "photos", case.folder / "index"
    shutil.copytree(case.shared / "photos", photos)
    files = sorted(photos.rglob("*.jpg"))
    case.rng.shuffle(files)
    batches = case.rng.randint(1, MAX_BATCHES)
    case.note(f"{batches} batches of {[str(file.relative_to(photos)) for file in files]}")
    cuts = sorted(case.rng.sample(range(1, len(files)), batches - 1))
    for start, end in zip([0, *cuts], [*cuts, len(files)], strict=True):
        succeeds(case, "index", *files[start:end], "--index", index)
    for _ in range(case.rng.randint(0, 2)):
        disturb(case, photos, index)
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    if case.rng.random() < 0.5:
        moved = case.folder / "copied"
        shutil.copytree(index, moved)
        index = moved
    found = answers(case, index, queries_of(case.shared), photos)
    expected = json.loads((case.shared / "answers.json").read_text())
    case.kind = f"{batches} batches"
    case.outcome = "the same answers"
    require_same(expected, found, "in another order")


def disturb(case: Case, photos: Path, index: Path) -> None:
    """Take photos away or rename them, update the index, and put them back."""
    files = case.rng.sample(sorted(photos.rglob("*.jpg")), 4)
    away = case.folder / "away"
    away.mkdir(exist_ok=True)
    places = {}
    for number, file in enumerate(files):
        renamed = case.rng.random() < 0.5
        place = file.with_name(f"other-{number}.jpg") if renamed else away / f"{number}.jpg"
        shutil.move(file, place)
        places[file] = place
    succeeds(case, "index", photos, "--index", index)
    for file, place in places.items():
        shutil.move(place, file)


ATTACK = Attack(
    inputs="the same photos indexed in other orders, in 1 to 5 batches, with photos that leave, "
    "come back and are renamed, and copied indexes",
    promise="the same hits with the same scores",
    run=run,
    cases=30,
    seconds=120,
    prepare=prepare,
)
