"""The ranks of one job on one machine: a process for each device but the first, and sums that travel over the loopback interface.

The job's own process is rank 0. It starts the others with what it was started with, sees at once when one fails, and ends them when it
ends; when it is killed, a pipe that only it holds open breaks, and they end. Sums go through the host (gloo), whatever the devices are.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from firn.errors import InputError, MachineError
from firn.refine.ranks import ALONE, Ranks, Told

NEVER = timedelta(days=365)
"""How long ranks wait for each other; whether all are still there is asked all the time."""
POLL_S, LONGEST_POLL_S = 0.0005, 0.02
LAST_WORDS_S = 10.0
"""How long a rank that has gone may take to end."""
PIECE = 2**24
"""Numbers of a tensor that travel at a time."""


@dataclass(frozen=True)
class Task:
    """What a job was started with, for its other ranks; threads: of each."""

    module: str
    settings: dict[str, Any]
    inputs: dict[str, list[str]]
    home: str
    name: str
    batch: str | None
    threads: int


class RankError(RuntimeError):
    """Another rank failed, and not by a fault of the user's or the machine's."""


class _Joining(threading.Thread):
    """A call that may wait for ever, beside the thread that looks whether it still should."""

    def __init__(self, call: Callable[[], None]):
        super().__init__(daemon=True)
        self._call = call
        self.fault: Exception | None = None

    def run(self) -> None:
        """As Thread.run."""
        try:
            self._call()
        except Exception as fault:
            self.fault = fault


class Connected(Ranks):
    """One of several ranks that have found each other in a folder."""

    def __init__(self, folder: Path, rank: int, size: int, alive: Callable[[], None]):
        self.rank, self.size, self._alive = rank, size, alive
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = dist.FileStore(str(folder / "store"), size)
        joining = _Joining(partial(dist.init_process_group, "gloo", store=store, rank=rank, world_size=size, timeout=NEVER))
        joining.start()
        while joining.is_alive():
            alive()
            joining.join(LONGEST_POLL_S)
        if joining.fault is not None:
            raise joining.fault

    def tell(self, told: Told | None = None) -> Told | None:
        """As Ranks.tell."""
        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(told, buffer)
        size = torch.tensor([buffer.tell()])
        self._broadcast_(size)
        content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8) if self.rank == 0 else torch.empty(int(size), dtype=torch.uint8)
        self._broadcast_(content)
        if self.rank == 0:
            return told
        heard: Told | None = torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)
        return heard

    def add_(self, *totals_: Tensor) -> None:
        """As Ranks.add_."""
        for total_ in totals_:
            flat_ = (torch.view_as_real(total_) if total_.is_complex() else total_).view(-1)
            for piece_ in flat_.split(PIECE):
                host = piece_.cpu()
                self._finish(dist.reduce(host, 0, async_op=True))
                if host is not piece_ and self.rank == 0:
                    piece_.copy_(host)

    def check(self) -> None:
        """As Ranks.check."""
        self._alive()

    def _broadcast_(self, values_: Tensor) -> None:
        for piece_ in values_.split(PIECE):
            self._finish(dist.broadcast(piece_, 0, async_op=True))

    def _finish(self, work: dist.Work) -> None:
        """Wait for the others; raises what one of them failed with."""
        pause = POLL_S
        while not work.is_completed():
            self._alive()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_S)
        try:
            work.wait()
        except RuntimeError:
            for _ in range(int(LAST_WORDS_S / LONGEST_POLL_S)):
                self._alive()
                time.sleep(LONGEST_POLL_S)
            raise


@contextmanager
def joined_ranks(task: Task, devices: Sequence[torch.device]) -> Iterator[Ranks]:
    """The ranks of a job as rank 0 sees them, one for each device; whatever happens in the block, the others end with it."""
    if len(devices) == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="firn_ranks_") as name:
        folder = Path(name)
        others = [_start(folder, rank, task, devices) for rank in range(1, len(devices))]
        try:
            yield Connected(folder, 0, len(devices), partial(_see, folder, others))
        finally:
            for other in others:
                other.kill()
                other.communicate()
            if dist.is_initialized():
                dist.destroy_process_group()


def _start(folder: Path, rank: int, task: Task, devices: Sequence[torch.device]) -> subprocess.Popen[bytes]:
    """Start a rank. It inherits the leases of devices, and holds them as long as it computes."""
    described = asdict(task) | {"rank": rank, "size": len(devices), "device": str(devices[rank])}
    path = folder / f"rank_{rank}.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    return subprocess.Popen([sys.executable, "-m", "firn.runtime.rank", str(path)], stdin=subprocess.PIPE, env=environment, close_fds=False)


def _see(folder: Path, others: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Raise what a rank that has ended failed with."""
    for rank, other in enumerate(others, start=1):
        code = other.poll()
        if code:
            raise _failure(folder / f"fault_{rank}.json", f"rank {rank} of {len(others) + 1}", code)


def _failure(path: Path, who: str, code: int) -> Exception:
    if not path.exists():
        how = f"was ended by signal {-code}, as when memory runs out" if code < 0 else f"ended with code {code}"
        return MachineError(f"{who} {how}; see the job's log, and run it again")
    fault = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"InputError": InputError, "MachineError": MachineError}
    return kinds.get(fault["kind"], RankError)(fault["text"] if fault["kind"] in kinds else f"{who} failed:\n{fault['text']}")
