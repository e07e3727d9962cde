"""The Content-Encoding of a response: decompression in pieces of limited size.

The bytes decide. Servers name encodings that do not exist (`none`, `utf-8`, `aws-chunked`), and
call bytes gzip that are not compressed. Browsers show these photos, so bytes that begin like a
photo are taken as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from veduta.photos.formats import HEAD_BYTES, sniff

__all__ = ["DamagedData", "Decoder", "decoder_of", "is_known"]

_PIECE_BYTES = 1 << 18
_GZIP = frozenset({"gzip", "x-gzip", "deflate"})
# With this value of `wbits`, zlib accepts both gzip and zlib data.
_GZIP_OR_ZLIB = 47
_RAW_DEFLATE = -15


class DamagedData(Exception):
    """The compressed data do not decompress. The message says why in a few words."""


class Decoder(Protocol):
    """Decodes a response that arrives in pieces."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of `data`, at most some 256 kB at a time.

        Args:
            data: the next bytes of the response.

        Raises:
            DamagedData: the data are damaged.
        """
        ...

    def finish(self) -> None:
        """Note that the response has ended.

        Raises:
            DamagedData: the data are cut short.
        """
        ...


def is_known(encoding: str) -> bool:
    """Return whether Veduta decodes a Content-Encoding.

    Args:
        encoding: its name in lower case.
    """
    return encoding in _GZIP or encoding in ("br", "identity", "")


def decoder_of(encoding: str, head: bytes) -> Decoder:
    """Return the decoder of a response.

    Args:
        encoding: its Content-Encoding in lower case.
        head: its first `HEAD_BYTES` bytes, or all of them.
    """
    if sniff(head[:HEAD_BYTES]) is None:
        if encoding in _GZIP:
            is_raw = encoding == "deflate" and not _begins_like_zlib(head)
            return _Inflater(encoding, _RAW_DEFLATE if is_raw else _GZIP_OR_ZLIB)
        if encoding == "br":
            return _Brotli()
    return _Unchanged()


def _begins_like_zlib(head: bytes) -> bool:
    return len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0


class _Unchanged:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class _Inflater:
    """Decompresses gzip, zlib or deflate data, however much they expand."""

    def __init__(self, encoding: str, wbits: int) -> None:
        self._encoding = encoding
        self._inflate = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise DamagedData(f"the {self._encoding} data are damaged") from error
            data = self._inflate.unconsumed_tail
            if piece:
                yield piece
            elif not data:
                return

    def finish(self) -> None:
        if not self._inflate.eof:
            raise DamagedData("the compressed data are cut short")


class _Brotli:
    """Decompresses brotli data, however much they expand."""

    def __init__(self) -> None:
        import brotli

        self._error: type[Exception] = brotli.error
        self._decompressor = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while not self._decompressor.is_finished():
            try:
                piece = self._decompressor.process(data, output_buffer_limit=_PIECE_BYTES)
            except self._error as error:
                raise DamagedData("the br data are damaged") from error
            if piece:
                yield piece
            if self._decompressor.can_accept_more_data():
                return
            data = b""

    def finish(self) -> None:
        if not self._decompressor.is_finished():
            raise DamagedData("the compressed data are cut short")
