"""Progress of a job: one JSON line per step in its log, and a bar on a terminal."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Progress:
    """Writes JSON lines to a file and shows a bar on stderr."""

    def __init__(self, path: Path, label: str):
        self._path, self._label, self._start = path, label, time.monotonic()

    @property
    def folder(self) -> Path:
        """Folder for what may be looked at while the job runs, named like its log; made when missing."""
        folder = self._path.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def note(self, **fields: Any) -> None:
        """Append one JSON line, stamped with the seconds since the start."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"seconds": round(time.monotonic() - self._start, 2), **fields}) + "\n")

    def over(self, items: Iterable[Item], step: str, total: int | None = None) -> Iterator[Item]:
        """Yield the items, noting each; step is what one of them is called."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        bar = tqdm(items, desc=f"{self._label} {step}", total=total, file=sys.stderr, mininterval=1.0, dynamic_ncols=True)
        for number, item in enumerate(bar, start=1):
            yield item
            self.note(step=step, done=number, of=total)
