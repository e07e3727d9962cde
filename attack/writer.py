"""Take photos of a collection away and bring them back, and update its index each time."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

from veduta.cli.main import run


def main() -> None:
    index, away = map(Path, sys.argv[1:3])
    places = [(Path(name), away / Path(name).name) for name in sys.argv[3:]]
    # Back in the order in which the searcher knows the versions.
    steps = [*reversed(places), *places]
    for file, place in itertools.cycle(steps):
        shutil.move(*((place, file) if place.exists() else (file, place)))
        if code := run(["index", "--index", str(index)]):
            sys.exit(code)


if __name__ == "__main__":
    main()
