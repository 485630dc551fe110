"""Tables of plain numbers, as programs write them into text files: rows of equal length, comments behind #."""

import os
from pathlib import Path

import numpy as np

from firn.formats.compressed import no_damage


def read_number_rows(path: str | os.PathLike, what: str, least: int) -> np.ndarray:
    """Rows `(n, columns)` of a text file, without comments and empty lines; `(0, least)` when there are none.

    what: what the file should hold, for messages; least: columns that there must be. Raises InputError when it holds something else.
    """
    with no_damage(path, what):
        lines = (line.partition("#")[0].split() for line in Path(path).read_text(encoding="utf-8").splitlines())
        rows = [[float(word) for word in words] for words in lines if words]
        table = np.array(rows, dtype=np.float64) if rows else np.empty((0, least))
        if table.shape[1] < least:
            raise ValueError(f"its rows have {table.shape[1]} numbers, not {least}")
        return table
