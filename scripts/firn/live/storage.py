"""What a live session does not begin anything under: results that are another folder than they were, a disk without room, movies that are away.

All of it passes without harm: nothing is counted as failed, and the session goes on when the disk is back.
"""

import os
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from firn.errors import MachineError
from firn.formats.storage import FULL, is_bare
from firn.live import layout
from firn.live.stirring import fixed_part
from firn.runtime.atomic import write_text

ROOM = 2**23
"""Bytes that Snakemake and a tick need to begin."""


def mark_results() -> None:
    """Give the results of a session that begins a mark, by which they are known from others that come up in their place."""
    if not layout.RESULTS_KNOWN.exists():
        mark = f"{secrets.token_hex(8)}\n"
        write_text(layout.RESULTS_MARK, mark)
        write_text(layout.RESULTS_KNOWN, mark)


def results_away(folder: Path = Path()) -> str:
    """A sentence when the results of a run folder's session are not there, or others are; nothing when all is well."""
    try:
        known = (folder / layout.RESULTS_KNOWN).read_text(encoding="utf-8")
    except OSError:
        return ""
    with suppress(OSError):
        if (folder / layout.RESULTS_MARK).read_text(encoding="utf-8") == known:
            return ""
    what = "is another folder than the one this session began with" if (folder / "results").exists() else "is not there"
    return f"results {what}; bring it back, and remove what came up in its place (gone for good: delete {layout.RESULTS_KNOWN})"


def require_results() -> None:
    """Raise MachineError when the results are away."""
    if sentence := results_away():
        raise MachineError(sentence)


def say_waiting(sentence: str) -> None:
    """Tell the terminal what is waited for, or a file that the output goes to, as far as there is room for it."""
    with suppress(OSError):
        sys.stderr.write(f"waiting: {sentence}\n")


def no_room(folder: Path) -> str:
    """A sentence when ROOM bytes cannot be written into a run folder; nothing when they can."""
    probe = folder / layout.LIVE / f".room.{os.getpid()}.tmp"
    try:
        with probe.open("wb") as stream:
            stream.write(bytes(ROOM))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if error.errno not in FULL:
            raise
        return f"the run folder's disk cannot be written to ({os.strerror(error.errno)}); make room"
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""


def movies_away(patterns: Iterable[str], known: Iterable[str]) -> str:
    """A sentence when a folder that is watched, and from which files are known, is missing or empty; nothing otherwise."""
    for folder in {fixed_part(pattern) for pattern in patterns}:
        if is_bare(folder) and any(folder == "." or path.startswith(f"{folder.rstrip('/')}/") for path in known):
            return f"Folder {folder}, from which movies came, is missing or empty; nothing is lost, bring it back (gone for good: put any file there)"
    return ""
