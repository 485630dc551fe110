"""The process of one rank of a job, other than rank 0: `python -m firn.runtime.rank rank_1.json`.

It runs the job's own function, which ends when rank 0 has no more for it to do. It writes nothing but what it failed with.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import torch

from firn.errors import InputError, MachineError
from firn.runtime.cache import cached_reading
from firn.runtime.checkpoint import Checkpoint
from firn.runtime.devices import saying_out_of_memory
from firn.runtime.job import Job
from firn.runtime.memory import keep_freed_memory
from firn.runtime.params import validated
from firn.runtime.progress import Progress
from firn.runtime.ranks import Connected


def serve(path: Path) -> None:
    """Be the rank that a file describes, to the end of the job."""
    task, folder = json.loads(path.read_text(encoding="utf-8")), path.parent
    _end_with_rank_0(folder)
    try:
        _run(task, folder)
    except Exception as error:
        kind = next((kind.__name__ for kind in (MachineError, InputError) if isinstance(error, kind)), "")
        fault = {"kind": kind, "text": str(error) if kind else traceback.format_exc()}
        partial = folder / f"fault_{task['rank']}.tmp"
        partial.write_text(json.dumps(fault), encoding="utf-8")
        partial.replace(folder / f"fault_{task['rank']}.json")
        os._exit(1)


def _run(task: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(task["threads"])
    keep_freed_memory()
    device = torch.device(task["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    module = importlib.import_module(task["module"])
    with cached_reading(module.Params, task["inputs"], _unsaid):
        ranks = Connected(folder, task["rank"], task["size"], _unasked)
        job = Job(
            name=task["name"],
            params=validated(module.Params, task["settings"]),
            inputs={slot: [Path(path) for path in paths] for slot, paths in task["inputs"].items()},
            folder=folder,
            home=Path(task["home"]),
            seed=int(task["settings"].get("seed", 0)),
            device=device,
            progress=Progress(folder / f"rank_{task['rank']}.jsonl", task["name"]),
            checkpoint=Checkpoint(folder / "state", None),
            ranks=ranks,
            batch=task["batch"],
            threads=task["threads"],
        )
        with torch.inference_mode(), saying_out_of_memory(device):
            module.run(job)
            raise RuntimeError(f"{task['module']} does not share its work among ranks")


def _end_with_rank_0(folder: Path) -> None:
    """End this process as soon as the pipe that rank 0 holds is closed, which the kernel does however it ends; Ctrl-C is for rank 0 alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _unsaid(sentence: str) -> None:
    """Rank 0 says it."""


def _unasked() -> None:
    """Rank 0 ends this process when another fails."""


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
