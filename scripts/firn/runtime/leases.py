"""Leases of devices, torch-free: no two jobs compute on one device of a machine, whoever started them and however they end.

A lease is an flock on a file named like the device, held by a descriptor that children inherit: the kernel gives it back when the last of
them is gone. `lanes.yaml` in the run folder says which devices a lane has, `{preprocess: [0, 1], reconstruct: [2], auxiliary: [2]}`; it is
read again while a job waits, so that devices come and go at any time, and lanes may share one.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from firn.errors import InputError, brief
from firn.formats.yaml_text import read_yaml

LEASES = Path("/tmp/firn-leases")
"""Where the leases of this machine lie; those of an allocation of Slurm in a folder of its number."""
LOCKS = Path("/proc/locks")
POLL_S = 0.2
REMIND_S = 60.0
FAULT_S = 3.0
"""How long a fault in lanes.yaml may last: somebody may be writing it."""


def lease(
    lane: str, lanes_file: Path | None, visible: Sequence[str], folder: Path, say: Callable[[str], None], count: int = 1
) -> list[int]:
    """Numbers of devices of the lane among the visible ones; waits for them, and holds them until this process and its children end.

    visible: names of the devices on this machine in the order of their numbers. folder: where the leases of this machine lie. A job that
    wants several holds none while it waits, so that two such jobs do not wait for each other.
    Raises InputError when lanes.yaml is at fault.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, said, sound = time.monotonic(), 0.0, time.monotonic()
    while True:
        try:
            numbers, sound = devices_of(lane, lanes_file, len(visible)), time.monotonic()
        except InputError:
            if time.monotonic() - sound > FAULT_S:
                raise
            numbers = []
        held = _hold({number: folder / f"gpu{visible[number]}" for number in numbers}, lane, count)
        if len(held) == count:
            return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        waited = time.monotonic() - start
        if waited >= said:
            others = [number for number in numbers if number not in held]
            holders = ", ".join(f"{number} {_holder(folder / f'gpu{visible[number]}')}" for number in others)
            wanted = "a device" if count == 1 else f"{count} devices"
            why = holders or f"{lanes_file} gives it {len(numbers) or 'none'} now"
            say(f"waiting for {wanted} of lane {lane} ({waited:.0f} s): {why}")
            said += REMIND_S
        time.sleep(POLL_S)


def devices_of(lane: str, lanes_file: Path | None, count: int) -> list[int]:
    """Devices of the lane as lanes.yaml has them now; all `count` where there is no such file.

    Raises InputError when the file is no mapping of lanes to lists of devices, lacks the lane, or names a device that is not there.
    """
    if lanes_file is None or not lanes_file.exists():
        return list(range(count))
    lanes = read_yaml(lanes_file, "lists of devices by lane")
    if not isinstance(lanes, dict) or lane not in lanes:
        raise InputError(f"{lanes_file}: has no lane {lane}; write it as `{lane}: [0]`, or `{lane}: []` for none now")
    numbers = lanes[lane]
    if not isinstance(numbers, list) or any(type(number) is not int or not 0 <= number < count for number in numbers):
        raise InputError(
            f"{lanes_file}: gives lane {lane} {brief(numbers)}, but must list devices 0 to {count - 1}, which this machine has"
        )
    return numbers


def visible_devices(environment: Mapping[str, str], count: int) -> list[str]:
    """Names of the machine's devices in the order in which a process of this environment numbers them."""
    listed = environment.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return names if len(names) == count else [str(number) for number in range(count)]


def holders(folder: Path) -> dict[str, dict[str, Any]]:
    """Who holds a device now, by its name: host, pid, lane, run. It asks the kernel's list of locks (proc_locks(5)) and so keeps nobody waiting."""
    try:
        locks = [line.split() for line in LOCKS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    held = {int(words[-3].rpartition(":")[2]) for words in locks if "FLOCK" in words and "->" not in words}
    found = {}
    for path in sorted([*folder.glob("gpu*"), *folder.glob("*/gpu*")]):
        with suppress(FileNotFoundError):
            if path.stat().st_ino in held:
                found[path.name.removeprefix("gpu")] = _owner(path)
    return found


def _hold(paths: Mapping[int, Path], lane: str, count: int) -> dict[int, int]:
    """The first devices that are free, `count` at most, with the descriptors that hold them now."""
    held: dict[int, int] = {}
    for number, path in paths.items():
        descriptor = _take(path, lane) if len(held) < count else None
        if descriptor is not None:
            held[number] = descriptor
    return held


def _take(path: Path, lane: str) -> int | None:
    """The descriptor that holds a device; None when another holds it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "lane": lane, "run": str(Path.cwd())}).encode(), 0)
    os.set_inheritable(descriptor, True)
    return descriptor


def _open(path: Path) -> int:
    """Descriptor of the file, made for everybody when it is not there; only its maker may create it in a folder that all may write."""
    while True:
        try:
            return os.open(path, os.O_RDWR)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        os.fchmod(descriptor, 0o666)
        return descriptor


def _holder(path: Path) -> str:
    owner = _owner(path)
    return f"is held by {owner['host']} pid {owner['pid']}" if owner else "is held"


def _owner(path: Path) -> dict[str, Any]:
    """What the holder wrote of itself; nothing while it writes."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"host", "pid"} <= owner.keys() else {}
