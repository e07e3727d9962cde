"""Split a dataset into parts, such as train, validation and test, so that no copy is in two parts.

Each photo goes into exactly one part. Photos that belong together go there together: copies of one
photo, and photos from one source. Each part gets its share of each class, to within one photo or
one group of photos. If rounding leaves a choice, the part that has the fewest photos so far,
compared with its share of all classes, gets the group. The result depends on the seed and on the
names of the photos, but not on their order.

A part can also have a fixed number of photos. Then groups are moved at the end until the number is
right, or until no group fits.
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
    "NO_PART",
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
_EXAMPLE = (
    "wanted for example train=0.8,val=0.1,test=0.1 or query=0.2,gallery=0.8,distractor or "
    "train,test=200"
)

NO_PART = ""
"""The part of photos that no part takes, because all parts have fixed numbers."""


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
    """Return name → share, or number of photos, of a text like `train=0.8,val=0.1,test=200`.

    A whole number is a number of photos, as an `int`. Shares are fractions, of the photos that
    these numbers leave. Whole numbers of all parts that add up to 100 are per cent. Parts without a
    number share the rest. `distractor` without a number has the share 0: it takes the photos
    without a label.

    Args:
        text: the parts.

    Raises:
        DatasetError: the text has another form, or the shares do not add up to 1.
    """
    amounts: dict[str, float | None] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or name in amounts or "/" in name or name.startswith("."):
            raise DatasetError(f"{text!r}: {name!r} is no name for a part; {_EXAMPLE}")
        try:
            amounts[name] = _amount(number) if equals else None
        except ValueError:
            raise DatasetError(f"{text!r}: {number!r} is no number; {_EXAMPLE}") from None
    given = [amount for amount in amounts.values() if amount is not None]
    if any(not 0 < amount < math.inf for amount in given):
        raise DatasetError(f"{text!r}: a share or a number must be more than 0; {_EXAMPLE}")
    open_parts = [
        name for name, amount in amounts.items() if amount is None and name != _UNLABELLED_PART
    ]
    if not open_parts and sum(given) in (1, 100) and all(isinstance(one, int) for one in given):
        amounts = {
            name: None if amount is None else amount / sum(given)
            for name, amount in amounts.items()
        }
    shares = [amount for amount in amounts.values() if isinstance(amount, float)]
    only_counts = bool(given) and not shares and not open_parts
    rest = 1 - sum(shares)
    is_whole = rest > _SHARE_ROUNDING if open_parts else abs(rest) <= _SHARE_ROUNDING
    if not only_counts and not is_whole:
        raise DatasetError(f"{text!r}: the shares add up to {sum(shares):g}, not to 1; {_EXAMPLE}")
    return {
        name: amount
        if amount is not None
        else (0.0 if name == _UNLABELLED_PART else rest / len(open_parts))
        for name, amount in amounts.items()
    }


def _amount(text: str) -> float:
    """Return a number of photos as int, or a share as float."""
    return int(text) if text.isdecimal() else float(text)


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
        parts: name → share or number of photos, as from `parse_parts`. The shares add up to 1, and
            are shares of the photos that the numbers leave.
        seed: another seed gives another split.

    Returns:
        N names of parts; `NO_PART` for photos that are left over when all parts have numbers.

    Raises:
        DatasetError: the numbers add up to more photos than there are.
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
    shares, counts = _shares_and_counts(parts, sum(len(positions) for positions, _ in counted))
    filling = _Filling(shares, counted)
    drawn = {label: _draw(seed, f"class {label}") for label in set(labels)}

    def order(group: tuple[list[int], Counter[str | None]]) -> tuple[object, ...]:
        positions, label_counts = group
        # Groups with several labels come first. Later groups can correct the shares.
        first_class = min(drawn[label] for label in label_counts)
        own = _draw(seed, min(names[position] for position in positions))
        return -len(label_counts), first_class, -len(positions), own

    ordered = sorted(counted, key=order)
    chosen = [filling.place(label_counts) for _, label_counts in ordered]
    filling.meet_counts(counts, [label_counts for _, label_counts in ordered], chosen)
    for (positions, _), part in zip(ordered, chosen, strict=True):
        for position in positions:
            part_of[position] = part
    return part_of


def _shares_and_counts(
    parts: Mapping[str, float], photos: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Return the shares of all photos, and the fixed numbers of photos."""
    counts = {name: amount for name, amount in parts.items() if isinstance(amount, int)}
    total = sum(counts.values())
    if total > photos:
        raise DatasetError(
            f"the parts ask for {total:,} photos, but there are {photos:,} to split; ask for fewer"
        )
    if not counts:
        return {name: share for name, share in parts.items() if share > 0}, {}
    left = (photos - total) / max(photos, 1)
    shares = {
        name: amount / max(photos, 1) if isinstance(amount, int) else amount * left
        for name, amount in parts.items()
    }
    if left and len(counts) == sum(amount > 0 for amount in parts.values()):
        shares[NO_PART] = left
    return {name: share for name, share in shares.items() if share > 0}, counts


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
        named = {part: share for part, share in shares.items() if part != NO_PART}
        most = max(named.values())
        largest = [part for part, share in named.items() if share > most - _COUNT_ROUNDING]
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

    def meet_counts(
        self,
        counts: Mapping[str, int],
        groups: Sequence[Counter[str | None]],
        chosen: list[str],
    ) -> None:
        """Move groups until the parts have fixed numbers of photos, as far as groups fit.

        The group that is moved is the one that the shares of the classes suffer least from.

        Args:
            counts: part → number of photos.
            groups: the number of photos of each label in each group.
            chosen: the part of each group. It is changed.
        """
        if not counts:
            return
        surplus = {part: -wanted for part, wanted in counts.items()}
        for group, own in zip(groups, chosen, strict=True):
            if own in surplus:
                surplus[own] += group.total()
        while moves := [
            (self._cost(group, own, part), number, part)
            for number, (group, own) in enumerate(zip(groups, chosen, strict=True))
            for part in self._shares
            if part != own and _helps(surplus, own, part, group.total())
        ]:
            _, number, part = min(moves)
            own, group = chosen[number], groups[number]
            for place, sign in ((own, -1), (part, 1)):
                if place in surplus:
                    surplus[place] += sign * group.total()
                for label, photos in group.items():
                    self._actual[place, label] += sign * photos
            chosen[number] = part

    def _cost(self, group: Counter[str | None], own: str, part: str) -> tuple[bool, float, int]:
        """Return how much a move to another part harms; small values come first."""
        takes_last = own == self._largest and any(
            self._actual[own, label] == photos for label, photos in group.items()
        )
        excess = sum(
            photos
            * (
                self._actual[own, label]
                - self._target[own, label]
                - self._actual[part, label]
                + self._target[part, label]
            )
            for label, photos in group.items()
        )
        return takes_last, -excess, -group.total()

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


def _helps(surplus: Mapping[str, int], own: str, part: str, photos: int) -> bool:
    """Return whether a move of so many photos brings the parts nearer to their numbers."""
    before = abs(surplus.get(own, 0)) + abs(surplus.get(part, 0))
    after = sum(
        abs(surplus[place] + change)
        for place, change in ((own, -photos), (part, photos))
        if place in surplus
    )
    return after < before


def short_classes(
    labels: Sequence[str | None], groups: Sequence[Hashable], part_of: Sequence[str]
) -> list[ShortClass]:
    """Return the classes that some part lacks, by label.

    Parts without any labelled photo do not count, and neither do photos without a part.

    Args:
        labels: (N,) labels or None.
        groups: (N,) photos with equal values stay together.
        part_of: (N,) the part of each photo.
    """
    parts = sorted(
        {
            part
            for part, label in zip(part_of, labels, strict=True)
            if label is not None and part != NO_PART
        }
    )
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
