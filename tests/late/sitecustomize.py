"""A Python process sees files as on a network disk: what others made since it began comes up LATE_S seconds after it was first looked for.

So it is over NFS, which keeps for a while what it knew of names. Python imports this module by itself where its folder is in PYTHONPATH.
LATE_BELOW names the folder that is on such a disk. Jobs are excepted, which begin where their input has come up; ticks are not.
"""

import builtins
import errno
import io
import os
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

LATE_S, BELOW = float(os.environ.get("LATE_S", "0")), os.environ.get("LATE_BELOW", "") + os.sep
BEGAN = time.time()
first_looks: dict[str, float] = {}
own: set[str] = set()
status_of = os.stat


def key_of(path: Any) -> str:
    """The path where it is on such a disk, and no name that begins with a dot is part of it; else nothing."""
    whole = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
    return whole if whole.startswith(BELOW) and f"{os.sep}." not in whole.removeprefix(BELOW[:-1]) else ""


def is_late(path: Any) -> bool:
    """Whether a file is there, but not to be seen yet."""
    if not (key := key_of(path)) or key in own:
        return False
    try:
        status = status_of(key)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or (status.st_ctime < BEGAN and key not in first_looks):
        return False
    return time.time() < first_looks.setdefault(key, time.time()) + LATE_S


def look(function: Callable[..., Any]) -> Callable[..., Any]:
    """A look at a name, as such a disk answers it."""

    def looked(path: Any, *others: Any, **named: Any) -> Any:
        if is_late(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return function(path, *others, **named)

    return looked


def make(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """What makes the name that is its argument number `place`, which the process sees at once."""

    def made(*arguments: Any, **named: Any) -> Any:
        own.add(key_of(arguments[place]))
        return function(*arguments, **named)

    return made


def opened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Opening makes a file or looks at it."""
    looked, made = look(function), make(function, 0)

    def opening(path: Any, mode: str = "r", *others: Any, **named: Any) -> Any:
        return (looked if mode.startswith("r") else made)(path, mode, *others, **named)

    return opening


def is_job() -> bool:
    """Whether this process runs a script of a rule other than the tick."""
    words = " ".join(sys.orig_argv)
    return ".snakemake/scripts/" in words and not words.endswith("tick.py")


if LATE_S and not is_job():
    os.stat, os.lstat = look(os.stat), look(os.lstat)
    os.replace, os.rename = make(os.replace, 1), make(os.rename, 1)
    builtins.open = io.open = opened(io.open)
