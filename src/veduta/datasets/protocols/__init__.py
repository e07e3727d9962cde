"""Published protocols, read as they lie on disk.

Each module reads one protocol, or a few that are alike, and offers it as a `Protocol`. `PROTOCOLS`
lists them. `find_protocol` recognises the protocol of a folder by the names of its files.
"""

from __future__ import annotations

import os
from pathlib import Path

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols.copydays import COPYDAYS
from veduta.datasets.protocols.disc21 import DISC21
from veduta.datasets.protocols.file_names import GPR1200, HOLIDAYS, UKBENCH
from veduta.datasets.protocols.google_landmarks import GOOGLE_LANDMARKS
from veduta.datasets.protocols.ilias import ILIAS
from veduta.datasets.protocols.inshop import INSHOP
from veduta.datasets.protocols.instre import INSTRE
from veduta.datasets.protocols.mapillary import MAPILLARY
from veduta.datasets.protocols.met import MET
from veduta.datasets.protocols.metric_learning import CARS, CUB, SOP
from veduta.datasets.protocols.nordland import NORDLAND
from veduta.datasets.protocols.places import PLACES
from veduta.datasets.protocols.protocol import Protocol, ReadOptions
from veduta.datasets.protocols.qrels import QRELS
from veduta.errors import DatasetError, readable

__all__ = ["PROTOCOLS", "Protocol", "find_protocol", "open_protocol"]

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        COPYDAYS,  # Before Holidays, whose photos have names like those of its originals.
        HOLIDAYS,
        UKBENCH,
        GPR1200,
        PLACES,
        MAPILLARY,
        NORDLAND,
        SOP,
        CUB,
        CARS,
        INSHOP,
        GOOGLE_LANDMARKS,
        MET,
        INSTRE,
        ILIAS,
        DISC21,
        QRELS,
    )
}
"""Name → protocol. The first that recognises a folder reads it."""


def find_protocol(path: str | os.PathLike[str]) -> Protocol | None:
    """Return the protocol of a folder or file; None if it is of none.

    Args:
        path: the folder or file.
    """
    for protocol in PROTOCOLS.values():
        if protocol.recognises(Path(path)):
            return protocol
    return None


def open_protocol(
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    photos: str | os.PathLike[str] | None = None,
    variant: str | None = None,
) -> JudgedSet:
    """Read a set of a published protocol.

    Args:
        path: its folder, or the file with its judgements.
        name: of the protocol, a key of `PROTOCOLS`; None: it is recognised.
        photos: the folder of the photos; None: where the published files have it.
        variant: one of the variants of the protocol; None: the usual one.

    Returns:
        The set. Whether the photos exist has not been looked at.

    Raises:
        DatasetError: there is no such protocol or variant, or the files are not as it expects. The
            message says what was expected and what was found.
    """
    root = Path(path)
    protocol = find_protocol(root) if name is None else PROTOCOLS.get(name)
    if protocol is None:
        known = ", ".join(PROTOCOLS)
        if name is not None:
            raise DatasetError(f"no protocol {name!r}; known are {known}")
        raise DatasetError(
            f"{readable(root)}: of no known protocol; name it with --protocol: {known}"
        )
    if not root.exists():
        raise DatasetError(f"{readable(root)}: no such file or folder")
    if variant is not None and variant not in protocol.variants:
        known = ", ".join(protocol.variants) or "none"
        raise DatasetError(
            f"the protocol {protocol.name} has no variant {variant!r}; it has {known}"
        )
    return protocol.read(root, ReadOptions(None if photos is None else Path(photos), variant))
