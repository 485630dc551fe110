"""Whether a job will fit in memory, said before it starts: what it needs, part by part, against what the machine, a limit or the GPU has.

Convention: bytes; a GB is 10^9 bytes. The limit is the least of the machine's memory and those that control groups set (Slurm, containers).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from firn.errors import InputError
from firn.runtime.job import Job

GB = 1e9
UNLIMITED = 2**60
"""A limit at or above this is none (version 1 of control groups writes a large number)."""


@dataclass(frozen=True)
class Part:
    """Some of what a job holds: what it is, its bytes, and whether it lies on the device that computes."""

    what: str
    size: float
    on_device: bool = True


@dataclass(frozen=True)
class Room:
    """Bytes there are and bytes free, and whose they are."""

    total: float
    free: float
    whose: str


def expect(job: Job[Any], parts: Sequence[Part]) -> None:
    """Log what a job will need, and refuse it when it cannot fit.

    Raises InputError with the numbers when the parts are more than the machine, its limit or the GPU has at all. Warns when they are more
    than is free now.
    """
    for room, held in _shares(job.device, parts):
        needed = sum(part.size for part in held)
        detail = ", ".join(f"{part.what} {_spoken(part.size)}" for part in held)
        logging.getLogger("firn").info("needs about %s: %s; %s free", _spoken(needed), detail, _spoken(room.free))
        job.progress.note(needs_gb=round(needed / GB, 3), free_gb=round(room.free / GB, 3))
        if needed > room.total:
            raise InputError(
                f"job {job.name}: needs about {_spoken(needed)} of memory ({detail}), but {room.whose} has {_spoken(room.total)}; "
                "give it more, fewer particles, or smaller ones (downsample_particles)"
            )
        if needed > room.free:
            job.warn(f"The job needs about {_spoken(needed)} of memory, of which {room.whose} has {_spoken(room.free)} free now.")


def fits(job: Job[Any], parts: Sequence[Part]) -> bool:
    """Whether what a job needs is free now, so that it need not do with less."""
    return all(sum(part.size for part in held) <= room.free for room, held in _shares(job.device, parts))


def host_room(root: Path = Path("/")) -> Room:
    """Memory of this machine, or of the control group with the least of it that this process is in; root: where /proc and /sys are."""
    numbers = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        numbers[name] = float(value.split()[0]) * 1024
    machine = Room(numbers["MemTotal"], numbers.get("MemAvailable", numbers["MemFree"]), "the machine")
    groups = [Room(limit, min(max(limit - used, 0.0), machine.free), "the job's limit") for limit, used in _limits(root)]
    return min([machine, *groups], key=lambda room: room.total)


def device_room(device: torch.device) -> Room:
    """Memory of a GPU."""
    free, total = torch.cuda.mem_get_info(device)
    return Room(float(total), float(free), str(device))


def _shares(device: torch.device, parts: Sequence[Part]) -> list[tuple[Room, list[Part]]]:
    """Each memory with the parts that lie in it."""
    if device.type == "cpu":
        return [(host_room(), list(parts))]
    there, here = ([part for part in parts if part.on_device == side] for side in (True, False))
    return [(host_room(), here), (device_room(device), there)]


def _limits(root: Path) -> list[tuple[float, float]]:
    """(limit, used) of every control group above this process that has a limit; caches of files do not count as used."""
    found = []
    for folder, limit_name, used_name in _groups(root):
        try:
            limit, used = float((folder / limit_name).read_text()), float((folder / used_name).read_text())
        except (OSError, ValueError):
            continue
        if limit < UNLIMITED:
            found.append((limit, used - _file_cache(folder)))
    return found


def _groups(root: Path) -> list[tuple[Path, str, str]]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        second = number == "0" and not controllers
        if not second and "memory" not in controllers.split(","):
            continue
        base = root / ("sys/fs/cgroup" if second else "sys/fs/cgroup/memory")
        names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        inside = Path(os.path.normpath(path.lstrip("/") or "."))
        groups += [(base / step, *names) for step in (inside, *inside.parents) if ".." not in step.parts]
    return groups


def _file_cache(folder: Path) -> float:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "total_inactive_file "))), 0.0)


def _spoken(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= 0.95e8 else f"{size / 1e6:.0f} MB"
