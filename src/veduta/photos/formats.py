"""The format of a file, from its bytes alone: a file name proves nothing."""

from __future__ import annotations

import re

__all__ = ["EXTENSIONS", "FORMATS", "HEAD_BYTES", "describe_bytes", "is_other_picture", "sniff"]

FORMATS = (
    "JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "GIF", "BMP", "JPEG2000", "JXL", "RAW"
)  # fmt: skip
"""The allow-list. The last two need the extra `veduta[formats]`."""

EXTENSIONS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjp"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "AVIF": ("avif", "avifs"),
    "HEIF": ("heic", "heif", "heics", "heifs", "hif"),
    "TIFF": ("tif", "tiff"),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
    "JXL": ("jxl",),
    "RAW": (
        "dng", "3fr", "arw", "cr2", "cr3", "crw", "dcr", "erf", "fff", "iiq", "kdc", "mef", "mos",
        "mrw", "nef", "nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
    ),
}  # fmt: skip
"""The file extensions of each format, the usual one first."""

HEAD_BYTES = 64
"""Number of bytes at the start of a file that `sniff` needs."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_CONTAINER_BRANDS = frozenset(
    {b"mif1", b"mif2", b"msf1", b"miaf", b"MiHA", b"MiHB", b"MiHE", b"1pic"}
)
"""They name only the container. The codec is among the compatible brands."""
_HEIF_BRANDS = _CONTAINER_BRANDS | {
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"avci", b"j2ki"
}  # fmt: skip
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),  # Olympus
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),  # Panasonic
    (b"II\x1a\0\0\0HEAPCCDR", "RAW"),  # Canon
    (b"FOVb", "RAW"),  # Sigma
    (b"\0MRM", "RAW"),  # Minolta
)
# A BMP header has one of these sizes. "BM" alone also begins texts and other files.
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_OTHER_PICTURES: tuple[tuple[bytes, str], ...] = (
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\0\0\x02\0", "a Windows cursor"),
    (b"\x8aMNG", "an MNG animation"),
    (b"\x8bJNG", "a JNG image"),
    (b"BPG\xfb", "a BPG image"),
    (b"DDS ", "a DirectDraw image"),
    (b"FLIF", "a FLIF image"),
    (b"qoif", "a QOI image"),
    (b"icns", "an Apple icon"),
    (b"gimp xcf", "a GIMP image"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"AT&TFORM", "a DjVu document"),
    (b"%!PS", "a PostScript drawing"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript drawing"),
    (b"\xd7\xcd\xc6\x9a", "a Windows drawing"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"FLV\x01", "a Flash video"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media video"),
    (b"\0\0\x01\xba", "an MPEG video"),
    (b"\0\0\x01\xb3", "an MPEG video"),
    (b"version https://git-lfs", "a Git LFS pointer, not the photo it stands for"),
)
_OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"RIFF", "a RIFF file (sound or video)"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
)
_OTHER_DRAWINGS = frozenset({"an SVG drawing", "a PNM image"})


def sniff(head: bytes) -> str | None:
    """Return the format of a file by its first bytes.

    Args:
        head: the first `HEAD_BYTES` bytes, or more.

    Returns:
        One of `FORMATS`, or None. It is "TIFF" for a camera raw file that is built as a TIFF.
    """
    if head[:4] == b"II*\0" and head[8:10] == b"CR":  # Canon
        return "RAW"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return _sniff_brands(head) if head[4:8] == b"ftyp" else None


def _sniff_brands(head: bytes) -> str | None:
    """Return AVIF or HEIF by the brands of an ISO media file; None for a video."""
    length = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
    major = head[8:12]
    if major == b"crx ":  # Canon
        return "RAW"
    if major in _AVIF_BRANDS:
        return "AVIF"
    if major not in _HEIF_BRANDS:
        return None
    compatible = {head[start : start + 4] for start in range(16, length, 4)}
    if major in _CONTAINER_BRANDS and compatible & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF"


def describe_bytes(data: bytes) -> str:
    """Return in a few words what bytes that are no photo probably are, for an error message."""
    return _description(data)[0]


def is_other_picture(data: bytes) -> bool:
    """Return whether bytes of no format on the allow-list are a picture or video all the same."""
    return _description(data)[1]


def _description(data: bytes) -> tuple[str, bool]:
    """Return what bytes probably are, and whether that is a picture or video."""
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "a video", True
    for is_picture, table in ((True, _OTHER_PICTURES), (False, _OTHER_FILES)):
        for magic, name in table:
            if data.startswith(magic):
                return name, is_picture
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "a video", True
    if data[128:132] == b"DICM":
        return "a DICOM image", True
    head = data[:1024]
    if not head.strip(b"\0"):
        return "a file filled with zeros", False
    name = _kind_of_text(head)
    return name, name in _OTHER_DRAWINGS


def _kind_of_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kind = "bytes of no known format"
    if b"<svg" in text:
        kind = "an SVG drawing"
    elif text.startswith((b"<!doctype html", b"<head", b"<body")) or b"<html" in text:
        kind = "an HTML page"
    elif text.startswith(b"<?xml"):
        kind = "an XML document"
    elif re.match(rb"p[1-7]\s", text):
        kind = "a PNM image"
    elif all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head):
        kind = "text"
    return kind
