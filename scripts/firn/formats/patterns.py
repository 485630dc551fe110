"""Paths that match a pattern of names, with `**` for any depth, through links, but each folder once: links may lead back to where they are."""

import glob
import os
from collections.abc import Iterator

ANY_DEPTH = "**"


def matching(pattern: str) -> Iterator[str]:
    """Paths that match, in no order; some more than once. Names that begin with a dot match only a pattern that says so, as everywhere."""
    parts = pattern.split(os.sep)
    if ANY_DEPTH not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index(ANY_DEPTH)
    before, rest = os.sep.join(parts[:place]), os.sep.join(parts[place + 1 :]) or "*"
    seen: set[tuple[int, int]] = set()
    for start in glob.iglob(before) if before else [os.sep if pattern.startswith(os.sep) else ""]:
        for folder in _folders(start, seen):
            yield from matching(os.path.join(glob.escape(folder), rest))


def _folders(start: str, seen_: set[tuple[int, int]]) -> Iterator[str]:
    """A folder and all below it that were not met before, links last, so that a new link renames nothing.

    Those that begin with a dot, and what cannot be opened, are passed over.
    """
    waiting, links = [start], list[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(folder or os.curdir)
            names = sorted(name for name in os.listdir(folder or os.curdir) if not name.startswith("."))
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen_:
            continue
        seen_.add((status.st_dev, status.st_ino))
        yield folder
        below = [path for name in names if os.path.isdir(path := os.path.join(folder, name))]
        waiting += [path for path in reversed(below) if not os.path.islink(path)]
        links += [path for path in below if os.path.islink(path)]
