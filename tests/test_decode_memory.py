"""The memory that decoding takes: known from the header, bounded, and shared by all threads.

`python test_decode_memory.py FILE SIDE` prints by how much decoding a file raises the memory of the
process, in megabytes, and the size of the result.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from command_line import environment, run_veduta
from PIL import Image

from veduta import photos
from veduta.errors import PhotoTooLarge, QueryError
from veduta.photos.memory_budget import DEFAULT_BUDGET_MB, SETTING, budget_bytes, reserved

SIDE = 15_800
"""Of a square just below the cap of 250 megapixels."""
MB = 1_000_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def blank_png(side: int, bits: int, colour: int, channels: int = 1, extra: bytes = b"") -> bytes:
    """Return a PNG of equal pixels, which is small."""
    row = b"\0" * (1 + (side * bits * channels + 7) // 8)
    pack = zlib.compressobj(9)
    pixels = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def encoded(kind: str, mode: str, side: int, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, kind, **options)
    return stream.getvalue()


PALETTE = chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", b"\x80" * 200)


def measured(file: Path, at_least: int) -> tuple[float, list[int]]:
    """Return megabytes and shape of decoding a file in a process of its own."""
    command = [sys.executable, __file__, str(file), str(at_least)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    megabytes, shape = json.loads(done.stdout)
    return megabytes, shape


def peak_of(status: str) -> int:
    """Return the most bytes that a process had in memory, by its file /proc/self/status."""
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "most_mb"),
    [
        ("palette.png", lambda: blank_png(SIDE, 8, 3, extra=PALETTE), 350),
        ("bits.png", lambda: blank_png(SIDE, 1, 0), 350),
        ("alpha.png", lambda: blank_png(7000, 8, 6, 4), 350),
        ("a.gif", lambda: encoded("GIF", "P", SIDE, transparency=1), 350),
        ("a.tif", lambda: encoded("TIFF", "L", SIDE, compression="tiff_lzw"), 350),
        ("fax.tif", lambda: encoded("TIFF", "1", SIDE, compression="group4"), 350),
        ("a.jpg", lambda: encoded("JPEG", "L", SIDE, progressive=True), 600),
    ],
)
def test_the_peak_of_enormous_pictures(
    tmp_path: Path, name: str, data: object, most_mb: int
) -> None:
    assert callable(data)
    (tmp_path / name).write_bytes(data())
    megabytes, shape = measured(tmp_path / name, 640)
    assert 640 <= max(shape) <= 2000
    assert megabytes < most_mb


@linux
@pytest.mark.slow
def test_index_stays_below_a_gigabyte(tmp_path: Path) -> None:
    """The worst that is accepted: 2 bytes a pixel, 250 megapixels; what is not costs nothing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "deep.png").write_bytes(blank_png(SIDE, 16, 0))
    (folder / "small.png").write_bytes(blank_png(300, 8, 0))
    (folder / "colours.png").write_bytes(blank_png(SIDE, 8, 2, 3))
    peaks = {}
    for name in ("small.png", ""):
        code = (
            "import sys; from veduta.__main__ import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print(open('/proc/self/status').read(), file=sys.stderr)"
        )
        arguments = ["index", str(folder / name), "--index", str(tmp_path / f"i{name}")]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment(tmp_path),
        )
        peaks[name] = peak_of(done.stderr) / MB
    assert "1 file could not be read" in done.stdout
    assert peaks[""] - peaks["small.png"] < 1000


def test_what_does_not_fit_is_refused_by_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1,000² colours take 4 MB in Pillow, and a strip of 10⁶ pixels takes 24 MB.
    data = blank_png(1000, 8, 2, 3)
    monkeypatch.setenv(SETTING, "20")
    with pytest.raises(PhotoTooLarge) as caught:
        photos.decode(data, path="large.png", at_least=100)
    reason = caught.value.reason
    assert reason.startswith("1000 × 1000 pixels of this kind take 28 MB to decode, more than the")
    assert reason.endswith("20 MB that decoding may use: set VEDUTA_DECODE_MEMORY_MB=100")
    monkeypatch.setenv(*reason.rpartition("set ")[2].split("="))
    assert photos.decode(data, path="large.png", at_least=100).pixels.shape == (100, 100, 3)


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, megabytes in (("1500", 1500), (" 64 ", 64)):
        monkeypatch.setenv(SETTING, text)
        assert budget_bytes() == megabytes * MB
    for text in ("0", "-5", "many", "2GB", "1e3", "9" * 5000, "²"):
        monkeypatch.setenv(SETTING, text)
        with pytest.raises(QueryError, match="must be a whole number of megabytes"):
            photos.decode(blank_png(8, 8, 0), path="a.png")
    monkeypatch.setenv(SETTING, "")
    assert budget_bytes() == DEFAULT_BUDGET_MB * MB
    monkeypatch.delenv(SETTING)
    assert budget_bytes() == 900 * MB


@pytest.mark.slow
def test_a_setting_that_is_no_number_ends_each_command_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = folder / "a.png"
    photo.write_bytes(blank_png(200, 8, 0))
    wrong = environment(tmp_path) | {SETTING: "2GB"}
    for arguments in (("index", folder), ("clean", folder), ("match", photo, photo)):
        done = run_veduta(tmp_path, *arguments, env=wrong)
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert "VEDUTA_DECODE_MEMORY_MB must be a whole number of megabytes" in line


@pytest.mark.slow
def test_the_remedy_of_the_message_works(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(blank_png(1000, 8, 2, 3))
    few = environment(tmp_path) | {SETTING: "20"}
    refused = run_veduta(tmp_path, "index", folder, env=few)
    assert "1 file could not be read" in refused.stdout
    setting = refused.stdout.partition("set ")[2].split()[0].rstrip(".")
    assert setting == "VEDUTA_DECODE_MEMORY_MB=100"
    name, _, value = setting.partition("=")
    again = run_veduta(tmp_path, "index", env=environment(tmp_path) | {name: value})
    assert "could not be read" not in again.stdout
    assert "1 photo in" in again.stdout


def test_photos_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "100")
    at_once = most_at_once = 0
    lock = threading.Lock()

    def decode() -> None:
        nonlocal at_once, most_at_once
        with reserved("a", (1, 1), 40 * MB):
            with lock:
                at_once += 1
                most_at_once = max(most_at_once, at_once)
            time.sleep(0.02)
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most_at_once == 2
    with pytest.raises(RuntimeError), reserved("a", (1, 1), 100 * MB):
        raise RuntimeError
    with reserved("a", (1, 1), 100 * MB):  # What an error held is free again.
        pass


@pytest.mark.parametrize(
    "mode", ["P", "1", "L", "I;16", "RGB", "RGBA", "LA", "PA", "CMYK", "I", "F"]
)
@pytest.mark.parametrize("factor", [1, 3])
def test_strips_give_what_the_whole_gives(
    mode: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.photos import to_rgb

    values = np.random.default_rng(0).integers(0, 256, (97, 61, 4), np.uint8)
    colours = Image.fromarray(values[:, :, :3])
    if mode == "I;16":
        image = Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        image = Image.fromarray(values[:, :, 0].astype(np.int32 if mode == "I" else np.float32))
    elif mode in ("RGBA", "LA"):
        image = Image.fromarray(values).convert(mode)
    else:
        image = colours.convert(mode)
    whole = to_rgb.to_rgb(image, factor)
    monkeypatch.setattr(to_rgb, "_STRIP_PIXELS", 700)
    assert np.array_equal(to_rgb.to_rgb(image, factor), whole)
    assert whole.shape == (-(-97 // factor), -(-61 // factor), 3)


def test_a_jpeg_of_many_scans_is_refused_at_once() -> None:
    """490 scans of 80 megapixels took ten seconds."""
    data = encoded("JPEG", "L", 9000, progressive=True)
    at = data.rindex(b"\xff\xda")
    many = data[:at] + data[at:-2] * 480 + data[-2:]
    begin = time.monotonic()
    with pytest.raises(PhotoTooLarge, match="take too long to decode"):
        photos.decode(many, path="a.jpg", at_least=640)
    assert time.monotonic() - begin < 2


def _main() -> None:
    import pi_heif  # noqa: F401
    import simplejpeg  # noqa: F401

    status = Path("/proc/self/status")
    before = int(status.read_text("ascii").partition("VmRSS:")[2].split()[0]) * 1024
    photo = photos.load(sys.argv[1], at_least=int(sys.argv[2]))
    peak = peak_of(status.read_text("ascii"))
    print(json.dumps([(peak - before) / MB, photo.pixels.shape]))


if __name__ == "__main__":
    _main()
