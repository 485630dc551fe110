"""Which files are there, and which of them are complete.

A file is complete when its size and time have stayed the same for a while, its header agrees with its size, and it has as many frames as was
recorded beside it or as most others have: a growing TIFF is at every frame a valid, shorter movie.
"""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from firn.errors import ExposureError, InputError
from firn.formats.movie import MovieHeader, read_header
from firn.formats.names import check_name
from firn.formats.patterns import matching
from firn.formats.sidecar import find_sidecars, read_sidecar

logging.getLogger("tifffile").setLevel(logging.CRITICAL)
"""A growing file is looked at again and again; what is wrong in the end is told once."""

FEWEST_ALIKE = 3
SHARE_ALIKE = 0.6


@dataclass(frozen=True)
class Seen:
    """A file under watch: bytes and modification time, since when (s) they are so, and when it was found."""

    size: int
    modified: float
    since: float
    found: float


def list_files(patterns: Iterable[str], known: Collection[str]) -> dict[str, tuple[int, float]]:
    """(bytes, modification time) of the files that match a pattern and are not known yet; what vanishes meanwhile is left out."""
    found: dict[str, tuple[int, float]] = {}
    for pattern in patterns:
        for name in matching(pattern):
            if name in known or (path := str(Path(name))) in known:
                continue
            if os.path.isfile(path):
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                found[path] = (status.st_size, status.st_mtime)
    return found


def watch(waiting: Mapping[str, Seen], listed: Mapping[str, tuple[int, float]], now: float) -> dict[str, Seen]:
    """The files under watch after another look; one that changed, or is new, starts to settle now."""
    seen: dict[str, Seen] = {}
    for path, (size, modified) in listed.items():
        before = waiting.get(path)
        same = before is not None and (before.size, before.modified) == (size, modified)
        seen[path] = before if before and same else Seen(size, modified, now, before.found if before else now)
    return seen


def settled(waiting: Mapping[str, Seen], now: float, settle_s: float) -> list[str]:
    """Files that have not changed for settle_s, in order of their names."""
    return sorted(path for path, seen in waiting.items() if now - seen.since >= settle_s)


def usual_shape(shapes: Mapping[str, int]) -> tuple[int, int, int] | None:
    """(frames, height, width) that most movies have, from counts by `frames height width`; None before enough are alike."""
    if not shapes:
        return None
    name, count = Counter(dict(shapes)).most_common(1)[0]
    if count < FEWEST_ALIKE or count < SHARE_ALIKE * sum(shapes.values()):
        return None
    frames, height, width = (int(part) for part in name.split())
    return frames, height, width


def check_movie(path: str, eer_fractions: int, eer_upsampling: int, usual: tuple[int, int, int] | None) -> MovieHeader:
    """Header of a movie that is whole and like the others; raises ExposureError when it is not, or not yet."""
    check_name(path)
    header = read_header(path, eer_fractions, eer_upsampling)
    wanted = _recorded_frames(path) if header.format != "eer" and (usual is None or header.frames != usual[0]) else None
    if wanted is not None and header.frames < wanted:
        raise ExposureError("FRAMES", f"{path}: has {header.frames} frames, but what is recorded beside it tells of {wanted}")
    if usual is not None and (header.height, header.width) != usual[1:]:
        raise ExposureError("SHAPE", f"{path}: is {header.width} x {header.height} pixels, but most others are {usual[2]} x {usual[1]}")
    if usual is not None and header.frames != usual[0]:
        raise ExposureError("FRAMES", f"{path}: has {header.frames} frames, but most others have {usual[0]}")
    return header


def shape_name(header: MovieHeader) -> str:
    """Key under which movies of a shape are counted."""
    return f"{header.frames} {header.height} {header.width}"


def _recorded_frames(path: str) -> int | None:
    sidecar = find_sidecars([path]).get(path)
    try:
        return read_sidecar(sidecar).frames if sidecar is not None else None
    except InputError:
        return None
