"""The job as its run function sees it: parameters, inputs, a folder to write in, chance, progress, metrics, figures."""

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from firn.errors import InputError
from firn.refine.ranks import ALONE, Ranks
from firn.runtime.checkpoint import Checkpoint
from firn.runtime.params import JobParams
from firn.runtime.progress import Progress

P = TypeVar("P", bound=JobParams)
Item = TypeVar("Item")


@dataclass
class Job(Generic[P]):
    """One run of a job type. `folder` is where outputs are written; `home` is where they will lie, relative to the run folder.

    devices: all that the job has leased, of which `device` is the first.
    """

    name: str
    params: P
    inputs: dict[str, list[Path]]
    folder: Path
    home: Path
    seed: int
    device: torch.device
    progress: Progress
    checkpoint: Checkpoint
    ranks: Ranks = ALONE
    devices: tuple[torch.device, ...] = ()
    batch: str | None = None
    threads: int = 1
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)

    def input(self, slot: str, file: str = "") -> Path:
        """Folder (or a file in it) of the one input in a slot.

        Raises InputError when the slot is empty.
        """
        if not self.inputs.get(slot):
            raise InputError(f"job {self.name}: slot {slot} is empty")
        return self.inputs[slot][0] / file if file else self.inputs[slot][0]

    def has(self, slot: str) -> bool:
        """Whether a slot is filled."""
        return bool(self.inputs.get(slot))

    def output_path(self, file: str) -> str:
        """Path under which a file written to `folder / file` will be found, relative to the run folder; for tables."""
        return str(self.home / file)

    def staged_path(self, path: str) -> str:
        """Where a file lies now that will be found under a path: the inverse of output_path; other paths as they are."""
        inside = f"{self.home}/"
        return str(self.folder / path.removeprefix(inside)) if path.startswith(inside) else path

    def derived_seed(self, purpose: str = "") -> int:
        """A 63-bit seed fixed by the session's seed, the job, its batch and a purpose."""
        return _hashed(f"{self.seed}/{self.name}/{self.batch}/{purpose}")

    def generator(self, purpose: str = "") -> torch.Generator:
        """A seeded torch generator on the CPU, so that every device type draws the same numbers."""
        return torch.Generator().manual_seed(self.derived_seed(purpose))

    def session_generator(self, purpose: str) -> torch.Generator:
        """A generator that is the same in all jobs of a session, so that what they measure of the same data is the same."""
        return torch.Generator().manual_seed(_hashed(f"{self.seed}/{purpose}"))

    def numpy_generator(self, purpose: str = "") -> np.random.Generator:
        """A seeded numpy generator."""
        return np.random.default_rng(self.derived_seed(purpose))

    def over(self, items: Iterable[Item], step: str, total: int | None = None) -> Iterator[Item]:
        """Yield the items with progress in the log and a bar on a terminal; ranks other than 0 tell nothing."""
        for item in items if self.ranks.rank else self.progress.over(items, step, total):
            self.ranks.check()
            yield item

    def metric(self, name: str, value: float, unit: str = "") -> None:
        """Record a number for job.json and the report; one that is not finite is recorded as null."""
        number = float(value)
        self.metrics[name] = {"value": number if math.isfinite(number) else None, "unit": unit}

    def figure(self, name: str, title: str, caption: str) -> Path:
        """Register a PNG figure and return the path to draw it to."""
        path = self.folder / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figures.append({"file": f"figures/{name}.png", "title": title, "caption": caption})
        return path

    def watch(self, name: str) -> Path:
        """Path of a picture of the work under way, beside the log, where it stays."""
        return self.progress.folder / f"{name}.png"

    def warn(self, sentence: str) -> None:
        """Record something the user should know, in the log and in job.json."""
        warn_into(self.warnings, sentence)


def warn_into(warnings: list[str], sentence: str) -> None:
    """Add a sentence to what a job's record will tell, and to its log."""
    logging.getLogger("firn").warning(sentence)
    warnings.append(sentence)


def _hashed(text: str) -> int:
    """63 bits that follow from a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
