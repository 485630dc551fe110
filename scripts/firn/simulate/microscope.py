"""A microscope at work: ready movies appear in a folder, one after the other, growing, some of them bad, some of them late.

Convention: times in seconds since the start of the session. Names are laid out as EPU does (`Images-Disc1/GridSquare_n/Data/FoilHole_...`) or
flat. What was sent is told in a manifest beside the folder, never in it.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BAD_KINDS = ("truncated", "empty", "garbage")
HOLES_PER_SQUARE = 20
FIRST_HOLE = 1234500


@dataclass(frozen=True)
class Habits:
    """interval: between movies; growth: time a movie takes to arrive, in so many steps; bad: fraction of bad files; pauses: (after which
    movie, how long); late: how many come only after lateness; strays: one file that is no movie after every so many; layout: epu or flat."""

    interval: float = 10.0
    growth: float = 2.0
    steps: int = 8
    bad: float = 0.0
    pauses: tuple[tuple[int, float], ...] = ()
    late: int = 0
    lateness: float = 60.0
    strays: int = 0
    layout: str = "epu"


@dataclass(frozen=True)
class Arrival:
    """One file that comes: kind is good, truncated, empty, garbage or stray; source is '' where there is none."""

    time: float
    kind: str
    source: str
    target: str


def plan_arrivals(sources: Sequence[Path], habits: Habits, generator: np.random.Generator) -> list[Arrival]:
    """When each movie comes and under which name, in order of time; the bad, the late and the names are drawn by chance."""
    count = len(sources)
    kinds = np.array(["good"] * count, dtype=object)
    bad = generator.permutation(count)[: round(habits.bad * count)]
    kinds[bad] = [BAD_KINDS[number % len(BAD_KINDS)] for number in range(len(bad))]
    times = habits.interval * np.arange(count, dtype=float)
    for after, length in habits.pauses:
        times[after:] += length
    good = np.flatnonzero(kinds == "good")
    times[generator.permutation(good)[: habits.late]] += habits.lateness
    names = [_name(number, source, habits.layout, generator) for number, source in enumerate(sources)]
    arrivals = [Arrival(float(t), str(k), str(s), n) for t, k, s, n in zip(times, kinds, sources, names, strict=True)]
    strays = range(habits.strays, count, habits.strays) if habits.strays else range(0)
    arrivals += [Arrival(float(times[number]), "stray", "", str(Path(names[number]).with_suffix(".jpg"))) for number in strays]
    return sorted(arrivals, key=lambda arrival: (arrival.time, arrival.target))


def deliver(
    arrivals: Sequence[Arrival], folder: Path, habits: Habits, sleep: Callable[[float], None] = time.sleep
) -> Iterator[dict[str, Any]]:
    """Write the files as their times come, each growing in steps while others grow too; yields what was sent when it is complete."""
    start = time.monotonic()
    pieces = sorted(
        (arrival.time + habits.growth * step / habits.steps, place, step)
        for place, arrival in enumerate(arrivals)
        for step in range(1, habits.steps + 1)
    )
    for when, place, step in pieces:
        sleep(max(0.0, when - (time.monotonic() - start)))
        arrival = arrivals[place]
        _grow(arrival, folder / arrival.target, step, habits.steps)
        if step == habits.steps:
            yield asdict(arrival) | {"completed": time.time()}


def _grow(arrival: Arrival, target: Path, step: int, steps: int) -> None:
    content = _content(arrival)
    target.parent.mkdir(parents=True, exist_ok=True)
    first, last = len(content) * (step - 1) // steps, len(content) * step // steps
    with target.open("wb" if step == 1 else "ab") as stream:
        stream.write(content[first:last])
    if step == steps and arrival.kind == "good":
        shutil.copymode(arrival.source, target)


def _content(arrival: Arrival) -> bytes:
    if arrival.kind in ("empty", "stray"):
        return b""
    content = Path(arrival.source).read_bytes()
    if arrival.kind == "truncated":
        return content[: len(content) * 2 // 3]
    if arrival.kind == "garbage":
        return np.random.default_rng(len(content)).bytes(len(content))
    return content


def _name(number: int, source: Path, layout: str, generator: np.random.Generator) -> str:
    if layout == "flat":
        return source.name
    square, hole = 100 + number // HOLES_PER_SQUARE, FIRST_HOLE + number
    stamp = f"20250102_{10 + number // 3600 % 12:02d}{number // 60 % 60:02d}{number % 60:02d}"
    name = f"FoilHole_{hole}_Data_{generator.integers(10**6, 10**7)}_{generator.integers(10**6, 10**7)}_{stamp}_Fractions{source.suffix}"
    return f"Images-Disc1/GridSquare_{square}/Data/{name}"
