"""Movies as small as can be, sound ones and those of every fault, and what must become of each.

Expected of a movie is one word: kept (accepted or rejected by a threshold), the code with which it is refused, one of several that are
possible, or nothing, where there is no movie in the end.
"""

import functools
import io
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

FRAMES, SIZE = 4, 48
PAGE_S = 0.7
"""Seconds between the frames of a movie that grows."""
KEPT, NOTHING = "kept", "nothing"
POOL = 24
CLOCKS = (0.0, 4e9)

Step = tuple[float, Callable[[Path, random.Random], None]]
"""Seconds after a movie came up, and what is done to it then."""


@dataclass(frozen=True)
class Kind:
    """A fault: what may become of the movie, and the steps by which it comes up."""

    expected: tuple[str, ...]
    steps: tuple[Step, ...]
    name: str = "m{number:05d}.tif"


def counts(number: int, frames: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """Counted frames `(frame, y, x)` of noise."""
    return np.random.default_rng(number).poisson(4, (frames, size, size)).astype(np.uint8)


def packed(frames: np.ndarray) -> bytes:
    """A TIFF file of the frames."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as tiff:
        for frame in frames:
            tiff.write(frame, compression="lzw", photometric="minisblack", contiguous=False, metadata=None)
    return stream.getvalue()


@functools.lru_cache(maxsize=2 * POOL)
def sound(number: int, frames: int = FRAMES) -> bytes:
    """One of POOL sound movies."""
    return packed(counts(number, frames))


def appear(path: Path, content: bytes) -> None:
    """A file comes up whole, as one that was renamed."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def whole(path: Path, chance: random.Random) -> None:
    """A sound movie comes up."""
    appear(path, sound(chance.randrange(POOL)))


def of(make: Callable[[], bytes]) -> Callable[[Path, random.Random], None]:
    """A step in which a file of other content comes up."""
    return lambda path, chance: appear(path, make())


def written(frames: int) -> Callable[[Path, random.Random], None]:
    """A step after which a movie has so many frames on disk: a TIFF that grows is a valid, shorter one."""

    def write(path: Path, chance: random.Random) -> None:
        path.write_bytes(sound(0, frames))

    return write


def vanish(path: Path, chance: random.Random) -> None:
    """The movie is deleted."""
    path.unlink(missing_ok=True)


def damaged() -> bytes:
    """A movie with a hole in the pixels of its third frame."""
    content = bytearray(sound(1))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[2]
        start, length = page.dataoffsets[0], page.databytecounts[0]
    content[start + length // 4 : start + length] = bytes(length - length // 4)
    return bytes(content)


def holding(value: float, where: Any, dtype: type = np.uint8) -> Callable[[], bytes]:
    """Makes a movie with one value in some pixels."""

    def make() -> bytes:
        frames = counts(2).astype(dtype)
        frames[where] = value
        return packed(frames)

    return make


def unreadable(path: Path, chance: random.Random) -> None:
    """A sound movie comes up that may not be read."""
    path.write_bytes(b"")
    path.chmod(0)
    path.write_bytes(sound(0))


def readable(path: Path, chance: random.Random) -> None:
    """The movie may be read now."""
    path.chmod(0o644)


def recorded(path: Path, chance: random.Random) -> None:
    """A movie comes up of which its mdoc tells more frames."""
    Path(f"{path}.mdoc").write_text(f"PixelSpacing = 4.0\n\n[ZValue = 0]\nNumSubFrames = {FRAMES + 2}\nExposureDose = {FRAMES + 2}\n")
    appear(path, sound(3))


def twin(path: Path, chance: random.Random) -> None:
    """A movie comes up that has the name of another in another folder."""
    (path.parent / "again").mkdir(exist_ok=True)
    appear(path.parent / "again" / path.name, sound(4))
    whole(path, chance)


def no_file(path: Path, chance: random.Random) -> None:
    """What is named like a movie is a folder, a pipe, or a link that leads nowhere or to itself."""
    make = chance.choice([path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("nowhere.tif"), lambda: path.symlink_to(path.name)])
    make()


def of_another_time(path: Path, chance: random.Random) -> None:
    """A movie comes up from 1970 or 2096."""
    whole(path, chance)
    time = chance.choice(CLOCKS)
    os.utime(path, (time, time))


def touched(path: Path, chance: random.Random) -> None:
    """A movie that was taken, most likely, has another time now."""
    os.utime(path)


def grown(last: int) -> tuple[Step, ...]:
    """Steps by which a movie grows frame by frame."""
    return tuple((PAGE_S * frame, written(frame)) for frame in range(1, last + 1))


KINDS: dict[str, Kind] = {
    "sound": Kind((KEPT,), ((0, whole),)),
    "cut short": Kind(("TRUNCATED",), ((0, of(lambda: sound(5)[: len(sound(5)) * 2 // 3])),)),
    "wrong size": Kind(("SHAPE",), ((0, of(lambda: packed(counts(6, size=SIZE - 8)))),)),
    "too few frames": Kind(("FRAMES",), ((0, of(lambda: sound(7, FRAMES - 1))),)),
    "too many frames": Kind(("FRAMES",), ((0, of(lambda: sound(8, FRAMES + 1))),)),
    "fewer frames than recorded": Kind(("FRAMES",), ((0, recorded),)),
    "all zero": Kind(("ZERO",), ((0, of(holding(0, slice(None)))),)),
    "one frame zero": Kind(("ZERO",), ((0, of(holding(0, 1))),)),
    "saturated": Kind(("SATURATED",), ((0, of(holding(255, (slice(None), slice(SIZE // 2))))),)),
    "NaN": Kind(("NONFINITE",), ((0, of(holding(np.nan, (slice(None), 3, 5), np.float32))),)),
    "hole in the pixels": Kind(("CODEC",), ((0, of(damaged)),)),
    "no TIFF": Kind(("HEADER",), ((0, of(lambda: b"this is no movie\n" * 200)),)),
    "empty": Kind(("EMPTY",), ((0, of(bytes)),)),
    "may not be read": Kind(("UNREADABLE",), ((0, unreadable),)),
    "may be read later": Kind((KEPT,), ((0, unreadable), (40, readable))),
    "same name twice": Kind((KEPT,), ((0, twin),)),
    "grows": Kind((KEPT,), grown(FRAMES)),
    "grows, then stops": Kind(("FRAMES",), grown(FRAMES - 2)),
    "mended after refusal": Kind((KEPT,), ((0, of(lambda: sound(9)[:900])), (40, whole))),
    "vanishes at once": Kind((NOTHING, "TRUNCATED"), ((0, of(lambda: sound(10)[:900])), (0.3, vanish))),
    "vanishes later": Kind((KEPT, NOTHING, "UNREADABLE"), ((0, whole), (8, vanish))),
    "hostile name": Kind((KEPT,), ((0, whole),), "m{number:05d} $(touch canary) `touch canary`; {{x}} %s é.tif"),
    "line break in the name": Kind(("NAME",), ((0, whole),), "m{number:05d}\nx.tif"),
    "no file": Kind((NOTHING,), ((0, no_file),)),
    "of 1970 or 2096": Kind((KEPT,), ((0, of_another_time),)),
    "touched when taken": Kind((KEPT,), ((0, whole), (45, touched))),
}
