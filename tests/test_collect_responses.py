"""Good, bad and hostile responses to `veduta collect`, from a server that misbehaves."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_server import MEGABYTE, PhotoServer, photo
from PIL import Image

from veduta.collect import save_photo as saving
from veduta.errors import DatasetError
from veduta.photos import content_hash, decode, find_photos


class TestAnswers:
    def test_good_ones(self, gather, server: PhotoServer) -> None:
        paths = {
            "plain": "photo/1.jpg",
            "slow": "slow",
            "chunked": "chunked",
            "gzip": "gzip/photo",
            "zlib": "gzip/zlib",
            "text": "as-text",
            "png": "png",
            "large": "large/3",
        }
        done = gather(paths)
        assert set(done.outcomes().values()) == {"collected"}
        assert done["plain"]["path"] == "x/plain.jpg"
        assert done["png"]["path"] == "x/png.png", "the extension goes by the content"
        assert (done["png"]["width"], done["png"]["height"]) == (308, 300)
        expected = {"plain": photo(1), "chunked": photo(6), "gzip": photo(7), "zlib": photo(8)}
        for name, data in expected.items():
            row = done[name]
            assert (done.folder / row["path"]).read_bytes() == data
            assert row["hash"] == content_hash(data).hex()
            assert row["bytes"] == len(data)
            assert (row["width"], row["height"], row["format"]) == (24, 16, "JPEG")
            assert (row["status"], row["attempts"], row["error"]) == (200, 1, None)
        assert (done.folder / "x/large.jpg").stat().st_size == 3 * MEGABYTE + len(photo(4))
        assert done.summary.photos == done.summary.collected == len(paths)
        assert server.headers["photo/1.jpg"]["user-agent"].startswith("veduta/")
        left = [path.name for path in (done.folder / ".veduta-collect").iterdir()]
        assert sorted(left) == ["journal", "labels.csv.hash", "lock"]

    def test_bytes_that_are_a_photo_are_one_whatever_the_encoding_is_called(self, gather) -> None:
        names = [
            "none",
            "utf-8",
            "binary",
            "aws-chunked",
            "gzip",
            "deflate",
            "br",
            "zstd",
            "x\x1b[2J",
        ]
        paths = {f"e{number}": f"encoded/{name}" for number, name in enumerate(names)}
        done = gather(paths | {"raw": "raw-deflate", "brotli": "brotli/photo"})
        assert {row["error"] for row in done.rows} == {None}
        expected = dict.fromkeys(paths, photo(12)) | {"raw": photo(8), "brotli": photo(7)}
        for name, data in expected.items():
            assert (done.folder / done[name]["path"]).read_bytes() == data

    @pytest.mark.parametrize("decode", [True, False])
    def test_bad_ones(self, gather, server: PhotoServer, decode: bool) -> None:
        paths = {
            "html": ("html", "not-a-photo", "an HTML page"),
            "svg": ("svg", "not-a-photo", "an SVG drawing"),
            "video": ("video", "not-a-photo", "a Matroska or WebM video"),
            "empty": ("empty", "not-a-photo", "the answer is empty"),
            "gone": ("nothing-here", "http-error", "404 Not Found"),
            "loop": ("loop", "http-error", "more than 10 redirects"),
            "zstd": ("text-as/zstd", "not-a-photo", "Content-Encoding 'zstd', not asked for"),
            "bad-brotli": ("brotli/damaged", "not-a-photo", "the br data are damaged"),
            "cut-brotli": ("brotli/cut", "not-a-photo", "the compressed data are cut short"),
            "brotli-bomb": ("brotli/bomb", "too-large", "more than 1,000,000 bytes"),
            "bomb": ("gzip/bomb", "too-large", "more than 1,000,000 bytes"),
            "cut-gzip": ("gzip/cut", "not-a-photo", "the compressed data are cut short"),
            "bad-gzip": ("gzip/damaged", "not-a-photo", "the gzip data are damaged"),
            "huge": ("huge", "too-large", "more than 1,000,000 bytes"),
            "declared": (
                "declared/10000000000",
                "too-large",
                "10,000,000,000 bytes declared, over 1,000,000",
            ),
        }
        if decode:
            cut = "the JPEG data are cut short"
            paths |= {
                "cut": ("cut", "not-a-photo", cut),
                "pixels": (
                    "bomb",
                    "too-large",
                    "60000 × 60000 pixels are more than the cap of 250 megapixels",
                ),
            }
        began = time.monotonic()
        done = gather(
            {name: path for name, (path, _, _) in paths.items()}, decode=decode, max_bytes=1_000_000
        )
        assert time.monotonic() - began < 60
        for name, (path, outcome, reason) in paths.items():
            row = done[name]
            assert (row["outcome"], row["error"]) == (outcome, reason), name
            assert row["path"] is None and row["hash"] is None
            assert server.requests[path] == (11 if name == "loop" else 1), name
        assert not list(find_photos([done.folder]))
        # Endless answers were not read beyond the cap; what else was sent lies in buffers.
        assert server.sent["huge"] < 32 * MEGABYTE
        assert server.sent["video"] < 32 * MEGABYTE
        assert done.summary.photos == 0

    def test_more_than_was_declared_harms_no_other_row(self, gather) -> None:
        wanted = {"lying": "too-much"} | {f"p{number}": f"photo/{number}" for number in range(9)}
        outcomes = gather(wanted, per_host=1, retries=5).outcomes()
        # What the surplus bytes look like depends on which packet they arrive in.
        assert outcomes.pop("lying") in ("not-a-photo", "unreachable")
        assert set(outcomes.values()) == {"collected"}

    @pytest.mark.slow
    def test_passing_failures_are_tried_again_within_the_run(self, gather, server) -> None:
        paths = {
            "broken": "broken/2",
            "busy": "status/503/2",
            "stall": "stall",
            "drip": "drip",
            "silent": "silent",
            "reset": "reset",
            "garbage": "garbage",
            "down": "status/500",
            "little": "too-little",
            "forbidden": "status/403",
        }
        done = gather(paths, total_timeout=1.3, read_timeout=0.7)
        assert done.outcomes() == {
            "broken": "collected",
            "busy": "collected",
            "stall": "unreachable",
            "drip": "unreachable",
            "silent": "unreachable",
            "reset": "unreachable",
            "garbage": "unreachable",
            "down": "busy",
            "little": "unreachable",
            "forbidden": "http-error",
        }
        assert done["broken"]["attempts"] == done["busy"]["attempts"] == 3
        assert done["stall"]["error"] == "nothing came for 0.7 s"
        assert done["drip"]["error"] == "not complete within 1.3 s"
        assert done["down"]["error"] == "500 Sorry"
        assert (done["down"]["status"], done["down"]["attempts"]) == (500, 3)
        assert server.requests["status/403"] == 1, "that one will not pass"
        # The next run tries the passing ones again, and only them.
        before = server.requests.copy()
        gather(paths, total_timeout=0.5, retries=0)
        again = {path for path in server.requests if server.requests[path] > before[path]}
        passing = ("stall", "drip", "silent", "reset", "garbage", "down", "little")
        assert again == {paths[name] for name in passing}
        gather(paths, total_timeout=0.5, retries=0, retry_failed=True)
        assert server.requests["status/403"] == 2
        assert server.requests["broken/2"] == 3, "what is there stays"

    def test_retry_after_holds_for_the_whole_host(self, gather, server: PhotoServer) -> None:
        done = gather({"seconds": "later/1", "other": "photo/1"}, per_host=1, retries=1)
        assert set(done.outcomes().values()) == {"collected"}
        first, second = server.times["later/1"]
        assert 1.0 <= second - first < 3
        assert server.times["photo/1"][0] - first >= 1.0, "the host was left alone meanwhile"

    @pytest.mark.slow
    def test_retry_after_as_a_date_and_capped(self, gather, server: PhotoServer) -> None:
        assert gather({"date": "later/date"}, retries=1)["date"]["outcome"] == "collected"
        first, second = server.times["later/date"]
        assert second - first >= 0.4  # dates have whole seconds
        gather({"capped": "later/86400"}, retries=1, longest_wait=0.3)
        first, second = server.times["later/86400"]
        assert 0.3 <= second - first < 2

    def test_what_a_server_says_does_not_reach_the_terminal(self, gather) -> None:
        assert gather({"a": "escape"})["a"]["error"] == r"404 \x1b[31mred\xff\x07"

    def test_robots_tag(self, gather) -> None:
        paths = {
            "a": "robots/noai",
            "b": "robots/NoIndex,_nofollow",
            "c": "robots/veduta:_noimageai",
            "d": "robots/otherbot:_noai",
            "e": "robots/all",
        }
        outcomes = gather(paths).outcomes()
        assert outcomes == {
            "a": "opted-out",
            "b": "opted-out",
            "c": "opted-out",
            "d": "collected",
            "e": "collected",
        }
        assert set(gather(paths, ignore_robots_tag=True).outcomes().values()) == {"collected"}

    def test_redirects(self, gather, server: PhotoServer) -> None:
        paths = {
            "relative": "to//photo/1.jpg",
            "absolute": f"to/{server.url('photo/2.jpg')}",
            "twice": f"to//to//{'photo/3.jpg'}",
            "file": "to/file:///etc/passwd",
            "nonsense": "to/http://[",
        }
        done = gather(paths)
        assert done.outcomes() == {
            "relative": "collected",
            "absolute": "collected",
            "twice": "collected",
            "file": "refused",
            "nonsense": "http-error",
        }
        assert done["relative"]["final_url"] == server.url("photo/1.jpg")
        assert done["file"]["error"] == "redirected: file: is not http: or https:"

    def test_re_encoding(self, gather) -> None:
        done = gather({"a": "png", "b": "photo/1.jpg"}, resize=100)
        assert (done["a"]["path"], done["a"]["format"]) == ("x/a.jpg", "JPEG")
        assert (done["a"]["width"], done["a"]["height"]) == (100, 97)
        assert (done["b"]["width"], done["b"]["height"]) == (24, 16), "never enlarged"
        with Image.open(done.folder / "x/a.jpg") as image:
            assert (image.size, image.mode) == ((100, 97), "RGB")
            quality_90 = io.BytesIO()
            Image.new("RGB", (8, 8)).save(quality_90, "JPEG", quality=90)
            assert image.quantization == Image.open(quality_90).quantization
        assert (done.folder / "x/a.jpg").stat().st_size == done["a"]["bytes"]
        with pytest.raises(DatasetError, match=r"collected so far with --resize 100 --format jpeg"):
            gather({"a": "png"})

    def test_re_encoding_converts_to_srgb(self, gather, server) -> None:
        samples = Path(__file__).parent / "photos"
        server._photos[77] = (samples / "wide_gamut.jpg").read_bytes()
        done = gather({"a": "photo/77.jpg"}, resize=256)
        with Image.open(done.folder / done["a"]["path"]) as image:
            assert "icc_profile" not in image.info
            written = np.asarray(image, np.float32)
        with Image.open(samples / "the_same_in_srgb.jpg") as image:
            expected = np.asarray(image.resize(written.shape[1::-1]), np.float32)
        assert np.abs(written - expected).mean() < 8

    def test_a_large_photo_is_re_encoded_too(self, gather) -> None:
        done = gather({"a": "large/3"}, jpeg=True)
        assert done["a"]["bytes"] < 10_000

    @pytest.mark.slow
    def test_decoding_holds_up_no_download(self, gather, server, monkeypatch) -> None:
        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.2)
            return decode(*arguments, **options)

        monkeypatch.setattr(saving, "decode", slow)
        monkeypatch.setattr("veduta.collect.run.processor_cores", lambda: 2)
        began = time.time()
        done = gather({f"p{number}": f"photo/{number}" for number in range(20)})
        assert done.summary.collected == 20
        asked = max(server.times[path][0] for path in server.times) - began
        assert time.time() - began > 1.9, "twenty photos on two threads"
        assert asked < 1.5

    def test_copies_are_told(self, gather) -> None:
        done = gather({"a": "photo/1.jpg", "b": "photo/2.jpg", "c": "photo/1.jpg?again"})
        assert done.summary.same_content == 1
        assert (done["a"]["same_as"], done["c"]["same_as"]) == (None, "x/a.jpg")
