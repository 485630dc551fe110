"""STAR files as pandas tables, fast for a million rows; the text is star_text's."""

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import brief
from firn.formats.names import ends_early
from firn.formats.star_text import NUMBERED, check_widths, holds_text, is_loop, read_bodies, split_loop, split_pairs, split_rows

_PLAIN = re.compile(r"""[^\s"'#_][^\s"]*""")
_RARE_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f"


def read_star(path: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """All data blocks of a STAR file, by block name without `data_`.

    Columns keep their labels without the underscore. A column is numeric when all its values are, unless its label says text.
    Raises InputError when the file is missing, cut short or has a row of another length.
    """
    return {name: _parse_block(body, f"{path}: data_{brief(name)}") for name, body in read_bodies(path).items()}


def write_star(path: str | os.PathLike, blocks: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as a loop_ block; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        for name, table in blocks.items():
            _write_block(stream, name, table)
    os.replace(partial, path)


def _parse_block(rows: list[str], where: str) -> pd.DataFrame:
    if not is_loop(rows):
        labels, values = split_pairs(rows, where)
        return _typed(pd.DataFrame({label: [value] for label, value in zip(labels, values, strict=True)}))
    labels, lines = split_loop(rows, where)
    return _typed(_text_table(lines, labels, where)) if lines else pd.DataFrame({label: [] for label in labels})


def _text_table(rows: list[str], labels: list[str], where: str) -> pd.DataFrame:
    text = "\n".join(rows)
    if "'" in text or '"' in text or not text.isascii() or any(blank in text for blank in _RARE_BLANKS):
        return pd.DataFrame(split_rows(rows, len(labels), where), columns=labels, dtype=str)
    check_widths([len(row.split()) for row in rows], len(labels), where)
    return pd.read_csv(io.StringIO(text), sep=r"\s+", header=None, names=labels, dtype=str, quoting=csv.QUOTE_NONE, na_filter=False)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numeric = {label: _numbers(column) for label, column in table.items() if not holds_text(str(label), column)}
    return table.assign(**{str(label): column for label, column in numeric.items() if column is not None})


def _numbers(column: pd.Series) -> pd.Series | None:
    numbers = pd.to_numeric(column, errors="coerce")
    spelled_nan = column.str.lower().isin(["nan", "-nan"])
    if bool((numbers.isna() & ~spelled_nan).any()):
        return None
    return numbers


def _write_block(stream: io.TextIOBase, name: str, table: pd.DataFrame) -> None:
    stream.write(f"\n# version 30001\n\ndata_{name}\n\nloop_\n")
    for number, label in enumerate(table.columns, start=1):
        stream.write(f"_{label} #{number}\n")
    columns = [_formatted(table[label], exact=not label.startswith(NUMBERED)) for label in table.columns]
    stream.writelines(" ".join(row) + "\n" for row in zip(*columns, strict=True))
    stream.write("\n")


def _formatted(column: pd.Series, exact: bool) -> list[str]:
    values = column.to_numpy()
    if values.dtype == bool:
        return [f"{value:d}" for value in values]
    if np.issubdtype(values.dtype, np.integer):
        return [f"{value:12d}" for value in values]
    if np.issubdtype(values.dtype, np.floating) and exact:
        return [repr(value) for value in values.tolist()]
    if np.issubdtype(values.dtype, np.floating):
        return [f"{value:14.6f}" if abs(value) >= 0.1 or value == 0 else f"{value:14.6e}" for value in values]
    return ['""' if absent else _quoted(str(value)) for value, absent in zip(values, column.isna(), strict=True)]


def _quoted(text: str) -> str:
    """The text as one value.

    STAR has no way to write a line break, nor both kinds of quotes before blanks: these become a blank, and single quotes.
    """
    if _PLAIN.fullmatch(text) and not text.startswith(("data_", "loop_")):
        return text
    text = text.replace("\r", " ").replace("\n", " ")
    mark = next((mark for mark in "\"'" if not ends_early(text, mark)), None)
    return f"{mark}{text}{mark}" if mark else '"' + text.replace('"', "'") + '"'
