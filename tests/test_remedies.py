"""Every command that a message of an index names is run as a shell reads it, and it helps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder, save

from veduta.cli.main import run
from veduta.index import Manifest, open_table
from veduta.text import veduta_command

COMMAND = re.compile(r"(?<=: )veduta .*?(?=\. (?:If|Or) |$| and then)", re.MULTILINE)
SHELL = shutil.which("bash")
PLACES = {
    "plain": b"here",
    "blanks and quotes": b'it\'s "my" $HOME; `place`',
    "not UTF-8": b"caf\xe9",
    "a line break": b"two\nlines",
}


@dataclass(frozen=True, slots=True)
class Output:
    code: int
    text: str

    @property
    def commands(self) -> list[str]:
        return COMMAND.findall(self.text)


@dataclass(frozen=True, slots=True)
class Home:
    """An index of six photos in three class folders, and the command line in this process."""

    photos: Path
    index: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str | Path) -> Output:
        self.capture.readouterr()
        code = run([os.fspath(word) for word in words])
        output = self.capture.readouterr()
        assert "Traceback" not in output.err
        return Output(code, output.out + output.err)

    def veduta(self, command: str, *words: str | Path) -> Output:
        return self.run(command, *words, "--index", self.index)

    def update(self) -> Output:
        return self.veduta("index")

    def paste(self, command: str, **places: Path) -> Output:
        """Run a command as a shell reads it, with the place of a word that stands for a folder."""
        for word, place in places.items():
            assert f" {word} " in command
            command = command.replace(f" {word} ", f" {veduta_command(place)[7:]} ")
        assert SHELL is not None
        script = f'veduta() {{ printf "%s\\0" "$@"; }}; {command}'
        done = subprocess.run([SHELL, "-c", script], capture_output=True, check=True)
        return self.run(*map(os.fsdecode, done.stdout.split(b"\0")[:-1]))


@pytest.fixture
def home(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Home:
    return new_home(tmp_path, b"here", monkeypatch, capsys)


def new_home(tmp_path: Path, place: bytes, monkeypatch: pytest.MonkeyPatch, capture: Any) -> Home:
    if SHELL is None:
        pytest.skip("bash is not installed")
    others = {"other": TinyEncoder("other", "fedcba9876543210")}
    for module in ("veduta.api", "veduta.search.engine"):
        monkeypatch.setattr(
            f"{module}.encoder_of",
            lambda manifest, **_: others.get(manifest.encoder["name"], TinyEncoder()),
        )
        monkeypatch.setattr(f"{module}.load_extractor", lambda *_, **__: TinyExtractor())
    monkeypatch.setattr(
        "veduta.api.load_encoder", lambda name, **_: others.get(name, TinyEncoder())
    )
    folder = tmp_path / os.fsdecode(place)
    photo_folder(folder / "photos", 6)
    # Lance takes neither of these names, so the index lies elsewhere.
    elsewhere = place in (PLACES["not UTF-8"], PLACES["a line break"])
    index = tmp_path / "my index" if elsewhere else folder / "index"
    home = Home(folder / "photos", index, capture)
    assert home.run("index", home.photos, "--index", index).code == 0
    return home


@pytest.fixture(params=PLACES)
def anywhere(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Home:
    """The same in places whose names a shell does not take as they stand."""
    return new_home(tmp_path, PLACES[request.param], monkeypatch, capsys)


def search(home: Home) -> Output:
    return home.veduta("search", next(home.photos.rglob("*.png")))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def lose_all_versions(home: Home) -> None:
    for file in (home.index / "photos.lance/_versions").glob("*.manifest"):
        file.write_bytes(b"")


def lose_the_newest_version(home: Home) -> None:
    save(home.photos / "late.png", 99)
    assert home.update().code == 0
    shutil.rmtree(home.index / "snapshot")
    newest = min((home.index / "photos.lance/_versions").glob("*.manifest"))
    newest.write_bytes(b"")


def damage_keypoints(home: Home) -> None:
    for file in (home.index / "keypoints").glob("*.bin"):
        file.write_bytes(b"\xff" * file.stat().st_size)


DAMAGES: dict[str, Callable[[Home], object]] = {
    "a manifest that is cut": lambda home: cut(home.index / "index.json"),
    "a manifest that is gone": lambda home: (home.index / "index.json").unlink(),
    "a manifest changed by hand": lambda home: (home.index / "index.json").write_text(
        (home.index / "index.json").read_text().replace('"tiny"', '"tinz"')
    ),
    "no version of the table": lose_all_versions,
    "no table": lambda home: shutil.rmtree(home.index / "photos.lance"),
    "a version that does not open": lose_the_newest_version,
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", ["index", "status", "check"])
def test_the_named_repair_mends(home: Home, damage: str, use: str) -> None:
    number = len(list(home.photos.rglob("*.png")))
    DAMAGES[damage](home)
    failed = home.veduta(use)
    assert failed.code in {"index": (4,), "status": (0, 4), "check": (1, 4)}[use], failed.text
    for command in failed.commands:
        assert home.paste(command).code == 0
    assert failed.commands, failed.text
    for command in home.paste(failed.commands[0]).commands:  # A second repair finds nothing.
        raise AssertionError(command)
    assert home.update().code == 0
    assert home.veduta("check").code == 0
    number = len(list(home.photos.rglob("*.png")))
    assert json.loads(home.veduta("status", "--json").text)["photos"] == number
    assert search(home).code == 0


def test_a_missing_index_names_how_to_build_it(anywhere: Home) -> None:
    shutil.rmtree(anywhere.index)
    for use in ("status", "check", "repair"):
        failed = anywhere.veduta(use)
        assert failed.code == 4
        (command,) = failed.commands
    assert anywhere.paste(command, FOLDER=anywhere.photos).code == 0
    assert search(anywhere).code == 0


def test_without_a_copy_of_the_manifest_another_index_is_named(anywhere: Home) -> None:
    (anywhere.index / "index-copy.json").unlink()
    cut(anywhere.index / "index.json")
    for use in ("index", "status", "repair"):
        failed = anywhere.veduta(use)
        assert failed.code == 4
        (command,) = failed.commands
    assert anywhere.paste(command, FOLDER=anywhere.photos).code == 0
    other = anywhere.index.with_name(f"{anywhere.index.name}-new")
    assert anywhere.run("status", "--index", other).code == 0


def test_repair_in_any_place(anywhere: Home) -> None:
    cut(anywhere.index / "index.json")
    (command,) = anywhere.update().commands
    assert "Made index.json again" in anywhere.paste(command).text
    assert anywhere.update().code == 0


def test_a_layout_of_another_version_names_another_index(home: Home) -> None:
    for name in ("index.json", "index-copy.json"):
        values = json.loads((home.index / name).read_text())
        del values["checksum"]
        (home.index / name).write_text(json.dumps({**values, "format": 1}))
    (command,) = home.update().commands
    assert home.paste(command, FOLDER=home.photos).code == 0
    assert home.run("status", "--index", f"{home.index}-new").code == 0


@pytest.mark.parametrize("option", [("--encoder", "other"), ("--keypoints", "none")])
def test_another_encoder_names_an_index_of_its_own(home: Home, option: tuple[str, str]) -> None:
    failed = home.veduta("index", home.photos, *option)
    assert failed.code == 4
    (command,) = failed.commands
    if option[0] == "--encoder":
        assert "Use --encoder tiny, or index" in failed.text
        assert home.veduta("index", home.photos, "--encoder", "tiny").code == 0
    assert home.paste(command, FOLDER=home.photos).code == 0
    manifest = Manifest.read(Path(f"{home.index}-new"))
    wanted = manifest.encoder["name"] if option[0] == "--encoder" else manifest.keypoints
    assert wanted == ("other" if option[0] == "--encoder" else None)


def test_a_folder_that_is_gone_for_good_is_forgotten(anywhere: Home) -> None:
    shutil.rmtree(anywhere.photos)
    save(anywhere.photos.with_name("more") / "photo.png", 50)
    added = anywhere.veduta("index", anywhere.photos.with_name("more"))
    assert added.code == 0
    failed = anywhere.update()
    assert failed.code == 3
    _, forget = failed.commands
    assert "Removed 6 photos of " in anywhere.paste(forget).text
    assert anywhere.update().code == 0
    assert len(Manifest.read(anywhere.index).folders) == 1


def test_a_folder_that_moved_is_indexed_in_its_new_place(anywhere: Home) -> None:
    moved = anywhere.photos.rename(anywhere.photos.with_name("new place"))
    moved_command, _ = anywhere.update().commands
    moving = anywhere.paste(moved_command, NEW_FOLDER=moved)
    assert moving.code == 0
    assert "6 moved" in moving.text
    assert "is missing, and no photo of the index lies in it" in moving.text
    assert anywhere.update().code == 0


def test_a_moved_collection_is_updated(home: Home) -> None:
    """The case of users: a plain update after the collection moved, for example by cron."""
    moved = home.photos.rename(home.photos.with_name("moved"))
    assert "6 moved" in home.veduta("index", moved).text
    assert "6 unchanged" in home.update().text


def test_an_empty_folder_names_how_to_accept_it(anywhere: Home) -> None:
    shutil.rmtree(anywhere.photos)
    anywhere.photos.mkdir()
    failed = anywhere.update()
    assert failed.code == 3
    (command,) = failed.commands
    assert "6 removed" in anywhere.paste(command).text
    assert anywhere.update().code == 0


def test_an_index_without_folders_names_how_to_give_it_one(anywhere: Home) -> None:
    assert anywhere.run("forget", anywhere.photos, "--index", anywhere.index).code == 0
    failed = anywhere.update()
    assert failed.code == 4
    (command,) = failed.commands
    assert anywhere.paste(command, FOLDER=anywhere.photos).code == 0
    assert anywhere.update().code == 0


def test_forget_lists_the_folders_that_it_knows(home: Home) -> None:
    failed = home.veduta("forget", home.photos.with_name("unknown"))
    assert failed.code == 3
    assert f"It knows: {home.photos}" in failed.text
    inside = home.veduta("forget", home.photos / "class0")
    assert inside.code == 0
    assert "The next update adds the photos again" in inside.text
    assert home.update().code == 0
    as_json = json.loads(home.veduta("forget", home.photos, "--json").text)
    assert as_json == {"removed": 6, "still_read": []}


def a_change_with_the_same_size_and_time(home: Home) -> None:
    photo = next(home.photos.rglob("photo0003.png"))
    os.truncate(photo, 20_000)  # Bytes behind the end of a PNG do not matter.
    assert home.update().code == 0
    status = photo.stat()
    save(photo, 4321)
    os.truncate(photo, 20_000)
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "1 changed" not in home.update().text


def wrong_checksum(home: Home) -> None:
    import pyarrow as pa

    ids, sums = pa.array([5], pa.int64()), pa.array([1], pa.uint32())
    table = open_table(home.index)
    table.update(pa.table({"id": ids, "checksum": sums}))


def make_a_folder_of_a_photo(home: Home) -> None:
    photo = next(home.photos.rglob("photo0003.png"))
    photo.unlink()
    photo.mkdir()


CHECKED: dict[str, Callable[[Home], object]] = {
    "photo missing": lambda home: next(home.photos.rglob("photo0003.png")).unlink(),
    "photo changed": a_change_with_the_same_size_and_time,
    "photo unreadable": make_a_folder_of_a_photo,
    "descriptor damaged": wrong_checksum,
    "keypoints damaged": damage_keypoints,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKED)
def test_what_a_check_names_mends(anywhere: Home, kind: str) -> None:
    CHECKED[kind](anywhere)
    found = anywhere.veduta("check")
    assert found.code == 1
    assert kind in found.text
    assert found.commands
    for command in found.commands:
        assert anywhere.paste(command).code == 0
    again = anywhere.veduta("check")
    assert again.code == 0, again.text


def test_keypoints_that_do_not_read_name_what_mends_a_search(home: Home) -> None:
    damage_keypoints(home)
    failed = search(home)
    assert failed.code == 4
    (command,) = failed.commands
    repaired = home.paste(command)
    assert repaired.code == 0
    (update,) = repaired.commands
    assert "6 added" in home.paste(update).text
    assert search(home).code == 0


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.write_text("no folder"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
}
ENTRIES = ("photos.lance", "snapshot", "graph", "keypoints", "recognition", "index.json")


@pytest.mark.slow
@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("entry", [*ENTRIES, "index-copy.json", "writer.lock"])
def test_something_else_in_the_place_of_a_part(home: Home, entry: str, replacement: str) -> None:
    """Each use either goes on or names what makes it go on, until all is well again."""
    path = home.index / entry
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    REPLACEMENTS[replacement](path)
    for use in (search, Home.update, lambda home: home.veduta("check")):
        output = use(home)
        for _ in range(2):
            for command in output.commands:
                home.paste(command)
            if "Remove it, and run the same command again" in output.text:
                path.rmdir() if path.is_dir() else path.unlink()
            output = use(home)
        assert output.code == 0, output.text
    assert json.loads(home.veduta("status", "--json").text)["photos"] == 6
