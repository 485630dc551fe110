"""Waking up as files come: a look at all files costs the more the more there are, so between looks only the times of folders are read.

A folder's time changes when a file comes, goes or is renamed in it. Where a file system does not keep such times, or a folder is too new to be
known, nothing is lost: the next look at all files comes anyway.
"""

import glob
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path


def fixed_part(pattern: str) -> str:
    """The folder of a pattern above the first part that has a wildcard."""
    fixed = Path(pattern).parent
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return str(fixed)


def folders_of(patterns: Iterable[str], files: Iterable[str]) -> set[str]:
    """Folders into which files of the patterns come: the fixed part of each, and from there down to every file that is known."""
    tops = {fixed_part(pattern) for pattern in patterns}
    found = set(tops)
    for folder in {os.path.dirname(path) or "." for path in files}:
        while folder not in found and folder not in ("", "/"):
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def times_of(folders: Iterable[str]) -> dict[str, int]:
    """Time of the last change of each folder in ns, 0 for one that is not there."""
    return {folder: _changed(folder) for folder in folders}


def rest(before: Mapping[str, int], seconds: float, every: float) -> None:
    """Wait for some time, or until a folder is no longer as it was before, which is looked at every so many seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and times_of(before) == before:
        threading.Event().wait(min(left, every))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
