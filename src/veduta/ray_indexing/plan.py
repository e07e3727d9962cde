"""What a run remembers, so that another run continues it: the number of blocks, and their kind."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from veduta._version import __version__
from veduta.index import Manifest
from veduta.photos import content_hash
from veduta.ray_indexing.staging import Staging

__all__ = ["Plan", "kind_of"]

_KIND_BYTES = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run divides a collection.

    Attributes:
        count: number of shards.
        kind: what `kind_of` says of the parts.
        token: a random word, by which a worker knows that it sees the same place.
    """

    count: int
    kind: str
    token: str

    @classmethod
    def read(cls, staging: Staging) -> Plan | None:
        """Return the plan of an earlier run, None if there is none that reads.

        Args:
            staging: where it is kept.
        """
        data = staging.plan()
        try:
            return None if data is None else msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError:
            return None

    @classmethod
    def begin(cls, staging: Staging, kind: str, count: int) -> Plan:
        """Write a new plan, and remove all parts of earlier ones.

        Args:
            staging: where it is kept.
            kind: of the parts.
            count: number of shards.
        """
        staging.clear()
        plan = cls(count, kind, secrets.token_hex(8))
        staging.keep_plan(msgspec.json.encode(plan))
        return plan


def kind_of(manifest: Manifest, folders: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return a digest of all that parts have in common: only parts of one kind become one index.

    Args:
        manifest: of the index that they become.
        folders: of the index, absolute.
        options: of the run, that change what is in a part.
    """
    facts = {
        "veduta": __version__,
        "encoder": manifest.encoder["identity"],
        "keypoints": manifest.keypoints,
        "regions": manifest.regions,
        "projection": manifest.projection,
        "folders": sorted(folders),
        "options": dict(options),
    }
    return content_hash(json.dumps(facts, sort_keys=True).encode())[:_KIND_BYTES].hex()
