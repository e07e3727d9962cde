"""Recipes: how they are read, changed, named, hashed and written again, and `veduta recipes`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from veduta.cli.main import run
from veduta.cli.recipes import command
from veduta.errors import RecipeError
from veduta.learn.recipe import (
    Input,
    Loss,
    Network,
    Recipe,
    Training,
    Tuning,
    open_recipe,
    parse_value,
    recipe_file,
    recipe_names,
    with_values,
)
from veduta.learn.recipe_text import recipe_toml, toml_value

TOML = """
about = "Two layers."
augment = [ { rotation = 10 }, { zoom = [0.8, 1.2] } ]

[input]
size = 64
mean = [0, 0.5, 1]

[network]
layers = [
    { conv = 32, kernel = 3 },  # a comment
    { dense = "classes" },
]

[training]
epochs = 7
learning_rate = 1

[tune.space]
"training.batch" = { low = 8, high = 64 }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return str(path)


def opened(tmp_path: Path, text: str, *changes: str) -> Recipe:
    path = tmp_path / "it.toml"
    path.write_text(text, "utf-8")
    return open_recipe(str(path), changes)


# Reading


def test_a_recipe_is_what_its_file_says(file: str) -> None:
    assert open_recipe(file) == Recipe(
        name="mine",
        about="Two layers.",
        input=Input(size=64, mean=(0.0, 0.5, 1.0)),
        network=Network(layers=({"conv": 32, "kernel": 3}, {"dense": "classes"})),
        training=Training(epochs=7, learning_rate=1.0),
        augment=({"rotation": 10}, {"zoom": [0.8, 1.2]}),
        tune=Tuning(20, {"training.batch": {"low": 8, "high": 64}}),
    )
    assert isinstance(open_recipe(file).training.learning_rate, float)
    with pytest.raises(FrozenInstanceError):
        open_recipe(file).name = "other"  # type: ignore[misc]


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert opened(tmp_path, "") == Recipe("it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 3", "unknown key training.epoch; did you mean 'training.epochs'?"),
        ("abuot = ''", "unknown key abuot; did you mean 'about'?"),
        ("[trainign]", "unknown key trainign; did you mean 'training'?"),
        ("xyz = 1", "unknown key xyz; known are name, about"),
        ("name = 'other'", "unknown key name; the name of a recipe is that of its file"),
        ("[input]\nsize = 'big'", 'input.size: expected a whole number of at least 1, not "big"'),
        ("[input]\nsize = 2.5", "input.size: expected a whole number of at least 1, not 2.5"),
        ("[input]\nsize = true", "input.size: expected a whole number of at least 1, not true"),
        ("[input]\nsize = 0", "input.size: expected a whole number of at least 1, not 0"),
        ("[input]\nmean = 0.5", "input.mean: expected a list, not 0.5"),
        ("[input]\nmean = [0.5, 'x']", 'input.mean.1: expected a number, not "x"'),
        ("[input]\nfit = 'stretch'", 'input.fit: expected one of crop, squash, not "stretch"'),
        ("[training]\nbalanced = 1", "training.balanced: expected true or false, not 1"),
        (
            "[training]\nlearning_rate = 'x'",
            "training.learning_rate: expected a number of at least 0",
        ),
        (
            "[training]\nvalidation = 1",
            "training.validation: expected a number of at least 0 and less than 1, not 1",
        ),
        ("[training]\nlearning_rate = inf", "expected a finite number, not inf"),
        ("[training]\nlearning_rate = nan", "expected a finite number, not nan"),
        ("[training]\nlearning_rate = 1" + 400 * "0", "expected a number of at least 0, not 10000"),
        (
            "[training]\nmilestones = [1.5]",
            "training.milestones.0: expected a whole number of at least 0, not 1.5",
        ),
        ("training = 3", "training: expected a table, not 3"),
        ("about = 3", "about: expected a text, not 3"),
        ("[network]\ntrain = 3", "network.train: expected a text or a list, not 3"),
        ("[network]\ntrain = [3]", "network.train.0: expected a text, not 3"),
        ("[network]\nlayers = ['flatten']", 'network.layers.0: expected a table, not "flatten"'),
        ("[network]\nlayers = [{ dropout = nan }]", "layers.0.dropout: expected a finite number"),
        ("[network]\nlayers = [{ conv = [1, inf] }]", "layers.0.conv.1: expected a finite number"),
        (
            "augment = [{ when = 2020-01-01 }]",
            "augment.0.when: a recipe cannot hold a date or time such as 2020-01-01",
        ),
        ("= 3", "cannot be read as TOML"),
        ("a = 1\na = 2", "cannot be read as TOML"),
        ("[training]\nepochs = 1" + 5000 * "0", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        opened(tmp_path, text)
    assert message in str(error.value)
    assert "it.toml" in str(error.value)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.toml"
    path.write_bytes("about = 'ü'".encode("utf-16"))
    with pytest.raises(RecipeError, match=r"it\.toml: cannot be read as TOML"):
        open_recipe(str(path))


# Names and paths


def test_a_name_is_of_the_package_and_a_path_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recipe_names()[0]
    (tmp_path / f"{name}.toml").write_text("about = 'mine'")
    monkeypatch.chdir(tmp_path)

    assert open_recipe(name).about != "mine"
    assert open_recipe(f"{name}.toml").about == "mine"
    assert open_recipe(f"./{name}.toml").about == "mine"
    assert recipe_file(name).is_absolute()
    with pytest.raises(RecipeError):
        open_recipe(f"../recipes/{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn1", "did you mean 'cnn-1'?"),
        ("qqqqqq", "`veduta recipes` lists all recipes."),
        ("mine.toml", "A path must end in .toml"),
        ("", "no recipe is called ''"),
        ("..", "no recipe is called '..'"),
        ("\udcff", "no recipe is called"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        open_recipe(name)
    assert message in str(error.value)
    str(error.value).encode()


def test_a_file_that_is_no_toml_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "recipe.txt").write_text("")
    (tmp_path / "folder.toml").mkdir()
    for name in ("recipe.txt", "folder.toml"):
        with pytest.raises(RecipeError, match="no recipe is called"):
            open_recipe(str(tmp_path / name))


# Changes


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("training.epochs=3", 3),
        (" training.epochs = 3 ", 3),
        ("training.learning_rate=1e-5", 1e-5),
        ("training.batch=8", 8),  # not in the file
        ("training.balanced=true", True),
        ("training.optimizer=sgd", "sgd"),
        ('training.optimizer="sgd"', "sgd"),
        ("about=a = b, and [c", "a = b, and [c"),
        ("about=", ""),
        ("network.layers.0.conv=48", 48),
        ("network.layers.1.dense=classes", "classes"),
        ("network.layers.1.activation=relu", "relu"),
        ("input.mean.2=0.25", 0.25),
        ("augment.1.zoom.0=0.5", 0.5),
        ("network.weights=/a/b.safetensors", "/a/b.safetensors"),
    ],
)
def test_a_change_reaches_into_tables_and_lists(file: str, change: str, value: Any) -> None:
    where: Any = open_recipe(file, [change]).as_json()
    for part in change.partition("=")[0].strip().split("."):
        where = where[int(part)] if isinstance(where, list) else where[part]
    assert where == value
    assert type(where) is type(value)


def test_changes_apply_in_their_order(file: str) -> None:
    changes = [
        "network.layers=[{dense = 5}]",
        "network.layers.0.dense=6",
        "training.epochs=1",
        "training.epochs=2",
        "augment=[]",
    ]
    made = open_recipe(file, changes)
    assert made.network.layers == ({"dense": 6},)
    assert made.training.epochs == 2
    assert made.augment == ()
    assert made == with_values(
        open_recipe(file),
        {"network.layers": [{"dense": 6}], "training.epochs": 2, "augment": []},
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epochs", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("training.epoch=3", "did you mean 'training.epochs'?"),
        ("training.epochs=x", 'training.epochs: expected a whole number of at least 1, not "x"'),
        ("training.epochs=3\nx = 4", "training.epochs: expected a whole number of at least 1"),
        ("training.epochs.x=3", "training.epochs is a value and has no keys"),
        ("training.epochs.x.y=3", "the value before 'x' has no keys"),
        ("network.layers.2.conv=3", "'2' is no position in a list of 2; the first is 0"),
        ("network.layers.-1.conv=3", "'-1' is no position"),
        ("network.layers.x=3", "'x' is no position"),
        ("network.layers.²=3", "'²' is no position"),
        ("network.layers.0=3", "network.layers.0: expected a table, not 3"),
        ("training..epochs=3", "unknown key training."),
        ("name=other", "unknown key name"),
        ("about=\udcff", "is not valid UTF-8"),
        ("network.layers.0.\udcff=1", "is not valid UTF-8"),
    ],
)
def test_a_wrong_change(file: str, change: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        open_recipe(file, [change])
    assert message in str(error.value)


def test_with_values_leaves_the_recipe_as_it_is(file: str) -> None:
    before = open_recipe(file)
    after = with_values(before, {"network.layers.0.conv": 48, "training.epochs": 9})
    assert before == open_recipe(file)
    assert after.network.layers == ({"conv": 48, "kernel": 3}, {"dense": "classes"})
    assert after.training.epochs == 9
    assert after.name == before.name
    with pytest.raises(RecipeError, match="did you mean"):
        with_values(before, {"training.epoch": 9})
    with pytest.raises(RecipeError, match="finite"):
        with_values(before, {"training.learning_rate": math.nan})


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("3.0", 3.0), ("true", True), ("x", "x"), ("[1, 'a']", [1, "a"]), ("True", "True")],
)
def test_values_are_of_toml_or_text(text: str, value: Any) -> None:
    assert parse_value(text) == value


# The digest


def leaves(value: Any, at: str = "") -> list[tuple[str, Any]]:
    if is_dataclass(value):
        inner = [(one.name, getattr(value, one.name)) for one in fields(value)]
        return [leaf for key, one in inner for leaf in leaves(one, f"{at}.{key}" if at else key)]
    return [(at, value)]


OTHERS: dict[type, Any] = {bool: True, int: 99, float: 0.123}


@pytest.mark.parametrize(("key", "value"), leaves(Recipe("it")))
def test_the_digest_changes_with_all_that_decides_the_result(key: str, value: Any) -> None:
    choices = {
        "input.fit": "crop",
        "training.optimizer": "sgd",
        "training.monitor": "val_loss",
        "training.stop_monitor": "val_loss",
        "training.reduce_monitor": "train_accuracy",
        "training.epoch_chosen_by": "test",
        "training.probe": "after",
        "training.precision": "16-mixed",
        "network.layers": [{"dense": 3}],
        "network.decoder": [{"dense": 3}],
        "augment": [{"flip": True}],
        "input.mean": [0.0, 0.0, 0.1],
        "input.std": [1.0, 1.0, 0.9],
        "training.milestones": [3],
        "tune.space": {"training.batch": {"low": 1, "high": 2}},
    }
    recipe = Recipe("it")
    if key == "name":
        other = replace(recipe, name="renamed")
    else:
        other = with_values(recipe, {key: choices.get(key, OTHERS.get(type(value), "other"))})
    assert other != recipe
    decides = key not in {"name", "about", "source"} and not key.startswith("tune.")
    assert (other.digest() != recipe.digest()) is decides


def test_the_digest_is_the_same_everywhere(file: str) -> None:
    code = f"from veduta.learn.recipe import open_recipe; print(open_recipe({file!r}).digest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {open_recipe(file).digest()}
    assert len(open_recipe(file).digest()) == 16
    # What is written in another order or with other words for one number is the same recipe.
    reordered = "augment = []\n[training]\nlearning_rate = 0.01\nepochs = 3\n"
    same = "[training]\nepochs = 3\nlearning_rate = 1e-2\n"
    path = Path(file)
    digests = []
    for text in (reordered, same):
        path.write_text(text)
        digests.append(open_recipe(file).digest())
    assert digests[0] == digests[1]


# Writing

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NOT_NEGATIVE = st.floats(0, allow_nan=False, allow_infinity=False)
POSITIVE = st.integers(1)
PLAIN = st.recursive(
    st.one_of(TEXTS, st.booleans(), st.integers(), FINITE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
TABLES = st.lists(st.dictionaries(TEXTS, PLAIN, max_size=3), max_size=3).map(tuple)
CHANNELS = st.lists(FINITE, max_size=4).map(tuple)
RECIPES = st.builds(
    Recipe,
    name=st.just("it"),
    about=TEXTS,
    source=TEXTS,
    input=st.builds(
        Input,
        size=POSITIVE,
        fit=st.sampled_from(["squash", "crop"]),
        mean=CHANNELS,
        std=CHANNELS,
    ),
    network=st.builds(
        Network,
        backbone=TEXTS,
        weights=TEXTS,
        layers=TABLES,
        decoder=TABLES,
        train=st.one_of(TEXTS, st.lists(TEXTS, max_size=3).map(tuple)),
        features=st.integers(),
        classes=POSITIVE,
    ),
    loss=st.builds(Loss, name=TEXTS, margin=FINITE, sub_centres=POSITIVE),
    training=st.builds(
        Training,
        learning_rate=NOT_NEGATIVE,
        balanced=st.booleans(),
        epochs=POSITIVE,
        milestones=st.lists(st.integers(0), max_size=3).map(tuple),
    ),
    augment=TABLES,
    tune=st.builds(Tuning, trials=POSITIVE, space=st.dictionaries(TEXTS, PLAIN, max_size=3)),
)


@given(recipe=RECIPES)
def test_a_written_recipe_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, recipe: Recipe
) -> None:
    path = tmp_path_factory.getbasetemp() / "it.toml"
    path.write_bytes(recipe_toml(recipe).encode())
    read = open_recipe(str(path))
    assert read == recipe
    # 1, 1.0 and true are equal in Python, but not as JSON.
    texts = [json.dumps(one.as_json(), sort_keys=True) for one in (read, recipe)]
    assert texts[0] == texts[1]
    assert read.digest() == recipe.digest()
    json.dumps(recipe.as_json(), allow_nan=False)


@given(value=PLAIN)
def test_a_value_is_written_on_one_line_and_read_back(value: Any) -> None:
    text = toml_value(value)
    assert "\n" not in text
    assert repr(parse_value(text)) == repr(value)


def test_what_is_written_can_be_read_by_people(file: str) -> None:
    text = recipe_toml(open_recipe(file))
    assert text.startswith('about = "Two layers."\n')
    assert "\n[[augment]]\nrotation = 10\n" in text
    assert "\n[network]\n" in text
    assert "\n    { conv = 32, kernel = 3 },\n" in text
    assert '\n[tune.space."training.batch"]\nlow = 8\nhigh = 64\n' in text
    assert "\nlearning_rate = 1.0\n" in text
    assert "source" not in text
    assert "momentum = 0.9" in text  # defaults are written, lest others come to stand for them
    assert "tune" not in recipe_toml(Recipe("it"))


# The recipes of the package, and the command


def test_there_are_recipes() -> None:
    names = recipe_names()
    assert {"cnn-1", "cnn-3-tuned", "xception-transfer"} <= set(names)
    assert names == sorted(names)


@pytest.mark.parametrize("name", recipe_names())
def test_each_recipe_reads_says_what_it_is_and_writes_back(name: str, tmp_path: Path) -> None:
    recipe = open_recipe(name)
    assert recipe.about
    assert recipe.source
    (tmp_path / f"{name}.toml").write_text(recipe_toml(recipe), "utf-8")
    assert open_recipe(str(tmp_path / f"{name}.toml")) == recipe
    if recipe.tune.space:
        from veduta.learn.tuning.search_space import read_space

        assert read_space(recipe)


def test_no_two_recipes_are_the_same() -> None:
    digests = {name: open_recipe(name).digest() for name in recipe_names()}
    assert len(set(digests.values())) == len(digests)


def test_the_list_is_grouped_and_fits_the_terminal() -> None:
    done = CliRunner().invoke(command, [])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert all(len(line) <= 80 for line in lines)
    listed = [line.split()[0] for line in lines if line[:2] == "  " and line[2:3].strip()]
    assert sorted(listed) == recipe_names()
    at = lines.index("Monument pair report")
    group = lines[at + 1 : lines.index("", at)]
    names = {line.split()[0] for line in group if line[2:3].strip()}
    assert {"cnn-1", "cnn-2", "cnn-3", "cnn-3-tuned", "xception-transfer"} == names
    assert any("128 pixels" in line for line in group)


def test_one_recipe_is_printed_as_it_is() -> None:
    done = CliRunner().invoke(command, ["cnn-1"])
    assert done.stdout_bytes == recipe_file("cnn-1").read_bytes()


def test_recipes_as_json(file: str) -> None:
    told = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [one["name"] for one in told] == recipe_names()
    by_name = {one["name"]: one for one in told}
    assert by_name["cnn-1"]["size"] == 128
    assert by_name["cnn-1"]["digest"] == open_recipe("cnn-1").digest()
    one = json.loads(CliRunner().invoke(command, [file, "--json"]).output)
    opened = open_recipe(file)
    assert one == {"name": "mine", "digest": opened.digest(), **opened.as_json()}


def test_an_unknown_recipe_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "cnn-4"]) == 3
    assert "did you mean 'cnn-" in capsys.readouterr().err


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'optuna', 'timm', 'torchvision']); "
        "from veduta.cli.main import run; sys.exit(run(['recipes', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) == len(recipe_names())
