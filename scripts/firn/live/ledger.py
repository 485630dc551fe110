"""What became of every file of one import: waiting, refused, ready, taken into a batch, done.

The ledger is remembered between ticks in `state.json`; the small files of batches, refusals and outcomes hold the truth, and what the ledger
does not know of them is read again. So a ledger that another version remembered otherwise is made anew from them.
"""

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from firn.errors import ExposureError
from firn.formats.ids import exposure_id
from firn.live import layout
from firn.live.watch import Seen
from firn.runtime.atomic import write_json

REFUSAL = {"code": "UNREADABLE", "reason": "", "size": -1, "modified": 0.0, "time": 0.0, "found": 0.0}
"""What is kept of a refused file, and what is taken where a file of another version lacks it: it is looked at again."""


@dataclass
class Ledger:
    """By path: files under watch, refused ones (code, reason, bytes, time of the file, when), ready and taken ones (found, complete).

    shapes: how many movies have a shape; opened: tries of each open batch; tallies: what came of each batch that is done.
    """

    root: str
    waiting: dict[str, Seen] = field(default_factory=dict)
    refused: dict[str, list[Any]] = field(default_factory=dict)
    ready: dict[str, list[Any]] = field(default_factory=dict)
    taken: dict[str, list[Any]] = field(default_factory=dict)
    batches: int = 0
    shapes: dict[str, int] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def restore(cls, root: str, content: dict[str, Any] | None) -> "Ledger":
        """A ledger as it was remembered, made complete by the small files; of another version's memory nothing is taken."""
        ledger = cls(root)
        if content and _is_of_this_version(content, vars(ledger)):
            ledger = cls(**{**content, "root": root, "waiting": {path: Seen(**seen) for path, seen in content["waiting"].items()}})
        ledger._read_batches()
        ledger._read_refused()
        return ledger

    def remembered(self) -> dict[str, Any]:
        """As a JSON value."""
        return vars(self) | {"waiting": {path: vars(seen) for path, seen in self.waiting.items()}}

    @property
    def known(self) -> set[str]:
        """Files that need no look any more."""
        return self.taken.keys() | self.ready.keys() | self.refused.keys()

    def accept(self, path: str, shape: str, now: float) -> None:
        """A file under watch is complete."""
        self.ready[path] = [self.waiting.pop(path).found, now, shape]
        self.shapes[shape] = self.shapes.get(shape, 0) + 1

    def refuse(self, path: str, fault: ExposureError, now: float) -> None:
        """A file under watch is no sound movie."""
        seen = self.waiting.pop(path)
        self.refused[path] = [fault.code, str(fault), seen.size, seen.modified, now, seen.found]
        record = dict(zip(REFUSAL, self.refused[path], strict=True))
        write_json(layout.refused_file(self.root, exposure_id(path)), {"path": path, **record})

    def look_again(self, path: str) -> None:
        """A refused file changed: forget the refusal."""
        del self.refused[path]
        layout.refused_file(self.root, exposure_id(path)).unlink(missing_ok=True)

    def cut(self, batch: str, paths: list[str], now: float) -> None:
        """Put ready files into a batch."""
        files = [dict(zip(("path", "found", "complete", "shape"), [path, *self.ready[path]], strict=True)) for path in paths]
        write_json(layout.batch_file(self.root, batch), {"import": self.root, "batch": batch, "cut": now, "files": files})
        for path in paths:
            self.taken[path] = [*self.ready.pop(path)[:2], batch]
        self.opened[batch] = 0
        self.batches += 1

    def close(self, now: float) -> None:
        """Leave the batch that tells of the refused files."""
        refused = [{"path": path, "code": entry[0], "reason": entry[1]} for path, entry in sorted(self.refused.items())]
        if refused:
            name = layout.REFUSED_BATCH
            content = {"import": self.root, "batch": name, "cut": now, "files": [], "refused": refused}
            write_json(layout.batch_file(self.root, name), content)

    def files_of(self, batch: str) -> list[str]:
        """Files of a batch."""
        return [path for path, entry in self.taken.items() if entry[2] == batch]

    def _read_batches(self) -> None:
        names = layout.batch_ids(self.root)
        if len(names) == self.batches:
            return
        known = {entry[2] for entry in self.taken.values()}
        for batch in (name for name in names if name not in known):
            for file in layout.read_json(layout.batch_file(self.root, batch), {"files": []})["files"]:
                self.taken[file["path"]] = [file.get("found", 0.0), file.get("complete", 0.0), batch]
                self.ready.pop(file["path"], None)
                self.shapes = dict(Counter(self.shapes) + Counter([file["shape"]] if "shape" in file else []))
            self.opened[batch] = _last_try(self.root, batch)
        self.batches = len(names)

    def _read_refused(self) -> None:
        listed = list((layout.LIVE / "refused" / self.root).glob("*.json"))
        if len(listed) == len(self.refused):
            return
        self.refused = {}
        for path in listed:
            record = layout.read_json(path, None)
            if record is not None:
                self.refused[record["path"]] = [record.get(name, otherwise) for name, otherwise in REFUSAL.items()]


def _is_of_this_version(content: dict[str, Any] | None, empty: dict[str, Any]) -> bool:
    """Whether what is remembered of a ledger has the keys and kinds of an empty one, and entries as long as they are now."""
    kinds = {name: type(value) for name, value in empty.items()}
    if not isinstance(content, dict) or {name: type(value) for name, value in content.items()} != kinds:
        return False
    widths = {"waiting": len(fields(Seen)), "refused": len(REFUSAL), "ready": 3, "taken": 3}
    return all(isinstance(entry, list | dict) and len(entry) == width for name, width in widths.items() for entry in content[name].values())


def _last_try(root: str, batch: str) -> int:
    """Number of the try of a batch that is under way, from what earlier ones left."""
    folders = (layout.LIVE / "tries" / root / batch, layout.LIVE / "failures" / "tries" / root / batch)
    numbers = [int(path.stem) for folder in folders for path in Path(folder).glob("[0-9]*.json")]
    return max(numbers, default=0)
