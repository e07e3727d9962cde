"""The one pass over photos: what it notes of each, and that rows stay with their photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import save

from veduta.curate.photo_scan import scan_photos
from veduta.photos import content_hash, load, perceptual_hash


def test_a_row_stays_with_its_photo_beside_broken_ones(tmp_path: Path) -> None:
    names = []
    for number in range(600):  # more than are handed to the threads at a time
        names.append(f"{number:03}.png")
        if number % 7 == 3:
            (tmp_path / names[-1]).write_bytes(b"no photo")
        else:
            save(tmp_path / names[-1], number)
    scan = scan_photos(names, root=tmp_path, fingerprints=True)
    assert [position for position, _ in scan.unreadable] == list(range(3, 600, 7))
    assert scan.positions.tolist() == [number for number in range(600) if number % 7 != 3]
    files = [tmp_path / names[position] for position in scan.positions]
    assert scan.sizes.tolist() == [file.stat().st_size for file in files]
    assert [scan.row(position) for position in scan.positions] == list(range(len(files)))
    assert not scan.faults
    for row in (0, 3, 511, len(files) - 1):
        assert scan.digests[row].tobytes() == content_hash(files[row].read_bytes())
        assert scan.hashes[row] == perceptual_hash(load(files[row]).pixels)


def test_the_pass_computes_only_what_is_wanted(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    plain = scan_photos([tmp_path / "a.png", tmp_path / "b.jpg"])
    assert not len(plain.hashes) and not plain.colour_modes and plain.faults == ()
    assert [position for position, _ in plain.unreadable] == [1]
    judged = scan_photos(["a.png", "b.jpg"], root=tmp_path, faults=True)
    assert [(fault.position, fault.kind) for fault in judged.faults if fault.position == 1] == [
        (1, "not-a-photo")
    ]
    assert np.array_equal(judged.digests, plain.digests)
