"""Training: parts of a dataset, the order of photos, losses, and a loop that can be killed."""

from __future__ import annotations

import csv
import errno
import math
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny import pixels, save  # noqa: E402

from veduta.encoders.onnx_encoder import OnnxEncoder  # noqa: E402
from veduta.errors import DatasetError, LearnError, RecipeError  # noqa: E402
from veduta.learn.data.dataloader import BatchSampler, make_dataloader  # noqa: E402
from veduta.learn.data.image_cache import ImageCache, cache_images, normalise  # noqa: E402
from veduta.learn.data.sampling import epoch_batches, rank_share  # noqa: E402
from veduta.learn.data.splits import DatasetSplits, read_splits  # noqa: E402
from veduta.learn.models.networks import Net, Outputs  # noqa: E402
from veduta.learn.recipe import Input, Loss, Network, Recipe, Training  # noqa: E402
from veduta.learn.training import checkpoint, schedule  # noqa: E402
from veduta.learn.training.loop import TrainingResult, fit  # noqa: E402
from veduta.learn.training.losses import LOSSES, build_loss, mix_up, weight_penalty  # noqa: E402
from veduta.learn.training.recipe_network import build_network  # noqa: E402
from veduta.learn.training.schedule import Epoch  # noqa: E402

SIZE = 16
LAYERS = (
    {"conv": 4, "activation": "relu"},
    {"batch-norm": True},
    {"flatten": True},
    {"dropout": 0.2},
    {"dense": "classes"},
)
HALVES = ({"flip": "horizontal"}, {"brightness": 0.3})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny networks: more only wait for each other
    yield
    torch.set_num_threads(before)


def recipe(
    *,
    layers: tuple[dict[str, Any], ...] = LAYERS,
    loss: Loss = Loss(),  # noqa: B008
    augment: tuple[dict[str, Any], ...] = (),
    network: dict[str, Any] | None = None,
    **training: Any,
) -> Recipe:
    chosen = {"epochs": 3, "batch": 8, **training}
    return Recipe(
        "tiny",
        input=Input(size=SIZE),
        network=Network(layers=layers, **(network or {})),
        loss=loss,
        training=Training(**chosen),
        augment=augment,
    )


def coloured(folder: Path, classes: int = 3, each: int = 8) -> Path:
    """Classes that differ by their brightest channel, photos by noise."""
    for code in range(classes):
        for number in range(each):
            photo = pixels(100 * code + number).astype(np.int16) // 3
            photo[..., code % 3] += 120
            place = folder / f"class{code}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo.astype(np.uint8)).save(place)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured(tmp_path_factory.mktemp("photos"))


def prepared(dataset: Path, chosen: Recipe) -> tuple[ImageCache, DatasetSplits]:
    training = chosen.training
    parts = read_splits(dataset, validation=training.validation, seed=training.seed)
    return cache_images(parts, chosen.input, workers=2, max_bytes=2**20)


def train(chosen: Recipe, dataset: Path, out: Path, **options: Any) -> TrainingResult:
    pictures, parts = prepared(dataset, chosen)
    torch.manual_seed(chosen.training.seed)
    return fit(
        chosen, build_network(chosen, len(parts.class_names)), parts, pictures, out, **options
    )


def labels(folder: Path, rows: list[tuple[str, str, str]], column: str = "split") -> Path:
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("path", "label", column), *rows])
    return folder


# DatasetSplits


def test_a_share_of_each_class_is_held_out(dataset: Path) -> None:
    parts = read_splits(dataset, validation=0.25)
    assert parts.held_out
    assert parts.class_names == ("class0", "class1", "class2")
    assert Counter(parts.class_ids[parts.val].tolist()) == {0: 2, 1: 2, 2: 2}
    assert sorted([*parts.train, *parts.val]) == list(range(24))
    assert parts.test.size == 0
    again = read_splits(dataset, validation=0.25)
    assert again.val.tolist() == parts.val.tolist()
    assert again.digest == parts.digest
    other = read_splits(dataset, validation=0.25, seed=1)
    assert other.val.tolist() != parts.val.tolist()
    assert other.digest != parts.digest
    assert read_splits(dataset, validation=0).val.size == 0


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    folder = coloured(tmp_path, 2, 3)
    before = read_splits(folder).digest
    save(folder / "class1" / "2.png", 7)
    assert read_splits(folder).digest != before


def test_copies_are_held_out_together(tmp_path: Path) -> None:
    for code in range(2):
        for number in range(12):
            save(tmp_path / f"class{code}" / f"{number:02}.png", 100 * code + number // 3)
    parts = read_splits(tmp_path, validation=0.25)
    held = [parts.paths[row] for row in parts.val]
    groups = Counter((path.split("/")[0], int(path.split("/")[1][:2]) // 3) for path in held)
    assert set(groups.values()) == {3}
    assert len(groups) == 2


def test_changed_copies_are_held_out_with_their_photo(tmp_path: Path) -> None:
    rows = ["path,label,split,original_photo"]
    for number in range(20):
        for copy in range(3):
            path = f"{number}-{copy}.png"
            save(tmp_path / path, 10 * number + copy)
            rows.append(f"{path},class{number % 2},train,{number}-0.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")
    parts = read_splits(tmp_path, validation=0.25)
    held = Counter(parts.paths[row].split("-")[0] for row in parts.val)
    assert set(held.values()) == {3} and len(held) >= 4


def test_the_words_of_the_column(tmp_path: Path) -> None:
    words = ["train", "gallery", "Validation", "query", "test", "junk", "", "train", "distractor"]
    rows = []
    for number, word in enumerate(words):
        save(tmp_path / f"{number}.png", number)
        rows.append((f"{number}.png", f"class {number % 2}", word))
    save(tmp_path / "none.png", 99)
    labels(tmp_path, [*rows, ("none.png", "", "train")], "cls_split")
    parts = read_splits(tmp_path, column="cls_split")
    of = {
        name: [parts.paths[row] for row in getattr(parts, name)]
        for name in ("train", "val", "test")
    }
    assert of == {
        "train": ["0.png", "1.png", "7.png"],
        "val": ["2.png"],
        "test": ["3.png", "4.png"],
    }
    assert not parts.held_out
    assert [parts.class_names[code] for code in parts.class_ids[parts.test]] == [
        "class 1",
        "class 0",
    ]
    with pytest.raises(DatasetError, match=r"no column 'cls_splt'.*'cls_split'"):
        read_splits(tmp_path, column="cls_splt")


def test_rows_in_another_order_are_the_same_parts(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        save(tmp_path / f"{number}.png", number)
        rows.append((f"{number}.png", f"c{number % 2}", "train" if number < 6 else "test"))
    one = read_splits(labels(tmp_path, rows))
    other = read_splits(labels(tmp_path, rows[::-1]))
    assert one.paths == other.paths
    assert one.digest == other.digest
    assert one.val.tolist() == other.val.tolist()


def test_folders_of_splits(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("validation", 50), ("test", 70)):
        coloured(tmp_path / part, 2, 2)
        for number, file in enumerate(sorted((tmp_path / part).rglob("*.png"))):
            save(file, first + number)
    parts = read_splits(tmp_path)
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [4, 4, 4]
    assert parts.class_names == ("class0", "class1")


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    coloured(tmp_path, 1)
    with pytest.raises(LearnError, match=r"one class only, 'class0'.*two classes"):
        read_splits(tmp_path)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    labels(tmp_path, [("a.png", "x", "test")])
    with pytest.raises(LearnError, match=r"no labelled photo is for training.*but contains 'test'"):
        read_splits(tmp_path)


def test_a_class_of_one_photo_learns_and_is_not_held_out(tmp_path: Path) -> None:
    coloured(tmp_path, 2, 5)
    save(tmp_path / "lonely" / "1.png", 77)
    for share in (0.2, 0.8):
        parts = read_splits(tmp_path, validation=share)
        (row,) = np.flatnonzero(parts.class_ids == parts.class_names.index("lonely"))
        assert row in parts.train
        assert any("one photo" in told and "'lonely'" in told for told in parts.problems)


def test_odd_names_survive(tmp_path: Path) -> None:
    odd = ["Café “Москва”, 1; 日本", "a b\\c", "#%&{}$!'", "=1+1", "-x"]
    for number, name in enumerate(odd):
        for photo in range(4):
            save(tmp_path / name / f"{photo}.png", 10 * number + photo)
    chosen = recipe(epochs=1)
    done = train(chosen, tmp_path, tmp_path.parent / "odd-run")
    assert done.net.classes == 5
    parts = read_splits(tmp_path)
    assert list(parts.class_names) == sorted(odd)
    assert parts.without({int(parts.val[0]): "gone"}).class_names == parts.class_names


def test_classes_that_only_the_test_has(tmp_path: Path) -> None:
    coloured(tmp_path, 2, 3)
    save(tmp_path / "new" / "n.png", 55)
    rows = [(f"class{c}/{n}.png", f"class{c}", "train") for c in range(2) for n in range(3)]
    parts = read_splits(labels(tmp_path, [*rows, ("new/n.png", "new", "test")]))
    assert parts.class_names == ("class0", "class1")
    assert parts.test.size == 0
    assert any("1 photo of test left out" in told and "'new'" in told for told in parts.problems)


def test_leaks_are_refused_with_the_list(tmp_path: Path) -> None:
    rows = []
    for number in range(14):
        save(tmp_path / f"learn{number:02}.png", number)
        rows.append((f"learn{number:02}.png", f"c{number % 2}", "train"))
        save(tmp_path / f"ask{number:02}.png", number if number < 12 else 100 + number)
        rows.append((f"ask{number:02}.png", f"c{number % 2}", "test" if number else "val"))
    labels(tmp_path, rows)
    with pytest.raises(LearnError) as caught:
        read_splits(tmp_path)
    text = str(caught.value)
    assert "12 of val and test are also in train" in text
    assert "ask00.png (val) is learn00.png" in text
    assert "ask09.png (test) is learn09.png" in text
    assert "ask10.png" not in text
    assert "and 2 more" in text
    assert "--allow-leak" in text
    parts = read_splits(tmp_path, allow_leak=True)
    assert len(parts.test) == 13
    assert any(told.startswith("leak allowed: 12 of val") for told in parts.problems)


def test_unreadable_photos_leave_and_shift_no_row(tmp_path: Path) -> None:
    coloured(tmp_path, 3, 6)
    (tmp_path / "class0" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (tmp_path / "class1" / "3.png").write_text("<html>no photo</html>")
    (tmp_path / "class2" / "9.png").symlink_to(tmp_path / "nowhere.png")
    chosen = recipe()
    parts = read_splits(tmp_path)
    told = []
    pictures, left = cache_images(
        parts, chosen.input, workers=2, max_bytes=2**20, on_progress=lambda *now: told.append(now)
    )
    assert told[-1] == ("Reading photos", 18, 18)
    assert len(left.paths) == 16
    assert left.digest != parts.digest
    for name in ("class0/0.png", "class1/3.png"):
        assert any(name in problem for problem in left.problems)
    assert any("9.png" in problem for problem in left.problems)
    for row, path in enumerate(left.paths):
        with Image.open(tmp_path / path) as image:
            colour = np.asarray(image).mean(axis=(0, 1)).argmax()
        shown = pictures.batch([row]).float().mean(dim=(0, 2, 3)).argmax()
        assert int(shown) == colour == left.class_ids[row]
    assert sorted([*left.train, *left.val]) == list(range(16))
    done = fit(chosen, build_network(chosen, 3), left, pictures, tmp_path.parent / "broken-run")
    assert len(done.history) == 3


def test_a_class_whose_photos_are_all_broken_leaves(tmp_path: Path) -> None:
    coloured(tmp_path, 2, 4)
    (tmp_path / "class2").mkdir()
    (tmp_path / "class2" / "x.png").write_bytes(b"no photo")
    parts = read_splits(tmp_path)
    _, left = cache_images(parts, Input(size=8), workers=1, max_bytes=2**20)
    assert left.class_names == ("class0", "class1")
    for file in (tmp_path / "class1").iterdir():
        file.write_bytes(b"no photo")
    with pytest.raises(LearnError, match="one class only, 'class0'"):
        cache_images(read_splits(tmp_path), Input(size=8), workers=1, max_bytes=2**20)


# Image cache


@pytest.mark.parametrize("fit_", ["squash", "crop"])
def test_pixels_are_those_of_an_index(tmp_path: Path, fit_: Any) -> None:
    """As the encoder that a run leaves prepares and normalises them."""
    from veduta.encoders.spec import EncoderSpec
    from veduta.index.describing import photos as index_photos
    from veduta.keypoints.xfeat import LONG_SIDE

    turned = Image.fromarray(pixels(5, 900, 1400))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    turned.save(tmp_path / "a" / "large.jpg", quality=90, exif=exif)
    save(tmp_path / "b" / "small.png", 3)
    seen = Input(size=24, fit=fit_, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    pictures, parts = cache_images(
        read_splits(tmp_path, validation=0), seen, workers=1, max_bytes=24 * 24 * 3
    )  # one of two fits
    assert not pictures.in_memory
    encoder = OnnxEncoder.__new__(OnnxEncoder)
    encoder.spec = EncoderSpec(
        "x", Path(), "", "float-nchw", ((24, 1.0),), "y", fit=fit_, mean=seen.mean, std=seen.std
    )
    encoder._input_type = np.dtype(np.float32)
    from veduta.encoders.placement import long_side

    for row, path in enumerate(parts.paths):
        photo = index_photos.load(tmp_path / path, at_least=max(long_side(encoder.spec), LONG_SIDE))
        wanted = encoder.prepare(photo.pixels)[0]
        found = pictures.batch([row])
        assert np.array_equal(found[0].permute(1, 2, 0).numpy(), wanted)
        values = normalise(found, seen)[0].numpy()
        np.testing.assert_allclose(values, encoder._as_input(wanted[None])[0], atol=1e-6)


def test_photos_beyond_the_cap_are_decoded_each_time(dataset: Path) -> None:
    parts = read_splits(dataset)
    whole, _ = cache_images(parts, Input(size=8), workers=1, max_bytes=2**20)
    part, _ = cache_images(parts, Input(size=8), workers=3, max_bytes=5 * 8 * 8 * 3)
    none, _ = cache_images(parts, Input(size=8), workers=1, max_bytes=0)
    assert whole.in_memory
    assert not part.in_memory
    rows = np.random.default_rng(0).permutation(len(parts.paths))
    assert torch.equal(whole.batch(rows), part.batch(rows))
    assert torch.equal(whole.batch(rows), none.batch(rows))
    assert whole.batch(rows).shape == (24, 3, 8, 8)


def test_a_photo_that_goes_away_in_between(tmp_path: Path) -> None:
    parts = read_splits(coloured(tmp_path, 2, 2), validation=0)
    pictures, _ = cache_images(parts, Input(size=8), workers=1, max_bytes=0)
    (tmp_path / "class1" / "0.png").unlink()
    with pytest.raises(LearnError, match=r"class1/0.png.*could be read when training started"):
        pictures.batch([2])


# Order


def settings(**values: Any) -> Training:
    return Training(**{"batch": 8, **values})


def test_every_photo_once_and_another_order_each_epoch() -> None:
    rows, codes = np.arange(100, 133), np.zeros(33, np.int64)
    first = epoch_batches(rows, codes, settings(), 1)
    assert [len(batch) for batch in first] == [8, 8, 8, 9]  # no batch of one
    assert sorted(np.concatenate(first)) == list(rows)
    again = epoch_batches(rows, codes, settings(), 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        epoch_batches(rows, codes, settings(), 2),
        epoch_batches(rows, codes, settings(seed=1), 1),
    ):
        assert not np.array_equal(np.concatenate(first), np.concatenate(other))


def test_balanced_draws_every_class_as_often() -> None:
    codes = np.repeat([0, 1, 2], [80, 15, 5])
    shown = np.concatenate(epoch_batches(np.arange(100), codes, settings(balanced=True), 3))
    assert len(shown) == 100
    assert sorted(Counter(codes[shown].tolist()).values()) == [33, 33, 34]
    times = Counter(shown.tolist())
    assert {times[row] for row in range(95, 100)} <= {6, 7}  # 5 photos, 33 or 34 draws
    assert max(times[row] for row in range(80)) == 1


def test_batches_of_some_photos_of_each_class() -> None:
    codes = np.repeat([0, 1, 2, 3, 4], [9, 4, 6, 2, 1])
    batches = epoch_batches(np.arange(22), codes, settings(per_class=2), 1)
    for batch in batches:
        assert len(batch) == 8
        assert set(Counter(codes[batch].tolist()).values()) == {2}
        assert all(codes[batch[at]] == codes[batch[at + 1]] for at in range(0, 8, 2))
        for at in range(0, 8, 2):
            assert batch[at] != batch[at + 1] or codes[batch[at]] == 4
    assert set(np.concatenate(batches)) == set(range(22))
    with pytest.raises(RecipeError, match="does not hold two classes"):
        epoch_batches(np.arange(22), codes, settings(per_class=5), 1)


def test_pairs_half_of_one_class_half_of_two() -> None:
    codes = np.repeat([0, 1, 2], [10, 6, 1])
    batches = epoch_batches(np.arange(17), codes, settings(pairs=31), 1)
    pairs = np.concatenate(batches).reshape(-1, 2)
    assert len(pairs) == 31
    assert all(len(batch) % 2 == 0 for batch in batches)
    same = codes[pairs[:, 0]] == codes[pairs[:, 1]]
    assert same.sum() == 16
    assert (pairs[:, 0] != pairs[:, 1]).all()
    with pytest.raises(RecipeError, match="one of them with two photos"):
        epoch_batches(np.arange(3), np.arange(3), settings(pairs=4), 1)


def test_processes_share_a_batch_by_whole_groups() -> None:
    batch = np.arange(12)
    shares = [rank_share(batch, rank, 3, 2) for rank in range(3)]
    assert [share.tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    few = [rank_share(batch[:2], rank, 2, 2).tolist() for rank in range(2)]
    assert few == [[0, 1], [0, 1]]


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # if another test has loaded it
def test_augmentation_is_the_same_with_and_without_processes(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.learn.data import dataloader as feeding

    chosen = recipe(augment=HALVES)
    pictures, parts = prepared(dataset, chosen)
    seen = []

    def noisy(photo: Any) -> Any:
        return (photo.float() * torch.rand(1)).to(torch.uint8)

    for workers in (0, 2):
        monkeypatch.setattr(feeding, "_worker_count", lambda workers=workers, **_: workers)
        batches = BatchSampler(parts, parts.train, chosen.training, lambda: 1)
        torch.manual_seed(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks, from Python 3.12 on
            loader = make_dataloader(parts, pictures, batches, noisy, on_gpu=False)
            seen.append([photos for photos, _ in loader])
        assert float(torch.rand(1)) == pytest.approx(_first_of(5))  # nothing else was drawn
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    plain = pictures.batch(
        next(iter(epoch_batches(parts.train, parts.class_ids, chosen.training, 1)))
    )
    assert not torch.equal(seen[0][0], plain)


def _first_of(seed: int) -> float:
    torch.manual_seed(seed)
    return float(torch.rand(1))


# Losses


def net_like(classes: int = 3, size: int = 2, *, probabilities: bool = False) -> Any:
    return SimpleNamespace(classes=classes, feature_size=size, gives_probabilities=probabilities)


def value(
    loss: Loss, outputs: Outputs, codes: list[int], net: Any = None, **training: Any
) -> float:
    goal = build_loss(recipe(loss=loss, **training), net or net_like())
    photos = torch.zeros(len(codes), 3, 2, 2, dtype=torch.uint8)
    return goal(outputs, torch.tensor(codes), photos).item()


def scored(scores: list[list[float]]) -> Outputs:
    return Outputs(torch.zeros(len(scores), 2), torch.tensor(scores))


def at(features: list[list[float]]) -> Outputs:
    return Outputs(torch.tensor(features), None)


def test_cross_entropy_of_logits() -> None:
    logits = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]
    first = -math.log(math.exp(2) / (math.e + math.exp(2) + math.exp(0.5)))
    found = value(Loss(), scored(logits), [1, 2])
    assert found == pytest.approx((first + math.log(3)) / 2)
    smooth = value(Loss(label_smoothing=0.3), scored([[0.0, 0.0, math.log(2)]]), [2])
    # shares 1/4, 1/4, 1/2; targets 0.1, 0.1, 0.8
    assert smooth == pytest.approx(0.2 * math.log(4) + 0.8 * math.log(2))


def test_cross_entropy_of_probabilities_is_clipped_as_keras_does() -> None:
    net = net_like(probabilities=True)
    found = value(Loss(), scored([[0.2, 0.2, 0.0], [0.0, 0.0, 0.9]]), [0, 0], net)
    assert found == pytest.approx((math.log(2) - math.log(1e-7)) / 2, rel=1e-5)
    smooth = value(Loss(label_smoothing=0.3), scored([[0.25, 0.25, 0.5]]), [2], net)
    assert smooth == pytest.approx(0.2 * math.log(4) + 0.8 * math.log(2), rel=1e-5)


def test_binary_cross_entropy() -> None:
    loss = Loss(name="binary-cross-entropy")
    two = net_like(2)
    found = value(loss, scored([[math.log(3)], [math.log(3)]]), [1, 0], two)
    assert found == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    sure = net_like(2, probabilities=True)
    assert value(loss, scored([[0.75], [0.75]]), [1, 0], sure) == pytest.approx(found)
    assert value(loss, scored([[0.0]]), [1], sure) == pytest.approx(-math.log(1e-7), rel=1e-5)
    with pytest.raises(RecipeError, match="tells two classes apart, but there are 3"):
        value(loss, scored([[0.0]]), [1], net_like(3))
    with pytest.raises(RecipeError, match="needs one score"):
        value(loss, scored([[0.0, 1.0]]), [1], two)


def test_contrastive_on_drawn_pairs_by_hand() -> None:
    # Hadsell, Chopra and LeCun 2006: same at distance 5, different at 1 and at 3, margin 2.
    features = [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 3.0]]
    found = value(Loss(name="contrastive", margin=2.0), at(features), [0, 0, 0, 1, 1, 2], pairs=3)
    assert found == pytest.approx((0.5 * 25 + 0.5 * 1 + 0) / 3)


def test_contrastive_on_all_pairs_counts_both_kinds_alike() -> None:
    features = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]]
    # same: 0-1 at 1. Different: 0-2 at 0.5, 1-2 at √1.25; margin 1.
    found = value(Loss(name="contrastive", margin=1.0), at(features), [0, 0, 1])
    assert found == pytest.approx(0.5 * (0.5 * 1 + 0.5 * (0.25 + 0) / 2))


def test_contrastive_of_equal_photos_has_a_slope() -> None:
    features = torch.zeros(2, 2, requires_grad=True)
    goal = build_loss(recipe(loss=Loss(name="contrastive"), pairs=1), net_like())
    goal(Outputs(features, None), torch.tensor([0, 1]), torch.zeros(2, 3, 1, 1)).backward()
    assert torch.isfinite(features.grad).all()


def test_triplet_by_hand() -> None:
    features = [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]  # on the circle: 0, 90 and 180 degrees
    # anchor 0: d⁺ = √2, d⁻ = 2; anchor 1: d⁺ = √2, d⁻ = √2
    root = math.sqrt(2)
    found = value(Loss(name="triplet", margin=1.0), at(features), [0, 0, 1])
    assert found == pytest.approx(((root - 2 + 1) + 1) / 2, rel=1e-5)


def test_arcface_by_hand() -> None:
    loss = Loss(name="arcface", margin=0.5, scale=4.0)
    goal = build_loss(recipe(loss=loss), net_like(2))
    with torch.no_grad():
        goal.metric.W.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))  # columns: the centres
    angle = 0.3
    outputs = at([[5 * math.cos(angle), 5 * math.sin(angle)]])
    found = goal(outputs, torch.tensor([0]), torch.zeros(1, 3, 1, 1)).item()
    own, other = 4 * math.cos(angle + 0.5), 4 * math.sin(angle)
    assert found == pytest.approx(math.log1p(math.exp(other - own)), rel=1e-4)
    assert goal.predicted_classes(outputs).tolist() == [0]
    assert [name for name, _ in goal.named_parameters()] == ["metric.W"]


def test_sub_centre_arcface_takes_the_nearest_centre() -> None:
    loss = Loss(name="sub-centre-arcface", margin=0.0, scale=4.0, sub_centres=2)
    goal = build_loss(recipe(loss=loss), net_like(2))
    with torch.no_grad():
        goal.metric.W.copy_(torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]))
    angle = 1.2
    outputs = at([[math.cos(angle), math.sin(angle)]])
    found = goal(outputs, torch.tensor([0]), torch.zeros(1, 3, 1, 1)).item()
    own, other = 4 * math.sin(angle), -4 * math.cos(angle)
    assert found == pytest.approx(math.log1p(math.exp(other - own)), rel=1e-4)


def test_supcon_by_hand() -> None:
    # cosines: 0-1 is 0.6, 0-2 is 0, 1-2 is 0.8; temperature 0.5
    features = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    found = value(Loss(name="supcon", temperature=0.5), at(features), [0, 0, 1])
    first = -1.2 + math.log(math.exp(1.2) + math.exp(0))
    second = -1.2 + math.log(math.exp(1.2) + math.exp(1.6))
    assert found == pytest.approx((first + second) / 2, rel=1e-5)  # the third has no partner


def test_reconstruction_losses_by_hand() -> None:
    photos = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1).repeat(2, 1, 1, 1)
    drawn = torch.full((2, 3, 1, 1), 0.5)
    outputs = Outputs(
        torch.zeros(2, 2),
        None,
        drawn,
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[0.0, math.log(2)], [0.0, 0.0]]),
    )
    missed = 0.25 + 0.25 + 0.09
    codes = torch.tensor([0, 1])
    mse = build_loss(recipe(loss=Loss(name="mse")), net_like())
    assert float(mse(outputs, codes, photos)) == pytest.approx(missed / 3)
    vae = build_loss(recipe(loss=Loss(name="vae", kl_weight=3.0)), net_like())
    # KL of N(1, 1) is ½; of N(0, 2) ½ (2 - 1 - ln 2)
    distance = 0.5 + 0.5 * (1 - math.log(2))
    assert float(vae(outputs, codes, photos)) == pytest.approx(missed + 3 * distance / 2)
    with pytest.raises(RecipeError, match="variational"):
        vae(Outputs(torch.zeros(2, 2)), codes, photos)
    with pytest.raises(RecipeError, match=r"network\.decoder"):
        mse(Outputs(torch.zeros(2, 2)), codes, photos)
    with pytest.raises(RecipeError, match="dense"):
        build_loss(recipe(), net_like())(Outputs(torch.zeros(2, 2)), codes, photos)


def test_losses_and_what_does_not_go_with_them() -> None:
    for name in LOSSES:
        net = net_like(2)
        assert build_loss(recipe(loss=Loss(name=name)), net) is not None
    with pytest.raises(RecipeError, match="did you mean 'triplet'"):
        build_loss(recipe(loss=Loss(name="tripplet")), net_like())
    with pytest.raises(
        RecipeError, match="pairs is for the contrastive loss, not for cross-entropy"
    ):
        build_loss(recipe(pairs=10), net_like())
    with pytest.raises(RecipeError, match="mixup"):
        build_loss(recipe(loss=Loss(name="mse"), mixup=0.2), net_like())


def test_the_penalty_is_on_regularised_weights_alone() -> None:
    layers = (
        {"flatten": True},
        {"dense": 2, "regularised": True},
        {"dense": "classes"},
    )
    net = build_network(recipe(layers=layers), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(-0.5)
    count = 2 * 3 * SIZE * SIZE
    assert weight_penalty(net, 0.1, 0.01).item() == pytest.approx(
        0.1 * 0.5 * count + 0.01 * 0.25 * count
    )
    assert weight_penalty(net, 0, 0) == 0


def test_mixup() -> None:
    torch.manual_seed(0)
    photos = torch.arange(5.0).reshape(5, 1)
    shares = []
    for _ in range(300):
        blend, others, share = mix_up(photos, 0.4)
        assert sorted(others.tolist()) == list(range(5))
        torch.testing.assert_close(blend, share * photos + (1 - share) * photos[others])
        shares.append(share)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(0.25 / 1.8, abs=0.02)  # of Beta(0.4, 0.4)


# Pace


def history(*accuracies: float) -> list[Epoch]:
    return [Epoch(n, 1.0, 0.1, 1.0, 0.5, 1.0, a) for n, a in enumerate(accuracies, 1)]


def test_the_learning_rate_of_the_next_epoch() -> None:
    steps = Training(milestones=(1, 3), gamma=0.5)
    factors = [schedule.learning_rate_factor(history(*[0.1] * done), steps) for done in range(5)]
    assert factors == [1, 0.5, 0.5, 0.25, 0.25]
    wave = Training(cosine=True, epochs=4)
    factors = [schedule.learning_rate_factor(history(*[0.1] * done), wave) for done in range(4)]
    assert factors == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    plateau = Training(reduce_patience=2, reduce_factor=0.1)
    seen = [0.5, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    factors = [schedule.learning_rate_factor(history(*seen[:done]), plateau) for done in range(9)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_when_to_stop_and_what_is_best() -> None:
    patient = Training(epochs=9, patience=2, min_delta=0.1)
    assert schedule.reason_to_stop([], patient) is None
    assert schedule.reason_to_stop(history(0.5, 0.55), patient) is None
    reason = schedule.reason_to_stop(history(0.5, 0.55, 0.59), patient)
    assert reason == "the val accuracy did not improve for 2 epochs"
    assert schedule.reason_to_stop(history(0.5, 0.55, 0.61), patient) is None
    assert schedule.reason_to_stop(history(*[0.5] * 9), Training(epochs=9)) == "all 9 epochs"
    assert schedule.best_epoch(history(0.5, 0.7, 0.6, 0.7), patient) == 2
    without = [replace(epoch, val_loss=None, val_accuracy=None) for epoch in history(0, 0)]
    without[1] = replace(without[1], train_loss=0.5)
    assert schedule.best_epoch(without, patient) == 2
    ended = schedule.reason_to_stop(without, Training(epochs=2))
    assert ended == "all 2 epochs; no photos for validation, so the train loss was watched"
    embedded = [replace(epoch, val_accuracy=None) for epoch in history(0, 0)]
    assert "no val accuracy, so the val loss" in str(
        schedule.reason_to_stop(embedded, Training(epochs=2))
    )


# Training


def test_it_learns_quietly(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = ({"flatten": True}, {"dense": "classes"})
    chosen = recipe(layers=layers, epochs=12, learning_rate=0.01, validation=0.25)
    seen: list[Epoch] = []
    told: list[tuple[str, int, int]] = []
    done = train(
        chosen, dataset, tmp_path, on_epoch=seen.append, on_progress=lambda *now: told.append(now)
    )
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint"}
    assert tuple(seen) == done.history
    assert [epoch.number for epoch in seen] == list(range(1, 13))
    assert max(epoch.val_accuracy or 0 for epoch in seen) >= 0.9
    assert seen[-1].train_loss < 0.5 * seen[0].train_loss
    assert done.stop_reason == "all 12 epochs"
    assert done.device in ("cpu", "mps") or torch.cuda.is_available()
    assert not done.net.training
    training = [now for now in told if now[0] == "Training"]
    per_epoch = 24 - 6
    assert training[-1][1:] == (12 * per_epoch, 12 * per_epoch)
    assert not any(Path.cwd().glob("lightning_logs"))


def test_the_best_epoch_is_kept_and_its_figures_are_true(dataset: Path, tmp_path: Path) -> None:
    chosen = recipe(epochs=6, learning_rate=0.03, monitor="val_loss")
    pictures, parts = prepared(dataset, chosen)
    torch.manual_seed(0)
    done = fit(chosen, build_network(chosen, 3), parts, pictures, tmp_path)
    losses = [epoch.val_loss for epoch in done.history]
    assert done.best_epoch == int(np.argmin(losses)) + 1
    with torch.no_grad():
        scores = done.net(normalise(pictures.batch(parts.val), chosen.input)).scores
        codes = torch.from_numpy(parts.class_ids[parts.val])
        loss = torch.nn.functional.cross_entropy(scores, codes)
    assert float(loss) == pytest.approx(min(losses), rel=1e-4)
    right = float((scores.argmax(dim=1) == codes).float().mean())
    assert right == pytest.approx(done.history[done.best_epoch - 1].val_accuracy)


def test_without_validation_the_train_loss_is_watched(dataset: Path, tmp_path: Path) -> None:
    done = train(recipe(validation=0.0), dataset, tmp_path)
    assert "train loss was watched" in done.stop_reason
    assert all(epoch.val_loss is None for epoch in done.history)
    assert done.best_epoch == int(np.argmin([epoch.train_loss for epoch in done.history])) + 1


def test_a_step_of_plain_descent_by_hand(tmp_path: Path) -> None:
    """One epoch of one batch: the weights are w - rate · slope, the loss is the one before."""
    coloured(tmp_path / "photos", 2, 2)
    chosen = recipe(
        layers=({"flatten": True}, {"dense": "classes", "regularised": True}),
        epochs=1,
        batch=4,
        optimizer="sgd",
        momentum=0.0,
        learning_rate=0.1,
        validation=0.0,
        l2=0.01,
    )
    pictures, parts = prepared(tmp_path / "photos", chosen)
    net = build_network(chosen, 2)
    weight = net.layers[1].weight.detach().clone().requires_grad_()
    bias = net.layers[1].bias.detach().clone().requires_grad_()
    photos = pictures.batch(parts.train).float().flatten(1) / 255
    codes = torch.from_numpy(parts.class_ids)
    loss = torch.nn.functional.cross_entropy(photos @ weight.T + bias, codes)
    loss = loss + 0.01 * weight.square().sum()
    loss.backward()
    done = fit(chosen, net, parts, pictures, tmp_path / "run")
    assert done.history[0].train_loss == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(done.net.layers[1].weight, weight - 0.1 * weight.grad)
    torch.testing.assert_close(done.net.layers[1].bias, bias - 0.1 * bias.grad)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_optimizers(dataset: Path, tmp_path: Path, name: Any) -> None:
    done = train(recipe(optimizer=name, epochs=4, learning_rate=0.003), dataset, tmp_path)
    assert done.history[-1].train_loss < done.history[0].train_loss


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(dataset: Path, tmp_path: Path, precision: Any) -> None:
    done = train(recipe(precision=precision, epochs=2), dataset, tmp_path)
    assert all(parameter.dtype == torch.float32 for parameter in done.net.parameters())
    assert all(math.isfinite(epoch.train_loss) for epoch in done.history)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (Loss(name="contrastive"), {"pairs": 12}),
        (Loss(name="contrastive"), {"per_class": 2}),
        (Loss(name="triplet", margin=0.2), {"per_class": 2}),
        (Loss(name="supcon"), {"per_class": 2, "balanced": True}),
        (Loss(name="arcface", margin=0.3), {"mixup": 0.2}),
        (Loss(name="sub-centre-arcface", margin=0.3), {}),
    ],
)
def test_embeddings_train(
    dataset: Path, tmp_path: Path, loss: Loss, options: dict[str, Any]
) -> None:
    layers = ({"flatten": True}, {"dense": 8})
    chosen = recipe(layers=layers, loss=loss, network={"features": 2}, **options)
    done = train(chosen, dataset, tmp_path)
    assert len(done.history) == 3
    assert (done.history[0].val_accuracy is not None) == loss.name.endswith("arcface")
    assert all(math.isfinite(epoch.val_loss or 0) for epoch in done.history)


def test_the_centres_of_arcface_learn_and_are_resumed(dataset: Path, tmp_path: Path) -> None:
    chosen = recipe(
        layers=({"flatten": True}, {"dense": 8}),
        loss=Loss(name="arcface", margin=0.3),
        network={"features": 2},
    )
    train(chosen, dataset, tmp_path)
    _, parts = prepared(dataset, chosen)
    state = checkpoint.read_checkpoint(tmp_path, checkpoint.run_identity(chosen, parts))
    assert state is not None
    assert state.loss_weights["metric.W"].shape == (8, 3)
    assert all(not name.endswith("metric.W") for name in state.best_weights)


def test_the_backbone_learns_later_and_more_slowly(dataset: Path, tmp_path: Path) -> None:
    chosen = recipe(unfreeze_after=2, epochs=3, backbone_rate=0.1, optimizer="sgd", momentum=0.0)
    pictures, parts = prepared(dataset, chosen)

    class Two(torch.nn.Module):  # type: ignore[misc,name-defined]
        classes, gives_probabilities, feature_size, input_size = 3, False, 4, SIZE

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.backbone = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, 4)
            )
            self.head = torch.nn.Linear(4, 3)

        def forward(self, photos: Any) -> Outputs:
            features = self.backbone(photos)
            return Outputs(features, self.head(features))

        def set_backbone_trainable(self, yes: bool) -> None:
            self.backbone.requires_grad_(yes)

    net = Two()
    weights = []
    done = fit(
        chosen,
        net,
        parts,
        pictures,
        tmp_path,
        on_epoch=lambda _: weights.append(net.backbone[1].weight.detach().clone()),
    )
    assert torch.equal(weights[0], Two().backbone[1].weight)
    assert torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[2], weights[1])
    assert len(done.history) == 3
    whole = replace(chosen, training=replace(chosen.training, unfreeze_after=0, epochs=1))
    fast = replace(whole, training=replace(whole.training, backbone_rate=1.0))
    steps = []
    for number, settled in enumerate((whole, fast)):
        net = Two()
        before = net.backbone[1].weight.detach().clone()
        at_once = replace(settled, training=replace(settled.training, batch=100))
        fit(at_once, net, parts, pictures, tmp_path / str(number))
        steps.append(net.backbone[1].weight.detach() - before)
    torch.testing.assert_close(steps[0] * 10, steps[1], rtol=1e-3, atol=1e-7)


def test_nothing_that_learns(dataset: Path, tmp_path: Path) -> None:
    layers = ({"flatten": True},)
    chosen = recipe(layers=layers, loss=Loss(name="triplet"), network={"features": 1})
    with pytest.raises(LearnError, match="no parameter of the network is trained"):
        train(chosen, dataset, tmp_path)


def test_a_loss_that_is_no_number_stops(dataset: Path, tmp_path: Path) -> None:
    chosen = recipe(
        layers=({"flatten": True}, {"dense": "classes"}),
        optimizer="sgd",
        learning_rate=1e38,
        epochs=5,
    )
    with pytest.raises(LearnError) as caught:
        train(chosen, dataset, tmp_path)
    text = str(caught.value)
    assert text.startswith("tiny: epoch 1, step ")
    assert "the learning rate is 1e+38" in text
    assert "training.learning_rate" in text


def test_a_weight_that_is_no_number_stops_at_the_end_of_the_epoch(
    dataset: Path, tmp_path: Path
) -> None:
    chosen = recipe(
        layers=({"flatten": True}, {"dense": "classes"}),
        optimizer="sgd",
        learning_rate=1e38,
        epochs=5,
        batch=24,
        validation=0.0,
        loss=Loss(label_smoothing=0.1),
    )
    pictures, parts = prepared(dataset, chosen)
    net = build_network(chosen, 3)
    with torch.no_grad():
        net.layers[1].weight.mul_(1e3)
    with pytest.raises(LearnError, match=r"epoch (1: a weight of layers|2, step 1)"):
        fit(chosen, net, parts, pictures, tmp_path)


@pytest.mark.parametrize("where", ["in save_file", "at the end"])
def test_a_full_disk_is_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from safetensors import SafetensorError
    from safetensors import torch as tensors

    def full(*_: Any) -> None:
        if where == "at the end":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(*((tensors, "save_file") if "save" in where else (os, "fsync")), full)
    with pytest.raises(LearnError, match=r"checkpoint: the disk is full.*same command"):
        train(recipe(), dataset, tmp_path)
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_what_on_epoch_raises_ends_the_training(dataset: Path, tmp_path: Path) -> None:
    class Pruned(Exception):
        pass

    def prune(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train(recipe(), dataset, tmp_path, on_epoch=prune)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_a_keyboard_interrupt(dataset: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), dataset, tmp_path, on_epoch=lambda _: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is before


# Killed and resumed

TOUGH = {
    "epochs": 6,
    "mixup": 0.3,
    "reduce_patience": 1,
    "balanced": True,
    "learning_rate": 0.005,
    "unfreeze_after": 2,
}
KILLED = """
import os, signal, sys
from pathlib import Path
import test_training as t
import torch
torch.set_num_threads(1)
photos, out, when = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def now(doing, done, total):
    if doing == "Training" and done >= when:
        os.kill(os.getpid(), signal.SIGKILL)
t.train(t.recipe(augment=t.HALVES, **t.TOUGH), photos, out, on_progress=now)
"""


def same(one: TrainingResult, other: TrainingResult) -> bool:
    weights = [trained.net.state_dict() for trained in (one, other)]
    figures = [[replace(e, seconds=0) for e in trained.history] for trained in (one, other)]
    return (
        figures[0] == figures[1]
        and one.best_epoch == other.best_epoch
        and one.stop_reason == other.stop_reason
        and weights[0].keys() == weights[1].keys()
        and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    )


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks, from Python 3.12 on
def test_killed_and_resumed_is_the_same_bit_for_bit(dataset: Path, tmp_path: Path) -> None:
    chosen = recipe(augment=HALVES, **TOUGH)
    whole = train(chosen, dataset, tmp_path / "whole")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    when = str(19 * 3 + 9)  # in the middle of the fourth epoch
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, dataset, tmp_path / "cut", when],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    again: list[int] = []
    cut = train(chosen, dataset, tmp_path / "cut", on_epoch=lambda e: again.append(e.number))
    assert again[-1] == 6
    assert again[0] in (2, 3, 4)
    assert same(whole, cut)


def test_interrupted_after_every_epoch_is_the_same(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.learn.training import loop as training

    monkeypatch.setattr(training, "MAX_CHECKPOINT_TIME_SHARE", math.inf)  # a checkpoint each epoch
    chosen = recipe(**TOUGH)
    whole = train(chosen, dataset, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        raise Stop

    for _ in range(6):
        with pytest.raises(Stop):
            train(chosen, dataset, tmp_path / "cut", on_epoch=stop)
    seen: list[Epoch] = []
    cut = train(chosen, dataset, tmp_path / "cut", on_epoch=seen.append)
    assert seen == []
    assert same(whole, cut)
    checkpoint.remove_checkpoint(tmp_path / "cut")
    assert not (tmp_path / "cut" / "checkpoint").exists()


def test_a_checkpoint_of_another_recipe_is_refused(dataset: Path, tmp_path: Path) -> None:
    train(recipe(epochs=1), dataset, tmp_path)
    other = recipe(epochs=1, learning_rate=0.5, balanced=True)
    with pytest.raises(LearnError) as caught:
        train(other, dataset, tmp_path)
    text = str(caught.value)
    assert "training.learning_rate: 0.001 in the checkpoint, 0.5 in this run" in text
    assert "training.balanced: false in the checkpoint, true in this run" in text
    assert "--out" in text
    told = replace(recipe(epochs=1), about="Another text is the same recipe.")
    assert len(train(told, dataset, tmp_path).history) == 1


def test_a_checkpoint_of_other_photos_is_refused(tmp_path: Path) -> None:
    photos = coloured(tmp_path / "photos", 2, 5)
    train(recipe(epochs=1), photos, tmp_path / "run")
    save(photos / "class1" / "more.png", 500)
    with pytest.raises(
        LearnError, match=r"belongs to other photos: 8 for training.* 9 for training"
    ):
        train(recipe(epochs=1), photos, tmp_path / "run")


def test_a_damaged_checkpoint_is_told(dataset: Path, tmp_path: Path) -> None:
    train(recipe(epochs=1), dataset, tmp_path)
    file = tmp_path / "checkpoint" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LearnError, match=r"cannot be read.*Delete this folder"):
        train(recipe(epochs=1), dataset, tmp_path)


def test_what_a_killed_writer_left_is_not_taken_for_more(dataset: Path, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    place.mkdir()
    (place / "best-0001.safetensors").write_bytes(b"of a run whose first checkpoint never came")
    done = train(recipe(epochs=1), dataset, tmp_path)
    assert len(done.history) == 1
    assert len(train(recipe(epochs=1), dataset, tmp_path).history) == 1


@pytest.mark.slow
def test_two_processes_train_as_one(dataset: Path, tmp_path: Path) -> None:
    """Lightning starts the script again for the second process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\nimport test_training as t\n"
        "torch.set_num_threads(1)\n"
        "layers = ({'flatten': True}, {'dense': 'classes'})\n"
        "chosen = t.recipe(layers=layers, epochs=2, batch=6, validation=0.25)\n"
        "done = t.train(chosen, Path(sys.argv[1]), Path(sys.argv[2]), devices=2)\n"
        "print([epoch.train_loss for epoch in done.history])\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, script, dataset, tmp_path / "two"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=180,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    layers = ({"flatten": True}, {"dense": "classes"})
    one = train(
        recipe(layers=layers, epochs=2, batch=6, validation=0.25), dataset, tmp_path / "one"
    )
    lines = ran.stdout.strip().splitlines()
    assert len(lines) == 1  # the second process has ended where the first goes on
    found = [float(part) for part in lines[0].strip("[]").split(",")]
    assert found == pytest.approx([epoch.train_loss for epoch in one.history], rel=1e-5)


def test_a_network_is_a_net(dataset: Path) -> None:
    """The stand-ins here have what `Net` has."""
    net = build_network(recipe(), 3)
    assert isinstance(net, Net)
    for name in ("classes", "gives_probabilities", "feature_size", "backbone"):
        assert hasattr(net, name)


def test_a_linear_probe_is_the_ridge_regression_at_its_best_scale() -> None:
    from veduta.learn.training.linear_probe import RIDGE, fit_linear_probe

    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(3), 8)
    features = rng.normal(size=(24, 5)) + 2 * np.eye(5)[codes] + 3
    weights, bias = fit_linear_probe(features, codes, 3)
    targets = np.eye(3)[codes]

    def regression(rows: Any, wanted: Any, ridge: float) -> tuple[Any, Any]:
        """Of centred columns, by the normal equations."""
        middle = rows.mean(axis=0)
        left = (rows - middle).T @ (rows - middle) + ridge * np.eye(5)
        found = np.linalg.solve(left, (rows - middle).T @ (wanted - wanted.mean(axis=0)))
        return found, wanted.mean(axis=0) - middle @ found

    ridge = RIDGE * ((features - features.mean(axis=0)) ** 2).sum() / 24
    plain, offset = regression(features, targets, ridge)
    scale = np.linalg.norm(weights) / np.linalg.norm(plain)
    np.testing.assert_allclose(weights, scale * plain, rtol=1e-4)
    np.testing.assert_allclose(bias, scale * offset, rtol=1e-4)
    # Answers about each photo by a regression without it, and the scale that suits them best.
    # The closed form keeps the intercept's own leverage, 1 / N, which is that of all rows.
    unseen = []
    for row in range(24):
        others = np.arange(24) != row
        found, at = regression(features[others], targets[others], ridge)
        unseen.append(features[row] @ found + at)
    losses = {}
    for factor in 2.0 ** np.arange(0, 8):
        chances = np.exp(factor * np.array(unseen))
        own = chances[np.arange(24), codes] / chances.sum(axis=1)
        losses[factor] = -np.log(own).mean()
    assert scale == pytest.approx(min(losses, key=losses.get), rel=1e-4)  # type: ignore[arg-type]


def test_training_begins_with_the_probe(dataset: Path, tmp_path: Path) -> None:
    layers: Any = ({"global": "average"}, {"dense": "classes"})
    chosen = recipe(epochs=1)
    chosen = replace(
        chosen,
        network=replace(chosen.network, layers=layers, features=1),
        training=replace(chosen.training, probe="before", learning_rate=1e-9),
    )
    pictures, parts = prepared(dataset, chosen)
    done = fit(
        chosen, build_network(chosen, len(parts.class_names)), parts, pictures, tmp_path / "probe"
    )
    random = replace(chosen, training=replace(chosen.training, probe="none"))
    plain = fit(
        random, build_network(random, len(parts.class_names)), parts, pictures, tmp_path / "random"
    )
    assert done.history[0].train_loss < 0.7 * plain.history[0].train_loss
    wrong = replace(chosen, network=replace(chosen.network, features=0))
    with pytest.raises(RecipeError, match=r"training\.probe needs"):
        fit(
            wrong, build_network(wrong, len(parts.class_names)), parts, pictures, tmp_path / "wrong"
        )


def test_training_ends_with_the_probe(dataset: Path, tmp_path: Path) -> None:
    """By a loss of the features, which has no opinion of the last layer."""
    from veduta.learn.training.linear_probe import fit_linear_probe

    layers: Any = ({"conv": 4}, {"global": "average"}, {"dense": "classes"})
    chosen = recipe(epochs=2)
    chosen = replace(
        chosen,
        network=replace(chosen.network, layers=layers, features=2),
        loss=replace(chosen.loss, name="supcon"),
        training=replace(chosen.training, probe="after", per_class=2, batch=6),
    )
    pictures, parts = prepared(dataset, chosen)
    net = build_network(chosen, len(parts.class_names))
    before = net.layers[0].weight.detach().clone()
    done = fit(chosen, net, parts, pictures, tmp_path)
    assert not torch.equal(before, done.net.layers[0].weight)
    with torch.inference_mode():
        shown = normalise(pictures.batch(parts.train), chosen.input)
        features = done.net(shown).features.numpy()
    weights, bias = fit_linear_probe(features, parts.class_ids[parts.train], len(parts.class_names))
    np.testing.assert_allclose(done.net.layers[-1].weight.detach(), weights.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(done.net.layers[-1].bias.detach(), bias, rtol=1e-3, atol=1e-4)
    assert all(one.requires_grad for one in done.net.layers.parameters())
    wrong = replace(chosen, loss=replace(chosen.loss, name="cross-entropy"))
    with pytest.raises(RecipeError, match=r'probe = "after"'):
        build_network(wrong, len(parts.class_names))
