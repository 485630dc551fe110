"""What the jobs of a batch left, each table and small picture read once however many look at it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from PIL import Image

from firn.formats.tables import read_table
from firn.live import layout


class BatchTables:
    """Tables in the folders of a batch, those of its jobs in order; who reads them does not change them."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = list(folders)
        self._tables: dict[Path, pd.DataFrame] = {}
        self._pictures: dict[str, Image.Image | None] = {}

    @classmethod
    def of(cls, jobs: Iterable[str], batch: str) -> "BatchTables":
        """Those of the results of jobs."""
        return cls(layout.result_file(job, batch).parent for job in jobs)

    def read(self, folder: Path, kind: str) -> pd.DataFrame | None:
        """A table of a kind in a folder; None where there is none."""
        path = folder / f"{kind}.star"
        if path not in self._tables and path.exists():
            self._tables[path] = read_table(path, kind)
        return self._tables.get(path)

    def by_exposure(self, kind: str) -> dict[str, pd.DataFrame]:
        """Rows of each exposure from the last of the jobs that tells of it."""
        found: dict[str, pd.DataFrame] = {}
        for folder in self.folders:
            table = self.read(folder, kind)
            if table is not None and "exposure_id" in table.columns:
                found |= {str(name): rows for name, rows in table.groupby("exposure_id", sort=False)}
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
