"""Labelled examples made of the photos of a collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recognition_galleries import crowd, gallery_of, labelled_crowd, unit
from tiny import scene_keypoints

from veduta.recognize import METHODS, LabelledGallery
from veduta.recognize.confidence import LabelledExample
from veduta.recognize.held_out import MAX_EXAMPLES_OF_A_KIND, MIN_NAMEABLE_PHOTOS, held_out_examples
from veduta.recognize.labelled_gallery import UNLABELLED
from veduta.recognize.linear import train
from veduta.recognize.methods import GEOMETRIC, RecognitionQuery

Asking = Callable[..., tuple[list[LabelledExample], list[RecognitionQuery]]]


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Return what asks a collection all its questions, and says with what evidence."""
    plain = METHODS["linear"]

    def ask(
        labelled: LabelledGallery, **options: Any
    ) -> tuple[list[LabelledExample], list[RecognitionQuery]]:
        asked: list[RecognitionQuery] = []

        def recorded(labelled: LabelledGallery, one: RecognitionQuery) -> Any:
            asked.append(one)
            return plain(labelled, one)

        monkeypatch.setitem(METHODS, "linear", recorded)
        return held_out_examples("linear", labelled, train(labelled), **options), asked

    return ask


def of_kind(labelled: LabelledGallery, asked: RecognitionQuery) -> str:
    """Tell by what is left out which kind of question was asked."""
    left_out = labelled.class_ids[asked.excluded_rows]
    if (left_out == UNLABELLED).all():
        return "outsider"
    code = left_out[left_out != UNLABELLED][0]
    gone = np.count_nonzero(left_out == code) == labelled.counts[code]
    return "hidden" if gone else "named"


class TestQuestions:
    def test_every_photo_is_asked_in_each_way(self, asking: Asking) -> None:
        labelled = labelled_crowd()
        made, asked = asking(labelled)
        kinds = [of_kind(labelled, one) for one in asked]
        assert [kinds.count(kind) for kind in ("named", "hidden", "outsider")] == [60, 60, 10]
        weight = dict.fromkeys(kinds, 0.0)
        for kind, one in zip(kinds, made, strict=True):
            weight[kind] += one.weight
        assert weight == pytest.approx({"named": 2, "hidden": 1, "outsider": 1})

    @pytest.mark.parametrize("options", [{"outsiders": False}, {"classes": 1, "each": 40}])
    def test_half_of_the_weight_is_on_unknown_ones(
        self, asking: Asking, options: dict[str, Any]
    ) -> None:
        """Also without photos of nothing labelled, or where no label can be hidden."""
        labelled = labelled_crowd(**options)
        made, asked = asking(labelled)
        named = [of_kind(labelled, one) == "named" for one in asked]
        weight = [one.weight for one in made]
        assert any(named) and not all(named)
        assert np.dot(weight, named) == pytest.approx(sum(weight) / 2)

    def test_hidden_labels_are_no_candidates(self, asking: Asking) -> None:
        labelled = labelled_crowd()
        made, asked = asking(labelled)
        for question, one in zip(made, asked, strict=True):
            kind = of_kind(labelled, one)
            assert (kind == "named") or not question.right.any()
            if kind == "hidden":
                (code,) = set(labelled.class_ids[one.excluded_rows].tolist())
                assert one.linear_scores[code] == -np.inf
                assert np.isfinite(np.delete(one.linear_scores, code)).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_no_method_names_what_is_hidden(self, method: str) -> None:
        """With all photos of a label out, its name is gone from every method's answers."""
        rows, labels = crowd()
        labelled = LabelledGallery.of(gallery_of(rows, scenes=[i % 6 for i in range(70)]), labels)
        training = train(labelled)
        for row in (0, 8, 33):
            code = labelled.class_ids[row]
            without = np.flatnonzero(labelled.class_ids == code)
            linear = training.held_out(row, without)
            linear[code] = -np.inf
            keypoints = [scene_keypoints(row % 6, 3)] if method in GEOMETRIC else []
            asked = RecognitionQuery(unit(*rows[row]), keypoints, linear, without)
            found = METHODS[method](labelled, asked)
            assert code not in found.class_ids
            assert not np.isin(found.ranking.rows, without).any()
            assert np.isfinite(found.features).all()

    def test_exact_copies_are_left_out(self, asking: Asking) -> None:
        rows, labels = crowd(classes=4, each=9, others=7)
        content = [b"photo %d" % number for number in range(len(rows))]
        content[8] = content[0]  # of the same label
        content[40] = content[36]  # of none
        content[41] = content[1]  # one of none is a copy of one with a label
        labelled = LabelledGallery.of(gallery_of(rows, content=content), labels)
        _, asked = asking(labelled)
        without = {tuple(one.excluded_rows.tolist()) for one in asked}
        assert {(0, 8), (36, 40), (1, 41)} <= without
        alone = {one[0] for one in without if len(one) == 1}
        assert not alone & {0, 1, 8, 36, 40, 41}

    def test_a_label_known_from_copies_alone_is_not_asked_for(self, asking: Asking) -> None:
        rows, labels = crowd(classes=4, each=10, others=0)
        rows = np.concatenate([rows, rows[:3]])
        content = [b"photo %d" % number for number in range(40)] + [b"twin", b"twin", b"single"]
        labelled = LabelledGallery.of(
            gallery_of(rows, content=content), [*labels, "twins", "twins", "single"]
        )
        made, asked = asking(labelled)
        sure = [one for one in asked if of_kind(labelled, one) == "named"]
        assert len(sure) == 40
        # The twins and the single one are asked as unknown all the same.
        hidden = [
            set(one.excluded_rows.tolist()) for one in asked if of_kind(labelled, one) == "hidden"
        ]
        assert len(hidden) == 43 and {40, 41} in hidden and {42} in hidden
        assert all(len(one.features) for one in made)

    def test_the_photo_itself_is_asked_with(self, asking: Asking) -> None:
        labelled = labelled_crowd()
        _, asked = asking(labelled)
        rows = labelled.gallery.snapshot.descriptors.astype(np.float32)
        for one in asked:
            assert np.linalg.norm(one.descriptor) == pytest.approx(1, abs=1e-6)
            nearest = int((rows @ one.descriptor).argmax())
            assert nearest in one.excluded_rows

    def test_too_few_photos_teach_nothing(self, asking: Asking) -> None:
        assert asking(labelled_crowd(classes=1, each=MIN_NAMEABLE_PHOTOS - 1, others=50))[0] == []
        assert asking(labelled_crowd(classes=1, each=MIN_NAMEABLE_PHOTOS, others=50))[0]
        assert asking(labelled_crowd(classes=40, each=1, others=5))[0] == []

    def test_the_seed_decides_who_is_asked(self, asking: Asking) -> None:
        labelled = labelled_crowd(classes=4, each=90, others=400)
        first, asked = asking(labelled, seed=3)
        assert len(first) == 3 * MAX_EXAMPLES_OF_A_KIND
        again, _ = asking(labelled, seed=3)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.features, other.features)
        _, others = asking(labelled, seed=4)
        assert {tuple(one.excluded_rows) for one in asked} != {
            tuple(one.excluded_rows) for one in others
        }
        rows = [tuple(one.excluded_rows) for one in asked if of_kind(labelled, one) == "named"]
        assert len(set(rows)) == MAX_EXAMPLES_OF_A_KIND

    def test_progress_ends_with_all(self, asking: Asking) -> None:
        told: list[tuple[int, int]] = []
        made, _ = asking(
            labelled_crowd(), on_progress=lambda done, total: told.append((done, total))
        )
        assert told[0] == (0, len(made)) and told[-1] == (len(made), len(made))
        assert told == sorted(told)

    def test_one_of_two_labels_is_not_hidden(self, asking: Asking) -> None:
        """With only one kind of photo left everything would be certain to be of it."""
        made, asked = asking(labelled_crowd(classes=2, each=20, others=0))
        assert not made and not asked
        labelled = labelled_crowd(classes=2, each=20, others=3)
        _, asked = asking(labelled)
        assert {of_kind(labelled, one) for one in asked} == {"named", "hidden", "outsider"}
        labelled = labelled_crowd(classes=3, each=20, others=0)
        _, asked = asking(labelled)
        assert {of_kind(labelled, one) for one in asked} == {"named", "hidden"}

    def test_labels_with_too_many_photos_are_not_hidden(
        self, asking: Asking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("veduta.recognize.held_out._MAX_HIDDEN_PHOTOS", 9)
        labelled = labelled_crowd()
        _, asked = asking(labelled)
        assert {of_kind(labelled, one) for one in asked} == {"named", "outsider"}
