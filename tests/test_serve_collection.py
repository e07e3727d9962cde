"""What a service says of the whole collection: its groups, and where photos were taken."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_server import Server, made_index, serving
from walls import scene

import veduta
from veduta.errors import QueryError

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

WALLS = {1: 4, 2: 3, 3: 1}
"""Wall → number of its photos."""


def view(wall: int, number: int) -> Image.Image:
    """A wall as seen from another place each time."""
    slant, shear, shift = 1 + 0.08 * number, 0.06 * number, -30 * number
    coefficients = (slant, shear, shift, 0.02 * number, slant, shift, 6e-5 * number, 0)
    return Image.fromarray(scene(wall)).transform(
        (640, 480), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )


def gps(wall: int, number: int) -> Image.Exif:
    """The photos of the first wall were taken near Suva, on both sides of the 180th meridian."""
    exif = Image.Exif()
    if wall == 1:
        east = "E" if number % 2 else "W"
        exif.get_ifd(0x8825).update({1: "S", 2: (17.0, 30.0, 0.0), 3: east, 4: (179.0, 30.0, 0.0)})
    return exif


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("collection")
    for wall, count in WALLS.items():
        folder = home / f"photos/wall{wall}"
        folder.mkdir(parents=True)
        for number in range(count):
            view(wall, number).save(folder / f"{number}.jpg", quality=92, exif=gps(wall, number))
    view(1, 0).resize((400, 300)).save(home / "photos/wall1/0 again.jpg", quality=80)
    with veduta.create(home / "walls.veduta", encoder="fast") as index:
        index.add(home / "photos", labels="folders")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "walls.veduta") as server:
        yield server


def test_groups_are_those_of_a_local_index(server: Server, home: Path) -> None:
    with ThreadPoolExecutor(4) as threads:  # All at the same time, and lists meanwhile.
        answers = list(threads.map(lambda _: server.get("/groups"), range(3)))
        assert threads.submit(server.get, "/photos").result().status == 200
    assert [answer.status for answer in answers] == [200] * 3
    assert answers[0].json == answers[1].json == answers[2].json
    with veduta.open(home / "walls.veduta") as index:
        expected = index.groups()
    assert [group.size for group in expected] == [4, 3], "the walls are told apart"
    found = answers[0].json
    assert (found["total"], found["next"]) == (2, None)
    for one, group in zip(found["groups"], expected, strict=True):
        assert one["id"] == one["best"]["id"] == group.best.id
        assert one["photo_ids"] == [photo.id for photo in group.photos]
        assert one["copy_ids"] == [photo.id for photo in group.copies]
        assert one["label"] == group.best.label
    assert len(found["groups"][0]["copy_ids"]) == 1
    assert veduta.open(server.url).groups() == expected
    assert veduta.open(server.url).groups(min_size=4) == expected[:1]


def test_pages_of_groups(server: Server) -> None:
    first = server.get("/groups?limit=1").json
    second = server.get(f"/groups?limit=1&cursor={first['next']}").json
    names = [page["groups"][0]["name"] for page in (first, second)]
    assert names == ["group-001", "group-002"] and second["next"] is None
    assert server.get("/groups?min_size=4").json["total"] == 1
    assert server.get("/groups?cursor=!").status == 422
    assert server.get("/groups?min_size=1").status == 422


def test_every_photo_names_its_group(server: Server) -> None:
    for group in server.get("/groups").json["groups"]:
        for number in group["photo_ids"]:
            assert server.get(f"/groups/{number}").json == group
        listed = server.get(f"/photos?group={group['photo_ids'][-1]}&limit=3").json
        assert listed["total"] == len(group["photo_ids"])
        ids = server.get(f"/photos/ids?group={group['id']}").json["ids"]
        assert sorted(ids) == sorted(group["photo_ids"])
    (alone,) = server.get("/photos?label=wall3").json["photos"]
    refused = server.get(f"/groups/{alone['id']}")
    assert (refused.status, refused.json["type"]) == (404, "urn:veduta:problem:NoSuchGroup")
    assert server.get(f"/photos?group={alone['id']}").status == 404
    assert server.get("/groups/999").json["type"] == "urn:veduta:problem:NoSuchPhoto"


def test_groups_are_there_while_labels_are_edited(tmp_path: Path) -> None:
    index = made_index(tmp_path, scenes=2)
    statuses: set[int] = set()
    edited = threading.Event()
    with serving(index) as server:

        def ask() -> None:
            while not edited.is_set():
                statuses.add(server.get("/photos/ids?group=0").status)

        readers = [threading.Thread(target=ask) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(8):
            change = {"changes": [{"id": 0, "label": f"label {number}"}]}
            body = json.dumps(change).encode()
            headers = {"Content-Type": "application/json"}
            assert server.ask("PATCH", "/photos", body, **headers).status == 200
        edited.set()
        for reader in readers:
            reader.join()
        assert server.get("/photos/ids?group=0").status == 200
    assert statuses <= {200, 409}, "409: it changes all the time"


def test_a_similarity_is_explained_as_by_a_local_index(server: Server, home: Path) -> None:
    remote = veduta.open(server.url)
    query = home / "photos/wall1/1.jpg"
    with veduta.open(home / "walls.veduta") as index:
        hit = index.search(query, k=2)[1]
        expected = index.explain(query, hit, crop=(10, 20, 400, 300))
    found = remote.explain(query, hit, crop=(10, 20, 400, 300))
    assert found.against is not None and expected.against is not None
    for one, other in ((found, expected), (found.against, expected.against)):
        assert one.similarity == pytest.approx(other.similarity, abs=1e-4)
        np.testing.assert_allclose(one.map, other.map, atol=1e-4)
        assert (one.box, one.method, one.pixels.shape) == (
            other.box,
            other.method,
            other.pixels.shape,
        )
        difference = np.abs(one.pixels.astype(int) - other.pixels.astype(int))
        assert difference.mean() < 6, "they show the same, apart from the JPEG of the preview"
    with pytest.raises(QueryError, match="one photo of a query"):
        remote.explain([query], hit)


def test_an_index_without_keypoints_has_no_groups(home: Path) -> None:
    with veduta.create(home / "plain.veduta", encoder="fast", keypoints=None) as index:
        index.add(home / "photos/wall2")
    with serving(home / "plain.veduta") as server:
        refused = server.get("/groups")
        assert refused.status == 422 and "has no keypoints" in refused.json["detail"]
        with pytest.raises(QueryError, match="has no keypoints"):
            veduta.open(server.url).groups()


def test_places_and_boxes(server: Server) -> None:
    answer = server.get("/places").json
    assert answer["stored"] and answer["without"] == 5
    assert {(one["lat"], one["lon"]) for one in answer["points"]} == {
        (-17.5, 179.5),
        (-17.5, -179.5),
    }
    wall = {one["id"] for one in server.get("/photos?label=wall1").json["photos"]}
    assert len(answer["points"]) == 4 and {one["id"] for one in answer["points"]} < wall
    assert server.get("/places?label=wall2").json["points"] == []
    assert server.get("/photos?within=-20,179,-10,180").json["total"] == 2
    assert server.get("/photos?within=-20,179,-10,-179").json["total"] == 4
    assert server.get("/places?within=-20,-180,-10,-179").json["without"] == 0
    for wrong in ("1,2,3", "a,b,c,d", "1,2,3,4,5", "nan,1,2,3", "1e9,2,3,4"):
        assert server.get(f"/photos?within={wrong}").status == 422
