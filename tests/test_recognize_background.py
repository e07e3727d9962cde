"""Collections of one or two labels are told from the background of their encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from recognition_galleries import D as DIMENSION
from recognition_galleries import crowd, gallery_of, labelled_crowd

from veduta.encoders import PRESETS, load_encoder
from veduta.encoders.embedded import embedded_models
from veduta.recognize import LabelledGallery, decide, fit_recognizer
from veduta.recognize.background import BACKGROUND_FILE, background_of
from veduta.recognize.held_out import held_out_examples, what_is_missing
from veduta.recognize.linear import comparable, train
from veduta.recognize.model import Model


def things(count: int = 100, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Return descriptors of other things, of length one."""
    rows = np.random.default_rng(9).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def few(classes: int, each: int, *, spread: float = 0.25) -> LabelledGallery:
    rows, labels = crowd(classes, each, 0, spread=spread)
    return LabelledGallery.of(gallery_of(rows), labels, background=things())


class TestShipped:
    @pytest.mark.parametrize("name", [*PRESETS, "efficientnet-lite2"])
    def test_every_own_encoder_has_one(self, name: str) -> None:
        facts = load_encoder(name).describe()
        background = background_of(facts)
        assert background is not None and background.shape == (100, facts["dimension"])
        assert background.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(background, axis=1), 1, atol=1e-5)
        # Different things: none is near another.
        similarities = background @ background.T - 2 * np.eye(100)
        assert similarities.max() < 0.5

    def test_others_have_none(self) -> None:
        facts = load_encoder("fast").describe()
        assert background_of({**facts, "name": "hub:someone/net"}) is None
        assert background_of({**facts, "sha256": "0" * 64}) is None

    def test_size(self) -> None:
        assert BACKGROUND_FILE.stat().st_size < 300_000
        networks = {network for model in embedded_models().values() for network in model.networks}
        with np.load(BACKGROUND_FILE) as arrays:
            assert set(arrays.files) == networks


class TestLinear:
    @pytest.mark.parametrize("count", [3, 40])
    def test_the_background_counts_as_photos_without_a_label(self, count: int) -> None:
        """Also by the short way, for fewer examples than numbers in a descriptor."""
        rows, labels = crowd(2, 4, 0)
        others = things(count)
        apart = train(LabelledGallery.of(gallery_of(rows), labels, background=others))
        together = train(
            LabelledGallery.of(
                gallery_of(np.concatenate([rows, others])), [*labels, *[None] * count]
            )
        )
        np.testing.assert_allclose(apart.linear.weights, together.linear.weights, atol=5e-3)
        excluded = np.array([0, 2, 4, 6])
        np.testing.assert_allclose(
            apart.held_out(2, excluded), together.held_out(2, excluded), atol=5e-3
        )

    def test_scores_are_comparable(self) -> None:
        """The factors bring the score of a label of few photos nearer to that of one of many."""
        found = []
        for each in (2, 40):
            labelled = few(1, each)
            row = np.asarray(labelled.gallery.snapshot.descriptors[:1], np.float32)
            score = float(train(labelled).linear.scores(row)[0, 0])
            found.append((score, score * comparable(labelled.counts)[0]))
        (few_raw, few_made), (many_raw, many_made) = found
        assert few_raw / many_raw < 0.8
        assert few_raw / many_raw < few_made / many_made < 1.1


class TestFewLabels:
    @pytest.mark.parametrize("classes", [1, 2])
    @pytest.mark.parametrize("each", [5, 40])
    def test_strangers_get_no_name(self, classes: int, each: int) -> None:
        # Descriptors of so many numbers that those of different things are about orthogonal.
        generator = np.random.default_rng(0)
        centres = generator.standard_normal((classes, 512))

        def photos(count: int) -> NDArray[np.float64]:
            """Return `count` descriptors of each label; two of a label have a cosine of 0.7."""
            noise = generator.standard_normal((count, classes, 512))
            return np.asarray((centres + 0.65 * noise).reshape(-1, 512))

        labels = [f"place {number}" for number in range(classes)]
        labelled = LabelledGallery.of(
            gallery_of(photos(each)), labels * each, background=things(dimension=512)
        )
        recognizer = fit_recognizer(labelled, "linear")
        assert not recognizer.learned
        threshold = recognizer.confidence.threshold(0.9)
        assert threshold == 0.9

        def names(rows: NDArray[np.floating]) -> list[str | None]:
            unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            return [decide(recognizer.answer(row), threshold).label for row in unit]

        assert names(photos(30)) == labels * 30
        # Some strangers resemble a label a little: their cosine is 0.35.
        strangers = generator.standard_normal((100, 512))
        strangers[50:] += 0.5 * centres[0]
        assert names(strangers) == [None] * 100

    def test_what_is_missing(self) -> None:
        assert "and 10 are there" in str(what_is_missing(few(2, 5)))
        assert "without a label, are needed, and none are there" in str(what_is_missing(few(2, 20)))
        assert what_is_missing(few(3, 20)) is None
        enough = labelled_crowd(classes=2, each=20, others=12)
        assert what_is_missing(enough) is None and held_out_examples(
            "linear", enough, train(enough)
        )
        one = labelled_crowd(classes=1, each=40, others=4)
        assert "are needed, and 4 are there" in str(what_is_missing(one))

    def test_the_reason_is_true(self) -> None:
        sentence = fit_recognizer(few(2, 20), "linear").why_not_learned
        assert sentence is not None and "other things" in sentence
        assert "does not know" not in sentence
        rows, labels = crowd(2, 20, 0)
        alone = fit_recognizer(LabelledGallery.of(gallery_of(rows), labels), "linear")
        assert "does not know how other things look" in str(alone.why_not_learned)
        assert fit_recognizer(few(3, 20), "linear").why_not_learned is None


def test_an_exported_model_answers_the_same(tmp_path: Path) -> None:
    """Its weights hold the factors of the labels."""
    encoder = load_encoder("fast")
    background = background_of(encoder.describe())
    assert background is not None
    rows = np.random.default_rng(0).standard_normal((9, background.shape[1]))
    labelled = LabelledGallery.of(gallery_of(rows), ["a"] * 3 + ["b"] * 6, background=background)
    recognizer = fit_recognizer(labelled, "linear")
    model = Model.of(recognizer, encoder, 320)
    assert model.linear is not None
    descriptor = np.asarray(labelled.gallery.snapshot.descriptors[0], np.float32)
    descriptor /= np.linalg.norm(descriptor)
    answer = recognizer.answer(descriptor)
    scores = model.linear.scores(descriptor[None])[0]
    confidences = model.confidence.probabilities(np.sort(scores)[::-1][:, None])
    np.testing.assert_allclose(confidences, answer.confidences, atol=1e-6)
