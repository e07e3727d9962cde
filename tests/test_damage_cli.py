"""What the command line says about damage, and that the commands that it names mend it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import Run, run_veduta
from tiny import save_view

pytestmark = pytest.mark.slow
QUERY = "photos/1/0.png"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with an index that has everything that can be damaged; no test may change it."""
    home = tmp_path_factory.mktemp("home")
    for scene in range(3):
        for number in range(5):
            save_view(home / f"photos/{scene}/{number}.png", 300 + scene, number)
    for arguments in (
        ("index", "photos", "--encoder", "fast", "--labels", "folders"),
        ("index", "--project", "6"),
        ("recognize", QUERY),
    ):
        done = run_veduta(home, *arguments)
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "home"))


def damage(home: Path, pattern: str) -> Path:
    """Change a byte in the middle of the first file of the index that the pattern finds."""
    file = min((home / "index").glob(pattern))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)
    return file


def searched(home: Path) -> Run:
    return run_veduta(home, "search", QUERY, "--json")


def outputs(run: Run) -> tuple[str, str]:
    return run.stdout, run.stderr


def named_commands(text: str) -> list[list[str]]:
    """Return the commands that follow a colon, as a shell takes them apart, each once."""
    commands = re.findall(r": veduta (.*?)(?= and then|\.?$)", text, re.MULTILINE)
    return [shlex.split(command) for command in dict.fromkeys(commands)]


def run_named(home: Path, text: str) -> None:
    commands = named_commands(text)
    assert commands, text
    for command in commands:
        done = run_veduta(home, *command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_everything_but_the_table(sound: Path, home: Path) -> None:
    """The first check says all, the commands that it names mend it; answers stay."""
    for pattern in ("snapshot/*/rows.arrow", "graph/*/graph_ends.npy", "recognition/*.npz"):
        damage(home, pattern)
    damage(home, "keypoints/*.bin")
    next((home / "index").glob("projection-*.npz")).unlink()
    checked = run_veduta(home, "check")
    assert checked.returncode == 1
    for kind in ("snapshot", "graph", "recogniser", "keypoints", "projection"):
        assert re.search(rf"^{kind} damaged \(1\): ", checked.stdout, re.MULTILINE), checked.stdout
    repaired = run_veduta(home, "repair")
    assert repaired.returncode == 0
    assert "Nothing was damaged" not in repaired.stdout
    assert "The snapshot was damaged. It was made again." in repaired.stdout
    assert "The neighbour graph was damaged. It was made again." in repaired.stdout
    assert "A recogniser was damaged." in repaired.stdout
    assert "The projection was damaged. It was restored from its copy." in repaired.stdout
    assert "Removed 1 row that did not match" in repaired.stdout
    run_named(home, repaired.stdout)
    assert run_veduta(home, "check").returncode == 0
    again = run_veduta(home, "repair")
    assert "Nothing was damaged." in again.stdout
    expected = searched(sound).stdout
    ids = re.compile(r'"id": \d+')
    assert ids.sub("", searched(home).stdout) == ids.sub("", expected)


@pytest.mark.parametrize("pattern", ["photos.lance/_versions/*.manifest", "photos.lance/data/*"])
def test_the_commands_of_a_check_mend(sound: Path, home: Path, pattern: str) -> None:
    damage(home, pattern)
    before = searched(home)
    assert before.returncode == 0
    checked = run_veduta(home, "check")
    assert checked.returncode == 1
    run_named(home, "\n".join(checked.stdout.splitlines()[-1:]))
    assert run_veduta(home, "check").returncode == 0
    after = searched(home)
    assert after.stderr == ""
    ids = re.compile(r'"id": \d+')
    expected = searched(sound).stdout
    assert ids.sub("", after.stdout) == ids.sub("", expected)


def test_a_search_says_what_is_damaged(home: Path) -> None:
    expected = searched(home)
    assert expected.stderr == ""
    damage(home, "snapshot/*/descriptors.f16")
    first = searched(home)
    assert first.stdout == expected.stdout
    assert "its snapshot was damaged. It was built again from the table." in first.stderr
    assert outputs(searched(home)) == outputs(expected)
    damage(home, "graph/*/graph_weights.npy")
    done = searched(home)
    assert done.returncode == 0
    assert "so searches do without the neighbour graph" in done.stderr
    status = run_veduta(home, "status")
    assert "so searches do without the neighbour graph" in status.stdout
    run_named(home, done.stderr)
    assert outputs(searched(home)) == outputs(expected)
    damage(home, "projection-*.npz")
    done = searched(home)
    assert done.stdout == expected.stdout
    assert "Its copy in the snapshot is used." in done.stderr
    updated = run_veduta(home, "index")
    assert updated.returncode == 4
    run_named(home, updated.stderr)
    assert run_veduta(home, "index").returncode == 0
    assert outputs(searched(home)) == outputs(expected)
