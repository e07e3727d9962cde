"""Every kind of keypoints by its name. A new extractor is one more entry of `_EXTRACTORS`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from veduta.devices import device_named
from veduta.errors import QueryError
from veduta.keypoints.orb import Orb
from veduta.keypoints.sift import Sift
from veduta.keypoints.surf import Surf
from veduta.keypoints.xfeat import XFeat, XFeatIn16Bytes, XFeatIn32Bits
from veduta.text import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.matching import Matching

__all__ = [
    "DEFAULT_KEYPOINTS",
    "KINDS",
    "Extractor",
    "extractor_class",
    "keypoints_option",
    "load_extractor",
]


class Extractor(Protocol):
    """Finds keypoints of one kind in photos, and says how they are matched and calibrated.

    Several threads may call `extract` at the same time.

    Attributes:
        name: one of `KINDS`.
        long_side: a photo that is decoded to at least this long side, in pixels, loses nothing.
        matching: how the keypoints of two photos are matched.
        calibration: the name of the weights in `veduta.index.calibration` that were fitted on
            these keypoints with this matching. None: there are none, and hits that are verified
            with these keypoints have no probability.
        default_count: how many keypoints of a photo are kept unless a number is given.
        stored_bits: of each number of a descriptor in an index, see `Keypoints.pack`.
        form: what tells it from the usual extractor of that name, as in "xfeat:1024:16bytes".
            Empty: it is the usual one, or an older version.
    """

    name: ClassVar[str]
    long_side: ClassVar[int]
    matching: ClassVar[Matching]
    calibration: ClassVar[str | None]
    default_count: ClassVar[int]
    stored_bits: ClassVar[int]
    form: ClassVar[str]

    @classmethod
    def load(cls, count: int, threads: int) -> Self:
        """Return an extractor.

        Args:
            count: the largest number of keypoints of a photo.
            threads: processor threads for one call of `extract`.

        Raises:
            EncoderUnavailable: something that it needs is not on this machine.
        """
        ...

    @property
    def identity(self) -> str:
        """16 hex digits that change with the method, its settings and its weights."""
        ...

    @property
    def count(self) -> int:
        """The largest number of keypoints of a photo."""
        ...

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, best first, in pixels of its full size.

        A photo without features, with few pixels or with an extreme shape has few keypoints or
        none.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright. It may have been decoded at a reduced size.
            width: of the upright photo at its full size, in pixels.
            height: of the upright photo at its full size, in pixels.
        """
        ...


_EXTRACTORS: dict[str, type[Extractor]] = {
    extractor.name: extractor for extractor in (XFeat, Sift, Orb, Surf)
}

_OLDER_VERSIONS: dict[str, tuple[type[Extractor], ...]] = {XFeat.name: (XFeatIn32Bits,)}
"""Of kinds of keypoints, by name. They are for indexes that were made with them."""

_FORMS: dict[str, tuple[type[Extractor], ...]] = {XFeat.name: (XFeatIn16Bytes,)}
"""Extractors that store the keypoints of a kind in another form, by name."""

KINDS = tuple(_EXTRACTORS)
"""The names of all kinds of keypoints."""

DEFAULT_KEYPOINTS = XFeat.name

MAX_COUNT = 65_536
"""The largest number of keypoints of a photo. XFeat finds fewer in any photo."""


def extractor_class(name: str) -> type[Extractor] | None:
    """Return the class of the extractor `name` without loading it; None if no kind has the name."""
    return _EXTRACTORS.get(name)


def load_extractor(
    name: str = DEFAULT_KEYPOINTS,
    *,
    count: int | None = None,
    threads: int = 1,
    identity: str | None = None,
    device: str | None = None,
) -> Extractor:
    """Return the extractor `name`. Equal arguments return the same object.

    Args:
        name: one of `KINDS`, or one with the largest number of keypoints of a photo, as in
            "xfeat:2048". "xfeat:1024:16bytes" are stored with 16 bytes a descriptor.
        count: this number, if `name` has none. None: the default of the kind.
        threads: processor threads for one call of `extract`, at least 1. Only "xfeat" uses it:
            "surf" uses one thread, "sift" and "orb" use as many as OpenCV is set to.
        identity: of the extractor that made the keypoints of an index. If an older version or
            another form has it, that one is returned, unless `name` says which form.
        device: where the network of "xfeat" runs, as for `veduta.load_encoder`. The others always
            run on the processor.

    Raises:
        QueryError: no kind of keypoints or no device has that name, or an argument is out of range.
        DeviceError: the device is not usable here, or gives other keypoints than the processor.
        EncoderUnavailable: something that the extractor needs is not on this machine.
    """
    kind, separator, number = name.partition(":")
    if kind not in _EXTRACTORS:
        advice = did_you_mean(kind, KINDS) or f"known are {', '.join(KINDS)}"
        raise QueryError(f"no keypoints are called {kind!r}; {advice}")
    number, has_form, form = number.partition(":")
    if separator:
        if not number.isascii() or not number.isdecimal():
            raise QueryError(f"write the number of keypoints as in '{kind}:1024', not {name!r}")
        count = int(number)
    chosen = _EXTRACTORS[kind]
    if has_form:
        forms = {other.form: other for other in _FORMS.get(kind, ())}
        if form not in forms:
            known = ", ".join(f"'{kind}:{number}:{other}'" for other in forms) or "none"
            raise QueryError(f"{name!r} is no form of keypoints; known for {kind!r}: {known}")
        chosen = forms[form]
    if count is None:
        count = _EXTRACTORS[kind].default_count
    if not 1 <= count <= MAX_COUNT:
        raise QueryError(f"a photo has 1 to {MAX_COUNT:,} keypoints, not {count:,}")
    if threads < 1:
        raise QueryError(f"threads must be 1 or more, not {threads}")
    where = device_named(device)
    wanted = _load(chosen, count, threads, where.name)
    if has_form or identity in (None, wanted.identity):
        return wanted
    versions = (*_FORMS.get(kind, ()), *_OLDER_VERSIONS.get(kind, ()))
    others = (_load(version, count, threads, where.name) for version in versions)
    return next((version for version in others if version.identity == identity), wanted)


def keypoints_option(extractor: Extractor) -> str:
    """Return by what `load_extractor` finds an extractor: its name, and what else it needs."""
    if extractor.form:
        return f"{extractor.name}:{extractor.count}:{extractor.form}"
    is_usual = extractor.count == extractor.default_count
    return extractor.name if is_usual else f"{extractor.name}:{extractor.count}"


@cache
def _load(extractor: type[Extractor], count: int, threads: int, device: str) -> Extractor:
    if issubclass(extractor, XFeat):
        return extractor.load(count, threads, device)
    return extractor.load(count, threads)
