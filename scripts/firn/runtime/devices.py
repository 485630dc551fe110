"""Which device a job computes on: a leased GPU of its lane, the one the scheduler gave, or the CPU."""

import fcntl
import os
import time
from pathlib import Path

import torch
import yaml

POLL_S = 0.2


def lease_device(lane: str, lanes_file: Path = Path("lanes.yaml")) -> torch.device:
    """Device for a job of the lane; holds a lease until the process ends, however it ends.

    Under Slurm the scheduler's CUDA_VISIBLE_DEVICES decides. Otherwise one device of the lane in lanes.yaml
    (`{lane: [0, 1]}`, re-read while waiting) is taken by an flock; without that file, every GPU belongs to every lane.
    """
    if lane == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if "SLURM_JOB_ID" in os.environ:
        return torch.device("cuda", 0)
    return torch.device("cuda", _wait_for_lease(lane, lanes_file))


def _wait_for_lease(lane: str, lanes_file: Path) -> int:
    folder = Path(f"/tmp/firn-leases-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        for number in _devices_of(lane, lanes_file):
            if _try_lock(folder / f"gpu{number}"):
                return number
        time.sleep(POLL_S)


def _devices_of(lane: str, lanes_file: Path) -> list[int]:
    if not lanes_file.exists():
        return list(range(torch.cuda.device_count()))
    return list(yaml.safe_load(lanes_file.read_text()).get(lane, []))


def _try_lock(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.set_inheritable(descriptor, True)
    return True
