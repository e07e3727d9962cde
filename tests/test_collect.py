"""The command `veduta collect`, its progress, and ten thousand URLs."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from collecting import QUICK
from photo_server import PhotoServer
from tiny import TinyEncoder

from veduta import index
from veduta.cli import main
from veduta.cli.printing import shown
from veduta.collect import Progress, Settings, Summary, collect
from veduta.photos import find_photos


class TestCommand:
    def run(self, *arguments: object) -> Any:
        return CliRunner().invoke(
            main.veduta, ["collect", *map(str, arguments)], standalone_mode=False
        )

    def test_text_json_and_exit_codes(self, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "tower.txt"
        file.write_text("\n".join([server.url("photo/1"), server.url("html"), "ftp://h/a.jpg"]))
        options = (file, "--out", tmp_path / "out")
        refused = self.run(*options)
        assert refused.return_value == 1, "no photo at all"
        assert "To fetch from private addresses all the same: --allow-private." in refused.stdout
        done = self.run(*options, "--allow-private")
        assert done.return_value == 0
        lines = done.stdout.splitlines()
        assert lines[0].startswith("1 collected, 2 failed in ")
        assert "      1  not-a-photo  an HTML page" in lines
        assert "      1  refused      ftp: is not http: or https:" in lines
        out = shown(tmp_path / "out")
        assert lines[-3] == f"The whole list: {out}/collected.failed.csv"
        assert lines[-2].startswith("3 rows of 1 label: ")
        assert lines[-1] == f"Next: veduta clean {out}"
        assert all(len(line) <= 80 for line in lines[:-3])
        again = self.run(*options, "--allow-private", "--json", "--strict")
        facts = json.loads(again.stdout)
        assert again.return_value == 1
        assert (facts["photos"], facts["already"], facts["failed"]) == (1, 1, 2)
        assert facts["outcomes"] == {"collected": 1, "not-a-photo": 1, "refused": 1}

    def test_each_reason_is_counted_and_each_row_is_listed(
        self, server: PhotoServer, tmp_path: Path
    ) -> None:
        """Two rows that failed in one way are one reason, whatever numbers it has."""
        wanted = {
            "photo/1": ("too-small", "16 × 24 pixels", "a lower --min-size"),
            "gone/a": ("http-error", "404 Not Found", "--retry-failed"),
            "gone/b": ("http-error", "404 Not Found", "--retry-failed"),
            "gone/c": ("http-error", "404 Not Found", "--retry-failed"),
            "status/403/9": ("http-error", "403 Sorry", "--retry-failed"),
            "html": ("not-a-photo", "an HTML page", "--retry-failed"),
            "photo/2": ("too-small", "16 × 24 pixels", "a lower --min-size"),
            "png": None,
            "status/503/9": ("busy", "503 Sorry", "the same command"),
            "robots/noindex": ("opted-out", "X-Robots-Tag: noindex", "--ignore-robots-tag"),
        }
        file = tmp_path / "tower.txt"
        file.write_text("\n".join(map(server.url, wanted)))
        options = (file, "--out", tmp_path / "out", "--allow-private", "--retries", "0")
        done = self.run(*options, "--min-size", "20", "--json")
        reasons = json.loads(done.stdout)["reasons"]
        assert [(one["rows"], one["outcome"]) for one in reasons[:2]] == [
            (3, "http-error"),
            (2, "too-small"),
        ]
        assert reasons[0]["url"] == server.url("gone/a")
        assert sum(one["rows"] for one in reasons) == 9
        assert len(reasons) == 6
        listed = tmp_path / "out/collected.failed.csv"
        with listed.open(encoding="utf-8", newline="") as stream:
            rows = {row["url"]: row for row in csv.DictReader(stream)}
        assert len(rows) == 9
        for path, facts in wanted.items():
            if facts is not None:
                outcome, reason, again = facts
                row = rows[server.url(path)]
                assert (row["outcome"], row["tried_again_by"]) == (outcome, again)
                assert reason in row["reason"] or outcome == "too-small"
                assert row["label"] == "tower"
        file.write_text(server.url("png"))
        self.run(file, "--out", tmp_path / "out", "--allow-private")
        assert not listed.exists(), "no row failed"

    def test_wrong_calls(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        for options in (
            ["--no-decode", "--resize", "9"],
            ["--max-bytes", "0"],
            ["--max-bytes", "many"],
            ["--user-agent", "a\nb"],
            ["--referer", "a\r\nX: b"],
            ["--min-size", "0"],
            ["--min-size", "9", "--no-decode"],
            ["--header", "X: a\r\nCookie: b"],
            ["--header", "X: a\nb"],
            ["--header", "X y: a"],
            ["--header", "no colon"],
            ["--header", "Host: example.org"],
            ["--header", "Range: bytes=0-9"],
            ["--header", "User-Agent: me"],
            ["--header", "X: 1", "--header", "x: 2"],
            ["--proxy", "socks5://localhost:9"],
            ["--proxy", "localhost"],
            ["--proxy", "http://"],
            ["--proxy", "http://[::1"],
        ):
            done = self.run(file, "--out", tmp_path, *options)
            assert done.exception.exit_code == 2
        assert main.run(["collect", str(file), "--out", str(tmp_path / "out")]) == 3

    def test_the_index_takes_it(self, server: PhotoServer, tmp_path: Path) -> None:
        sources = []
        for place in ("Tower", "bridge"):
            urls = (server.url(f"photo/{len(place) * 100 + number}") for number in range(3))
            sources.append(tmp_path / f"{place}.txt")
            sources[-1].write_text("\n".join(urls))
        out = tmp_path / "out"
        done = collect(sources, out, Settings(**QUICK))
        assert (done.labels, done.collected) == (2, 6)
        encoder = TinyEncoder()
        index.create_index(tmp_path / "index", encoder)
        report = index.update_index(tmp_path / "index", [out], encoder, labels="folders")
        assert (report.added, report.unreadable) == (6, [])
        rows = index.open_snapshot(tmp_path / "index").rows.to_pylist()
        labels = {os.fsdecode(row["path"]): row["label"] for row in rows}
        table = pq.read_table(out / "collected.parquet").to_pylist()
        assert labels == {str(out / row["path"]): row["label"] for row in table}

    def test_within_a_running_loop(self, server: PhotoServer, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text(server.url("photo/1"))

        async def notebook() -> Summary:
            return collect([tmp_path / "a.txt"], tmp_path / "out", Settings(**QUICK))

        assert asyncio.run(notebook()).collected == 1

    def test_reading_is_told(self, server: PhotoServer, tmp_path: Path) -> None:
        rows = [f"{number},ftp://example.org/{number},1" for number in range(9000)]
        source = tmp_path / "photos.csv"
        source.write_text("\n".join(["id,url,landmark_id", *rows]) + "\n", "utf-8")
        told: list[int] = []
        collect([source], tmp_path / "out", on_reading=told.append)
        assert told == [4096, 8192]

    def test_progress_counts_what_is_to_do(self, server: PhotoServer, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        paths = [f"photo/{number}" for number in range(10)]
        file.write_text("\n".join(server.url(path) for path in [*paths, "html", paths[0]]))
        seen: list[Progress] = []
        collect([file], tmp_path / "out", Settings(**QUICK), on_progress=seen.append)
        assert [state.done for state in seen] == sorted(state.done for state in seen)
        assert seen[-1] == Progress(done=11, total=11, collected=10, failed=1)


@pytest.mark.slow
def test_three_thousand_urls(server: PhotoServer, tmp_path: Path) -> None:
    number = 3_000
    file = tmp_path / "rows.csv"
    kinds = {0: "nothing-here/{}", 1: "html", 2: "status/503/1?{}"}
    with file.open("w") as out:
        out.write("id,url,landmark_id\n")
        for each in range(number):
            path = kinds.get(each % 100, "photo/{}").format(each)
            out.write(f"i{each},{server.url(path)},{each % 50}\n")
    began = time.monotonic()
    done = collect(
        [file],
        tmp_path / "out",
        Settings(**{**QUICK, "per_host": 64, "read_timeout": 20, "total_timeout": 60}),
    )
    assert dict(done.outcomes) == {"collected": 2940, "http-error": 30, "not-a-photo": 30}
    assert len(list(find_photos([tmp_path / "out"]))) == 2940
    assert time.monotonic() - began < 60
    began = time.monotonic()
    again = collect([file], tmp_path / "out", Settings(**QUICK))
    assert (again.already, again.collected) == (2940, 0)
    assert time.monotonic() - began < 10
