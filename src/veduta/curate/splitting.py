"""Train, validation and test; query and gallery; folds: so that no photo knows its answer.

Every photo goes into exactly one part. Photos that belong together, since one is a copy of another
or since they come from one source, go there together. The parts get their shares of each class to
within one photo, or to within one group of it; where rounding leaves a choice, it goes to the part
that is furthest behind over all classes. The result depends on the seed and on the photos' names,
not on their order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING

from veduta.curate.groups import connected_groups
from veduta.errors import DatasetError

if TYPE_CHECKING:
    from veduta.curate.copies import CopyPair

__all__ = ["Leak", "bound_together", "find_leaks", "parse_parts", "short_classes", "split"]

_UNLABELLED = "distractor"  # takes what has no label
_NO_PART = frozenset(("", "junk"))
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Leak:
    """Two photos that belong together and are in different parts, by their places.

    `kind` is that of the `CopyPair`, "copies of another" or "same source"; `score` is that of the
    pair, and 1 where there is none.
    """

    first: int
    second: int
    kind: str
    score: float


def parse_parts(text: str) -> dict[str, float]:
    """Return name → share of `train=0.8,val=0.1,test=0.1`.

    Parts without a number share what is left. `distractor` without a number gets the share 0: it
    takes the photos without a label. Shares may be per cent.

    Raises:
        DatasetError: the text says something else, or the shares do not add up to 1.
    """
    wanted = "wanted for example train=0.8,val=0.1,test=0.1 or query=0.2,gallery=0.8,distractor"
    shares: dict[str, float | None] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or name in shares or "/" in name or name.startswith("."):
            raise DatasetError(f"{text!r}: {name!r} is no name for a part; {wanted}")
        try:
            shares[name] = float(number) if equals else None
        except ValueError:
            raise DatasetError(f"{text!r}: {number!r} is no number; {wanted}") from None
    given = [share for share in shares.values() if share is not None]
    if any(not 0 < share < math.inf for share in given):
        raise DatasetError(f"{text!r}: a share must be more than 0; {wanted}")
    open_parts = [name for name, share in shares.items() if share is None and name != _UNLABELLED]
    whole = 100.0 if sum(given) > 1 + 1e-6 and abs(sum(given) - 100) < 1e-6 else 1.0
    left = whole - sum(given)
    if left < -1e-6 or (left > 1e-6) != bool(open_parts):
        raise DatasetError(f"{text!r}: the shares add up to {sum(given):g}, not to 1; {wanted}")
    return {
        name: share / whole
        if share is not None
        else (0.0 if name == _UNLABELLED else left / whole / len(open_parts))
        for name, share in shares.items()
    }


def bound_together(
    count: int, pairs: Iterable[CopyPair], sources: Sequence[str | None] | None = None
) -> list[int]:
    """Return for each of `count` photos the number of its group: the smallest place in it.

    Args:
        count: number of photos.
        pairs: copies, as from `find_copies`; chains of them are one group.
        sources: what each photo comes from; None or "" is no source.
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
    """Return the part of each of N photos.

    Args:
        names: (N,) different names; with the seed they decide what goes where.
        labels: (N,); None goes into the part `distractor` if there is one, and is a class of its
            own otherwise.
        groups: (N,) photos with the same value stay together.
        parts: name → share, as from `parse_parts`; the shares add up to 1.
        seed: another seed, another split.

    The largest part, where there is one, gets a photo of every class before the others do: a class
    with one photo can be learned from, though not be tested.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    chosen = [""] * len(names)
    counted: list[tuple[list[int], Counter[str | None]]] = []
    for places in members.values():
        of_label = Counter(labels[place] for place in places)
        if _UNLABELLED in parts and set(of_label) == {None}:
            for place in places:
                chosen[place] = _UNLABELLED
        else:
            counted.append((places, of_label))
    state = _State({name: share for name, share in parts.items() if share > 0}, counted)
    drawn = {label: _draw(seed, f"class {label}") for label in set(labels)}

    def turn(item: tuple[list[int], Counter[str | None]]) -> tuple[object, ...]:
        places, of_label = item
        # Several labels first: the others can make up for what they do to the shares.
        first = min(drawn[label] for label in of_label)
        return (-len(of_label), first, -len(places), _draw(seed, min(names[p] for p in places)))

    for places, of_label in sorted(counted, key=turn):
        part = state.place(of_label)
        for place in places:
            chosen[place] = part
    return chosen


class _State:
    """How much of each class every part has, and should have."""

    def __init__(
        self,
        shares: Mapping[str, float],
        counted: Sequence[tuple[Sequence[int], Counter[str | None]]],
    ) -> None:
        self._shares = shares
        total: Counter[str | None] = Counter()
        for _, of_label in counted:
            total += of_label
        self._target = {
            (part, label): share * number
            for part, share in shares.items()
            for label, number in total.items()
        }
        self._has: Counter[tuple[str, str | None]] = Counter()
        self._behind = dict.fromkeys(shares, 0.0)  # over the classes that had their turn
        self._begun: set[str | None] = set()
        most = max(shares.values())
        largest = [part for part, share in shares.items() if share > most - _EXACT]
        self._largest = largest[0] if len(largest) == 1 else None

    def place(self, group: Counter[str | None]) -> str:
        """Choose the part of a group with so many photos of each label, and count it there."""
        new = group.keys() - self._begun
        self._begun |= new
        for part in self._shares:
            self._behind[part] += sum(self._target[part, label] for label in new)
        if new and self._largest is not None:
            part = self._largest
        else:
            part = min(self._shares, key=lambda part: self._rank(part, group))
        for label, number in group.items():
            self._has[part, label] += number
        self._behind[part] -= group.total()
        return part

    def _rank(self, part: str, group: Counter[str | None]) -> tuple[int, float, int]:
        """Return what is smallest for the part that should have the group."""
        order = list(self._shares).index(part)
        after = {label: self._has[part, label] + number for label, number in group.items()}
        target = {label: self._target[part, label] for label in group}
        if all(after[label] <= math.floor(target[label] + _EXACT) for label in group):
            tier = 0
        elif all(after[label] <= math.ceil(target[label] - _EXACT) for label in group):
            return 1, -self._behind[part], order
        else:
            tier = 2
        lacking = sum(
            number * (target[label] - self._has[part, label]) for label, number in group.items()
        )
        return tier, -lacking, order


def short_classes(
    labels: Sequence[str | None], groups: Sequence[Hashable], chosen: Sequence[str]
) -> list[tuple[str, int, int, tuple[str, ...]]]:
    """Return (label, photos, groups, parts without it) of each class that some part lacks.

    Parts that hold no labelled photo at all are none that a class can lack.
    """
    parts = sorted({part for part, label in zip(chosen, labels, strict=True) if label is not None})
    photos: Counter[str] = Counter()
    of_class: dict[str, set[Hashable]] = defaultdict(set)
    found: dict[str, set[str]] = defaultdict(set)
    for label, group, part in zip(labels, groups, chosen, strict=True):
        if label is not None:
            photos[label] += 1
            of_class[label].add(group)
            found[label].add(part)
    return [
        (label, photos[label], len(of_class[label]), lacking)
        for label in sorted(photos)
        if (lacking := tuple(part for part in parts if part not in found[label]))
    ]


def find_leaks(
    chosen: Sequence[str],
    pairs: Iterable[CopyPair],
    sources: Sequence[str | None] | None = None,
) -> list[Leak]:
    """Return what belongs together and is not in one part; `junk` and no part are none.

    Where two parts share only copies of a photo that is in neither of them, and of a source, the
    first photo of the one part beside the first one of the other.
    """
    pairs = list(pairs)
    leaks = [
        Leak(pair.first, pair.second, pair.kind, pair.score)
        for pair in pairs
        if chosen[pair.first] != chosen[pair.second]
        and not {chosen[pair.first], chosen[pair.second]} & _NO_PART
    ]
    copies = bound_together(len(chosen), pairs)
    told = {
        (copies[leak.first], frozenset((chosen[leak.first], chosen[leak.second]))) for leak in leaks
    }
    for one, other in _first_of_parts(chosen, copies):
        if (copies[one], frozenset((chosen[one], chosen[other]))) not in told:
            leaks.append(Leak(one, other, "copies of another", 1.0))
    for one, other in _first_of_parts(chosen, sources or ()):
        leaks.append(Leak(one, other, "same source", 1.0))
    return sorted(leaks, key=lambda leak: (leak.first, leak.second, leak.kind))


def _first_of_parts(chosen: Sequence[str], groups: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield the first photos of every two parts that a group is in; None and "" are no group."""
    first: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for place, group in enumerate(groups):
        if group not in (None, "") and chosen[place] not in _NO_PART:
            first[group].setdefault(chosen[place], place)
    for places in first.values():
        yield from combinations(sorted(places.values()), 2)


def _draw(seed: int, name: str) -> bytes:
    from veduta.photos import content_hash

    return content_hash(f"{seed} {name}".encode("utf-8", "surrogateescape"))
