"""Split a dataset into parts, such as train, validation and test, so that no copy is in two parts.

Each photo goes into exactly one part. Photos that belong together go there together: copies of one
photo, and photos from one source. Each part gets its share of each class, to within one photo or
one group of photos. If rounding leaves a choice, the part that has the fewest photos so far,
compared with its share of all classes, gets the group. The result depends on the seed and on the
names of the photos, but not on their order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, NamedTuple

from veduta.curate.groups import connected_groups
from veduta.errors import DatasetError

if TYPE_CHECKING:
    from veduta.curate.copies import CopyPair

__all__ = [
    "Leak",
    "ShortClass",
    "bound_together",
    "find_leaks",
    "parse_parts",
    "short_classes",
    "split",
]

# The part that takes the photos without a label.
_UNLABELLED_PART = "distractor"
_PARTS_WITHOUT_LEAKS = frozenset(("", "junk"))
# Sums of shares are exact to within rounding errors like these.
_SHARE_ROUNDING = 1e-6
_COUNT_ROUNDING = 1e-9
_EXAMPLE = "wanted for example train=0.8,val=0.1,test=0.1 or query=0.2,gallery=0.8,distractor"


@dataclass(frozen=True, slots=True)
class Leak:
    """Two photos that belong together and are in different parts.

    Attributes:
        first: position of a photo.
        second: position of the other photo.
        kind: that of their `CopyPair`, "copies of another" or "same source".
        score: that of their `CopyPair`, or 1.
    """

    first: int
    second: int
    kind: str
    score: float


class ShortClass(NamedTuple):
    """A class that some parts lack.

    Attributes:
        label: the class.
        photos: their number.
        groups: number of groups of photos that stay together.
        missing_in: the parts without a photo of it.
    """

    label: str
    photos: int
    groups: int
    missing_in: tuple[str, ...]


def parse_parts(text: str) -> dict[str, float]:
    """Return name → share of a text like `train=0.8,val=0.1,test=0.1`.

    Shares may be fractions or per cent. Parts without a number share the rest. `distractor` without
    a number has the share 0: it takes the photos without a label.

    Args:
        text: the parts.

    Raises:
        DatasetError: the text has another form, or the shares do not add up to 1.
    """
    shares: dict[str, float | None] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or name in shares or "/" in name or name.startswith("."):
            raise DatasetError(f"{text!r}: {name!r} is no name for a part; {_EXAMPLE}")
        try:
            shares[name] = float(number) if equals else None
        except ValueError:
            raise DatasetError(f"{text!r}: {number!r} is no number; {_EXAMPLE}") from None
    given = [share for share in shares.values() if share is not None]
    if any(not 0 < share < math.inf for share in given):
        raise DatasetError(f"{text!r}: a share must be more than 0; {_EXAMPLE}")
    total = sum(given)
    open_parts = [
        name for name, share in shares.items() if share is None and name != _UNLABELLED_PART
    ]
    in_percent = total > 1 + _SHARE_ROUNDING and abs(total - 100) < _SHARE_ROUNDING
    whole = 100.0 if in_percent else 1.0
    rest = whole - total
    if rest < -_SHARE_ROUNDING or (rest > _SHARE_ROUNDING) != bool(open_parts):
        raise DatasetError(f"{text!r}: the shares add up to {total:g}, not to 1; {_EXAMPLE}")
    return {
        name: share / whole
        if share is not None
        else (0.0 if name == _UNLABELLED_PART else rest / whole / len(open_parts))
        for name, share in shares.items()
    }


def bound_together(
    count: int, pairs: Iterable[CopyPair], sources: Sequence[str | None] | None = None
) -> list[int]:
    """Return the group of each photo, which is the smallest position in it.

    Args:
        count: number of photos.
        pairs: copies, as from `find_copies`. Photos that a chain of pairs connects are one group.
        sources: where each photo comes from; None or "" is no source.

    Returns:
        `count` positions.
    """
    first_of_source: dict[str, int] = {}
    same_source = (
        (first_of_source.setdefault(source, position), position)
        for position, source in enumerate(sources or ())
        if source
    )
    copies = ((pair.first, pair.second) for pair in pairs)
    return connected_groups(count, chain(copies, same_source))


def split(
    names: Sequence[str],
    labels: Sequence[str | None],
    groups: Sequence[Hashable],
    parts: Mapping[str, float],
    *,
    seed: int = 0,
) -> list[str]:
    """Return the part of each photo.

    If one part is larger than all others, it gets the first photo of each class. So a class with
    one photo can be learned, though not tested.

    Args:
        names: (N,) different names. With the seed, they decide where a photo goes.
        labels: (N,) labels. Photos without one go to the part `distractor`, or are a class of their
            own if there is no such part.
        groups: (N,) photos with equal values stay together.
        parts: name → share, as from `parse_parts`. The shares add up to 1.
        seed: another seed gives another split.

    Returns:
        N names of parts.
    """
    positions_of: dict[Hashable, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        positions_of[group].append(position)
    part_of = [""] * len(names)
    counted: list[tuple[list[int], Counter[str | None]]] = []
    for positions in positions_of.values():
        label_counts = Counter(labels[position] for position in positions)
        if _UNLABELLED_PART in parts and set(label_counts) == {None}:
            for position in positions:
                part_of[position] = _UNLABELLED_PART
        else:
            counted.append((positions, label_counts))
    filling = _Filling({name: share for name, share in parts.items() if share > 0}, counted)
    drawn = {label: _draw(seed, f"class {label}") for label in set(labels)}

    def order(group: tuple[list[int], Counter[str | None]]) -> tuple[object, ...]:
        positions, label_counts = group
        # Groups with several labels come first. Later groups can correct the shares.
        first_class = min(drawn[label] for label in label_counts)
        own = _draw(seed, min(names[position] for position in positions))
        return -len(label_counts), first_class, -len(positions), own

    for positions, label_counts in sorted(counted, key=order):
        part = filling.place(label_counts)
        for position in positions:
            part_of[position] = part
    return part_of


class _Filling:
    """How many photos of each class each part has, and how many it should have."""

    def __init__(
        self,
        shares: Mapping[str, float],
        counted: Sequence[tuple[Sequence[int], Counter[str | None]]],
    ) -> None:
        self._shares = shares
        total: Counter[str | None] = Counter()
        for _, label_counts in counted:
            total += label_counts
        self._target = {
            (part, label): share * number
            for part, share in shares.items()
            for label, number in total.items()
        }
        self._actual: Counter[tuple[str, str | None]] = Counter()
        # Photos that each part lacks, over all classes that were begun.
        self._lacking = dict.fromkeys(shares, 0.0)
        self._begun: set[str | None] = set()
        most = max(shares.values())
        largest = [part for part, share in shares.items() if share > most - _COUNT_ROUNDING]
        self._largest = largest[0] if len(largest) == 1 else None

    def place(self, label_counts: Counter[str | None]) -> str:
        """Choose the part of a group with these labels, and count it there."""
        new = label_counts.keys() - self._begun
        self._begun |= new
        for part in self._shares:
            self._lacking[part] += sum(self._target[part, label] for label in new)
        if new and self._largest is not None:
            part = self._largest
        else:
            part = min(self._shares, key=lambda part: self._rank(part, label_counts))
        for label, number in label_counts.items():
            self._actual[part, label] += number
        self._lacking[part] -= label_counts.total()
        return part

    def _rank(self, part: str, label_counts: Counter[str | None]) -> tuple[int, float, int]:
        """Return a rank that is smallest for the part that should get the group."""
        order = list(self._shares).index(part)
        after = {
            label: self._actual[part, label] + number for label, number in label_counts.items()
        }
        target = {label: self._target[part, label] for label in label_counts}
        if all(after[label] <= math.floor(target[label] + _COUNT_ROUNDING) for label in after):
            tier = 0
        elif all(after[label] <= math.ceil(target[label] - _COUNT_ROUNDING) for label in after):
            return 1, -self._lacking[part], order
        else:
            tier = 2
        lacking = sum(
            number * (target[label] - self._actual[part, label])
            for label, number in label_counts.items()
        )
        return tier, -lacking, order


def short_classes(
    labels: Sequence[str | None], groups: Sequence[Hashable], part_of: Sequence[str]
) -> list[ShortClass]:
    """Return the classes that some part lacks, by label.

    Parts without any labelled photo do not count.

    Args:
        labels: (N,) labels or None.
        groups: (N,) photos with equal values stay together.
        part_of: (N,) the part of each photo.
    """
    parts = sorted({part for part, label in zip(part_of, labels, strict=True) if label is not None})
    photos: Counter[str] = Counter()
    groups_of: dict[str, set[Hashable]] = defaultdict(set)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for label, group, part in zip(labels, groups, part_of, strict=True):
        if label is not None:
            photos[label] += 1
            groups_of[label].add(group)
            parts_of[label].add(part)
    return [
        ShortClass(label, photos[label], len(groups_of[label]), missing)
        for label in sorted(photos)
        if (missing := tuple(part for part in parts if part not in parts_of[label]))
    ]


def find_leaks(
    part_of: Sequence[str],
    pairs: Iterable[CopyPair],
    sources: Sequence[str | None] | None = None,
) -> list[Leak]:
    """Return the photos that belong together and are in different parts.

    The part `junk` and photos without a part have no leaks. Two parts may share only copies of a
    third photo that is in neither of them, or only a source. Then the leak has the first photo of
    each part.

    Args:
        part_of: (N,) the part of each photo; "" for none.
        pairs: copies.
        sources: (N,) where each photo comes from; None or "" is no source.
    """
    pairs = list(pairs)
    leaks = [
        Leak(pair.first, pair.second, pair.kind, pair.score)
        for pair in pairs
        if part_of[pair.first] != part_of[pair.second]
        and not {part_of[pair.first], part_of[pair.second]} & _PARTS_WITHOUT_LEAKS
    ]
    groups = bound_together(len(part_of), pairs)
    known = {
        (groups[leak.first], frozenset((part_of[leak.first], part_of[leak.second])))
        for leak in leaks
    }
    for one, other in _first_in_parts(part_of, groups):
        if (groups[one], frozenset((part_of[one], part_of[other]))) not in known:
            leaks.append(Leak(one, other, "copies of another", 1.0))
    for one, other in _first_in_parts(part_of, sources or ()):
        leaks.append(Leak(one, other, "same source", 1.0))
    return sorted(leaks, key=lambda leak: (leak.first, leak.second, leak.kind))


def _first_in_parts(
    part_of: Sequence[str], groups: Sequence[Hashable]
) -> Iterator[tuple[int, int]]:
    """Yield the first photos of each two parts that share a group; None and "" are no group."""
    first_of: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for position, group in enumerate(groups):
        if group not in (None, "") and part_of[position] not in _PARTS_WITHOUT_LEAKS:
            first_of[group].setdefault(part_of[position], position)
    for positions in first_of.values():
        yield from combinations(sorted(positions.values()), 2)


def _draw(seed: int, name: str) -> bytes:
    from veduta.photos import content_hash

    return content_hash(f"{seed} {name}".encode("utf-8", "surrogateescape"))
