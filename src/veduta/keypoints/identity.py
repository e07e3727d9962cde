"""The identity of an extractor, which tells its keypoints from those of other settings."""

from __future__ import annotations

import json

__all__ = ["identity"]


def identity(method: str, **settings: object) -> str:
    """Return 16 hex digits that change with the method and with each of its settings."""
    from blake3 import blake3

    canonical = json.dumps({"method": method, **settings}, sort_keys=True)
    return blake3(canonical.encode()).hexdigest()[:16]
