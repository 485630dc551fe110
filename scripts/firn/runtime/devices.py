"""Which device a job computes on: a leased GPU of its lane, one that the scheduler gave, or the CPU; and what is said when it is too small."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from firn.errors import InputError, MachineError
from firn.formats.tables import read_table
from firn.runtime.cache_copy import Say
from firn.runtime.leases import LEASES, lease, visible_devices

GIB = 2**30
PLAIN_MOVIE_GB, LARGE_MOVIE_GB = 8, 11
"""For movies of up to 4096 x 4096 pixels (K2, Falcon 3), and for larger ones (K2 super-resolution, K3) and EER (Falcon 4)."""
PLAIN_MOVIE_PX = 4096**2
CPU_REFUSAL = re.compile(r"DefaultCPUAllocator.*?(\d+) bytes", re.DOTALL)


def lease_devices(lane: str, count: int = 1, lanes_file: Path = Path("lanes.yaml")) -> list[torch.device]:
    """Devices for a job of the lane; holds leases until the process ends, however it ends. Without a GPU, `count` times the CPU.

    The devices are those of the lane in lanes.yaml; under Slurm, those that the scheduler gave to this allocation.
    Raises InputError when this machine, or the allocation, has fewer.
    """
    if lane == "cpu" or not torch.cuda.is_available():
        return [torch.device("cpu")] * count
    say, allocation = logging.getLogger("firn").info, os.environ.get("SLURM_JOB_ID")
    visible = visible_devices(os.environ, torch.cuda.device_count())
    if count > len(visible):
        whose = "this machine has" if allocation is None else f"Slurm's job {allocation} was given"
        raise InputError(
            f"devices: the job wants {count} GPUs, but {whose} {len(visible)}; want fewer, or give it more (profiles/README.md)"
        )
    folder = LEASES if allocation is None else LEASES / allocation
    _for_everybody(LEASES)
    numbers = lease(lane, lanes_file if allocation is None else None, visible, folder, say, count)
    return [torch.device("cuda", number) for number in numbers]


def _for_everybody(folder: Path) -> None:
    """Make the folder such that every user of the machine may lease; a device knows no users."""
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)


@contextmanager
def saying_out_of_memory(device: torch.device) -> Iterator[None]:
    """Turn a lack of memory in the block into a MachineError of one sentence: what was wanted, what there was, what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        sentence = _out_of_memory(error, device)
        if sentence is None:
            raise
        raise MachineError(sentence) from error


def _out_of_memory(error: BaseException, device: torch.device) -> str | None:
    refused = CPU_REFUSAL.search(str(error))
    if isinstance(error, torch.OutOfMemoryError):
        free, total = torch.cuda.mem_get_info(device) if torch.cuda.is_available() else (0, 0)
        wanted = re.search(r"allocate ([\d.]+ \w+)", str(error))
        more = f"{wanted.group(1)} more were wanted of {device}" if wanted else f"more was wanted of {device}"
        amounts = f"{more}, which has {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        return f"out of memory: {amounts}; use a GPU with more, keep others off it, or make the images smaller"
    if isinstance(error, MemoryError) or refused:
        detail = f"{int(refused.group(1)) / GIB:.1f} GiB more were wanted" if refused else str(error) or "the machine gave no more"
        return f"out of memory: {detail}; give the job more (mem_mb on a cluster), run fewer at once, or make the images smaller"
    return None


def check_memory(gpu_gb: int | None, inputs: Mapping[str, Sequence[str]], device: torch.device, warn: Say) -> None:
    """Warn when the GPU has less memory than jobs of the type (JobParams.gpu_gb), on movies of this camera, should have."""
    if device.type != "cuda":
        return
    floor, why = (gpu_gb, "jobs of this type") if gpu_gb is not None else movie_floor(inputs)
    total = torch.cuda.get_device_properties(device).total_memory
    if total < floor * 1e9:
        warn(f"{device} has {total / 1e9:.1f} GB; {floor} GB or more should be there for {why}")


def movie_floor(inputs: Mapping[str, Sequence[str]]) -> tuple[int, str]:
    """(GB of GPU memory that a job on movies should have, 0 when nothing is known of them; what for)."""
    for folder in (folder for slot in ("exposures", "movies") for folder in inputs.get(slot, ())):
        path = Path(folder) / "exposures.star"
        table = read_table(path, "exposures") if path.exists() else None
        if table is not None and len(table) and {"movie", "width_px", "height_px"} <= set(table.columns):
            return _camera_floor(str(table["movie"].iloc[0]), int(table["width_px"].iloc[0]), int(table["height_px"].iloc[0]))
    return 0, "movies"


def _camera_floor(movie: str, width: int, height: int) -> tuple[int, str]:
    if movie.lower().endswith(".eer"):
        return LARGE_MOVIE_GB, "EER movies"
    return (LARGE_MOVIE_GB if width * height > PLAIN_MOVIE_PX else PLAIN_MOVIE_GB), f"movies of {width} x {height} pixels"
