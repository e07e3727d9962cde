"""Maps of runs: of classes and of similarities, by all methods, for all kinds of recipes."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
pytest.importorskip("pytorch_lightning")

from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_onnx import PLAIN, mirror, tokens, write
from tiny_runs import RunAndCard, ask_model, files_of

from veduta.encoders import load_encoder
from veduta.errors import EncoderError, LearnError, QueryError
from veduta.explanation import METHODS, Explanation
from veduta.explanation.methods import methods_for
from veduta.learn.explaining import run_maps
from veduta.learn.explaining.run_maps import explain_class, explain_embedding
from veduta.learn.models.embedded_network import embedded_network
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.runs.card import Card
from veduta.learn.runs.export import save_weights
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")

Photo = NDArray[np.uint8]


def total(found: Explanation) -> float:
    assert found.constant is not None
    return found.sum + found.constant


@pytest.fixture(scope="module")
def photo(run_home: Path) -> Path:
    return files_of(run_home / "photos", "test")[0][0]


@pytest.fixture(scope="module")
def other(run_home: Path) -> Path:
    return files_of(run_home / "photos", "test")[0][9]


@pytest.fixture(scope="module")
def noise() -> Photo:
    return np.random.default_rng(4).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def written_run(folder: Path, recipe: Recipe, card: Card, dimension: int | None = None) -> Path:
    """The files of a run that maps need, for a network with random weights and biases."""
    torch.manual_seed(3)
    net = build_network(recipe, 3 if recipe.network.classes > 2 else 2, dimension=dimension)
    with torch.no_grad():
        for name, one in net.named_parameters():
            if name.endswith("bias") and not name.startswith("backbone"):
                one.uniform_(-1, 1)
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe_toml(recipe), "utf-8")
    save_weights(net, folder / "model.safetensors")
    card = replace(
        card,
        classes=("arch", "dome", "tower")[: net.classes],
        answers="scores" if net.has_scores else "nearest training photo",
    )
    (folder / "card.json").write_text(json.dumps(card.as_json()), "utf-8")
    return folder


class TestClasses:
    def test_the_exact_map(self, class_run: RunAndCard, photo: Path) -> None:
        run, card = class_run
        logits = ask_model(run, [photo])[1][0]
        found = explain_class(run, photo)
        assert (found.method, found.layer) == ("cam", "layers.1")
        assert found.class_name == card.classes[logits.argmax()]
        assert found.score == pytest.approx(logits.max(), abs=1e-4)
        assert total(found) == pytest.approx(found.score, abs=1e-5)
        assert found.map.shape == (14, 14) and found.map.dtype == np.float32
        assert found.map.min() < 0 < found.map.max()
        assert found.box == (0, 0, 16, 16) and found.pixels.shape == (16, 16, 3)
        assert found.photo == str(photo) and found.seconds > 0
        for number, name in enumerate(card.classes):
            of_class = explain_class(run, photo, name)
            assert total(of_class) == pytest.approx(float(logits[number]), abs=1e-4)

    def test_one_unit(self, pair_run: RunAndCard, photo: Path) -> None:
        zero, score = ask_model(pair_run[0], [photo], 0, 1)[1][0]
        assert zero == 0
        for method in ("layer-cam", "occlusion"):
            scores = {
                name: explain_class(pair_run[0], photo, name, method).score
                for name in ("gate", "temple")
            }
            assert scores == pytest.approx({"gate": -score, "temple": score}, abs=1e-5)
        assert explain_class(pair_run[0], photo).method == "layer-cam"
        with pytest.raises(QueryError, match=r"layers\.3\.1 \(ReLU\).*work: layer-cam"):
            explain_class(pair_run[0], photo, method="cam")

    @pytest.mark.parametrize("method", methods_for("class"))
    def test_every_method(self, method: str, class_run: RunAndCard, photo: Path) -> None:
        exact = explain_class(class_run[0], photo)
        found = explain_class(class_run[0], photo, method=method.upper().replace("-", " "))
        assert found.method == method and found.class_name == exact.class_name
        assert found.score == pytest.approx(exact.score, abs=1e-4)
        assert (
            found.map.ndim == 2 and found.map.dtype == np.float32 and np.isfinite(found.map).all()
        )
        assert (found.constant is not None) == METHODS[method].sums
        if METHODS[method].sums:
            gap = 0.05 if method == "integrated-gradients" else 1e-5
            assert total(found) == pytest.approx(found.score, abs=gap)
        by_hand = np.asarray(Image.open(photo).convert("RGB"))
        again = explain_class(class_run[0], by_hand, method=method)
        np.testing.assert_allclose(again.map, found.map, atol=1e-6)
        assert again.photo == "the photo"

    def test_a_class_that_it_lacks(self, class_run: RunAndCard, photo: Path) -> None:
        for method in (None, "gradient", "occlusion"):
            with pytest.raises(QueryError, match=r"no class 'zo'.*nearest: 'zoo'"):
                explain_class(class_run[0], photo, "zo", method)

    def test_a_run_without_classes(self, autoencoder_run: RunAndCard, photo: Path) -> None:
        for method in (None, "cam", "rise"):
            with pytest.raises(QueryError, match=r"names no classes.*similarity of two photos"):
                explain_class(autoencoder_run[0], photo, method=method)

    def test_a_method_for_pairs_of_photos(self, class_run: RunAndCard, photo: Path) -> None:
        with pytest.raises(QueryError, match=r"no method 'cams'; did you mean cam"):
            explain_class(class_run[0], photo, method="cams")
        with pytest.raises(QueryError, match="smoothgrad does not explain the similarity"):
            explain_embedding(class_run[0], photo, photo, "smoothgrad")

    @pytest.mark.parametrize("method", ["cam", "grad-cam", "gradient", "eigen-cam"])
    @pytest.mark.parametrize("shape", [(1, 1), (3, 40), (16, 16)], ids=str)
    def test_plain_photos(self, method: str, shape: tuple[int, int], class_run: RunAndCard) -> None:
        plain = np.full((*shape, 3), 128, np.uint8)
        found = explain_class(class_run[0], plain, method=method)
        assert np.isfinite(found.map).all() and found.pixels.shape[:2] == shape
        assert found.box == (0, 0, shape[1], shape[0])

    def test_zeros_are_said(self, class_run: RunAndCard, copied_run: Path, photo: Path) -> None:
        weights = load_file(copied_run / "model.safetensors")
        save_file(
            {name: one * 0 for name, one in weights.items()}, copied_run / "model.safetensors"
        )
        found = explain_class(copied_run, photo, method="layer-cam")
        assert not found.map.any() and "zero everywhere" in found.notes[-1]
        # The network of the other run is not taken for it.
        assert explain_class(class_run[0], photo, method="layer-cam").map.any()


KINDS: dict[str, tuple[str, str, list[str]]] = {
    # recipe: the default for a class, that for a similarity, and what makes it small
    "cnn-3": ("layer-cam", "grad-cam", ["input.size=64"]),
    "scratch-competition": ("cam", "shares", ["input.size=128"]),
    "transfer": ("cam", "shares", ["input.size=96"]),
    "finetune": ("cam", "shares", ["input.size=96"]),
    "arcface": ("", "shares", ["input.size=96"]),
    "siamese": ("", "grad-cam", ["input.size=64"]),
    "autoencoder-32-64": ("", "shares", []),
    "variational-autoencoder": ("", "grad-cam", []),
}


@pytest.fixture(scope="module")
def run_of_kind(
    class_run: RunAndCard, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    home = tmp_path_factory.mktemp("kinds")

    def run(kind: str) -> Path:
        if not (home / kind).exists():
            changes = KINDS[kind][2]
            written_run(home / kind, open_recipe(kind, changes), class_run[1])
        return home / kind

    return run


class TestKinds:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][0]])
    def test_a_class(self, kind: str, run_of_kind: Callable[[str], Path], noise: Photo) -> None:
        run = run_of_kind(kind)
        found = explain_class(run, noise)
        assert found.method == KINDS[kind][0] and min(found.map.shape) > 1
        assert np.isfinite(found.map).all()
        scores = [explain_class(run, noise, name, "gradient").score for name in ("arch", "dome")]
        assert found.score is not None and found.score >= max(scores) - 1e-6
        if found.method == "cam":
            assert total(found) == pytest.approx(found.score, abs=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_similarity(
        self, kind: str, run_of_kind: Callable[[str], Path], noise: Photo
    ) -> None:
        other = noise[::-1, ::-1].copy()
        other[:, :60] = 200
        found = explain_embedding(run_of_kind(kind), noise, other)
        assert found.method == KINDS[kind][1] and found.against is not None
        assert found.photo == "the photo" and found.against.photo == "the other photo"
        for one in (found, found.against):
            assert -1 <= one.similarity <= 1 and min(one.map.shape) > 1
            assert np.isfinite(one.map).all()
            if one.method == "shares":
                assert total(one) == pytest.approx(one.similarity, abs=1e-5)
        turned = explain_embedding(run_of_kind(kind), other, noise)
        np.testing.assert_allclose(turned.map, found.against.map, atol=1e-6)

    def test_shares_of_a_generalised_mean_by_hand(
        self, run_of_kind: Callable[[str], Path], noise: Photo
    ) -> None:
        """The recipe arcface: x³ / Σ x³ of each pooled channel, then a dense layer."""
        from veduta.learn.explaining.explained_network import open_network

        network = open_network(run_of_kind("arcface"))
        features = network.embedding.backbone(network.prepare(noise))[0].double().numpy()
        with torch.no_grad():
            made = network.embedding(network.prepare(noise))[0].double().numpy()
        dense = network.embedding.layers[1]
        cubes = np.maximum(features, 1e-6) ** 3
        pooled = cubes.mean(axis=(1, 2)) ** (1 / 3)
        shares = cubes / cubes.sum(axis=(1, 2), keepdims=True) * pooled[:, None, None]
        direction = made / np.linalg.norm(made) ** 2
        expected = np.einsum("d,dc,chw->hw", direction, dense.weight.double().numpy(), shares)
        found = explain_embedding(run_of_kind("arcface"), noise, noise)
        assert found.similarity == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(found.map, expected, atol=1e-6)
        constant = float(dense.bias.double().numpy() @ direction)
        assert found.constant == pytest.approx(constant, abs=1e-5)

    def test_shares_of_a_pair_of_networks(self) -> None:
        network = embedded_network("efficientnet-lite0-lite2-textured", pretrained=True).eval()
        maps: list[torch.Tensor] = []
        network.feature_map.register_forward_hook(lambda *call: maps.append(call[2]))
        photos = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            made = network(photos)
            shares, rest = network.shares(maps[0])
        assert shares.shape == (*made.shape, 3, 2)
        np.testing.assert_allclose(shares.double().sum((2, 3)) + rest, made, atol=1e-6)
        # By hand: the share of one position in one channel, and in the texture of the first one.
        features = maps[0][0].double().numpy()
        cubes = np.maximum(features[:1280], 1e-6) ** 3
        pooled = np.sqrt(cubes.mean(axis=(1, 2)))
        centred = pooled / np.linalg.norm(pooled) - network.common[0].double().numpy()
        channel = int(cubes[:, 1, 0].argmax())
        expected = (pooled[channel] / np.linalg.norm(pooled) / np.linalg.norm(centred)) * (
            cubes[channel, 1, 0] / cubes[channel].sum()
        )
        assert float(shares[0, channel, 1, 0]) == pytest.approx(expected, rel=1e-5)
        starts = features[2560:]
        means = starts.mean(axis=(1, 2))
        deviations = np.sqrt(starts.var(axis=(1, 2)) + 1e-6)
        length = np.sqrt((means**2).sum() + (deviations**2).sum()) / 4
        first = 2560
        of_mean = starts[0, 1, 0] / 6 / length
        of_deviation = (starts[0, 1, 0] - means[0]) ** 2 / 6 / deviations[0] / length
        count = network.late[0][0].project.out_channels
        assert float(shares[0, first, 1, 0]) == pytest.approx(of_mean, rel=1e-4)
        assert float(shares[0, first + count, 1, 0]) == pytest.approx(of_deviation, rel=1e-4)

    def test_a_crop_has_its_box(self, class_run: RunAndCard, tmp_path: Path, noise: Photo) -> None:
        recipe = open_recipe("scratch-competition", ["input.size=128", "input.fit=crop"])
        run = written_run(tmp_path / "run", recipe, class_run[1])
        found = explain_class(run, noise)
        assert found.box == (15, 0, 90, 90)
        # What is outside of the box has no effect.
        changed = noise.copy()
        changed[:, :15] = 0
        changed[:, 105:] = 255
        np.testing.assert_array_equal(explain_class(run, changed).map, found.map)

    def test_a_patch_lights_up_where_it_is(self, class_run: RunAndCard, tmp_path: Path) -> None:
        """The map is neither turned nor mirrored."""
        run = written_run(
            tmp_path / "run", open_recipe("scratch-competition", ["input.size=128"]), class_run[1]
        )
        plain = np.full((64, 64, 3), 90, np.uint8)
        marked = plain.copy()
        marked[8:16, 44:52] = [255, 0, 0]  # above, at the right
        change = np.abs(
            explain_class(run, marked, "arch").map - explain_class(run, plain, "arch").map
        )
        rows, columns = change.sum(1), change.sum(0)
        side = len(rows)
        assert rows[: side // 2].sum() > 3 * rows[side // 2 :].sum()
        assert columns[side // 2 :].sum() > 3 * columns[: side // 2].sum()


class TestSimilarities:
    def test_the_similarity_is_that_of_the_encoder(
        self, class_run: RunAndCard, autoencoder_run: RunAndCard, photo: Path, other: Path
    ) -> None:
        from veduta import photos

        for run, _ in (class_run, autoencoder_run):
            encoder = load_encoder(str(run))
            prepared = [encoder.prepare(photos.load(one).pixels) for one in (photo, other)]
            first, second = encoder.encode(prepared)
            for method in ("shares", "grad-cam", "occlusion", "rise"):
                found = explain_embedding(run, photo, other, method)
                assert found.method == method and found.against is not None
                assert found.similarity == pytest.approx(float(first @ second), abs=1e-4)
                assert found.photo == str(photo) and found.against.photo == str(other)

    def test_what_is_not_linear(self, pair_run: RunAndCard, photo: Path) -> None:
        with pytest.raises(QueryError, match=r"\(ReLU\).*work: grad-cam, occlusion, rise\.$"):
            explain_embedding(pair_run[0], photo, photo, "shares")

    def test_grad_cam_by_hand(self, pair_run: RunAndCard, photo: Path, other: Path) -> None:
        from veduta import photos
        from veduta.learn.explaining.explained_network import open_network

        network = open_network(pair_run[0])
        first, second = (network.prepare(photos.load(one).pixels) for one in (photo, other))
        layers = network.embedding.layers
        features = layers[0](first).requires_grad_()
        made = layers[3](layers[2](layers[1](features)))[0]
        fixed = network.embedding(second)[0]
        (made @ fixed / made.norm() / fixed.norm()).backward()
        weighted = (features.grad.mean((2, 3), keepdim=True) * features).sum(1)[0].clamp(min=0)
        found = explain_embedding(pair_run[0], photo, other, "grad-cam")
        np.testing.assert_allclose(found.map, weighted.detach(), atol=1e-7)


class TestFrozenEncoders:
    def run(self, folder: Path, card: Card, *changes: str, pooling: str = "gem") -> Path:
        side = 4 if pooling == "cls" else 16
        settings = {"sizes": [side], "fit": "squash", "pooling": pooling} | PLAIN
        file = write(folder, tokens() if pooling == "cls" else mirror(), settings)
        recipe = open_recipe("linear", [f"network.backbone=encoder:{file}", *changes])
        return written_run(folder / "run", recipe, card, 16 if pooling == "cls" else 3)

    def test_a_class(self, class_run: RunAndCard, tmp_path: Path, noise: Photo) -> None:
        run = self.run(tmp_path, class_run[1])
        encoder = load_encoder(str(tmp_path / "model.onnx"))
        weights = load_file(run / "model.safetensors")
        (descriptor,) = encoder.encode([encoder.prepare(noise)])
        scores = weights["layers.0.weight"].numpy() @ descriptor + weights["layers.0.bias"].numpy()
        found = explain_class(run, noise)
        assert (found.method, found.map.shape, found.box) == ("shares", (16, 16), (0, 0, 120, 90))
        assert found.class_name == ("arch", "dome", "tower")[scores.argmax()]
        assert found.score == pytest.approx(scores.max(), abs=1e-6)
        assert total(found) == pytest.approx(found.score, abs=1e-5)
        assert found.constant == pytest.approx(
            float(weights["layers.0.bias"][scores.argmax()]), abs=1e-5
        )
        for method in ("cam", "layer-cam", "gradient"):
            with pytest.raises(QueryError, match=r"descriptors of.*work: shares, occlusion, rise"):
                explain_class(run, noise, method=method)

    def test_a_similarity(self, class_run: RunAndCard, tmp_path: Path, noise: Photo) -> None:
        layers = 'network.layers=[{dense = 5}, {batch-norm = true}, {dense = "classes"}]'
        run = self.run(tmp_path, class_run[1], layers, "network.features=2", "training.probe=none")
        found = explain_embedding(run, noise, noise[:, ::-1] // 2)
        assert found.method == "shares" and found.against is not None
        for one in (found, found.against):
            assert total(one) == pytest.approx(one.similarity, abs=1e-5)
        with pytest.raises(QueryError, match="work: shares, occlusion, rise"):
            explain_embedding(run, noise, noise, "grad-cam")

    def test_layers_that_are_not_linear(
        self, class_run: RunAndCard, tmp_path: Path, noise: Photo
    ) -> None:
        layers = 'network.layers=[{dense = 5, activation = "relu"}, {dense = "classes"}]'
        run = self.run(tmp_path, class_run[1], layers, "training.probe=none")
        with pytest.raises(QueryError, match=r"not linear.*work: occlusion, rise"):
            explain_class(run, noise, method="shares")
        asked: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                run_maps,
                "explain_class_by_changes",
                lambda *call, name: asked.append(call[3]),
            )
            explain_class(run, noise)
        assert asked == ["occlusion"]

    def test_an_encoder_without_positions(self, class_run: RunAndCard, tmp_path: Path) -> None:
        run = self.run(tmp_path, class_run[1], pooling="cls")
        with pytest.raises(EncoderError, match="occlusion"):
            explain_class(run, np.zeros((4, 4, 3), np.uint8), method="shares")


class TestDamagedRuns:
    def test_no_run(self, tmp_path: Path, photo: Path) -> None:
        for run in (tmp_path, tmp_path / "none"):
            for method in (None, "cam"):
                with pytest.raises(LearnError, match=r"not a run; name a folder with a card.json"):
                    explain_class(run, photo, method=method)
            with pytest.raises(LearnError, match="not a run"):
                explain_embedding(run, photo, photo, "occlusion")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda run: (run / "model.safetensors").unlink(), "has no model.safetensors"),
            (lambda run: (run / "model.safetensors").write_bytes(b"x" * 99), "cannot be read"),
            (lambda run: (run / "recipe.toml").unlink(), "has no recipe.toml. Train the run again"),
            (lambda run: (run / "recipe.toml").write_text("[net"), "cannot be read as TOML"),
            (
                lambda run: (run / "recipe.toml").write_text("[input]\ncolour = 3"),
                r"unknown key.*Train the run again",
            ),
            (
                lambda run: (run / "recipe.toml").write_text(recipe_toml(open_recipe("cnn-1"))),
                "weights of another network",
            ),
            (
                lambda run: (run / "card.json").write_text(
                    (run / "card.json").read_text("utf-8").replace('"format": 1', '"format": 2')
                ),
                "format 2, but this Veduta reads 1",
            ),
            (lambda run: (run / "card.json").unlink(), "not finished"),
        ],
    )
    def test_damage(
        self, damage: Callable[[Path], object], message: str, copied_run: Path, photo: Path
    ) -> None:
        explain_class(copied_run, photo)  # which keeps the network for the next call
        damage(copied_run)
        for ask in (explain_class, partial(explain_embedding, other=photo)):
            with pytest.raises(LearnError, match=message) as caught:
                ask(copied_run, photo)
            assert caught.value.exit_code == 3 and str(copied_run) in str(caught.value)

    def test_numbers_that_are_not_finite(self, copied_run: Path, photo: Path) -> None:
        file = copied_run / "model.safetensors"
        weights = load_file(file)
        weights["layers.4.bias"][0] = float("nan")
        save_file(weights, file)
        for ask in (explain_class, partial(explain_embedding, other=photo)):
            with pytest.raises(
                LearnError, match=r"infinite or undefined.*weights are damaged"
            ) as e:
                ask(copied_run, photo)
            assert str(e.value).startswith(f"{file}: ")
