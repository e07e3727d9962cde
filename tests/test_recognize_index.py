"""Recognition on an index: its cache, `Index.recognize` and exported models."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import CentredEncoder, TinyExtractor, save_view, view

import veduta
from veduta import index
from veduta.errors import CollectionError, EncoderMismatch, NotAnIndex, PhotoError, QueryError
from veduta.recognize import (
    METHODS,
    LabelledGallery,
    cached_recognizer,
    fit_recognizer,
    open_model,
    recognizer_cache,
)
from veduta.recognize.confidence import Confidence
from veduta.recognize.linear import train
from veduta.recognize.recognizer import default_confidence
from veduta.recognize.unknown import PRECISIONS
from veduta.search.reranking import open_gallery

PLACES, EACH = ("arch", "bridge", "column", "dome"), 9


def fill(folder: Path) -> Path:
    """Write nine views of each of four places, and six photos of other things beside them."""
    for scene, place in enumerate(PLACES):
        for number in range(EACH):
            save_view(folder / place / f"{number}.png", scene, number)
    for scene in range(100, 106):
        save_view(folder / f"{scene}.png", scene)
    return folder


def indexed(home: Path, **options: Any) -> Path:
    """Index the photos of `home` and return the index; `options` are those of `update_index`."""
    encoder, extractor = CentredEncoder(), TinyExtractor()
    if not (home / "index").exists():
        index.create_index(home / "index", encoder, extractor)
    index.update_index(
        home / "index", [home / "photos"], encoder, extractor, labels="folders", **options
    )
    return home / "index"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recognize")
    fill(home / "photos")
    indexed(home)
    return home


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Path:
    """An index of this test alone, whose photos others look at too."""
    shutil.copytree(template / "index", tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with photos that may be changed and an index of them."""
    fill(tmp_path / "photos")
    indexed(tmp_path)
    return tmp_path


def labelled(folder: Path, **options: Any) -> LabelledGallery:
    gallery = open_gallery(folder)
    names = gallery.snapshot.rows["label"].to_pylist()[: gallery.snapshot.photos]
    return LabelledGallery.of(gallery, names, **options)


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each time of learning adds its method."""
    times: list[str] = []

    def told(known: LabelledGallery, method: str, **options: Any) -> Any:
        times.append(method)
        return fit_recognizer(known, method, **options)

    monkeypatch.setattr(recognizer_cache, "fit_recognizer", told)
    return times


def kept_files(made: Path) -> list[str]:
    return sorted(file.name for file in (made / recognizer_cache.RECOGNISERS_FOLDER).iterdir())


class TestStored:
    @pytest.mark.slow
    def test_learned_once(self, made: Path, learning: list[str]) -> None:
        known = labelled(made)
        first = cached_recognizer(made, known, "evidence")
        assert first.learned and learning == ["evidence"]
        second = cached_recognizer(made, labelled(made), "evidence")
        assert learning == ["evidence"]
        assert second.confidence == first.confidence and second.learned
        query = CentredEncoder().encode([(CentredEncoder().prepare(view(1, 77))[0],)])[0]
        seen = [TinyExtractor().extract(view(1, 77), 48, 32)]
        one, other = first.answer(query, seen), second.answer(query, seen)
        assert one.names == other.names and one.names[0] == "bridge"
        np.testing.assert_array_equal(one.confidences, other.confidences)

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["evidence", "knn", "linear"])
    def test_each_method_has_its_own(self, made: Path, learning: list[str], method: str) -> None:
        cached_recognizer(made, labelled(made), "linear")
        cached_recognizer(made, labelled(made), method)
        cached_recognizer(made, labelled(made), "linear")
        cached_recognizer(made, labelled(made), method)
        assert learning == ["linear", method][: 1 + (method != "linear")]

    def test_a_new_photo_is_learned_from(self, home: Path, learning: list[str]) -> None:
        cached_recognizer(home / "index", labelled(home / "index"), "knn")
        before = kept_files(home / "index")
        save_view(home / "photos" / "dome" / "new.png", 3, 40)
        indexed(home)
        cached_recognizer(home / "index", labelled(home / "index"), "knn")
        assert learning == ["knn"] * 2
        assert len(kept_files(home / "index")) == 1 and kept_files(home / "index") != before

    def test_another_label_is_learned_from(self, home: Path, learning: list[str]) -> None:
        cached_recognizer(home / "index", labelled(home / "index"), "linear")
        (home / "photos" / "dome").rename(home / "photos" / "cupola")
        indexed(home)
        found = cached_recognizer(home / "index", labelled(home / "index"), "linear")
        assert learning == ["linear"] * 2
        assert found.labelled.names == ("arch", "bridge", "column", "cupola")

    def test_with_and_without_outsiders_are_kept_side_by_side(
        self, made: Path, learning: list[str]
    ) -> None:
        for _ in range(2):
            for outsiders in (True, False):
                known = labelled(made, outsiders=outsiders)
                cached_recognizer(made, known, "linear")
        assert learning == ["linear"] * 2
        assert len(kept_files(made)) == 2

    def test_what_an_older_version_taught_is_not_kept_for_a_newer_one(
        self, home: Path, learning: list[str]
    ) -> None:
        """A photo is changed while the recogniser of the version before it is asked for."""
        old = labelled(home / "index")
        save_view(home / "photos" / "dome" / "0.png", 200, 3)
        indexed(home)
        cached_recognizer(home / "index", old, "linear")
        new = labelled(home / "index")
        assert new.class_ids.tolist() == old.class_ids.tolist()
        found = cached_recognizer(home / "index", new, "linear")
        np.testing.assert_array_equal(found.linear.weights, train(new).linear.weights)

    def test_damaged_files_are_learned_again(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = labelled(made)
        first = cached_recognizer(made, known, "linear")
        learned: list[str] = []

        def again(*_: Any, **__: Any) -> Any:
            learned.append("again")
            return first

        monkeypatch.setattr(recognizer_cache, "fit_recognizer", again)
        (file,) = (made / recognizer_cache.RECOGNISERS_FOLDER).iterdir()
        whole = file.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [b"", b"PK", b"nothing", whole[: len(whole) // 2], whole[:-1]]
        for _ in range(60):
            changed = bytearray(whole)
            for at in rng.integers(len(whole), size=8).tolist():
                changed[at] = int(rng.integers(256))
            damaged.append(bytes(changed))
        headers = [at for at in range(len(whole)) if whole[at : at + 2] == b"PK"]
        for at in headers:  # where a single byte does most
            for offset in range(min(30, len(whole) - at)):
                changed = bytearray(whole)
                changed[at + offset] ^= 0x5A
                damaged.append(bytes(changed))
        with_pickle = io.BytesIO()
        np.savez(with_pickle, **{"weights": np.array([{}], object)})
        plain = io.BytesIO()
        np.save(plain, np.zeros(3))
        for content in (*damaged, with_pickle.getvalue(), plain.getvalue()):
            file.write_bytes(content)
            found = cached_recognizer(made, known, "linear")
            np.testing.assert_array_equal(found.linear.weights, first.linear.weights)
            np.testing.assert_array_equal(found.linear.bias, first.linear.bias)
            assert found.confidence == first.confidence
        assert len(learned) > len(damaged) / 3

    def test_of_other_dimensions_is_learned_again(self, made: Path, learning: list[str]) -> None:
        known = labelled(made)
        first = cached_recognizer(made, known, "linear")
        (file,) = (made / recognizer_cache.RECOGNISERS_FOLDER).iterdir()
        with np.load(file) as kept:
            arrays = dict(kept)
        arrays["weights"] = arrays["weights"][:7]
        np.savez(file, **arrays)
        again = cached_recognizer(made, known, "linear")
        assert again.linear.weights.shape == first.linear.weights.shape
        assert learning == ["linear"] * 2

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of a POSIX system")
    def test_an_index_that_cannot_be_written_to(self, made: Path, learning: list[str]) -> None:
        (made / recognizer_cache.RECOGNISERS_FOLDER).write_text("in the way of the folder")
        for _ in range(2):
            found = cached_recognizer(made, labelled(made), "linear")
            assert found.learned
        assert learning == ["linear"] * 2

    def test_no_draft_is_left(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", full)
            assert cached_recognizer(made, labelled(made), "linear").learned
        assert kept_files(made) == []

    def test_several_at_once(self, made: Path) -> None:
        known = labelled(made)

        def get(number: int) -> Any:
            return cached_recognizer(made, known, ("linear", "knn")[number % 2])

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(get, range(24)))
        for one in found:
            np.testing.assert_array_equal(one.linear.weights, found[0].linear.weights)
        assert len(kept_files(made)) == 2

    def test_too_few_photos_go_by_the_defaults_of_today(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """General experience is not frozen beside the index: it comes with the package."""
        for file in (home / "photos").glob("*/[6-8].png"):
            file.unlink()
        indexed(home)
        known = labelled(home / "index")
        first = cached_recognizer(home / "index", known, "knn")
        assert not first.learned and first.confidence == default_confidence("knn", background=False)
        other = Confidence((1.0, 2.0, -1.0), (0.5,) * len(PRECISIONS), 7)
        for module in ("recognizer", "recognizer_cache"):
            monkeypatch.setattr(
                f"veduta.recognize.{module}.default_confidence",
                lambda *_, **__: other,
                raising=False,
            )
        assert cached_recognizer(home / "index", known, "knn").confidence == other

    def test_unknown_method(self, made: Path) -> None:
        with pytest.raises(QueryError, match="is no way to recognise"):
            cached_recognizer(made, labelled(made), "../evil")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny encoder and extractor be found by name."""
    for module in ("search.engine", "recognize.model"):
        loading = f"veduta.{module}.load_named_in_file"
        monkeypatch.setattr(loading, lambda *_, **__: CentredEncoder())
    monkeypatch.setattr("veduta.search.engine.load_extractor", lambda *_, **__: TinyExtractor())


@pytest.mark.usefixtures("stand_ins")
class TestIndex:
    """`Index.recognize`, from a photo to an answer."""

    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_new_views_are_named_and_others_are_not(self, made: Path, method: str) -> None:
        opened = veduta.open(made)
        for scene, place in enumerate(PLACES):
            found = opened.recognize(view(scene, 50), method=method)
            assert found.label == found.guess == place
            assert found.confidence >= found.threshold
            assert found.reason is None
            assert found.hits and {one.label for one in found.hits} == {place}
        rejected = [opened.recognize(view(scene), method=method) for scene in range(300, 310)]
        assert sum(one.label is None for one in rejected) >= 9
        assert all(one.reason for one in rejected if one.label is None)

    def test_the_same_photo_as_path_and_as_array(self, made: Path, tmp_path: Path) -> None:
        opened = veduta.open(made)
        photo = save_view(tmp_path / "new.png", 2, 60)
        first, second = (opened.recognize(one, method="prototypes") for one in (photo, view(2, 60)))
        assert first.as_json() == second.as_json()

    def test_several_photos_of_one_thing(self, made: Path) -> None:
        opened = veduta.open(made)
        assert opened.recognize(view(1, 70), view(1, 71), method="knn").label == "bridge"

    @pytest.mark.slow
    def test_evidence_names_its_inliers(self, made: Path) -> None:
        found = veduta.open(made).recognize(view(0, 80))
        assert found.hits[0].evidence is not None
        assert (found.hits[0].evidence.inliers or 0) > 20
        assert veduta.open(made).recognize(view(0, 80), method="knn").hits[0].evidence is None

    @pytest.mark.slow
    def test_a_photo_of_the_gallery(self, made: Path, template: Path) -> None:
        found = veduta.open(made).recognize(template / "photos" / "dome" / "3.png")
        assert found.label == "dome"
        assert found.hits[0].path.endswith("dome/3.png")

    @pytest.mark.slow
    def test_precision_decides(self, made: Path) -> None:
        opened = veduta.open(made)
        thresholds = [
            opened.recognize(view(0, 90), precision=wanted).threshold for wanted in (0.5, 0.8, 0.99)
        ]
        assert thresholds == sorted(thresholds)
        with pytest.raises(QueryError, match="precision"):
            opened.recognize(view(0, 90), precision=95)

    def test_learned_once_and_again_when_photos_change(
        self, home: Path, learning: list[str]
    ) -> None:
        opened = veduta.open(home / "index")
        for _ in range(3):
            assert opened.recognize(view(5, 1), method="linear").label is None
        assert learning == ["linear"]
        for number in range(EACH):
            save_view(home / "photos" / "obelisk" / f"{number}.png", 5, number + 10)
        indexed(home)
        assert opened.recognize(view(5, 1), method="linear").label == "obelisk"
        assert learning == ["linear"] * 2

    def test_no_photo_has_a_label(self, tmp_path: Path) -> None:
        for scene in range(3):
            save_view(tmp_path / "photos" / f"{scene}.png", scene)
        indexed(tmp_path)
        with pytest.raises(QueryError, match="has a label"):
            veduta.open(tmp_path / "index").recognize(view(0))

    def test_no_photo_named(self, made: Path) -> None:
        with pytest.raises(QueryError, match="at least one photo"):
            veduta.open(made).recognize()

    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_an_index_without_keypoints_and_through_a_projection(
        self, tmp_path: Path, method: str
    ) -> None:
        fill(tmp_path / "photos")
        index.create_index(tmp_path / "index", CentredEncoder())
        index.update_index(
            tmp_path / "index",
            [tmp_path / "photos"],
            CentredEncoder(),
            labels="folders",
            graph=method == "evidence",
        )
        opened = veduta.open(tmp_path / "index")
        assert opened.recognize(view(3, 55), method=method).guess == "dome"
        opened.project(8)
        found = opened.recognize(view(3, 55), method=method)
        assert found.guess == "dome"

    def test_one_label_and_nothing_else(self, tmp_path: Path) -> None:
        for number in range(3):
            save_view(tmp_path / "photos" / "dome" / f"{number}.png", 3, number)
        indexed(tmp_path)
        with pytest.raises(QueryError, match="nothing to tell it from"):
            veduta.open(tmp_path / "index").recognize(view(0))

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["evidence", "knn", "prototypes", "linear"])
    def test_two_kinds_of_photos(self, two_kinds: tuple[Path, bool], method: str) -> None:
        """Either is known, and is not seen everywhere."""
        folder, others = two_kinds
        opened = veduta.open(folder)
        assert opened.recognizer(method).learned == others
        named = [opened.recognize(view(3, number), method=method).label for number in (60, 61, 62)]
        assert named == ["dome"] * 3
        unknown = [opened.recognize(view(scene), method=method).label for scene in range(210, 215)]
        assert unknown.count(None) >= 4


@pytest.fixture(scope="module", params=[True, False], ids=["and others", "and another"])
def two_kinds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """An index of a place and others beside it, or of two places; and whether it is the first."""
    home = tmp_path_factory.mktemp("two")
    for number in range(32):
        save_view(home / "photos" / "dome" / f"{number}.png", 3, number)
        if request.param:
            save_view(home / "photos" / f"{number}.png", 400 + number)
        else:
            save_view(home / "photos" / "arch" / f"{number}.png", 4, number)
    return indexed(home), request.param


@pytest.fixture
def exported(made: Path, tmp_path: Path, stand_ins: None) -> Path:
    veduta.open(made).export_model(tmp_path / "model")
    return tmp_path / "model"


def change(exported: Path, **facts: Any) -> None:
    """Change what `model.json` says; None takes an entry away."""
    file = exported / "model.json"
    told = {**json.loads(file.read_text("utf-8")), **facts}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def change_arrays(exported: Path, **arrays: Any) -> None:
    file = exported / "weights.npz"
    with np.load(file) as kept:
        told = {**kept, **arrays}
    np.savez(file, **{key: value for key, value in told.items() if value is not None})


@pytest.mark.usefixtures("stand_ins")
class TestModel:
    def test_answers_as_the_index_does(self, made: Path, exported: Path, tmp_path: Path) -> None:
        opened, model = veduta.open(made), open_model(exported)
        for number, scene in enumerate((0, 1, 2, 3, 300, 301)):
            photo = save_view(tmp_path / "new.png", scene, 60 + number)
            one = opened.recognize(photo, method="linear", precision=0.8)
            other = model.recognize(photo, precision=0.8)
            assert (other.label, other.guess) == (one.label, one.guess)
            assert other.confidence == pytest.approx(one.confidence, abs=1e-12)
            assert other.threshold == one.threshold
            assert [name for name, _ in other.runners_up] == [name for name, _ in one.runners_up]
            assert other.hits == ()
        assert model.names == PLACES

    def test_large_photos_are_decoded_as_the_index_does(
        self, made: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An index with keypoints decodes more pixels than the encoder asks for."""
        monkeypatch.setattr(TinyExtractor, "long_side", 640)
        opened = veduta.open(made)
        opened.export_model(tmp_path / "wide")
        photo = tmp_path / "large.jpg"
        noise = np.random.default_rng(3).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photo)
        wide = open_model(tmp_path / "wide").recognize(photo)
        assert wide.confidence == opened.recognize(photo, method="linear").confidence
        assert wide.confidence != open_model(exported).recognize(photo).confidence

    def test_plain_files(self, exported: Path) -> None:
        assert sorted(file.name for file in exported.iterdir()) == ["model.json", "weights.npz"]
        facts = json.loads((exported / "model.json").read_text("utf-8"))
        assert facts["format"] == 1 and facts["names"] == list(PLACES)
        assert facts["encoder"] == {"name": "tiny", "identity": CentredEncoder().identity}
        with np.load(exported / "weights.npz", allow_pickle=False) as arrays:
            assert {name: arrays[name].shape for name in arrays} == {
                "middle": (192,),
                "shift": (192,),
                "weights": (192, 4),
                "bias": (4,),
            }

    def test_whole_or_not_at_all(self, exported: Path) -> None:
        assert [file.name for file in exported.parent.iterdir() if "draft" in file.name] == []

    @pytest.mark.skipif(os.name != "posix", reason="permissions of a POSIX system")
    def test_who_may_read_it_is_what_the_user_is_used_to(self, exported: Path) -> None:
        usual = exported.parent / "usual"
        usual.mkdir()
        assert exported.stat().st_mode == usual.stat().st_mode

    def test_an_existing_folder(self, made: Path, exported: Path, learning: list[str]) -> None:
        opened = veduta.open(made)
        before = (exported / "model.json").stat().st_mtime_ns
        with pytest.raises(CollectionError, match="is there already"):
            opened.export_model(exported)
        assert (exported / "model.json").stat().st_mtime_ns == before
        assert learning == []  # told before minutes of learning

    def test_a_place_that_cannot_be_written_to(self, made: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(CollectionError, match="cannot be written"):
            veduta.open(made).export_model(tmp_path / "file" / "model")

    def test_of_a_projection(self, home: Path) -> None:
        opened = veduta.open(home / "index")
        opened.project(8)
        with pytest.raises(QueryError, match="projection"):
            opened.export_model(home / "model")
        opened.project(None)
        opened.export_model(home / "model")
        photo = save_view(home / "new.png", 1, 70)
        assert open_model(home / "model").recognize(photo).guess == "bridge"

    def test_without_outsiders(self, made: Path, tmp_path: Path) -> None:
        opened = veduta.open(made)
        opened.export_model(tmp_path / "model", outsiders=False)
        with np.load(tmp_path / "model" / "weights.npz") as arrays:
            np.testing.assert_array_equal(
                arrays["weights"], opened.recognizer("linear", outsiders=False).linear.weights
            )

    def test_several_photos(self, exported: Path, tmp_path: Path) -> None:
        model = open_model(exported)
        photos = [save_view(tmp_path / f"{number}.png", 2, number) for number in (70, 71)]
        assert model.recognize(*photos).guess == "column"
        with pytest.raises(QueryError, match="at least one photo"):
            model.recognize()
        with pytest.raises(QueryError, match="precision"):
            model.recognize(photos[0], precision=0.1)

    def test_a_broken_photo(self, exported: Path, tmp_path: Path) -> None:
        (tmp_path / "page.jpg").write_text("<html>")
        with pytest.raises(PhotoError, match=r"page\.jpg"):
            open_model(exported).recognize(tmp_path / "page.jpg")

    @pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
    def test_no_model_there(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "empty").mkdir()
        with pytest.raises(NotAnIndex, match="no model there"):
            open_model(tmp_path / name)

    @pytest.mark.parametrize(
        ("facts", "told"),
        [
            ({"format": 2}, "format 2, but this Veduta reads 1"),
            ({"format": None}, "missing required field `format`"),
            ({"names": []}, "names: Expected `array` of length >= 1"),
            ({"names": ["a", "b"]}, "2 names"),
            ({"names": 7}, "does not read back .names: Expected `array`, got `int`"),
            ({"encoder": None}, "missing required field `encoder`"),
            ({"encoder": "tiny"}, "does not read back .encoder: Expected `object`, got `str`"),
            ({"long_side": "wide"}, "does not read back .long_side: Expected `int`"),
            ({"encoder": {"name": "tiny"}}, "encoder: .*missing required field `identity`"),
            ({"confidence": None}, "missing required field `confidence`"),
            (
                {
                    "confidence": {
                        "weights": [1.0, 2.0, 3.0],
                        "thresholds": [0.5] * 50,
                        "questions": 3,
                    }
                },
                "confidence.weights: Expected `array` of length 2",
            ),
            (
                {"confidence": {"weights": [1.0, 2.0], "thresholds": [0.5] * 49, "questions": 3}},
                "confidence.thresholds: Expected `array` of length >= 50",
            ),
            (
                {
                    "confidence": {
                        "weights": [1.0, math.nan],
                        "thresholds": [0.5] * 50,
                        "questions": 3,
                    }
                },
                "no finite number",
            ),
        ],
    )
    def test_wrong_facts(self, exported: Path, facts: dict[str, Any], told: str) -> None:
        change(exported, **facts)
        with pytest.raises(CollectionError, match=told) as caught:
            open_model(exported)
        assert str(exported) in str(caught.value) and caught.value.exit_code == 4

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", "7", "\udcff"])
    def test_facts_that_are_none(self, exported: Path, content: str) -> None:
        (exported / "model.json").write_bytes(os.fsencode(content))
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)

    @pytest.mark.parametrize(
        "arrays",
        [
            {"weights": np.zeros((192, 3))},
            {"weights": np.zeros((7, 4))},
            {"weights": np.zeros(192)},
            {"weights": np.array(3.0)},
            {"weights": np.full((192, 4), np.nan)},
            {"weights": np.full((192, 4), "text")},
            {"weights": np.full((192, 4), {}, object)},
            {"weights": None},
            {"middle": np.zeros(191)},
            {"shift": np.zeros((192, 1))},
            {"bias": np.zeros(5)},
            {"bias": np.array([0, 0, 0, np.inf])},
        ],
        ids=lambda arrays: next(iter(arrays)),
    )
    def test_wrong_arrays(self, exported: Path, arrays: dict[str, Any]) -> None:
        change_arrays(exported, **arrays)
        with pytest.raises(CollectionError, match=r"does not read back .*weights\.npz"):
            open_model(exported)

    def test_a_pickle_is_not_executed(self, exported: Path, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "executed"),)

        change_arrays(exported, weights=np.array([Evil()], object))
        assert not (tmp_path / "executed").exists()
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        (exported / "weights.npz").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
    def test_damaged_arrays(self, exported: Path, content: bytes) -> None:
        (exported / "weights.npz").write_bytes(content)
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)
        (exported / "weights.npz").unlink()
        with pytest.raises(CollectionError, match="does not read back"):
            open_model(exported)

    def test_another_version_of_the_encoder(self, exported: Path) -> None:
        change(exported, encoder={"name": "tiny", "identity": "another"})
        with pytest.raises(EncoderMismatch, match="another version of encoder 'tiny'"):
            open_model(exported)

    def test_made_for_other_descriptors(self, exported: Path) -> None:
        change_arrays(exported, middle=np.zeros(7), shift=np.zeros(7), weights=np.zeros((7, 4)))
        with pytest.raises(CollectionError, match=r"of 7 numbers.*have 192"):
            open_model(exported)
