"""What the jobs of a batch left, each table and small picture read once however many look at it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from firn.formats.star_rows import read_rows
from firn.live import layout

Rows = list[dict[str, Any]]


class BatchTables:
    """Tables in the folders of a batch, those of its jobs in order; who reads them does not change them."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = list(folders)
        self._tables: dict[Path, Rows] = {}
        self._pictures: dict[str, Image.Image | None] = {}

    @classmethod
    def of(cls, jobs: Iterable[str], batch: str) -> "BatchTables":
        """Those of the results of jobs."""
        return cls(layout.result_file(job, batch).parent for job in jobs)

    def read(self, folder: Path, kind: str) -> Rows | None:
        """Rows of a table of a kind in a folder; None where there is no table."""
        path = folder / f"{kind}.star"
        if path not in self._tables and path.exists():
            self._tables[path] = read_rows(path, kind)
        return self._tables.get(path)

    def by_exposure(self, kind: str) -> dict[str, Rows]:
        """Rows of each exposure from the last of the jobs that tells of it."""
        found: dict[str, Rows] = {}
        for folder in self.folders:
            own: dict[str, Rows] = {}
            for row in self.read(folder, kind) or []:
                if "exposure_id" in row:
                    own.setdefault(str(row["exposure_id"]), []).append(row)
            found |= own
        return found

    def picture(self, path: str) -> Image.Image | None:
        """A small picture in grey as it lies in its file; None where there is none to read."""
        if path not in self._pictures:
            try:
                with Image.open(path) as picture:
                    self._pictures[path] = picture.convert("L")
            except OSError:
                self._pictures[path] = None
        return self._pictures[path]
