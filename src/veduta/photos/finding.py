"""Finding the photos in folders."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from veduta.errors import PhotoError, PhotoUnreadable, readable
from veduta.photos.exclusion import (
    IGNORE_FILE,
    MAX_IGNORE_FILE_BYTES,
    NO_MEDIA_FILE,
    ExclusionRules,
)
from veduta.photos.file_names import (
    extension_of,
    is_other_extension,
    is_photo_extension,
    is_unread_image_extension,
    why_ignored,
)
from veduta.photos.files import Candidate, read_bytes, why_unreadable
from veduta.photos.formats import HEAD_BYTES, sniff

__all__ = [
    "EXCLUDED",
    "ExcludedPhotos",
    "PassedOver",
    "find_photos",
    "outermost_folders",
    "sub_folders",
]

EXCLUDED = "excluded"

Folder = str | bytes | os.PathLike[str]


@dataclass(slots=True)
class PassedOver:
    """What `find_photos` did not list.

    Attributes:
        extensions: extension in lower case → number of files that are no photos. Files without one
            count under "".
        hidden: number of hidden files, and of files that operating systems and photo programs keep.
        excluded: number of files that a pattern excludes.
        links: paths of links to photos that are listed at their own place.
        folders: (name, why) → number of folders that were not entered. The reasons are "hidden",
            "system", "excluded" and ".nomedia".
    """

    extensions: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    excluded: int = 0
    links: list[bytes] = field(default_factory=list)
    folders: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, name: bytes, why: str, *, is_folder: bool) -> None:
        """Count a file or folder.

        Args:
            name: its name.
            why: the reason, as in `folders`.
            is_folder: whether it is a folder.
        """
        if is_folder:
            self.folders[readable(name), why] += 1
        elif why == EXCLUDED:
            self.excluded += 1
        else:
            self.hidden += 1

    @property
    def unread_images(self) -> dict[str, int]:
        """Extension → number, of images and camera raw files that are not read."""
        return self._files(unread_images=True)

    @property
    def other_files(self) -> dict[str, int]:
        """Extension → number, of the other files that are no photos."""
        return self._files(unread_images=False)

    def _files(self, *, unread_images: bool) -> dict[str, int]:
        return {
            extension: number
            for extension, number in self.extensions.most_common()
            if is_unread_image_extension(extension.encode()) == unread_images
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "unread_images": self.unread_images,
            "other_files": self.other_files,
            "hidden_files": self.hidden,
            "excluded_files": self.excluded,
            "links": len(self.links),
            "folders": [
                {"name": name, "why": why, "number": number}
                for (name, why), number in self.folders.most_common()
            ],
        }


def find_photos(
    folders: Iterable[Folder],
    *,
    exclude: Sequence[str] = (),
    roots: Iterable[Folder] = (),
    passed_over: PassedOver | None = None,
) -> Iterator[Candidate]:
    """List the files in folders that may be photos.

    The entries of a folder come in the order of their names (as bytes), sub-folders at their
    position. The extension of a file decides; if it is missing or unknown, its first bytes decide.

    Links to files and folders are followed, after everything that lies in the folders itself: a
    photo that is there and is linked too is listed once, at its own place. A folder is entered only
    once, however many links lead to it, so circles of links do no harm. A file with two names that
    are no links is listed twice, like two copies.

    Passed over are hidden files and folders, what operating systems, network disks and photo
    programs keep (`veduta.photos.file_names`), folders that hold a file `.nomedia`, and what the
    patterns of `exclude` and of `.vedutaignore` files match (`veduta.photos.exclusion`). A file or
    folder that is named in `folders` is always listed.

    An error below a given folder does not end the list, and is not lost: a broken link with a
    photo's name, and a sub-folder that cannot be listed, come with the size -1. `read_bytes` of
    that path raises the error for the report.

    Args:
        folders: folders, or single files.
        exclude: patterns in the syntax of gitignore, relative to each of `folders`.
        roots: folders that others of `folders` may lie in. Patterns are relative to the outermost
            root, and the `.vedutaignore` files from there on count.
        passed_over: where to count what is not listed.

    Yields:
        The files.

    Raises:
        PhotoUnreadable: a given folder is missing or cannot be listed, or a `.vedutaignore` cannot
            be read.
    """
    walk = _Walk(passed_over if passed_over is not None else PassedOver())
    tops = [os.fsencode(root) for root in roots]
    for folder in folders:
        start = os.fsencode(folder)
        try:
            status = os.stat(start)
            if not stat.S_ISDIR(status.st_mode):
                yield Candidate(start, status.st_size, status.st_mtime_ns)
                continue
            if not walk.first_visit(status):
                continue
            walk.open_folder(start, _sorted_entries(start), _rules_in(start, tops, exclude))
        except OSError as error:
            raise PhotoUnreadable(os.fsdecode(start), why_unreadable(error, start)) from error
        except ValueError as error:  # A null byte in the name.
            raise PhotoUnreadable(
                os.fsdecode(start), f"no file can have this name ({error})"
            ) from error
        yield from walk.list_photos()
    yield from walk.list_links()


def outermost_folders(folders: Iterable[Folder], exclude: Sequence[str] = ()) -> dict[bytes, bytes]:
    """Return each folder with the outermost of the folders whose photos include its own.

    Args:
        folders: absolute paths.
        exclude: as for `find_photos`.

    Returns:
        Folder → the outermost folder that it lies in. It is the folder itself if it lies in none,
        or only in folders that pass it over.
    """
    paths = sorted({os.fsencode(folder) for folder in folders}, key=lambda path: (len(path), path))
    outermost: dict[bytes, bytes] = {}
    for path in paths:
        above = (top for top in outermost.values() if _rules_below(top, path, exclude) is not None)
        outermost[path] = next(above, path)
    return outermost


def sub_folders(folder: bytes, exclude: Sequence[str] = ()) -> list[bytes]:
    """Return the names of the folders directly in a folder that `find_photos` enters.

    Args:
        folder: the folder. If it cannot be listed, it has none.
        exclude: as for `find_photos`.
    """
    rules = _with_own_patterns(ExclusionRules.of(exclude, folder), folder)
    try:
        entries = _sorted_entries(folder)
        return [
            entry.name
            for entry in entries
            if entry.is_dir()
            and not _why_passed_over(entry.path, rules, is_folder=True)
            and not os.path.lexists(os.path.join(entry.path, NO_MEDIA_FILE))
        ]
    except OSError:
        return []


class ExcludedPhotos:
    """Tells which of the photos that a file names are excluded.

    These are photos that the patterns of the user or of a `.vedutaignore` match, and photos below a
    folder with a `.nomedia`. Names of files and folders do not count, since the photos are named.
    """

    def __init__(self, root: bytes, exclude: Sequence[str] = ()) -> None:
        """Read the patterns of a folder.

        Args:
            root: the folder that the photos lie in.
            exclude: as for `find_photos`.
        """
        rules = _with_own_patterns(ExclusionRules.of(exclude, root), root)
        # Folder → its rules; None if it is excluded.
        self._rules: dict[bytes, ExclusionRules | None] = {root: rules}

    def __contains__(self, path: bytes) -> bool:
        """Return whether a photo is excluded; `path` begins with the root."""
        rules = self._rules_in(os.path.dirname(path))
        return rules is None or rules.exclude(path, is_folder=False)

    def _rules_in(self, folder: bytes) -> ExclusionRules | None:
        unknown = []
        while folder not in self._rules:
            unknown.append(folder)
            folder = os.path.dirname(folder)
        rules = self._rules[folder]
        for inner in reversed(unknown):
            if rules is not None:
                is_out = rules.exclude(inner, is_folder=True)
                is_out |= os.path.lexists(os.path.join(inner, NO_MEDIA_FILE))
                rules = None if is_out else _with_own_patterns(rules, inner)
            self._rules[inner] = rules
        return rules


class _Walk:
    """One list: the folders and files that were visited, and the links that wait."""

    def __init__(self, passed_over: PassedOver) -> None:
        self.passed_over = passed_over
        self.visited: set[tuple[int, int]] = set()  # Device and number of each folder.
        self.files: dict[int, set[int]] = {}  # Device → the numbers of the files that are no links.
        self.links: deque[tuple[os.DirEntry[bytes], ExclusionRules]] = deque()
        # The folders that are being listed, the deepest last. This is no recursion, because a tree
        # of folders may be deeper than Python's stack.
        self.open_folders: list[tuple[Iterator[os.DirEntry[bytes]], ExclusionRules]] = []

    def first_visit(self, status: os.stat_result) -> bool:
        """Return whether this folder was not seen before, and note it."""
        identity = (status.st_dev, status.st_ino)
        if status.st_ino == 0:  # The file system has no numbers.
            return True
        if identity in self.visited:
            return False
        self.visited.add(identity)
        return True

    def open_folder(
        self, folder: bytes, entries: list[os.DirEntry[bytes]], rules: ExclusionRules
    ) -> None:
        """Let `list_photos` go on with the entries of a folder."""
        if any(entry.name == IGNORE_FILE for entry in entries):
            rules = _with_ignore_file(rules, folder)
        self.open_folders.append((iter(entries), rules))

    def list_photos(self) -> Iterator[Candidate]:
        """Yield the photos of the open folders and below them. Links wait."""
        while self.open_folders:
            entries, rules = self.open_folders[-1]
            entry = next(entries, None)
            if entry is None:
                self.open_folders.pop()
            elif entry.is_symlink():
                self.links.append((entry, rules))
            elif candidate := self._candidate(entry, rules):
                yield candidate

    def list_links(self) -> Iterator[Candidate]:
        """Yield what the links lead to that was not listed yet."""
        while self.links:
            if candidate := self._candidate(*self.links.popleft()):
                yield candidate
            yield from self.list_photos()

    def _candidate(self, entry: os.DirEntry[bytes], rules: ExclusionRules) -> Candidate | None:
        """Return an entry that may be a photo, or open it if it is a folder."""
        extension = extension_of(entry.name)
        try:
            is_folder = entry.is_dir()
            if why := _why_passed_over(entry.path, rules, is_folder=is_folder):
                self.passed_over.count(entry.name, why, is_folder=is_folder)
            elif is_folder:
                self._enter(entry, rules)
            elif is_other_extension(extension):
                self.passed_over.extensions[readable(extension)] += 1
            else:
                return self._file(entry, extension)
        except OSError:
            # Whoever reads this path gets the same error and reports it. A broken link is reported
            # only if it is named like a photo.
            may_be_photo = is_photo_extension(extension) or not entry.is_symlink()
            if may_be_photo and not why_ignored(entry.name, is_folder=False):
                return Candidate(entry.path, -1, 0)
        return None

    def _enter(self, entry: os.DirEntry[bytes], rules: ExclusionRules) -> None:
        if not self.first_visit(os.stat(entry.path)):
            return
        inside = _sorted_entries(entry.path)
        if any(one.name == NO_MEDIA_FILE for one in inside):
            self.passed_over.count(entry.name, os.fsdecode(NO_MEDIA_FILE), is_folder=True)
        else:
            self.open_folder(entry.path, inside, rules)

    def _file(self, entry: os.DirEntry[bytes], extension: bytes) -> Candidate | None:
        status = entry.stat()
        if not is_photo_extension(extension) and not _begins_like_a_photo(entry.path, status):
            self.passed_over.extensions[readable(extension)] += 1
            return None
        numbers = self.files.setdefault(status.st_dev, set())
        if not entry.is_symlink():
            numbers.add(status.st_ino)
        elif status.st_ino in numbers:
            self.passed_over.links.append(entry.path)
            return None
        return Candidate(entry.path, status.st_size, status.st_mtime_ns)


def _rules_in(start: bytes, roots: Sequence[bytes], exclude: Sequence[str]) -> ExclusionRules:
    """Return the rules of a folder that is named: those of the outermost root that reaches it."""
    for root in sorted(roots, key=len):
        rules = _rules_below(root, start, exclude)
        if rules is not None:
            return rules
    return ExclusionRules.of(exclude, start)


def _rules_below(root: bytes, folder: bytes, exclude: Sequence[str]) -> ExclusionRules | None:
    """Return the rules that the folders from a root down to `folder` make for it.

    They are without those of `folder` itself. None if it does not lie in the root, or is passed
    over there.
    """
    above, rules = root, ExclusionRules.of(exclude, root)
    prefix = os.path.join(root, b"")
    if not folder.startswith(prefix):
        return None
    for name in folder[len(prefix) :].split(os.fsencode(os.path.sep)):
        rules = _with_own_patterns(rules, above)
        above = os.path.join(above, name)
        if _why_passed_over(above, rules, is_folder=True):
            return None
        if os.path.lexists(os.path.join(above, NO_MEDIA_FILE)):
            return None
    return rules


def _with_own_patterns(rules: ExclusionRules, folder: bytes) -> ExclusionRules:
    if os.path.lexists(os.path.join(folder, IGNORE_FILE)):
        return _with_ignore_file(rules, folder)
    return rules


def _with_ignore_file(rules: ExclusionRules, folder: bytes) -> ExclusionRules:
    file = os.path.join(folder, IGNORE_FILE)
    try:
        data = read_bytes(file, max_bytes=MAX_IGNORE_FILE_BYTES)
    except PhotoError as error:
        name = os.fsdecode(file)
        raise PhotoUnreadable(name, f"its patterns cannot be read: {error.reason}") from error
    return rules.with_file(data, folder)


def _why_passed_over(path: bytes, rules: ExclusionRules, *, is_folder: bool) -> str | None:
    folder, name = os.path.split(path)
    if why := why_ignored(name, folder, is_folder=is_folder):
        return why
    return EXCLUDED if rules.exclude(path, is_folder=is_folder) else None


def _sorted_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _begins_like_a_photo(path: bytes, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    with open(path, "rb") as file:
        return sniff(file.read(HEAD_BYTES)) is not None
