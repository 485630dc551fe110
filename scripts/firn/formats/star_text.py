"""The text of STAR files: blocks, labels and values, strict about damage.

Blanks and tabs separate values; a value with one of them stands in double quotes, or in single ones where it holds a double one. A quote
inside a value ends it only before a blank, as in CIF.
Source: the STAR subset that RELION 3.1+ writes (loop_ tables, and name-value lists read as one-row tables).
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from firn.errors import InputError, brief

MAX_COLUMNS = 500
MAX_BLOCKS = 10_000
TEXT_ENDINGS = ("Name", "Metadata", "Id", "Batch", "Code", "Reason", "Version", "Type", "Table")
"""Ends of the labels of columns that hold text, whatever stands in them."""
NUMBERED = ("rln", "firn")
"""Begins of the labels of columns whose numbers have the form that is written; those of other programs keep theirs."""
_PADDED = re.compile(r"[+-]?0\d+")
_VALUE = re.compile(r""""(?:[^"]|"(?![ \t]|$))*"(?![^ \t])|'(?:[^']|'(?![ \t]|$))*'(?![^ \t])|[^ \t]+""")


def read_bodies(path: str | os.PathLike) -> dict[str, list[str]]:
    """Lines of each data block that are neither empty nor remarks, by block name without `data_`.

    Raises InputError when the file is missing, holds zero bytes, or has no block or too many.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a STAR file ({brief(error)})") from error
    if "\0" in text:
        raise InputError(f"{path}: holds zero bytes, so it is no STAR file or was not written to its end")
    bodies = dict(_split_blocks(text.split("\n")))
    if len(bodies) > MAX_BLOCKS:
        raise InputError(f"{path}: has {len(bodies)} blocks, more than the {MAX_BLOCKS} allowed")
    if not bodies:
        raise InputError(f"{path}: has no data_ block, so it is not a STAR file")
    return bodies


def holds_text(label: str, texts: Iterable[str]) -> bool:
    """Whether a column's values stay text even where all are numbers: by its label, or as words such as 0012 of another program."""
    return label.endswith(TEXT_ENDINGS) or (not label.startswith(NUMBERED) and any(_PADDED.fullmatch(text) for text in texts))


def is_loop(rows: Sequence[str]) -> bool:
    """Whether a block is a table of rows, not a list of names and values."""
    return bool(rows) and rows[0].strip() == "loop_"


def split_loop(rows: list[str], where: str) -> tuple[list[str], list[str]]:
    """(labels without the underscore, rows as text) of a table."""
    count = next((i for i, row in enumerate(rows[1:]) if not row.lstrip().startswith("_")), len(rows) - 1)
    labels = [row.split()[0][1:] for row in rows[1 : count + 1]]
    _check_count(len(labels), where)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: has the column _{brief(twice)} twice")
    return labels, [row.strip(" \t") for row in rows[count + 1 :]]


def split_rows(rows: Sequence[str], count: int, where: str) -> list[list[str]]:
    """Values of each row, without their quotes; raises InputError for a row that has not `count` of them."""
    values = [split_quoted(row, number, where) for number, row in enumerate(rows, start=1)]
    check_widths([len(row) for row in values], count, where)
    return values


def split_pairs(rows: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """(labels, values) of a list of names and values."""
    _check_count(len(rows), where)
    pairs = [split_quoted(row.strip(" \t"), number, where) for number, row in enumerate(rows, start=1)]
    if any(len(pair) < 2 or not pair[0].startswith("_") for pair in pairs):
        raise InputError(f"{where}: expected a loop_ or lines of '_label value'")
    single = {pair[0][1:]: pair[1] for pair in pairs}
    return list(single), list(single.values())


def check_widths(found: Sequence[int], count: int, where: str) -> None:
    """Raise InputError for a row that has not `count` values."""
    wrong = next((number for number, width in enumerate(found, start=1) if width != count), None)
    if wrong is not None:
        raise InputError(f"{where}: row {wrong} has {found[wrong - 1]} values, but the table has {count} columns")


def split_quoted(row: str, number: int, where: str) -> list[str]:
    """Values of a row without their quotes."""
    values = _VALUE.findall(row)
    for index, value in enumerate(values):
        if value[0] in "\"'":
            if len(value) < 2 or value[-1] != value[0]:
                raise InputError(f"{where}: row {number} has a quote that is not closed")
            values[index] = value[1:-1]
    return values


def _split_blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [i for i, line in enumerate(lines) if line.startswith("data_") and len(line.split()) == 1]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        body = [line for line in lines[start + 1 : end] if line.strip() and not line.lstrip().startswith("#")]
        yield lines[start].strip()[5:], body


def _check_count(columns: int, where: str) -> None:
    if columns > MAX_COLUMNS:
        raise InputError(f"{where}: has {columns} columns, more than the {MAX_COLUMNS} allowed")
