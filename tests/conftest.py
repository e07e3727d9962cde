"""What several test files need."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collecting import Collector
    from fake_hub import FakeHub
    from page_browser import Visitor
    from photo_server import PhotoServer
    from review_server import ReviewServer
    from service_server import Server
    from tiny_runs import RunAndCard

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


BROWSER_TIMEOUT_MS = 120_000
"""A busy machine may take longer than Playwright's 30 seconds."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores, or more: threads of their own would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine may be slow at any moment, which is no fault of what is tested. The drawn examples
# of one test may share its temporary folder.
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("any", deadline=None, suppress_health_check=SUPPRESSED)
settings.load_profile("any")

# Files whose tests take minutes, the longest first: a process that began one last would end last.
FIRST = (
    "test_every_recipe.py",
    "test_report_pages.py",
    "test_attacks.py",
    "test_recipe_networks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first (`--dist loadfile --no-loadscope-reorder`)."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else 99)


def pytest_collection_finish() -> None:
    """Let torch make its table of ONNX operators once: each export makes the same one, in a second.

    The files that are exported do not change by a byte.
    """
    if "torch" in sys.modules:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return `shared_data(name)`: the folder of a set of real photos beside the repository.

    Those photos are no part of the repository; a test that asks for an absent set is skipped.
    """
    root = Path(__file__).resolve().parents[2] / "shared" / "data"

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"the photos of ../shared/data/{name} are not on this machine")
        return root / name

    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this test and the processes that it starts.

    A process in the background or under `nohup` ignores SIGINT, and so do its children. A child of
    a process that handles the signal starts with the default action instead.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def explained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six photos of two classes, an index of them, and a recogniser."""
    from tiny import save

    import veduta

    home = tmp_path_factory.mktemp("explain")
    for number in range(6):
        save(home / f"photos/{('dome', 'tower')[number % 2]}/{number}.png", number)
    index = veduta.create(home / "index", encoder="fast", keypoints=None)
    index.add(home / "photos", labels="folders")
    index.export_model(home / "recogniser")
    return home


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return headless Chromium; a test of a page is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        new_context = browser.new_context

        def patient_context(**options: Any) -> Any:
            context = new_context(**options)
            context.set_default_timeout(BROWSER_TIMEOUT_MS)
            return context

        browser.new_context = patient_context
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return `open_page(file, width, height)`: an HTML file in the browser, without a network.

    More options are those of a browser context. The page must not log a message.
    """
    contexts: list[Any] = []
    messages: list[str] = []

    def opened(file: Path, width: int, height: int, **options: Any) -> Any:
        size = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=size, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(file.as_uri())
        assert messages == []
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    """Return `visit(server, …)`: a window at the pages of a service, with options of a context."""
    from page_browser import Visitor

    visitors: list[Visitor] = []

    def opened(server: Server, **options: Any) -> Visitor:
        visitors.append(Visitor(browser, server, **options))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.close()


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread in the tests of a module."""
    from tiny_runs import one_torch_thread

    with one_torch_thread():
        yield


@pytest.fixture(scope="session")
def run_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the photos that the small runs are trained on."""
    from tiny_runs import NAMES, painted

    home = tmp_path_factory.mktemp("runs")
    painted(home / "photos", NAMES, {"train": 14, "val": 9, "test": 8})
    painted(home / "pair", ("gate", "temple"), {"train": 8, "test": 6}, seed=1)
    painted(home / "pair", ("shed",), {"unknown": 5}, seed=2)
    return home


@pytest.fixture(scope="session")
def class_run(run_home: Path) -> RunAndCard:
    """Return a run on five classes and its card."""
    from tiny_runs import CLASSES, trained

    return trained(run_home, CLASSES, "tiny", "photos", "run", command="veduta train tiny")


@pytest.fixture(scope="session")
def pair_run(run_home: Path) -> RunAndCard:
    """Return a run on two classes with a single output and its card."""
    from tiny_runs import PAIR, trained

    return trained(run_home, PAIR, "pair", "pair", "two")


@pytest.fixture(scope="session")
def autoencoder_run(run_home: Path) -> RunAndCard:
    """Return a run of an autoencoder and its card."""
    from tiny_runs import DRAWING, trained

    return trained(run_home, DRAWING, "drawing", "photos", "drawn")


@pytest.fixture
def copied_run(class_run: RunAndCard, tmp_path: Path) -> Path:
    """Return a copy of the run on five classes in another place."""
    return Path(shutil.copytree(class_run[0], tmp_path / "moved"))


@pytest.fixture(scope="session")
def coloured_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three classes of eight photos; no test may change it."""
    from tiny_training import coloured_photos

    return coloured_photos(tmp_path_factory.mktemp("coloured"))


@pytest.fixture
def seeded_torch() -> None:
    """Let torch draw the same numbers in each run of a test."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def server() -> Iterator[PhotoServer]:
    """Return a running Web server that serves photos, and misbehaves where a path asks for it."""
    from photo_server import serving

    with serving() as running:
        yield running


@pytest.fixture
def gather(server: PhotoServer, tmp_path: Path) -> Collector:
    """Return a collector of the photos of `server`."""
    from collecting import Collector

    return Collector(server, tmp_path)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of ten views, a class of two, and for the photos of one class another label."""
    from tiny import save_view

    root = tmp_path_factory.mktemp("places")
    for scene in range(6):
        for number in range(10):
            save_view(root / f"place{scene}/{scene}-{number}.png", scene, number, noise=0.3)
    for number in range(2):
        save_view(root / f"few/{number}.png", 9, number)
    for scene in (1, 3):
        (root / f"place{scene}/{scene}-4.png").rename(root / f"place{scene + 1}/wrong{scene}.png")
    save_view(root / "place0/stray.png", 77, 1)
    return root


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., ReviewServer]]:
    """Return `served(dataset, …)`, which serves a review until the test ends."""
    from review_server import review_servers

    with review_servers(tmp_path) as serve:
        yield serve


@pytest.fixture
def hostile_dataset(tmp_path: Path) -> Path:
    """Two classes, one with a hostile name, a photo that is none, and one with Exif."""
    from PIL import Image
    from review_server import EVIL
    from tiny import save

    folder = tmp_path / "small"
    for number, name in enumerate(("a.png", EVIL, "c.png")):
        save(folder / "tower" / name, number, format="png")
    (folder / "tower/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    exif = Image.Exif()
    exif[0x010E] = "where the secret garden is"
    save(folder / "gate/g.jpg", 9, exif=exif)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """Return a model hub that is a folder, in the place of huggingface-hub."""
    from fake_hub import hub_with_a_model

    fake = hub_with_a_model(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake
