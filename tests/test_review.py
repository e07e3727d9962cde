"""The review: its journal loses nothing, its server lets nobody else in, its page can be used."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import pixels, save

from veduta.cli.main import run
from veduta.curate.findings import Finding
from veduta.curate.review_files import write_results
from veduta.curate.review_set import make_review_set
from veduta.datasets import open_dataset
from veduta.errors import DatasetError, VedutaError
from veduta.web import Decision, ReviewFiles, ReviewJournal, read_suspicions, review, suspicions_of
from veduta.web.access_control import ReviewAccess

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("uvicorn", reason="the extra veduta[web] is not installed")

EVIL = "<img src=x onerror=document.title='owned'>, \"'\n=1+1\N{RIGHT-TO-LEFT OVERRIDE}.png"
KEEP, DROP = Decision("keep"), Decision("drop")
STATIC = Path(__file__).parents[1] / "src/veduta/pages/static"


# ---- the journal


def opened(folder: Path, paths: tuple[str, ...] = ("a", "b", "c")) -> ReviewJournal:
    return ReviewJournal(folder / "x.journal", folder, paths)


def test_journal_continues_where_it_was(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "tower"), KEEP)])
    journal.set([(("a", "tower"), DROP), (("b", None), Decision("relabel", "gate"))])
    journal.set([(("c", "tower"), DROP)])
    assert journal.undo() == [(("c", "tower"), None)]
    journal.close()

    again = opened(tmp_path)
    assert again.decisions == {("a", "tower"): DROP, ("b", None): Decision("relabel", "gate")}
    assert again.steps == 2
    assert again.last == ("c", "tower")
    assert again.undo() == [(("b", None), None), (("a", "tower"), KEEP)]
    assert again.decisions == {("a", "tower"): KEEP}
    assert again.undo() == [(("a", "tower"), None)]
    assert again.undo() == [] and again.decisions == {} and again.steps == 0
    again.close()


@pytest.mark.parametrize("seed", range(5))
def test_journal_is_what_a_plain_history_says(tmp_path: Path, seed: int) -> None:
    """Beside it a list of whole states, one a step; opened anew between steps now and then."""
    rng = random.Random(seed)
    history: list[dict[tuple[str, str | None], Decision]] = [{}]
    journal = opened(tmp_path)
    for _ in range(120):
        if rng.random() < 0.3:
            journal.undo()
            history = history[:-1] or [{}]
        else:
            chosen = rng.choices([("a", "t"), ("b", "t"), ("c", None)], k=rng.randint(1, 3))
            changes = [
                (key, rng.choice([KEEP, DROP, Decision("relabel", "g"), None])) for key in chosen
            ]
            state = dict(history[-1])
            for key, decision in changes:
                state.pop(key, None)
                if decision is not None:
                    state[key] = decision
            before = journal.steps
            journal.set(changes)
            if journal.steps > before:
                history.append(state)
            assert history[-1] == state, "only a step that changes nothing is no step"
        if rng.random() < 0.1:
            journal.close()
            journal = opened(tmp_path)
        assert journal.decisions == history[-1]
        assert journal.steps == len(history) - 1
    journal.close()


def test_half_a_line_is_cut_off_wherever_it_ends(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "t"), KEEP)])
    whole = journal.file.read_bytes()
    journal.set([(("b", "t\N{CASTLE}"), DROP)])
    journal.close()
    data = journal.file.read_bytes()
    for length in range(len(whole), len(data), 3):
        journal.file.write_bytes(data[:length])
        again = opened(tmp_path)
        assert again.decisions == {("a", "t"): KEEP}
        again.set([(("c", "t"), DROP)])
        again.close()
        final = opened(tmp_path)
        assert final.decisions == {("a", "t"): KEEP, ("c", "t"): DROP}
        final.close()
    for length in range(0, data.index(b"\n"), 7):  # of the first line too
        journal.file.write_bytes(data[:length])
        again = opened(tmp_path)
        assert again.decisions == {} and again.steps == 0
        again.close()


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for name in "abc":
        journal.set([((name, "t"), KEEP)])
    journal.close()
    lines = journal.file.read_bytes().splitlines(keepends=True)
    journal.file.write_bytes(b"".join([*lines[:2], b"\0" * 20 + b"\n", *lines[3:]]))
    with pytest.raises(DatasetError, match=r"x\.journal, line 3: not a journal"):
        opened(tmp_path)
    journal.file.write_bytes(b"".join([*lines[:3], b"\0" * 20 + b"\n"]))
    again = opened(tmp_path)
    assert len(again.decisions) == 2, "a last line that a power failure damaged"
    again.close()


@pytest.mark.parametrize("content", [b"precious", b"precious\n", b'{"a": 1}\n', b"[]\n", b"\0" * 9])
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.journal").write_bytes(content)
    with pytest.raises(DatasetError, match="not a journal of `veduta review`"):
        opened(tmp_path)
    assert (tmp_path / "x.journal").read_bytes() == content


def test_journal_knows_its_dataset(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    ReviewJournal(tmp_path / "j", one, ["a", "b"]).close()
    ReviewJournal(tmp_path / "j", one, ["a", "b", "c"]).close()  # it grew
    ReviewJournal(tmp_path / "j", other, ["b", "a"]).close()  # it moved
    with pytest.raises(DatasetError, match=r"one, not of .*other; name another file with --out"):
        ReviewJournal(tmp_path / "j", other, ["a", "z"])


def test_one_review_at_a_time(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(VedutaError, match="another review is writing"):
        opened(tmp_path)
    journal.close()
    opened(tmp_path).close()


def test_a_step_that_is_not_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    journal.set([(("a", "t"), KEEP)])
    before = journal.file.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.set([(("b", "t"), DROP)])
        with pytest.raises(OSError, match="No space"):
            journal.undo()
    assert journal.decisions == {("a", "t"): KEEP} and journal.steps == 1
    assert journal.file.read_bytes() == before
    journal.set([(("b", "t"), DROP)])
    journal.close()
    again = opened(tmp_path)
    assert again.decisions == {("a", "t"): KEEP, ("b", "t"): DROP}
    again.close()


def test_each_step_is_synchronised_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    seen: list[bytes] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append(journal.file.read_bytes())
        assert ("a", "t") not in journal.decisions, "not told before it is on the disk"
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    journal.set([(("a", "t"), KEEP)])
    assert len(seen) == 1 and b'"a"' in seen[0]
    journal.close()


@pytest.mark.parametrize("label", ["", " ", "a ", "a\nb", "a\0", "\ud800", "x" * 301])
def test_labels_that_are_none(label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        Decision("relabel", label)


def test_decisions_hold_together() -> None:
    with pytest.raises(ValueError, match="burn"):
        Decision("burn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="and no other"):
        Decision("keep", "tower")
    with pytest.raises(ValueError, match="and no other"):
        Decision("relabel")


# ---- findings, order, results


def findings_file(folder: Path, *lines: str, header: str | None = None) -> Path:
    file = folder / "findings.csv"
    head = header or "photo,kind,score,reason,suggestion,label"
    file.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    return file


def test_findings_are_read(tmp_path: Path) -> None:
    lines = [
        "t/a.png,blurred,0.25,soft,keep,t",
        "./t/a.png,mislabelled,0.75,gate?,relabel:big gate,t",
        "t/b.png,odd,0.5,,,t",
    ]
    found = read_suspicions(findings_file(tmp_path, *lines))
    assert list(found) == ["t/a.png", "t/b.png"]
    first, second = found["t/a.png"]
    assert (first.kind, first.score, first.reason) == ("mislabelled", 0.75, "gate?")
    assert first.suggestion == Decision("relabel", "big gate")
    assert second.suggestion == KEEP and found["t/b.png"][0].suggestion is None


def test_findings_of_clean_are_read_as_it_writes_them(tmp_path: Path) -> None:
    from veduta.curate.findings import write_findings

    findings = [
        Finding("t/a.png", "near-copy", 0.9, "saved again", "drop", "t", group=1, other="t/b.png"),
        Finding("t/c.png", "mislabelled", 0.8, "looks like g", "relabel", "t", "g", 0.7),
    ]
    write_findings(tmp_path / "findings.csv", findings)
    read = read_suspicions(tmp_path / "findings.csv")
    assert read == suspicions_of(findings)
    assert read["t/a.png"][0].other == "t/b.png"
    assert read["t/c.png"][0].suggestion == Decision("relabel", "g")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("t/a.png,k,high,r,drop,t", "line 2: the score is 'high'; wanted a number"),
        ("t/a.png,k,nan,r,drop,t", "the score is 'nan'"),
        ("t/a.png,k,1,r,burn,t", "the suggestion is 'burn'"),
        ("t/a.png,k,1,r,relabel,t", "the suggestion is 'relabel'"),
        ("t/a.png,k,1,r,relabel: ,t", "the suggestion is 'relabel:'"),
        (",k,1,r,drop,t", "the photo is empty"),
        ("t/a.png,k,1", "3 fields"),
    ],
)
def test_findings_that_are_refused(tmp_path: Path, line: str, wanted: str) -> None:
    with pytest.raises(DatasetError, match=wanted):
        read_suspicions(findings_file(tmp_path, line))


def test_the_most_doubtful_come_first(tmp_path: Path) -> None:
    for name in "abcdef":
        save(tmp_path / f"t/{name}.png", ord(name))
    save(tmp_path / "g/z.png", 1)
    lines = [
        "t/b.png,blurred,0.99,r,keep,",
        "t/d.png,off-topic,0.5,r,drop,",
        "t/e.png,mislabelled,0.7,r,relabel:g,",
        "t/f.png,dark,0.9,r,keep,",
        "t/f.png,off-topic,0.6,r,drop,",
        "t/gone.png,dark,0.9,r,keep,",
    ]
    found = read_suspicions(findings_file(tmp_path, *lines))
    review_set = make_review_set(open_dataset(tmp_path), found)
    assert [group.label for group in review_set.classes] == ["g", "t"]
    order = [review_set.photos[number].path for number in review_set.classes[1].photos]
    assert order == ["t/f.png", "t/e.png", "t/d.png", "t/b.png", "t/a.png", "t/c.png"]
    by_path = {photo.path: photo for photo in review_set.photos}
    assert by_path["t/f.png"].suggestion == DROP, "what wants a change goes before what does not"
    assert any(
        "1 photos of the findings are not in the dataset (t/gone.png)" in problem
        for problem in review_set.problems
    )
    only = make_review_set(open_dataset(tmp_path), found, "g")
    assert [group.label for group in only.classes] == ["g"] and list(only.labels) == ["g", "t"]
    with pytest.raises(DatasetError, match="no photo is labelled 'x'; it has g, t"):
        make_review_set(open_dataset(tmp_path), found, "x")


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def test_results_keep_the_other_columns(tmp_path: Path) -> None:
    names = [EVIL, "b.png", "c.png", "d.png", "e.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, number, format="png")
    source = tmp_path / "labels.csv"
    with source.open("w", encoding="utf-8-sig", newline="") as out:
        table = csv.writer(out)
        table.writerow(["note", "Path", " label", "split", ""])
        table.writerow([])
        table.writerows(
            [
                [f"n{number}", f"./{name}", "t" if number < 4 else "", "train", ""]
                for number, name in enumerate(names)
            ]
        )
    review_set = make_review_set(open_dataset(tmp_path), {})
    decisions = {
        (EVIL, "t"): Decision("relabel", "g, h"),
        ("b.png", "t"): DROP,
        ("c.png", "t"): KEEP,
        ("d.png", "another"): DROP,
    }
    files = ReviewFiles(tmp_path / "out.csv")
    outcome = write_results(files, review_set, decisions, source)
    assert (outcome.photos, outcome.undecided) == (5, 2)
    assert (outcome.kept, outcome.dropped, outcome.relabelled) == (1, 1, 1)
    assert rows_of(files.decisions) == [
        ["photo", "label_before", "decision", "label_after"],
        [EVIL, "t", "relabel", "g, h"],
        ["b.png", "t", "drop", ""],
        ["c.png", "t", "keep", "t"],
    ]
    assert rows_of(files.labels) == [
        ["note", "Path", " label", "split", ""],
        ["n0", f"./{EVIL}", "g, h", "train", ""],
        ["n2", "./c.png", "t", "train", ""],
        ["n3", "./d.png", "t", "train", ""],
        ["n4", "./e.png", "", "train", ""],
    ]
    again = open_dataset(tmp_path, labels=str(files.labels))
    assert again.table["path"].to_pylist() == [EVIL, "c.png", "d.png", "e.png"]
    assert again.table["label"].to_pylist() == ["g, h", "t", "t", None]


def test_outputs_do_not_overwrite_inputs(tmp_path: Path) -> None:
    save(tmp_path / "t/a.png", 1)
    found = findings_file(tmp_path)
    with pytest.raises(DatasetError, match="the review reads it"):
        review(tmp_path / "t/..", findings=found, out=found)
    with pytest.raises(DatasetError, match="not a folder; make it first"):
        review(tmp_path, out=tmp_path / "no/out.csv")
    (tmp_path / "x-labels.csv").write_text("path,label\nt/a.png,t\n")
    with pytest.raises(DatasetError, match=r"x-labels\.csv: the review reads it"):
        review(tmp_path / "x-labels.csv", out=tmp_path / "x.csv")


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "t/a.png", 1)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["review", str(tmp_path), "--no-open"]) == 3
    assert "pip install 'veduta[web]'" in capsys.readouterr().err


def test_a_taken_port_is_told(tmp_path: Path, served: Callable[..., Served]) -> None:
    save(tmp_path / "t/a.png", 1)
    port = served(tmp_path).access.port
    with pytest.raises(VedutaError, match=f"port {port}: .*name another with --port"):
        review(tmp_path, out=tmp_path / "other.csv", port=port)


def test_nothing_of_the_server_is_loaded_before_it_runs() -> None:
    code = (
        "import sys, veduta.web, veduta.cli.review; print({'fastapi', 'uvicorn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- the server


@dataclass
class Served:
    access: ReviewAccess
    files: ReviewFiles
    thread: threading.Thread
    cookie: str = ""

    def ask(
        self, path: str, body: Any = None, *, folder: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask as the page does; a header given as "" is left out."""
        sent = {
            "Host": f"127.0.0.1:{self.access.port}",
            "Cookie": self.cookie,
            "X-Veduta-Page": self.access.page_key,
        }
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.access.port, timeout=10)
        try:
            inside = (
                path if path.startswith("/?") else (folder or self.access.path_prefix) + path[1:]
            )
            connection.putrequest(
                "GET" if data is None else "POST", inside, skip_host=True, skip_accept_encoding=True
            )
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            content = answer.read()
            got = {name.lower(): value for name, value in answer.getheaders()}
            if got.get("content-type", "").startswith("application/json"):
                return answer.status, json.loads(content), got
            return answer.status, content, got
        finally:
            connection.close()

    def enter(self) -> None:
        _, _, headers = self.ask(f"/?token={self.access.token}")
        self.cookie = headers["set-cookie"].split(";")[0]

    def stop(self) -> None:
        if self.thread.is_alive():
            self.cookie = ""
            self.enter()
            self.ask("/api/finish", {"stop": True})
            self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return `served(dataset, …)`, which serves a review until the test ends."""
    running: list[Served] = []

    def serve(dataset: Path, **options: Any) -> Served:
        ready: queue.Queue[Any] = queue.Queue()
        options.setdefault("out", tmp_path / "out.csv")

        def body() -> None:
            try:
                review(dataset, on_ready=lambda *told: ready.put(told), **options)
            except BaseException as error:
                ready.put(error)
                raise

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        told = ready.get(timeout=20)
        if isinstance(told, BaseException):
            raise told
        running.append(Served(*told, thread))
        return running[-1]

    yield serve
    for server in running:
        server.stop()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes, one with a hostile name, a photo that is none, and one with Exif."""
    folder = tmp_path / "small"
    for number, name in enumerate(("a.png", EVIL, "c.png")):
        save(folder / "tower" / name, number, format="png")
    (folder / "tower/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    exif = Image.Exif()
    exif[0x010E] = "where the secret garden is"
    save(folder / "gate/g.jpg", 9, exif=exif)
    return folder


def test_only_who_has_the_address_gets_in(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    paths = ["/", "/static/review.js", "/api/classes", "/api/classes/0", "/photo/small/0"]
    for path in [*paths, "/?token=", "/?token=wrong", "/?"]:
        status, body, headers = server.ask(path)
        assert status == 403, path
        assert b"address" in body and "set-cookie" not in headers
    for path in ("/api/step", "/api/undo", "/api/finish"):
        assert server.ask(path, {"decisions": []})[0] == 403
    assert not server.files.decisions.exists()

    status, _, headers = server.ask(f"/?token={server.access.token}")
    assert status == 200
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    assert server.access.token not in headers["set-cookie"]
    assert server.access.page_key not in headers["set-cookie"]
    assert f"Path={server.access.path_prefix};" in headers["set-cookie"]
    server.cookie = headers["set-cookie"].split(";")[0]
    assert all(server.ask(path)[0] == 200 for path in paths)
    assert server.ask("/static/review.js", folder="/")[0] == 403
    assert server.ask("/", folder="/another/")[0] == 403
    server.cookie += "x"
    assert server.ask("/")[0] == 403


def test_a_ticket_is_good_for_one(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    path = server.access.single_use_url().partition(f":{server.access.port}")[2]
    assert server.ask(path)[0] == 200
    assert server.ask(path)[0] == 403
    assert server.ask(f"/?token={server.access.token}")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": ""}, 400),
        ({"Host": "[::1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"X_Veduta_Page": "", "X-Veduta-Page": ""}, 403),
        ({"X-Veduta-Page": "wrong"}, 403),
        ({"Cookie": "a=b; ;;=\x7f"}, 403),
        ({"Transfer-Encoding": "chunked", "Content-Length": ""}, 413),
    ],
)
def test_other_pages_cannot_act(
    small: Path, served: Callable[..., Served], headers: dict[str, str], status: int
) -> None:
    server = served(small)
    server.enter()
    body = {"decisions": [{"photo": 0, "verdict": "drop"}]}
    journal = server.files.journal.read_bytes()
    assert server.ask("/api/step", body, **headers)[0] == status
    assert server.files.journal.read_bytes() == journal
    assert server.ask("/api/step", body)[0] == 200, "the page itself can"
    assert server.ask("/api/step", body, Host=f"localhost:{server.access.port}")[0] == 200


def test_headers_shut_the_page_in(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    server.enter()
    for path in ("/", "/static/review.js", "/api/classes", "/nothing", "/photo/small/0"):
        _, _, headers = server.ask(path)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    page = server.ask("/")[1].decode()
    assert not re.search(r"\son\w+=|<script>|style=|https?:", page)
    for file in STATIC.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|innerHTML|eval\(|@import", text), file.name


def test_no_path_gets_out(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    server.enter()
    for path in (
        "/static/../review.py",
        "/static/..%2freview.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/etc/passwd",
        "//etc/passwd",
        "/photo/small/..%2f..%2fetc",
        "/photo/small/-1",
        "/photo/small/999999",
        f"/photo/small/{10**30}",
        "/photo/huge/0",
        "/photo/other/small/0",
        "/api/classes/-1",
        "/api/classes/9",
        "/docs",
        "/openapi.json",
    ):
        assert server.ask(path)[0] in (404, 422), path


@pytest.mark.parametrize(
    "decisions",
    [
        [{"photo": 99, "verdict": "drop"}],
        [{"photo": -1, "verdict": "drop"}],
        [{"photo": 0, "verdict": "drop"}, {"photo": 99, "verdict": "drop"}],
        [{"photo": "0", "verdict": "drop"}],
        [{"photo": 0, "verdict": "burn"}],
        [{"photo": 0, "verdict": "relabel"}],
        [{"photo": 0, "verdict": "relabel", "label": " a\n"}],
        [{"photo": 0, "verdict": "keep", "label": "a"}],
        [{"photo": 0, "verdict": "keep", "path": "/etc"}],
        [{"photo": 0}],
        {},
    ],
)
def test_steps_that_make_no_sense_change_nothing(
    small: Path, served: Callable[..., Served], decisions: Any
) -> None:
    server = served(small)
    server.enter()
    before = server.files.journal.read_bytes()
    assert server.ask("/api/step", {"decisions": decisions})[0] in (404, 422)
    assert server.ask("/api/step", b"{")[0] == 422
    assert server.ask("/api/step", b"[" * 100_000)[0] in (400, 422)
    assert server.ask("/api/step", b" " * (8 * 2**20 + 1))[0] == 413
    assert server.files.journal.read_bytes() == before


def test_photos_are_made_anew(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    server.enter()
    gate, tower = (server.ask(f"/api/classes/{number}")[1]["photos"] for number in (0, 1))
    assert [photo["name"] for photo in gate] == ["gate/g.jpg"]
    assert b"secret" in (small / "gate/g.jpg").read_bytes()
    for size in ("small", "large"):
        status, jpeg, headers = server.ask(f"/photo/{size}/{gate[0]['number']}")
        assert status == 200 and headers["content-type"] == "image/jpeg"
        assert b"secret" not in jpeg
        assert Image.open(io.BytesIO(jpeg)).size == (48, 32)
    broken = next(photo for photo in tower if "broken" in photo["name"])
    status, body, _ = server.ask(f"/photo/small/{broken['number']}")
    assert status == 422 and "JPEG" in body["error"]
    assert str(small) not in body["error"]


def test_undo_twice_at_once_takes_back_one(small: Path, served: Callable[..., Served]) -> None:
    server = served(small)
    server.enter()
    for number in (0, 1):
        server.ask("/api/step", {"decisions": [{"photo": number, "verdict": "drop"}]})
    assert server.ask("/api/undo", {"step": 2})[1]["steps"] == 1
    assert server.ask("/api/undo", {"step": 2})[1] == {"steps": 1, "changed": []}


def test_a_full_disk_is_told(
    small: Path, served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(small)
    server.enter()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, body, _ = server.ask("/api/step", {"decisions": [{"photo": 0, "verdict": "drop"}]})
    assert status == 507 and "No space left on device" in body["error"]
    assert server.ask("/api/classes")[1]["steps"] == 0


def test_it_listens_on_this_machine_alone(small: Path, served: Callable[..., Served]) -> None:
    port = served(small).access.port
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [place for _, place, _, state, *_ in rows if state == "0A"]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [
        f"0100007F:{port:04X}"
    ]


# ---- the page


class Reader:
    """Someone at the page, with or without a mouse."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.strangers: list[str] = []
        origin = url.partition("/?")[0]
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith(origin) else self.strangers.append(request.url)
            ),
        )
        self.page.goto(url)
        self.page.wait_for_selector("#grid li.current")

    def until(self, condition: str, seconds: float = 10) -> None:
        # Playwright's own waiting evaluates a string in the page, which the page forbids.
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.01)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> None:
        self.until("document.getElementById('saved').textContent === 'Saved'")

    def loaded(self) -> None:
        self.until(
            "[...document.querySelectorAll('#grid img')].every("
            "image => image.hidden || (image.complete && image.naturalWidth))"
        )

    def tiles(self) -> dict[str, str]:
        """Return name → class of the tiles that there are."""
        found = self.page.evaluate(
            "[...document.querySelectorAll('#grid li')].map(tile => "
            "[tile.querySelector('.tile').title, tile.className])"
        )
        return {name.rsplit("/", 1)[-1]: kind for name, kind in found}

    def left(self) -> str:
        text: str = self.page.inner_text("#left")
        return text.partition(";")[0]

    def current(self) -> str:
        name: str = self.page.inner_text("#about-name")
        return name.rsplit("/", 1)[-1]

    def close(self) -> None:
        self.context.close()
        assert self.strangers == [], "nothing is loaded from anywhere else"


@pytest.fixture
def towers(tmp_path: Path) -> Path:
    """Twelve towers, three of them suspected, and two gates."""
    folder = tmp_path / "towers"
    for number in range(12):
        save(folder / f"tower/t{number:02}.png", number)
    for number in range(2):
        save(folder / f"gate/g{number}.png", 50 + number)
    findings_file(
        folder,
        "tower/t07.png,mislabelled,0.9,looks like a gate,relabel:gate,tower",
        "tower/t03.png,near-copy,0.8,saved again,drop,tower",
        "tower/t05.png,dark,0.4,black nearly,keep,tower",
    )
    return folder


def test_a_class_with_the_keyboard_alone(
    towers: Path, browser: Any, served: Callable[..., Served]
) -> None:
    server = served(towers, findings=towers / "findings.csv", label="tower")
    reader = Reader(browser, server.access.url)
    assert reader.left() == "0 of 12 decided, 12 left"
    assert list(reader.tiles())[:4] == ["t07.png", "t03.png", "t05.png", "t00.png"]
    assert reader.tiles()["t03.png"] == "drop suggested"
    reader.press("Enter")  # what is suggested: a gate
    reader.press("d")  # t03
    reader.press("k")  # t05
    assert reader.current() == "t00.png"
    reader.press("r")
    reader.page.keyboard.type("GAT")
    reader.press("Enter")
    reader.press("1")  # t01: the label used before
    reader.press("r")
    reader.page.keyboard.type("old tower")
    reader.press("Enter")  # t02: a new label
    reader.press("r", "Escape")
    assert reader.current() == "t04.png"
    reader.press("Shift+ArrowRight", "d")  # t04, t06
    reader.press("ArrowLeft", "k")  # t06 after all
    assert reader.left() == "8 of 12 decided, 4 left"
    reader.press("u", "u", "u")
    reader.until("document.getElementById('left').textContent.startsWith('5 of')")
    assert reader.current() == "t02.png"
    reader.press("2", "Shift+Enter")
    reader.saved()
    assert reader.left() == "12 of 12 decided, 0 left"
    assert reader.tiles()["t02.png"].split() == ["relabel", "decided"]
    assert "tower is done" in reader.page.inner_text("#toast")
    reader.press("?")
    assert reader.page.is_visible("#help")
    assert "keep, and go to the next" in reader.page.inner_text("#help")
    reader.press("Escape")
    assert reader.complaints == []
    reader.page.focus("#finish-button")
    reader.press("Enter")
    reader.page.focus("#finish-stop")
    reader.press("Enter")
    reader.until("document.body.innerText.includes('The review has ended')")
    server.thread.join(10)
    rows = {row[0]: row[1:] for row in rows_of(server.files.decisions)[1:]}
    assert len(rows) == 12
    changed = {path: row[1:] for path, row in rows.items() if row[1] != "keep"}
    assert changed == {
        "tower/t07.png": ["relabel", "gate"],
        "tower/t03.png": ["drop", ""],
        "tower/t00.png": ["relabel", "gate"],
        "tower/t01.png": ["relabel", "gate"],
        "tower/t02.png": ["relabel", "old tower"],
    }
    names = dict(rows_of(server.files.labels)[1:])
    assert len(names) == 13 and names["tower/t02.png"] == "old tower"
    assert names["gate/g0.png"] == "gate", "classes that were not reviewed stay"
    reader.close()


def test_the_space_bar_takes_what_is_seen(
    tmp_path: Path, browser: Any, served: Callable[..., Served]
) -> None:
    for number in range(60):
        save(tmp_path / f"many/p{number:02}.png", number)
    found = findings_file(
        tmp_path, "many/p59.png,off-topic,0.9,r,drop,", "many/p58.png,dark,0.2,r,,"
    )
    reader = Reader(browser, served(tmp_path, findings=found).access.url)
    reader.loaded()
    first, last = reader.page.evaluate(
        "(() => { const box = document.getElementById('scroller').getBoundingClientRect();"
        "const seen = [...document.querySelectorAll('#grid li')].filter(tile => {"
        "const frame = tile.querySelector('.frame').getBoundingClientRect();"
        "return frame.top >= box.top && frame.bottom <= box.bottom; });"
        "return [+seen[0].dataset.position, +seen.at(-1).dataset.position]; })()"
    )
    assert first == 0 and 8 <= last < 59
    reader.press("ArrowRight", "d", " ")
    assert reader.left() == f"{last + 1} of 60 decided, {59 - last} left"
    tiles = reader.tiles()
    assert tiles["p59.png"] == "drop decided", "as suggested"
    assert tiles["p58.png"] == "drop decided", "what was decided stays"
    assert tiles["p00.png"] == "keep decided"
    assert "current" in tiles[f"p{last - 1:02}.png"], "the next one is current"
    reader.press("u")
    reader.until("document.getElementById('left').textContent.startsWith('1 of')")
    for _ in range(10):
        reader.loaded()
        reader.press(" ")
    reader.saved()
    assert reader.left() == "60 of 60 decided, 0 left"
    assert reader.complaints == []
    reader.close()


@pytest.mark.usefixtures("interruptible")
def test_reload_and_kill_lose_nothing(
    towers: Path, tmp_path: Path, browser: Any, request: pytest.FixtureRequest
) -> None:
    command = [
        sys.executable,
        "-m",
        "veduta",
        "review",
        str(towers),
        "--no-open",
        "--label",
        "tower",
        "--out",
        str(tmp_path / "k.csv"),
    ]

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        request.addfinalizer(process.kill)
        assert process.stderr is not None
        return process, process.stderr.readline().split()[-1]

    process, url = start()
    reader = Reader(browser, url)
    reader.press("d", "k", "d")
    reader.saved()
    reader.page.reload()
    reader.page.wait_for_selector("#grid li.current")
    assert reader.current() == "t03.png", "goes on behind the last one decided"
    assert reader.tiles()["t00.png"] == reader.tiles()["t02.png"] == "drop decided"
    reader.press("k")
    reader.saved()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    reader.press("d")  # nobody acknowledges this one
    reader.until("!document.getElementById('trouble').hidden")
    assert "not saved" in reader.page.inner_text("#saved")
    reader.press("d")
    assert reader.left() == "5 of 12 decided, 7 left", "no more is taken in"
    reader.close()

    process, url = start()
    reader = Reader(browser, url)
    assert reader.left() == "4 of 12 decided, 8 left"
    assert reader.current() == "t04.png"
    reader.press("u", "u")
    reader.until("document.getElementById('left').textContent.startsWith('2 of')")
    assert reader.current() == "t02.png"
    reader.saved()
    reader.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "12 photos: 1 kept, 1 dropped, 0 relabelled, 10 undecided" in out
    assert "Traceback" not in err
    assert [row[:1] + row[2:3] for row in rows_of(tmp_path / "k.csv")[1:]] == [
        ["tower/t00.png", "drop"],
        ["tower/t01.png", "keep"],
    ]


def test_with_the_mouse(towers: Path, browser: Any, served: Callable[..., Served]) -> None:
    server = served(towers, findings=towers / "findings.csv")
    reader = Reader(browser, server.access.url)
    page = reader.page
    assert page.inner_text("#class-name") == "gate"
    page.click("#next-class")
    reader.until("document.getElementById('class-name').textContent === 'tower'")
    tiles = page.locator("#grid li .tile")
    tiles.nth(4).click()
    assert reader.current() == "t01.png"
    page.click("footer [data-do=drop]")
    assert reader.current() == "t02.png"
    tiles.nth(7).click(modifiers=["Shift"])  # t02, t04, t06
    assert "3 photos marked" in page.inner_text("#about-name")
    page.click("footer [data-do=keep]")
    page.hover("#grid li:nth-child(2)")
    page.click("#grid li:nth-child(2) [data-quick=drop]")
    page.click("footer [data-do=relabel]")
    page.click("#labels-list li:has-text('gate')")
    assert reader.left() == "6 of 12 decided, 6 left"
    kinds = reader.tiles()
    assert [kinds[f"t{number:02}.png"].split()[0] for number in (1, 2, 4, 6, 3, 5)] == [
        "drop",
        "keep",
        "keep",
        "keep",
        "drop",
        "relabel",
    ]
    tiles.nth(0).dblclick()
    assert page.is_visible("#viewer")
    assert "looks like a gate" in page.inner_text("#viewer-why")
    assert "suggested: gate?" in page.inner_text("#viewer-state")
    page.click("#viewer [data-do=keep]")
    page.click("#viewer [data-close]")
    page.click("footer [data-do=undo]")
    reader.until("document.getElementById('left').textContent.startsWith('6 of')")
    page.select_option("#filter", "drop")
    assert list(reader.tiles()) == ["t03.png", "t01.png"]
    page.select_option("#filter", "suspected")
    assert list(reader.tiles()) == ["t07.png", "t03.png", "t05.png"]
    page.click("#class-button")
    page.click("#classes-list li:has-text('gate')")
    reader.until("document.getElementById('class-name').textContent === 'gate'")
    assert page.inner_text("#empty").startswith("No photo of this class is like that.")
    page.click("#empty button")
    assert len(reader.tiles()) == 2
    page.click("footer [data-do=undo]")  # of the other class: it goes there
    reader.until("document.getElementById('class-name').textContent === 'tower'")
    reader.until("document.getElementById('left').textContent.startsWith('5 of')")
    reader.saved()
    assert reader.complaints == []
    reader.close()


def test_with_a_finger(towers: Path, browser: Any, served: Callable[..., Served]) -> None:
    server = served(towers, label="tower")
    reader = Reader(
        browser,
        server.access.url,
        viewport={"width": 360, "height": 740},
        has_touch=True,
        is_mobile=True,
    )
    page = reader.page
    tiles = page.locator("#grid li .tile")
    tiles.nth(1).tap()
    assert reader.current() == "t01.png" and not page.is_visible("#viewer")
    page.tap("footer [data-do=drop]")
    assert reader.current() == "t02.png"
    tiles.nth(2).tap()  # the current one: enlarged
    assert page.is_visible("#viewer")
    reader.until("document.getElementById('viewer-photo').naturalWidth > 0")
    page.evaluate(
        "(() => { const area = document.querySelector('.picture');"
        "const touch = (x) => new Touch({identifier: 1, target: area, clientX: x, clientY: 300});"
        "const send = (type, x, touches) => area.dispatchEvent(new TouchEvent(type, "
        "{touches, changedTouches: [touch(x)], bubbles: true}));"
        "send('touchstart', 300, [touch(300)]); send('touchend', 100, []); })()"
    )
    assert "t03.png" in page.inner_text("#viewer-name")
    page.tap("#viewer [data-do=keep]")
    assert "t04.png" in page.inner_text("#viewer-name")
    page.tap("#viewer [data-close]")
    for button in page.locator("footer .actions button, header button:visible").all():
        box = button.bounding_box()
        assert box["width"] >= 34 and box["height"] >= 36, "large enough for a finger"
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.tap("footer [data-do=undo]")
    page.tap("footer [data-do=undo]")
    reader.until("document.getElementById('left').textContent.startsWith('0 of')")
    page.tap("footer [data-do=screen]")
    reader.saved()
    assert re.match(r"([4-9]|1[0-2]) of 12 decided", reader.left())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert reader.complaints == []
    reader.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_only_text(
    small: Path, browser: Any, served: Callable[..., Served], width: int, scheme: str
) -> None:
    found = small / "findings.csv"
    with found.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["photo", "kind", "score", "reason", "suggestion"])
        table.writerow(
            [f"tower/{EVIL}", "<b>odd</b>", "1", "</script><script>x()", "relabel:<i>g</i>"]
        )
    server = served(small, findings=found, label="tower")
    reader = Reader(
        browser,
        server.access.url,
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 740},
    )
    page = reader.page
    reader.until("document.querySelector('.photo-error:not(:empty)') !== null")
    assert "JPEG" in page.inner_text(".photo-error:not(:empty)")
    assert page.title() == "Review: small"
    assert "<img src=x" in page.inner_text("#about-name")
    assert "\\u202e" in page.inner_text("#about-name"), "marks of direction are shown, not obeyed"
    assert "<b>odd</b> </script><script>x()" in page.inner_text("#about-why")
    assert "<i>g</i>?" in page.inner_text("#grid .badge")
    reader.press("Enter", "r")
    assert "<i>g</i>" in page.inner_text("#labels-list")
    reader.press("Escape", "e")
    assert page.is_visible("#viewer")
    reader.press("Escape", "c", "Escape")
    assert page.locator("#grid img").count() == 4 and page.locator("i, b i").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("getComputedStyle(document.querySelector('.frame img')).transition") in (
        "all",
        "none",
        "all 0s ease 0s",
    )
    # A photo that cannot be decoded is told to the console by the browser itself.
    assert [text for text in reader.complaints if "422" not in text] == []
    reader.close()


def test_every_control_has_a_name_and_focus_is_seen(
    towers: Path, browser: Any, served: Callable[..., Served]
) -> None:
    reader = Reader(browser, served(towers).access.url)
    page = reader.page
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, progress, dialog')].filter(one => "
        "!(one.ariaLabel || one.textContent.trim() || one.labels?.length || "
        "one.getAttribute('aria-labelledby'))).map(one => one.outerHTML)"
    )
    assert nameless == []
    label = page.locator("#grid li .tile").first.get_attribute("aria-label")
    assert label.startswith("gate/g0.png. undecided")
    assert page.locator("#grid .tile[tabindex='0']").count() == 1
    seen = []
    for _ in range(9):
        reader.press("Tab")
        seen.append(
            page.evaluate(
                "(() => { const one = document.activeElement; return [one.tagName, "
                "getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]; })()"
            )
        )
    for tag, style, width in seen:
        if tag not in ("BODY", "MAIN"):
            assert style == "solid" and float(width.removesuffix("px")) >= 2.9
    assert len({tag for tag, *_ in seen}) >= 2
    reader.close()


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_in_both_schemes() -> None:
    """By the formula of WCAG 2.2: 4.5 for text, 3 for the edges of controls."""
    css = (STATIC / "colours.css").read_text("utf-8")
    schemes = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in css.split("}")[:2]]
    for colours in schemes:

        def contrast(one: str, other: str, colours: dict[str, str] = colours) -> float:
            low, high = sorted(_luminance(colours[name]) for name in (one, other))
            return (high + 0.05) / (low + 0.05)

        for text in ("ink", "muted", "accent", "right", "wrong"):
            for ground in ("paper", "card"):
                assert contrast(text, ground) >= 4.5, (text, ground)
        assert contrast("muted", "well") >= 4.5
        for ground in ("accent", "right", "wrong"):
            assert contrast("on-colour", ground) >= 4.5, ground
        assert contrast("edge", "card") >= 3


def test_five_thousand_photos_stay_few_tiles(
    tmp_path: Path, browser: Any, served: Callable[..., Served]
) -> None:
    folder = tmp_path / "big/class"
    folder.mkdir(parents=True)
    Image.fromarray(pixels(1)).save(folder / "p0000.png")
    for number in range(1, 5000):
        os.link(folder / "p0000.png", folder / f"p{number:04}.png")
    reader = Reader(browser, served(tmp_path / "big").access.url)
    count = "document.querySelectorAll('#grid li').length"
    assert reader.page.evaluate(count) < 120
    reader.press("End")
    reader.until("document.querySelector('#grid li.current img').naturalWidth > 0")
    assert reader.current() == "p4999.png"
    assert reader.page.evaluate(count) < 120
    reader.page.evaluate("document.getElementById('scroller').scrollTop = 50000")
    reader.until(
        "[...document.querySelectorAll('#grid li')].some(tile => { const box = "
        "tile.getBoundingClientRect(); return box.top > 200 && box.top < 600 && "
        "tile.querySelector('img').naturalWidth > 0; })"
    )
    assert reader.page.evaluate(count) < 120
    reader.press("Shift+Enter")
    reader.saved()
    assert reader.left() == "5,000 of 5,000 decided, 0 left"
    reader.press("u")
    reader.until("document.getElementById('left').textContent.startsWith('0 of')")
    assert reader.complaints == []
    reader.close()
