"""STAR files: blocks of a table each, fast for a million rows and strict about damage.

Source: the STAR subset that RELION 3.1+ writes (loop_ tables, and name-value lists read as one-row tables).
"""

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError

MAX_COLUMNS = 500
_PLAIN = re.compile(r"""[^\s"'#_][^\s"]*""")
_VALUE = re.compile(r'"[^"]*"|\S+')
_TEXT_ENDINGS = ("Name", "Metadata", "Id", "Batch", "Code", "Reason", "Version", "Type", "Table")


def read_star(path: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """All data blocks of a STAR file, by block name without `data_`.

    Columns keep their labels without the underscore. A column is numeric when all its values are, unless its label says text.
    Raises InputError when the file is missing, cut short or has a row of another length.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a STAR file ({error})") from error
    blocks = {name: _parse_block(body, f"{path}: data_{name}") for name, body in _split_blocks(lines)}
    if not blocks:
        raise InputError(f"{path}: has no data_ block, so it is not a STAR file")
    return blocks


def write_star(path: str | os.PathLike, blocks: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as a loop_ block; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        for name, table in blocks.items():
            _write_block(stream, name, table)
    os.replace(partial, path)


def _split_blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [i for i, line in enumerate(lines) if line.startswith("data_") and len(line.split()) == 1]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        yield lines[start].strip()[5:], lines[start + 1 : end]


def _parse_block(body: list[str], where: str) -> pd.DataFrame:
    rows = [line for line in body if line.strip() and not line.lstrip().startswith("#")]
    if rows and rows[0].strip() == "loop_":
        return _parse_loop(rows[1:], where)
    return _parse_pairs(rows, where)


def _parse_loop(rows: list[str], where: str) -> pd.DataFrame:
    count = next((i for i, row in enumerate(rows) if not row.lstrip().startswith("_")), len(rows))
    labels = [row.split()[0][1:] for row in rows[:count]]
    if len(labels) > MAX_COLUMNS:
        raise InputError(f"{where}: has {len(labels)} columns, more than the {MAX_COLUMNS} allowed")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: has the column _{twice} twice")
    values = rows[count:]
    if not values:
        return pd.DataFrame({label: [] for label in labels})
    return _typed(_text_table(values, labels, where))


def _text_table(rows: list[str], labels: list[str], where: str) -> pd.DataFrame:
    _check_widths(rows, len(labels), where)
    return pd.read_csv(
        io.StringIO("\n".join(row.strip() for row in rows)),
        sep=r"\s+",
        header=None,
        names=labels,
        dtype=str,
        quotechar='"',
        keep_default_na=False,
        na_filter=False,
    )


def _check_widths(rows: list[str], count: int, where: str) -> None:
    for number, row in enumerate(rows, start=1):
        found = len(_VALUE.findall(row)) if '"' in row else len(row.split())
        if found != count or row.count('"') % 2:
            raise InputError(f"{where}: row {number} has {found} values, but the table has {count} columns")


def _parse_pairs(rows: list[str], where: str) -> pd.DataFrame:
    pairs = [[value.strip('"') for value in _VALUE.findall(row)] for row in rows]
    if any(len(pair) < 2 or not pair[0].startswith("_") for pair in pairs):
        raise InputError(f"{where}: expected a loop_ or lines of '_label value'")
    return _typed(pd.DataFrame({pair[0][1:]: [pair[1]] for pair in pairs}))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numeric = {label: _numbers(column) for label, column in table.items() if not str(label).endswith(_TEXT_ENDINGS)}
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
    columns = [_formatted(table[label]) for label in table.columns]
    stream.writelines(" ".join(row) + "\n" for row in zip(*columns, strict=True))
    stream.write("\n")


def _formatted(column: pd.Series) -> list[str]:
    values = column.to_numpy()
    if values.dtype == bool:
        return [f"{value:d}" for value in values]
    if np.issubdtype(values.dtype, np.integer):
        return [f"{value:12d}" for value in values]
    if np.issubdtype(values.dtype, np.floating):
        return [f"{value:14.6f}" if abs(value) >= 0.1 or value == 0 else f"{value:14.6e}" for value in values]
    return ['""' if absent else _quoted(str(value)) for value, absent in zip(values, column.isna(), strict=True)]


def _quoted(text: str) -> str:
    """The text as one value; STAR has no way to write a line break or a double quote, so they become a space and a single quote."""
    if _PLAIN.fullmatch(text) and not text.startswith(("data_", "loop_")):
        return text
    return '"' + text.replace('"', "'").replace("\r", " ").replace("\n", " ") + '"'
