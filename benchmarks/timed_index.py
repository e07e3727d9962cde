"""Index a folder with the Veduta on `PYTHONPATH`, as users run it, and print how long it took.

    python -m benchmarks.timed_index FOLDER INDEX ENCODER

`ENCODER` may be "default". The last line of the output has the processor time and the wall time, in
seconds. A few of the photos are indexed before, so that imports do not count. This runs with older
versions too, so it uses nothing that they lack.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from veduta.encoders import DEFAULT, load_encoder
from veduta.index import create_index, update_index
from veduta.keypoints import load_extractor


def main() -> None:
    folder, index, name = sys.argv[1:]
    encoder = load_encoder(DEFAULT if name == "default" else name)
    extractor = load_extractor()
    for timed in (False, True):
        shutil.rmtree(index, ignore_errors=True)
        photos = sorted(Path(folder).iterdir())
        started = time.process_time(), time.perf_counter()
        create_index(Path(index), encoder, extractor)
        update_index(Path(index), [Path(folder)] if timed else photos[:8], encoder, extractor)
        seconds = time.process_time() - started[0], time.perf_counter() - started[1]
    print(*seconds)


if __name__ == "__main__":
    main()
