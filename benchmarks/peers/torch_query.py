"""One query in a fresh process, with PyTorch and a FAISS index that is read from a file.

python -m benchmarks.peers.torch_query SETTINGS INDEX PHOTO
"""

from __future__ import annotations

import json
import sys

import faiss

from benchmarks.peers.torch_faiss import Describer


def main() -> None:
    settings = json.loads(sys.argv[1])
    flat = faiss.read_index(sys.argv[2])
    describer = Describer(settings["networks"], settings["sizes"], settings["output"])
    scores, rows = flat.search(describer.describe([sys.argv[3]]), 10)
    for score, row in zip(scores[0], rows[0], strict=True):
        print(row, score)


if __name__ == "__main__":
    main()
