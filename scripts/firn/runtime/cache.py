"""Particle images on a disk of the machine that computes: copied once, read by every job that follows, and by particle, not by stack.

The folder is named by the environment variable FIRN_CACHE when a job starts, so that it may differ from node to node. Jobs that go over
particles many times fill it before they take a device; every job reads from it what it holds. Whatever is wrong with the cache, images are
read where they lie, and the job says so.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template

import numpy as np

from firn.errors import InputError
from firn.formats.mrc import read_sections
from firn.formats.particles import reading_through, sections_by_stack
from firn.formats.tables import read_table
from firn.runtime.cache_copy import Say, Source, StackCopy, find_source
from firn.runtime.cache_room import GB, Limits, Room, show
from firn.runtime.params import JobParams, slot_kind

FOLDER = "FIRN_CACHE"
FILLING_LANES = ("reconstruct", "auxiliary")
"""Lanes whose jobs go over their particles many times."""

Wanted = Iterable[tuple[str, np.ndarray]]
"""Stacks with the 0-based numbers of the images wanted of each."""


@dataclass
class Filling:
    """What a filling found and did: images, stacks; bytes wanted in all, held before, copied by it, and still not held; seconds."""

    images: int = 0
    stacks: int = 0
    wanted: int = 0
    held: int = 0
    copied: int = 0
    left: int = 0
    seconds: float = 0.0


class Cache:
    """The cache as one job uses it, in this user's part of `folder`. `warn` takes sentences for the user, `say` those for the log."""

    def __init__(self, folder: Path, limits: Limits, threads: int, warn: Say, say: Say | None = None):
        self._room, self._threads, self._warn, self._folder = Room(_own_folder(folder), limits), threads, warn, folder
        self._say = say or logging.getLogger("firn").info
        self._known: dict[str, Source | None] = {}
        self._filled: set[str] = set()
        self._told: set[str] = set()

    def close(self) -> None:
        """Let other jobs have the room."""
        self._room.close()

    def fill(self, wanted: Wanted) -> Filling:
        """Bring images into the cache as far as there is room, and say how many bytes before it starts. Raises nothing: it warns."""
        start = time.monotonic()
        plan = self._plan(wanted)
        done = Filling(images=sum(len(sections) for _, sections in plan), stacks=len(plan))
        done.wanted = sum(len(sections) * copy.source.header.section_bytes for copy, sections in plan)
        done.held = _held_bytes(plan)
        self._say(
            f"cache: {done.images} images in {done.stacks} stacks, {show(done.wanted)}; {show(done.held)} held in {self._folder}, "
            f"{show(done.wanted - done.held)} to copy"
        )
        if done.held < done.wanted:
            done.copied = self._copy(plan)
        done.left = done.wanted - _held_bytes(plan)
        self._filled |= {copy.path.name for copy, sections in plan if copy.held(sections).all()}
        done.seconds = time.monotonic() - start
        self._say(f"cache: copied {show(done.copied)} in {done.seconds:.1f} s; {show(done.left)} are read where they lie")
        return done

    def read(self, stack: str, sections: np.ndarray) -> np.ndarray:
        """Float32 images `(n, y, x)` by 0-based number: from the cache when it holds all of them, else from the stack."""
        try:
            images = self._read_copy(stack, sections)
        except OSError as error:
            self._warn_once(f"cache: {self._folder} cannot be read ({error.strerror}); images are read where they lie")
            images = None
        return read_sections(stack, sections) if images is None else images

    def _read_copy(self, stack: str, sections: np.ndarray) -> np.ndarray | None:
        source = self._source(stack)
        if source is None or not len(sections) or np.max(sections) >= source.header.nz:
            return None
        copy = StackCopy(self._room.images, source)
        images = copy.read(sections)
        if images is None and copy.path.name in self._filled and not copy.path.exists():
            self._warn_once(f"cache: copies vanished from {self._folder}; their images are read where they lie")
        return images

    def _source(self, stack: str) -> Source | None:
        """The stack as it is now; its header is read once while size and time stay."""
        known = self._known.get(stack)
        if known is None or not known.is_unchanged():
            self._known[stack] = known = None if self._is_inside(stack) else find_source(stack)
        return known

    def _is_inside(self, stack: str) -> bool:
        return Path(os.path.realpath(stack)).is_relative_to(self._folder.resolve())

    def _plan(self, wanted: Wanted) -> list[tuple[StackCopy, np.ndarray]]:
        """Copies with the distinct sections wanted of each; links to one stack are one."""
        plan: dict[str, tuple[StackCopy, np.ndarray]] = {}
        for stack, sections in wanted:
            try:
                source = self._source(stack)
            except (OSError, InputError) as error:
                self._warn_once(f"cache: not copied: {error}")
                continue
            if source is not None and np.max(sections) < source.header.nz:
                earlier = plan.get(source.name, (None, sections))[1]
                plan[source.name] = StackCopy(self._room.images, source), np.union1d(earlier, sections)
        return list(plan.values())

    def _copy(self, plan: Sequence[tuple[StackCopy, np.ndarray]]) -> int:
        """Copy what fits with several threads; stacks that another job copies come last."""
        try:
            fits, reason = self._room.make(plan)
        except OSError as error:
            fits, reason = [False] * len(plan), f"{self._folder} cannot be written ({error.strerror})"
        if reason:
            self._warn(f"cache: {reason}; {fits.count(False)} of {len(plan)} stacks are read where they lie")
        chosen = [entry for entry, fit in zip(plan, fits, strict=True) if fit]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="cache") as pool:
            first = list(pool.map(partial(self._copy_one, wait=False), chosen))
            busy = [entry for entry, copied in zip(chosen, first, strict=True) if copied is None]
            return sum(copied or 0 for copied in [*first, *pool.map(partial(self._copy_one, wait=True), busy)])

    def _copy_one(self, entry: tuple[StackCopy, np.ndarray], wait: bool) -> int | None:
        copy, sections = entry
        try:
            return copy.fill(sections, self._say, wait)
        except InputError as error:
            self._warn_once(f"cache: {error}")
        except OSError as error:
            self._warn_once(f"cache: {self._folder} cannot be written ({error.strerror}); images are read where they lie")
        return 0

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._warn(sentence)


def open_cache(warn: Say, environment: Mapping[str, str] = os.environ, say: Say | None = None) -> Cache | None:
    """The cache that the environment names; None when it names none, or one that cannot be used, which is said.

    FIRN_CACHE: folder, in which other variables such as $SLURM_TMPDIR are filled in. FIRN_CACHE_QUOTA_GB (no limit), FIRN_CACHE_RESERVE_GB
    (10), FIRN_CACHE_DAYS (30), FIRN_CACHE_THREADS (2). Raises InputError for one of these that is no number.
    """
    if not environment.get(FOLDER):
        return None
    limits = cache_limits(environment)
    threads = max(1, int(_number(environment, "THREADS", 2)))
    try:
        return Cache(_expanded(environment), limits, threads, warn, say)
    except OSError as error:
        reason = error.strerror or error
        warn(f"cache: {FOLDER} is {environment[FOLDER]}, which cannot be used ({reason}); particle images are read where they lie")
        return None


def cache_limits(environment: Mapping[str, str]) -> Limits:
    """What the environment allows the cache; raises InputError for what is no number."""
    return Limits(
        _number(environment, "QUOTA_GB", float("inf")) * GB,
        _number(environment, "RESERVE_GB", Limits.reserve / GB) * GB,
        _number(environment, "DAYS", Limits.days),
    )


def cache_folder(environment: Mapping[str, str]) -> Path | None:
    """This user's part of the cache folder, whether it is there or not; None where the environment names none or a variable in it is not set."""
    try:
        return _own_path(_expanded(environment)) if environment.get(FOLDER) else None
    except OSError:
        return None


def _held_bytes(plan: Sequence[tuple[StackCopy, np.ndarray]]) -> int:
    return sum(int(copy.held(sections).sum()) * copy.source.header.section_bytes for copy, sections in plan)


@contextmanager
def cached_reading(params_class: type[JobParams], inputs: Mapping[str, Sequence[str]], warn: Say) -> Iterator[None]:
    """While the block runs, particle images come from the cache as far as it holds them; it is filled first for jobs that need them often."""
    cache = None if params_class.scatter else open_cache(warn)
    if cache is None:
        yield
        return
    try:
        if params_class.lane in FILLING_LANES and params_class.reads_images:
            cache.fill(images_wanted(params_class, inputs))
        with reading_through(cache.read):
            yield
    finally:
        cache.close()


def images_wanted(params_class: type[JobParams], inputs: Mapping[str, Sequence[str | Path]]) -> Wanted:
    """Images of all particle tables that a job reads."""
    for name, field in params_class.model_fields.items():
        for folder in inputs.get(name, ()) if slot_kind(field) == "particles" else ():
            path = Path(folder) / "particles.star"
            table = read_table(path, "particles") if path.exists() else None
            if table is not None and "image" in table.columns:
                yield from ((stack, sections) for stack, _, sections in sections_by_stack(table))


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(f"{FOLDER}_{name}")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise InputError(f"{FOLDER}_{name} is '{text}', but must be a number of 0 or more")
    return value


def _expanded(environment: Mapping[str, str]) -> Path:
    """The folder with other variables filled in; raises OSError when one of them is not set."""
    try:
        return Path(Template(environment[FOLDER]).substitute(environment)).expanduser().absolute()
    except KeyError as error:
        raise OSError(f"{error.args[0]} is not set here") from error


def _own_folder(base: Path) -> Path:
    """This user's part of the cache folder, which nobody else may look into or have made."""
    folder = _own_path(base)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(1, f"{folder} belongs to another user")
    return folder


def _own_path(base: Path) -> Path:
    return base / f"firn-{os.getuid()}"
