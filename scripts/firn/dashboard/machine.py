"""The machine a run computes on: devices and who leased them, disks, the cache of particle images, and what the results take by kind."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from firn.dashboard.server import Answer, as_json
from firn.errors import InputError
from firn.formats.yaml_text import read_yaml
from firn.live import layout
from firn.runtime.leases import LEASES, holders

LANES = Path("lanes.yaml")
QUERY = "index,name,utilization.gpu,memory.used,memory.total"
LATEST_S = 5
"""How long what the driver said of its devices counts as new."""
PATIENCE_S = 5.0
RECOUNT_S = 300.0
MEBI = 2**20
DISK_BLOCK = 512
"""Bytes, of which st_blocks counts."""


def tell() -> Answer:
    """Devices, lanes, leases, disks and the cache as they are now."""
    return as_json(
        {
            "host": socket.gethostname(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "memory": _memory(), "devices": _devices(int(time.time()) // LATEST_S),
            **_lanes(), "leases": holders(LEASES), "here": str(Path.cwd()), "disks": _disks(), "cache": _cache(),
        }
    )  # fmt: skip


class Sizes:
    """What the results take on the disk, counted beside the pages, since a long session has many files."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] | None = None
        self._counted = float("-inf")
        self._counting = threading.Lock()

    def tell(self) -> Answer:
        """Bytes and files by job, as counted last; null while they are counted for the first time."""
        if time.monotonic() - self._counted > RECOUNT_S and self._counting.acquire(blocking=False):
            threading.Thread(target=self._count, daemon=True).start()
        return as_json({"jobs": self._found})

    def _count(self) -> None:
        try:
            self._found = [_size(folder) for folder in sorted(Path("results").glob("*")) if folder.is_dir() and not folder.is_symlink()]
            self._counted = time.monotonic()
        finally:
            self._counting.release()


def _size(folder: Path) -> dict[str, Any]:
    record = next(
        (path for path in (folder / "job.json", *folder.glob("batches/0001/job.json"), *folder.glob("rounds/*/job.json")) if path.exists()),
        None,
    )
    kind = layout.read_json(record, {}).get("type", "") if record else ""
    states = [entry.stat(follow_symlinks=False) for entry in _files(folder)]
    return {
        "name": folder.name,
        "type": kind or "unknown",
        "bytes": sum(state.st_blocks for state in states) * DISK_BLOCK,
        "files": len(states),
    }


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                else:
                    yield entry
    except FileNotFoundError:
        return


def _memory() -> dict[str, int]:
    """Bytes of main memory: in all, and available to new programs."""
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        free = int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = page * os.sysconf("SC_AVPHYS_PAGES")
    return {"total": page * os.sysconf("SC_PHYS_PAGES"), "free": free}


@lru_cache(maxsize=1)
def _devices(_: int) -> list[dict[str, Any]]:
    """What the driver's own program says of the GPUs; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        asked = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
        lines = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    return [_device(*(part.strip() for part in line.split(","))) for line in lines if line.count(",") == QUERY.count(",")]


def _device(number: str, name: str, busy: str, used: str, total: str) -> dict[str, Any]:
    busy_percent, used_bytes, total_bytes = (float(text) if text.replace(".", "").isdigit() else None for text in (busy, used, total))
    scaled = [None if value is None else value * MEBI for value in (used_bytes, total_bytes)]
    return {"number": number, "name": name, "busy": busy_percent, "used": scaled[0], "total": scaled[1]}


def _lanes() -> dict[str, Any]:
    """Devices of each lane, null where any may take all; or what is wrong with the file."""
    if not LANES.exists():
        return {"lanes": None, "fault": ""}
    try:
        lanes = read_yaml(LANES, "lists of devices by lane")
    except InputError:
        lanes = None
    if not isinstance(lanes, dict) or not all(isinstance(numbers, list) for numbers in lanes.values()):
        return {"lanes": None, "fault": f"{LANES} is no list of devices for each lane."}
    return {"lanes": {str(lane): [str(number) for number in numbers] for lane, numbers in lanes.items()}, "fault": ""}


def _disks() -> list[dict[str, Any]]:
    """Room on the disks of the run folder, of its results where these are elsewhere, and of temporary files."""
    found: dict[int, dict[str, Any]] = {}
    for what, path in (("the run folder", Path()), ("results", Path("results")), ("temporary files", Path("/tmp"))):
        if path.exists():
            usage = shutil.disk_usage(path)
            found.setdefault(path.stat().st_dev, {"what": what, "path": str(path.resolve()), "total": usage.total, "free": usage.free})
    return list(found.values())


def _cache() -> dict[str, Any] | None:
    """The cache that this dashboard's environment names; jobs may be started with another."""
    from firn.runtime.cache import cache_folder, cache_limits  # numpy and pandas, which take a second to import
    from firn.runtime.cache_room import list_copies

    folder = cache_folder(os.environ)
    if folder is None:
        return None
    try:
        limits = cache_limits(os.environ)
    except InputError as error:
        return {"folder": str(folder), "fault": str(error)}
    copies = list_copies(folder / "images")
    near = next(place for place in (folder, *folder.parents) if place.exists())
    usage = shutil.disk_usage(near)
    return {
        "folder": str(folder), "fault": "", "bytes": sum(copy.bytes for copy in copies), "stacks": len(copies), "oldest": copies[0].used if copies else None,
        "quota": limits.quota if limits.quota < float("inf") else None, "reserve": limits.reserve, "days": limits.days, "total": usage.total, "free": usage.free,
    }  # fmt: skip
