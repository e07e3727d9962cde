"""INSTRE: the MATLAB file of its protocol becomes queries, boxes and right photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

GALLERY = ["S1/01a/001.jpg", "S1/01a/002.jpg", "S1/02b/001.jpg", "M/03/001"]
QUERIES = ["S1/01a/009.jpg", "S1/02b/009.jpg"]


def cells(values: list[Any]) -> np.ndarray:
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def content(**changes: Any) -> dict[str, Any]:
    return {
        "imlist": cells(GALLERY),
        "qimlist": cells(QUERIES),
        "gnd": [
            {"ok": np.array([[2, 1]], np.float64), "bbx": np.array([[10.4, 20, 110, 95.6]])},
            {"ok": np.array([[4], [3]], np.uint16), "bbx": np.array([[0, 0, 64, 48]], np.int32)},
        ],
    } | changes


def with_query(**changes: Any) -> dict[str, Any]:
    changed = content()
    changed["gnd"][0] |= changes
    changed["gnd"][1] |= {key: np.empty((0, 0)) for key in changes if key == "junk"}
    return changed


def written(root: Path, values: dict[str, Any], name: str = "gnd_INSTRE.mat") -> Path:
    savemat = pytest.importorskip("scipy.io").savemat
    root.mkdir(exist_ok=True)
    values = dict(values)
    if isinstance(values.get("gnd"), list):
        fields = list(values["gnd"][0])
        array = np.empty((1, len(values["gnd"])), [(field, object) for field in fields])
        for number, truth in enumerate(values["gnd"]):
            array[0, number] = tuple(truth[field] for field in fields)
        values["gnd"] = array
    savemat(root / name, values, do_compression=True)
    return root


def refusal(root: Path, values: dict[str, Any]) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(written(root, values), "instre")
    return str(caught.value)


def test_the_published_layout(tmp_path: Path) -> None:
    judged = open_protocol(written(tmp_path, content()))
    assert (judged.protocol, judged.name, judged.root) == ("instre", "INSTRE", tmp_path)
    assert judged.queries == judged.query_paths == tuple(QUERIES)
    assert judged.gallery == tuple(GALLERY)
    assert judged.gallery_paths == (*GALLERY[:3], "M/03/001.jpg")
    assert [judged.positives.of_query(q).tolist() for q in (0, 1)] == [[0, 1], [2, 3]]
    assert judged.boxes == ((10, 20, 100, 76), (0, 0, 64, 48))
    assert judged.junk is None and judged.own is None and judged.distractors == 0


def test_other_paths_of_the_set(tmp_path: Path) -> None:
    root = written(tmp_path, content(), "gnd_instre.mat")
    assert open_protocol(root / "gnd_instre.mat").root == root
    (root / "jpg").mkdir()
    assert open_protocol(root).root == root / "jpg"
    assert open_protocol(root, photos=tmp_path / "disk").root == tmp_path / "disk"


def test_junk_and_no_boxes(tmp_path: Path) -> None:
    values = with_query(junk=np.array([[3]]), bbx=np.empty((0, 0)))
    values["gnd"][1]["bbx"] = np.empty((0, 0))
    judged = open_protocol(written(tmp_path, values))
    assert judged.boxes == ()
    assert judged.junk is not None
    assert [judged.junk.of_query(q).tolist() for q in (0, 1)] == [[2], []]


def test_one_box_is_missing(tmp_path: Path) -> None:
    judged = open_protocol(written(tmp_path, with_query(bbx=np.empty((0, 0)))))
    assert judged.boxes == (None, (0, 0, 64, 48))


def test_a_single_query(tmp_path: Path) -> None:
    values = content(qimlist=QUERIES[0], gnd=content()["gnd"][:1])
    assert open_protocol(written(tmp_path, values)).queries == (QUERIES[0],)


def test_names_in_rows_of_one_text(tmp_path: Path) -> None:
    values = content(imlist=np.array(["a.jpg", "b.jpg", "cc.jpg", "d.jpg"]))
    assert open_protocol(written(tmp_path, values)).gallery == ("a.jpg", "b.jpg", "cc.jpg", "d.jpg")


def test_not_recognised(tmp_path: Path) -> None:
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "none") is None
    written(tmp_path, content(), "gnd_other.mat")
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "gnd_other.mat") is None
    found = find_protocol(written(tmp_path, content()))
    assert found is not None and found.name == "instre"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no gnd_INSTRE\.mat") as caught:
        open_protocol(tmp_path, "instre")
    assert "INSTRE-S1/01a/001.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (with_query(ok=np.array([[0, 1]])), "gnd(1).ok: the position 0; wanted whole numbers from"),
        (with_query(ok=np.array([[1, 5]])), "the position 5; wanted whole numbers from 1 to 4"),
        (with_query(ok=np.array([[1, 1.5]])), "the position 1.5"),
        (with_query(ok=np.array([[1, np.nan]])), "the position nan"),
        (with_query(ok=np.array([[2, 2]])), "gnd(1).ok: the position 2 comes twice"),
        (with_query(ok="two"), "gnd(1).ok: no numbers"),
        (with_query(junk=np.array([[2]])), "gnd(1): position 2 is in ok and in junk"),
        (with_query(bbx=np.array([[1, 2, 3]])), "gnd(1).bbx: [1.0, 2.0, 3.0]; wanted four finite"),
        (with_query(bbx=np.array([[1, 2, np.inf, 4]])), "wanted four finite numbers"),
        (with_query(bbx=np.array([[10, 10, 10, 40]])), "is empty or outside its photo"),
        (with_query(bbx=np.array([[-9, -9, -3, -3]])), "is empty or outside its photo"),
        (with_query(bbx="box"), "gnd(1).bbx: no numbers"),
        (content(qimlist=cells(QUERIES[:1])), "gnd: 2 structs for 1 names in qimlist"),
        (content(imlist=np.array([[1, 2]])), "imlist: it is missing or no list of names"),
        (content(imlist=cells([])), "imlist: it is"),
        (content(gnd=np.array([[1.0]])), "gnd: it is missing or no struct array"),
        (content(gnd=[{"easy": 1}, {"easy": 2}]), "gnd(1): no field ok; found easy"),
        (content(imlist=cells([*GALLERY, GALLERY[0]])), "1 id of the gallery photos twice"),
        (content(qimlist=cells(QUERIES[:1] * 2)), "1 id of the queries twice"),
        (content(imlist=cells([*GALLERY, "../x.jpg"])), "imlist{5}: the path '../x.jpg' leads out"),
        (content(qimlist=cells([QUERIES[0], "/x.jpg"])), "qimlist{2}: the path '/x.jpg' leads out"),
    ],
)
def test_bad_content(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, values)


def test_no_matlab_file(tmp_path: Path) -> None:
    (tmp_path / "gnd_INSTRE.mat").write_bytes(b"")
    with pytest.raises(DatasetError, match="no MATLAB file"):
        open_protocol(tmp_path, "instre")
