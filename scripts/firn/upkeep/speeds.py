"""How fast a machine does what sessions ask of it: products of matrices, Fourier transforms, memory, disk; kept, and compared with before.

Convention: every number is a speed, the best of a few repeats, larger is better. Runs are lines of a JSON file; only runs of the same machine
(host, processors, devices) are compared, by the median of the earlier ones.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from firn.kernels.fourier import rfft2, rfft3
from firn.runtime.provenance import versions
from firn.upkeep.disk import measure_disk

REPEATS = 3
SHORTEST_S = 0.2
SLOWER = 0.8
"""A speed below this part of what it was is pointed out."""
SIZES = {"cpu": (1024, 1024, 96), "cuda": (8192, 4096, 256)}
"""Side of matrices, images and volumes by kind of device."""


@dataclass(frozen=True)
class Comparison:
    """A speed now, its unit, and the median of earlier runs of the same machine, None where there are none."""

    name: str
    now: float
    unit: str
    before: float | None

    @property
    def slower(self) -> bool:
        """Whether it is clearly slower than it was."""
        return self.before is not None and self.now < SLOWER * self.before


def measure_machine(folder: Path, megabytes: int = 256) -> dict[str, Any]:
    """A run: when, where, with what, and speeds as {name: [value, unit]}; folder: where the disk is measured."""
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    speeds: dict[str, tuple[float, str]] = {}
    for device in [torch.device("cpu"), *devices]:
        speeds |= {f"{device}: {name}": told for name, told in measure_device(device).items()}
    disk = measure_disk(folder, megabytes)
    speeds |= {f"disk: {name}": (getattr(disk, name), "MB/s") for name in ("write", "read", "random")}
    machine = {"host": platform.node(), "processors": os.cpu_count(), "devices": [torch.cuda.get_device_name(device) for device in devices]}
    return {
        "time": time.time(),
        "machine": machine,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "folder": str(folder.resolve()),
        "speeds": speeds,
    }


def measure_device(device: torch.device) -> dict[str, tuple[float, str]]:
    """Speeds of a device: (value, unit) by name."""
    matrix, image, volume = SIZES[device.type]
    chance = torch.Generator().manual_seed(1)
    square = torch.rand(matrix, matrix, generator=chance).to(device)
    picture = torch.rand(image, image, generator=chance).to(device)
    cube = torch.rand(volume, volume, volume, generator=chance).to(device)
    work = 2 * matrix**3
    speeds = {
        "matrix product": (work / _seconds(lambda: square @ square, device) / 1e9, "GFLOP/s"),
        "2D transform": (image**2 / _seconds(lambda: rfft2(picture), device) / 1e6, "Mpx/s"),
        "3D transform": (volume**3 / _seconds(lambda: rfft3(cube), device) / 1e6, "Mvoxel/s"),
        "memory": (2 * cube.nbytes / _seconds(cube.clone, device) / 1e9, "GB/s"),
    }
    if device.type == "cuda":
        half, host = square.half(), torch.rand(64 * 2**20, generator=chance).pin_memory()
        speeds["matrix product, half precision"] = (work / _seconds(lambda: half @ half, device) / 1e9, "GFLOP/s")
        speeds["copy to the device"] = (host.nbytes / _seconds(lambda: host.to(device, non_blocking=True), device) / 1e9, "GB/s")
    return {name: (float(f"{value:.4g}"), unit) for name, (value, unit) in speeds.items()}


def keep(run: dict[str, Any], store: Path) -> list[Comparison]:
    """Compare a run with the earlier ones of its machine, and add it to them."""
    earlier = [each for each in read_runs(store) if each["machine"] == run["machine"]]
    compared = []
    for name, (value, unit) in run["speeds"].items():
        before = [
            each["speeds"][name][0]
            for each in earlier
            if name in each["speeds"] and (not name.startswith("disk") or each["folder"] == run["folder"])
        ]
        compared.append(Comparison(name, value, unit, statistics.median(before) if before else None))
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(run) + "\n")
    return compared


def read_runs(store: Path) -> list[dict[str, Any]]:
    """Runs that were kept; a line that was cut short is passed over."""
    if not store.exists():
        return []
    return [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines() if line.startswith("{") and line.endswith("}")]


def comparison_table(compared: list[Comparison]) -> str:
    """Lines of text: each speed, what it was, and those that are clearly slower marked."""
    lines = []
    for each in compared:
        before = "first run" if each.before is None else f"{each.now / each.before:.2f} of {each.before:g}"
        lines.append(f"{each.name:<45} {each.now:>10g} {each.unit:<9} {before}{'  SLOWER' if each.slower else ''}")
    return "\n".join(lines)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one turn, the best of a few repeats of at least SHORTEST_S after one to warm up."""
    turns, best = 1, float("inf")
    _timed(work, 1, device)
    for _ in range(REPEATS):
        while (taken := _timed(work, turns, device)) < SHORTEST_S and turns < 10**6:
            turns = max(turns + 1, int(turns * 1.2 * SHORTEST_S / max(taken, 1e-6)))
        best = min(best, taken / turns)
    return best


def _timed(work: Callable[[], object], turns: int, device: torch.device) -> float:
    _finish(device)
    start = time.perf_counter()
    for _ in range(turns):
        work()
    _finish(device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
