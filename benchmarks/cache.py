"""What the cache of particle images copies and costs: all of a set, a twentieth of it, nothing more to copy; reading with it and without.

Stacks and cache lie on one disk here, and in memory once read: what is measured is the work of the cache itself, not a network.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.formats.mrc import read_sections, write_stack
from firn.runtime.cache import Cache
from firn.runtime.cache_room import Limits

STACKS, IMAGES, BOX = 40, 100, 128


def main() -> None:
    """Print one line per case."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        images = np.random.default_rng(0).standard_normal((IMAGES, BOX, BOX)).astype(np.float32)
        for number in range(STACKS):
            write_stack(f"{number}.mrcs", images, 1.0)
        whole = [(f"{number}.mrcs", np.arange(IMAGES)) for number in range(STACKS)]
        total = STACKS * images.nbytes
        print(f"{STACKS * IMAGES} images of {BOX} px in {STACKS} stacks, {total / 1e6:.0f} MB\n")
        print("| case | bytes copied | of the set | CPU s | wall s |\n|---|---|---|---|---|")
        _fillings(whole, total)
        _readings(whole)


def _fillings(whole: list[tuple[str, np.ndarray]], total: int) -> None:
    rng = np.random.default_rng(1)
    part = [(stack, np.sort(rng.choice(sections, len(sections) // 20, replace=False))) for stack, sections in whole]
    cases = (("a twentieth", "small", part), ("all", "ssd", whole), ("all, held already", "ssd", whole))
    for title, folder, wanted in cases:
        cache = Cache(Path(folder), Limits(reserve=0), 2, print, lambda _: None)
        done, cpu, wall = _timed(lambda cache=cache, wanted=wanted: cache.fill(wanted))
        cache.close()
        print(f"| fill: {title} | {done.copied / 1e6:.1f} MB | {100 * done.copied / total:.1f} % | {cpu:.2f} | {wall:.2f} |")


def _readings(whole: list[tuple[str, np.ndarray]]) -> None:
    cache = Cache(Path("ssd"), Limits(reserve=0), 2, print, lambda _: None)
    cache.fill(whole)
    for title, read in (("where they lie", read_sections), ("through the cache", cache.read)) * 2:
        _, cpu, wall = _timed(lambda read=read: [read(stack, sections) for stack, sections in whole])
        print(f"| read: {title} | | | {cpu:.2f} | {wall:.2f} |")
    cache.close()


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, CPU seconds, wall seconds)."""
    cpu, wall = time.process_time(), time.monotonic()
    result = work()
    return result, time.process_time() - cpu, time.monotonic() - wall


main()
