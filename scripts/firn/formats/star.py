"""STAR files: blocks of a table each, fast for a million rows and strict about damage.

Blanks and tabs separate values; a value with one of them stands in double quotes, or in single ones where it holds a double one. A quote
inside a value ends it only before a blank, as in CIF.
Source: the STAR subset that RELION 3.1+ writes (loop_ tables, and name-value lists read as one-row tables).
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError, brief
from firn.formats.names import ends_early

MAX_COLUMNS = 500
MAX_BLOCKS = 10_000
_PLAIN = re.compile(r"""[^\s"'#_][^\s"]*""")
_VALUE = re.compile(r""""(?:[^"]|"(?![ \t]|$))*"(?![^ \t])|'(?:[^']|'(?![ \t]|$))*'(?![^ \t])|[^ \t]+""")
_RARE_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f"
_TEXT_ENDINGS = ("Name", "Metadata", "Id", "Batch", "Code", "Reason", "Version", "Type", "Table")


def read_star(path: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """All data blocks of a STAR file, by block name without `data_`.

    Columns keep their labels without the underscore. A column is numeric when all its values are, unless its label says text.
    Raises InputError when the file is missing, cut short or has a row of another length.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a STAR file ({brief(error)})") from error
    if "\0" in text:
        raise InputError(f"{path}: holds zero bytes, so it is no STAR file or was not written to its end")
    lines = text.split("\n")
    bodies = dict(_split_blocks(lines))
    if len(bodies) > MAX_BLOCKS:
        raise InputError(f"{path}: has {len(bodies)} blocks, more than the {MAX_BLOCKS} allowed")
    blocks = {name: _parse_block(body, f"{path}: data_{brief(name)}") for name, body in bodies.items()}
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
    _check_count(len(labels), where)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: has the column _{brief(twice)} twice")
    values = rows[count:]
    if not values:
        return pd.DataFrame({label: [] for label in labels})
    return _typed(_text_table(values, labels, where))


def _check_count(columns: int, where: str) -> None:
    if columns > MAX_COLUMNS:
        raise InputError(f"{where}: has {columns} columns, more than the {MAX_COLUMNS} allowed")


def _text_table(rows: list[str], labels: list[str], where: str) -> pd.DataFrame:
    rows = [row.strip(" \t") for row in rows]
    text = "\n".join(rows)
    if "'" in text or '"' in text or not text.isascii() or any(blank in text for blank in _RARE_BLANKS):
        values = [_split_quoted(row, number, where) for number, row in enumerate(rows, start=1)]
        _check_widths([len(row) for row in values], len(labels), where)
        return pd.DataFrame(values, columns=labels, dtype=str)
    _check_widths([len(row.split()) for row in rows], len(labels), where)
    return pd.read_csv(io.StringIO(text), sep=r"\s+", header=None, names=labels, dtype=str, quoting=csv.QUOTE_NONE, na_filter=False)


def _check_widths(found: list[int], count: int, where: str) -> None:
    wrong = next((number for number, width in enumerate(found, start=1) if width != count), None)
    if wrong is not None:
        raise InputError(f"{where}: row {wrong} has {found[wrong - 1]} values, but the table has {count} columns")


def _split_quoted(row: str, number: int, where: str) -> list[str]:
    """Values of a row without their quotes."""
    values = _VALUE.findall(row)
    for index, value in enumerate(values):
        if value[0] in "\"'":
            if len(value) < 2 or value[-1] != value[0]:
                raise InputError(f"{where}: row {number} has a quote that is not closed")
            values[index] = value[1:-1]
    return values


def _parse_pairs(rows: list[str], where: str) -> pd.DataFrame:
    _check_count(len(rows), where)
    pairs = [_split_quoted(row.strip(" \t"), number, where) for number, row in enumerate(rows, start=1)]
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
    """The text as one value.

    STAR has no way to write a line break, nor both kinds of quotes before blanks: these become a blank, and single quotes.
    """
    if _PLAIN.fullmatch(text) and not text.startswith(("data_", "loop_")):
        return text
    text = text.replace("\r", " ").replace("\n", " ")
    mark = next((mark for mark in "\"'" if not ends_early(text, mark)), None)
    return f"{mark}{text}{mark}" if mark else '"' + text.replace('"', "'") + '"'
