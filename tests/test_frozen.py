"""Training on an encoder's descriptors, and projections learned from labels."""

# ruff: noqa: E402 - what needs torch is imported after the test for it

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")
onnx = pytest.importorskip("onnx")

import veduta
from veduta.cli.main import run as cli
from veduta.encoders import OnnxEncoder, Projection, load_encoder
from veduta.encoders.pooling import unit
from veduta.encoders.settings import Settings, Source
from veduta.errors import EncoderMismatch, LearnError, RecipeError
from veduta.index import open_snapshot
from veduta.learn.data.splits import read_splits
from veduta.learn.models.projection import learn_projection, projection_of_index
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.runs.encoder_with_head import write_encoder_with_head
from veduta.learn.runs.frozen_encoder import (
    Descriptors,
    descriptors_of,
    train_frozen,
    train_head,
)
from veduta.learn.runs.train import train
from veduta.learn.training.checkpoint import (
    Checkpoint,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from veduta.recognize import open_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAMES = ("arch", "dome", "tower")
TRAINED = ("frozen-arcface", "frozen-sub-centre-arcface", "frozen-supcon", "linear")


def network(file: Path, body: str, output: str, opset: int = 17) -> Path:
    """Write a tiny network: photos (N, 3, h, w) to 6 channels, and what `body` makes of them."""
    weights = np.random.default_rng(5).normal(0, 0.4, (6, 3, 3, 3)).round(3)
    text = ", ".join(str(value) for value in weights.ravel())
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        tiny (float[N, 3, h, w] photos) => ({output})
        <float[6, 3, 3, 3] kernel = {{{text}}}, float[1] descriptor = {{0.0}}>
        {{
            raw = Conv <strides = [2, 2]> (photos, kernel)
            map = Relu (raw)
            {body}
        }}
    """)
    onnx.save(model, str(file))
    return file


VECTOR = ("tall = GlobalAveragePool (map)  vector = Flatten (tall)", "float[N, 6] vector")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Photos in colours of their class, a tiny encoder, and a cache of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("frozen")
    rng = np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 3), ("test", 4)):
        for code, name in enumerate(NAMES):
            (home / "photos" / part / name).mkdir(parents=True)
            for number in range(count):
                colour = 40 + 170 * np.eye(3)[code] + rng.normal(0, 12, 3)
                noise = rng.normal(0, 25, (40 + 8 * (number % 2), 48, 3)) + colour
                pixels = np.clip(noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(home / "photos" / part / name / f"{number}.png")
    network(home / "tiny.onnx", *VECTOR)
    settings = {"sizes": [32], "fit": "squash", "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.3]}
    (home / "tiny.json").write_text(json.dumps(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        yield home
    torch.set_num_threads(threads)


def recipe_of(home: Path, name: str = "frozen-arcface", *changes: str) -> Recipe:
    usual = [f"network.backbone=encoder:{home / 'tiny.onnx'}", "training.epochs=4"]
    return open_recipe(name, [*usual, *changes])


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    train(recipe_of(home), home / "photos", home / "run", command="veduta train")
    return home / "run"


def files_of(home: Path) -> list[Path]:
    return sorted((home / "photos").rglob("*.png"))


def test_photos_are_encoded_once(
    home: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(self: OnnxEncoder, prepared: Any) -> None:
        raise AssertionError("encoded again")

    encoder = load_encoder(str(home / "tiny.onnx"))
    rows, broken = descriptors_of(files_of(home), encoder)
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "encode", again)
        same, _ = descriptors_of(files_of(home)[::-1], encoder)
    np.testing.assert_array_equal(same[::-1], rows)
    assert rows.shape == (48, 6) and not broken
    wanted = [
        encoder.encode([encoder.prepare(np.asarray(Image.open(f)))])[0] for f in files_of(home)
    ]
    np.testing.assert_allclose(rows, wanted, atol=1e-3)


@pytest.mark.slow
def test_an_index_has_the_descriptors_that_training_saw(home: Path, made: Path) -> None:
    from safetensors.numpy import load_file

    rows, _ = descriptors_of(files_of(home), load_encoder(str(home / "tiny.onnx")))
    weights = load_file(made / "model.safetensors")
    weight, bias = (weights[name] for name in sorted(weights, key=lambda n: n.endswith("bias")))
    seen = rows.astype(np.float64) @ weight.T.astype(np.float64) + bias
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    index = home / "by-run"
    cli(["index", str(home / "photos"), "--index", str(index), "--encoder", str(made)])
    snapshot = open_snapshot(index)
    found = snapshot.descriptors.astype(np.float64)
    order = np.argsort([bytes(path) for path in snapshot.rows["path"].to_pylist()])
    assert snapshot.dimension == 512
    cosines = (found[order] * seen).sum(axis=1)
    assert len(cosines) == 48 and abs(cosines - 1).max() < 1e-4
    hits = veduta.open(index).search(files_of(home)[0], k=3)
    assert hits[0].path == str(files_of(home)[0])


@pytest.mark.slow
def test_without_own_layers_the_descriptor_is_the_encoders(home: Path) -> None:
    card = train(
        recipe_of(home, "linear", "training.epochs=40", "training.learning_rate=0.2"),
        home / "photos",
        home / "line",
    )
    assert card.test is not None and card.test.accuracy >= 0.9
    assert card.features == 6 and card.parameters.trainable == 3 * 6 + 3
    assert card.parameters.total == 3 * 6 + 3 + 6 * 3 * 3 * 3 + 1
    plain, whole = load_encoder(str(home / "tiny.onnx")), load_encoder(str(home / "line"))
    noise = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    photos = [noise, noise[:, ::-1], np.full_like(noise, 90)]
    given = whole.encode([whole.prepare(one) for one in photos])
    np.testing.assert_allclose(
        given, plain.encode([plain.prepare(one) for one in photos]), atol=1e-6
    )
    photo = home / "photos" / "test" / "dome" / "0.png"
    assert open_model(home / "line").recognize(photo).guess == "dome"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_recipes_of_the_package(home: Path, tmp_path: Path, name: str) -> None:
    seen: list[int] = []
    recipe = recipe_of(home, name, "training.epochs=2")
    card = train(
        recipe, home / "photos", tmp_path / "run", on_epoch=lambda epoch: seen.append(epoch.number)
    )
    assert seen == [1, 2] and card.epochs == 2
    assert card.onnx_difference < 1e-4
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert (tmp_path / "run" / "recognizer").is_dir() == (name == "linear")


@pytest.mark.slow
def test_the_same_again(home: Path, made: Path, tmp_path: Path) -> None:
    train(recipe_of(home), home / "photos", tmp_path / "run")
    again = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert again == (made / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_an_unreadable_photo_leaves(home: Path, tmp_path: Path) -> None:
    import shutil

    photos = Path(shutil.copytree(home / "photos", tmp_path / "photos"))
    broken = photos / "train" / "arch" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    parts = read_splits(photos)
    card = train_frozen(recipe_of(home), parts, tmp_path / "run")
    assert card.photos == {"train": 26, "val": 9, "test": 12, "unknown": 0}
    assert any("3.png" in problem for problem in card.problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('augment=[{ flip = "horizontal" }]', "encodes each photo once"),
        ("network.decoder=[{ dense = 3 }]", "gives descriptors"),
        ('network.layers=[{ global = "gem" }]', "map of channels"),
    ],
)
def test_what_descriptors_cannot_do(home: Path, tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        train(recipe_of(home, "frozen-arcface", change), home / "photos", tmp_path / "run")


def test_several_sizes_cannot_be_one_file(home: Path, tmp_path: Path) -> None:
    network(tmp_path / "two.onnx", *VECTOR)
    (tmp_path / "two.json").write_text('{"sizes": [32, [48, 0.5]], "fit": "squash"}')
    recipe = open_recipe("linear", [f"network.backbone=encoder:{tmp_path / 'two.onnx'}"])
    with pytest.raises(LearnError, match=r"several sizes \(32, 48 pixels\).*one size"):
        train(recipe, home / "photos", tmp_path / "run")


POOLINGS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "a vector": (*VECTOR, "graph", {}),
    "a map of one pixel": ("map1 = GlobalMaxPool (map)", "float[N, 6, 1, 1] map1", "graph", {}),
    "gem": ("", "float[N, 6, a, b] map", "gem", {"gem_p": 2.5, "fit": "aspect", "stride": 8}),
    "average": ("", "float[N, 6, a, b] map", "average", {"fit": "crop", "keep": 0.8}),
    "first token": (
        "shape = Constant <value_ints = [0, 6, -1]> ()  flat = Reshape (map, shape)"
        "  tokens = Transpose <perm = [0, 2, 1]> (flat)",
        "float[N, T, 6] tokens",
        "cls",
        {},
    ),
    "mean of tokens": (
        "shape = Constant <value_ints = [0, 6, -1]> ()  flat = Reshape (map, shape)"
        "  tokens = Transpose <perm = [0, 2, 1]> (flat)",
        "float[N, T, 6] tokens",
        "mean_tokens",
        {},
    ),
    "half precision": (
        "tall = GlobalAveragePool (map)  long = Flatten (tall)  half = Cast <to = 10> (long)",
        "float16[N, 6] half",
        "graph",
        {},
    ),
    "a newer opset": (*VECTOR, "graph", {"opset": 20}),
}


@pytest.mark.parametrize("kind", POOLINGS)
def test_layers_behind_any_encoder(tmp_path: Path, kind: str) -> None:
    body, output, pooling, settings = POOLINGS[kind]
    opset = settings.get("opset", 17)
    beside = {"sizes": [40], "fit": "squash", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
    beside |= {"pooling": pooling} | {k: v for k, v in settings.items() if k != "opset"}
    network(tmp_path / "body.onnx", body, output, opset)
    (tmp_path / "body.json").write_text(json.dumps(beside))
    head = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        head (float[N, 6] descriptors) => (float[N, 6] descriptor, float[N, 2] logits)
        <float[6] weight = {1.0, -2.0, 0.5, 3.0, -1.0, 0.25}, float[1] four = {4.0},
         int64[1] from = {0}, int64[1] to = {2}, int64[1] axis = {1}>
        { descriptor = Mul (descriptors, weight)  short = Slice (descriptors, from, to, axis)
          logits = Mul (short, four) }
    """)
    onnx.save(head, str(tmp_path / "head.onnx"))
    encoder = load_encoder(str(tmp_path / "body.onnx"))
    file = tmp_path / "whole.onnx"
    write_encoder_with_head(encoder.spec, tmp_path / "head.onnx", ["descriptor", "logits"], file)
    whole = load_encoder(str(file))
    noise = np.random.default_rng(2).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    photos = [noise, noise.transpose(1, 0, 2), noise // 9]
    plain = encoder.encode([encoder.prepare(photo) for photo in photos])
    prepared = [whole.prepare(photo) for photo in photos]
    weight = np.array([1, -2, 0.5, 3, -1, 0.25])
    np.testing.assert_allclose(whole.encode(prepared), unit(plain * weight), atol=2e-6)
    np.testing.assert_allclose(whole.class_scores(prepared, "logits"), 4 * plain[:, :2], atol=1e-5)


@pytest.mark.slow
def test_a_photo_of_which_the_network_says_nothing(home: Path, made: Path) -> None:
    body, output = VECTOR
    file = network(
        home / "dead.onnx",
        f"none = Sub (map, map)  {body}".replace("(map)  v", "(none)  v"),
        output,
    )
    (home / "dead.json").write_text('{"sizes": [32], "fit": "squash"}')
    recipe = open_recipe("linear", [f"network.backbone=encoder:{file}", "training.epochs=1"])
    train(recipe, home / "photos", home / "dead")
    whole = load_encoder(str(home / "dead"))
    given = whole.encode([whole.prepare(np.zeros((9, 9, 3), np.uint8))])
    np.testing.assert_allclose(given, np.full((1, 6), 6**-0.5), atol=1e-6)


def test_descriptors_reach_the_network_unchanged() -> None:
    rows = np.arange(12, dtype=np.float16).reshape(4, 3) / 7
    descriptors = Descriptors(rows)
    batch = descriptors.batch([2, 0])
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch, rows[[2, 0]].astype(np.float32))
    assert descriptors.network_input(batch) is batch


def test_the_encoder_of_the_caller_stays_as_it_was(home: Path) -> None:
    encoder = load_encoder(str(home / "tiny.onnx"))
    long_side = encoder.long_side
    descriptors_of(files_of(home)[:2], encoder)
    assert encoder.long_side == long_side


def test_a_checkpoint_belongs_to_one_encoder_and_not_to_its_name(
    home: Path, tmp_path: Path
) -> None:
    parts = read_splits(home / "photos")
    rows = np.ones((len(parts.paths), 8), np.float32)
    recipe = recipe_of(home)
    train_head(recipe, parts, Descriptors(rows, "one"), tmp_path)
    train_head(recipe, parts, Descriptors(rows, "one"), tmp_path)
    with pytest.raises(LearnError, match=r'another encoder of the same name: encoder: "one" in'):
        train_head(recipe, parts, Descriptors(rows, "two"), tmp_path)


def test_an_older_checkpoint_has_an_input_that_is_not_used(home: Path, tmp_path: Path) -> None:
    recipe, parts = recipe_of(home), read_splits(home / "photos")
    state = Checkpoint((), {}, {}, {}, {"w": torch.zeros(1)})
    now = run_identity(recipe, parts)
    assert not any(key.startswith("input.") for key in now.values)
    before = replace(now, values={**now.values, "input.size": 1, "input.fit": "squash"})
    write_checkpoint(tmp_path, state, before, 1)
    assert read_checkpoint(tmp_path, now) is not None
    with pytest.raises(LearnError, match=r"another recipe, frozen-arcface:\s+loss.margin"):
        other = recipe_of(home, "frozen-arcface", "loss.margin=2")
        read_checkpoint(tmp_path, run_identity(other, parts))


def labelled(
    classes: int, each: int, dimension: int = 5, *, spread: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.float32], list[str]]:
    """Classes that differ everywhere; photos of one differ along the last axis most."""
    rng = np.random.default_rng(seed)
    spreads = np.array([0.2] * (dimension // 2) + [spread] * (dimension - dimension // 2))
    spreads[-1] = 2.5
    rows = np.repeat(rng.normal(size=(classes, dimension)), each, axis=0)
    rows += spreads * rng.normal(size=rows.shape)
    names = [f"place {code}" for code in range(classes) for _ in range(each)]
    return unit(rows), names


@pytest.mark.parametrize(("classes", "each", "dimension"), [(4, 6, 5), (3, 4, 30)])
def test_the_projection_is_that_of_the_formula(classes: int, each: int, dimension: int) -> None:
    rows, names = labelled(classes, each, dimension)
    x = rows.astype(np.float64)
    ridge, centre, stretch = 3.0, 0.4, 0.7
    members = [x[[name == one for name in names]] for one in sorted(set(names))]
    within = np.mean([np.cov(own.T, ddof=0) for own in members], axis=0)
    means = np.stack([own.mean(axis=0) for own in members])
    middle = means.mean(axis=0)
    floor = ridge * np.trace(within) / dimension
    values, vectors = np.linalg.eigh(np.eye(dimension) + within / floor)
    shorter = vectors @ np.diag(values**-0.5) @ vectors.T
    apart = ((means - middle) @ shorter)[1:]  # the first follows from the others
    span = apart.T @ np.linalg.pinv(apart.T)
    wanted = (x - centre * middle) @ shorter @ (np.eye(dimension) + stretch * span)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    made = learn_projection(rows, names, ridge=ridge, centre=centre, stretch=stretch)
    np.testing.assert_allclose(made.apply(rows), wanted, atol=2e-5)
    assert made.samples == classes * each and made.matrix.shape == (dimension, dimension)
    assert made.matrix.dtype == made.mean.dtype == np.float32


def test_what_has_no_label_or_no_company_takes_no_part() -> None:
    rows, names = labelled(4, 6)
    strange, _ = labelled(2, 2, seed=9)
    made = learn_projection(rows, names)
    more = learn_projection(np.concatenate([strange, rows]), [None, "", "single", None, *names])
    np.testing.assert_array_equal(made.matrix, more.matrix)
    codes = np.array([-1] * 4 + [7, 7, 7, 7, 7, 7] + [1] * 6 + [2] * 6 + [3] * 6)
    renumbered = learn_projection(np.concatenate([strange, rows]), codes)
    np.testing.assert_allclose(renumbered.matrix, made.matrix, atol=1e-5)


def test_it_brings_new_places_closer_to_themselves() -> None:
    rows, names = labelled(12, 12, 8, spread=1.2)
    new, labels = labelled(6, 8, 8, spread=1.2, seed=3)
    codes = np.unique(labels, return_inverse=True)[1]

    def nearest_is_right(found: NDArray[np.floating]) -> float:
        alike = found @ found.T
        np.fill_diagonal(alike, -2)
        return float((codes[alike.argmax(axis=1)] == codes).mean())

    made = learn_projection(rows, names, ridge=0.1)
    assert nearest_is_right(made.apply(new)) > nearest_is_right(new) + 0.1


@pytest.mark.parametrize(
    "labels",
    [[None] * 6, ["a"] * 6, ["a", "b", "c", "d", "e", "f"], ["a", "a", "b", "c", "d", "e"]],
)
def test_too_little_to_learn_from(labels: list[str | None]) -> None:
    with pytest.raises(LearnError, match="at least two classes with two photos or more"):
        learn_projection(unit(np.random.default_rng(0).normal(size=(6, 4))), labels)


def test_equal_photos_of_each_class() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32)[:3], 2, axis=0)
    made = learn_projection(rows, ["a", "a", "b", "b", "c", "c"])
    assert np.isfinite(made.apply(rows)).all()


def test_the_projection_of_an_index(home: Path, tmp_path: Path) -> None:
    photos, tiny = str(home / "photos" / "train"), str(home / "tiny.onnx")
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    options = ["--encoder", tiny, "--keypoints", "none"]
    assert cli(["index", photos, "--index", one, *options, "--labels", "folders"]) == 0
    plain = open_snapshot(Path(one))
    rows, names = plain.descriptors.astype(np.float32), plain.rows["label"].to_pylist()
    assert cli(["index", "--index", one, "--project", "labels"]) == 0
    file = next(Path(one).glob("projection-*.npz"))
    wanted = learn_projection(rows, names)
    found = open_snapshot(Path(one)).descriptors.astype(np.float32)
    np.testing.assert_allclose(found, wanted.apply(rows), atol=2e-3)
    # What is stored stays, so that it can be learned again with a projection in place.
    assert projection_of_index(Path(one)).identity == Projection.load(file).identity
    assert Projection.load(file).encoder == load_encoder(tiny).identity

    tests = str(home / "photos" / "test")
    assert cli(["index", tests, "--index", other, *options, "--project", str(file)]) == 0
    raw, _ = descriptors_of(sorted((home / "photos" / "test").rglob("*.png")), load_encoder(tiny))
    snapshot = open_snapshot(Path(other))
    order = np.argsort([bytes(path) for path in snapshot.rows["path"].to_pylist()])
    np.testing.assert_allclose(
        snapshot.descriptors[order], wanted.apply(raw.astype(np.float32)), atol=5e-3
    )
    assert cli(["index", "--index", other, "--project", "none"]) == 0
    assert not list(Path(other).glob("projection-*.npz"))


def test_projections_that_do_not_fit(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = veduta.create(tmp_path / "index", str(home / "tiny.onnx"), None)
    index.add(home / "photos" / "test")
    with pytest.raises(EncoderMismatch, match="of 5 numbers"):
        index.project(Projection(np.zeros(5, np.float32), np.eye(5, dtype=np.float32), 1.0, 9))
    same_length = Projection(
        np.zeros(6, np.float32), np.eye(6, dtype=np.float32), 1.0, 9, encoder="0" * 16
    )
    with pytest.raises(EncoderMismatch, match="0000000000000000"):
        index.project(same_length)
    for asked, message in (
        ("labels", "as labels: veduta index --labels folders --index "),
        ("absent.npz", "absent.npz"),
        ("word", "'labels'"),
    ):
        assert cli(["index", "--index", str(tmp_path / "index"), "--project", asked]) != 0
        assert message in capsys.readouterr().err
    assert cli(["index", "--labels", "folders", "--index", str(tmp_path / "index")]) == 0
    assert cli(["index", "--index", str(tmp_path / "index"), "--project", "labels"]) == 0


def test_projections_of_before_name_no_encoder(tmp_path: Path) -> None:
    parts = {"mean": np.zeros(3), "matrix": np.eye(3), "power": 0.5, "samples": 7}
    np.savez(tmp_path / "old.npz", **parts)
    assert Projection.load(tmp_path / "old.npz").encoder == ""


def test_the_package_encoder_with_layers_behind(home: Path, tmp_path: Path) -> None:
    """Bytes go in there, and both sides keep the photo's shape."""
    from veduta.encoders.embedded import embedded_source
    from veduta.encoders.loading import open_encoder

    source = embedded_source("small", "efficientnet-lite0", ((64, 1.0),))
    assert isinstance(source, Source) and isinstance(source.settings, Settings)
    encoder = open_encoder(source)
    net = torch.nn.Linear(1280, 7)
    from veduta.learn.runs.export import export_module

    sample = torch.rand(3, 1280)
    export_module(net.eval(), sample, tmp_path / "head.onnx", "descriptors", ["descriptor"])
    write_encoder_with_head(
        encoder.spec, tmp_path / "head.onnx", ["descriptor"], tmp_path / "whole.onnx"
    )
    whole = load_encoder(str(tmp_path / "whole.onnx"))
    assert whole.spec.layout == "uint8-nhwc" and whole.spec.stride == encoder.spec.stride
    photo = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    with torch.no_grad():
        plain = encoder.encode([encoder.prepare(photo)])
        wanted = unit(net(torch.from_numpy(plain)).numpy())
    np.testing.assert_allclose(whole.encode([whole.prepare(photo)]), wanted, atol=1e-5)
