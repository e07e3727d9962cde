"""Write the outline of the world that the map of photos is drawn on.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python -m tools.make_world package/land-110m.json

writes `src/veduta/pages/static/app/world.json`. The source is the land of Natural Earth at
1:110,000,000 (public domain), as the npm package world-atlas (ISC) has it: a TopoJSON file, whose
rings are made of arcs with quantised steps.

A ring that crosses the meridian of 180° goes on beyond it here, and is there twice: once at each
border of the map.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from veduta.files import write_text
from veduta.pages.html import PAGES

WORLD_FILE = PAGES / "static/app/world.json"

STEPS_PER_DEGREE = 10
"""About 11 km. The source is not more exact."""

AROUND = 360 * STEPS_PER_DEGREE

Ring = list[tuple[int, int]]


def rings_of(topology: dict[str, Any]) -> list[Ring]:
    """Return the rings of the land: (longitude, latitude) in steps, the first point last again.

    Args:
        topology: a TopoJSON file with one collection of polygons, `land`.
    """
    arcs = [_decoded(arc, topology["transform"]) for arc in topology["arcs"]]
    rings = []
    for geometry in topology["objects"]["land"]["geometries"]:
        polygons = geometry["arcs"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        for polygon in polygons:
            for numbers in polygon:
                ring = _joined([arcs[n] if n >= 0 else arcs[~n][::-1] for n in numbers])
                if len(ring) > 3:
                    rings += _at_each_border(_beyond_border(ring))
    return rings


def _decoded(arc: list[tuple[int, int]], transform: dict[str, Any]) -> Ring:
    """Return the points of an arc, in steps."""
    (scale_x, scale_y), (left, bottom) = transform["scale"], transform["translate"]
    x = y = 0
    points = []
    for dx, dy in arc:
        x, y = x + dx, y + dy
        longitude, latitude = left + scale_x * x, bottom + scale_y * y
        points.append((round(longitude * STEPS_PER_DEGREE), round(latitude * STEPS_PER_DEGREE)))
    return points


def _joined(arcs: list[Ring]) -> Ring:
    """Return one ring of arcs that follow each other, without doubled points."""
    ring: Ring = []
    for arc in arcs:
        for point in arc:
            if not ring or ring[-1] != point:
                ring.append(point)
    return ring


def _beyond_border(ring: Ring) -> Ring:
    """Return a ring without jumps from one border of the map to the other."""
    whole = [ring[0]]
    for x, y in ring[1:]:
        before = whole[-1][0]
        whole.append((x + AROUND * round((before - x) / AROUND), y))
    if abs(whole[-1][0] - whole[0][0]) == AROUND:  # Antarctica is around the pole.
        pole = -90 * STEPS_PER_DEGREE
        whole += [(whole[-1][0], pole), (whole[0][0], pole), whole[0]]
    return whole


def _at_each_border(ring: Ring) -> list[Ring]:
    """Return a ring, and the same at the other border if it goes beyond one."""
    copies = [ring]
    if max(x for x, _ in ring) > AROUND // 2:
        copies.append([(x - AROUND, y) for x, y in ring])
    if min(x for x, _ in ring) < -AROUND // 2:
        copies.append([(x + AROUND, y) for x, y in ring])
    return copies


def _as_steps(ring: Ring) -> list[int]:
    """Return the first point, and then the way from each point to the next: x, y, dx, dy, …"""
    before = (0, 0)
    steps = []
    for x, y in ring:
        steps += [x - before[0], y - before[1]]
        before = x, y
    return steps


def main() -> None:
    """Read the source and write the outline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="land-110m.json of world-atlas")
    rings = rings_of(json.loads(parser.parse_args().source.read_text()))
    world = {
        "source": "Natural Earth, land at 1:110,000,000 (public domain), from world-atlas 2.0.2",
        "stepsPerDegree": STEPS_PER_DEGREE,
        "rings": [_as_steps(ring) for ring in rings],
    }
    write_text(WORLD_FILE, json.dumps(world, separators=(",", ":")) + "\n")
    print(f"{WORLD_FILE}: {len(rings)} rings, {sum(map(len, rings)):,} points")


if __name__ == "__main__":
    main()
