"""Small tables without pandas, whose import takes as long as all else that a short process does.

The same files give the same names and values as firn.formats.tables; numbers are floats, and NaN where one is left out.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from firn.errors import InputError, brief
from firn.formats.star_text import holds_text, is_loop, read_bodies, split_loop, split_pairs, split_rows
from firn.formats.table_names import ABSENT, GROUP, NUMBERS, TO_LABEL, TO_NAME, block_of, name_in_optics

Columns = dict[str, list[Any]]


def read_rows(path: str | os.PathLike, kind: str) -> list[dict[str, Any]]:
    """One dictionary by column name per exposure, pick, particle or class, with the optics of its group joined on.

    kind: a key of BLOCKS. Raises InputError as read_table.
    """
    bodies = read_bodies(path)
    blocks = {name: _columns(body, f"{path}: data_{brief(name)}") for name, body in bodies.items()}
    columns = blocks[block_of(blocks, kind, path)]
    if "optics" in blocks:
        columns = _with_optics(columns, blocks["optics"], path)
    named = {TO_NAME.get(label, label): values for label, values in columns.items()}
    checked = {name: _as_numbers(name, values, path) if name in NUMBERS else values for name, values in named.items()}
    return [dict(zip(checked, row, strict=True)) for row in zip(*checked.values(), strict=True)]


def _columns(body: list[str], where: str) -> Columns:
    if is_loop(body):
        labels, lines = split_loop(body, where)
        rows = split_rows(lines, len(labels), where)
    else:
        labels, values = split_pairs(body, where)
        rows = [values]
    return {label: _typed(label, [row[place] for row in rows]) for place, label in enumerate(labels)}


def _typed(label: str, texts: list[str]) -> list[Any]:
    """Numbers where all values are, unless the label says text."""
    if holds_text(label, texts):
        return texts
    numbers = [_number(text) for text in texts]
    return texts if any(number is None for number in numbers) else numbers


def _number(text: str) -> float | None:
    if text.lower() in ("nan", "-nan"):
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return None
    return None if "_" in text or math.isnan(number) else number


def _as_numbers(name: str, values: list[Any], path: str | os.PathLike) -> list[Any]:
    """Values of a column that must hold numbers."""
    bad = next((value for value in values if isinstance(value, str) and _number(value) is None and value not in ABSENT), None)
    if bad is not None:
        raise InputError(f"{path}: the column _{TO_LABEL[name]} holds '{brief(bad)}', which is no number")
    found = [_number(value) if isinstance(value, str) else value for value in values]
    return [math.nan if value is None else value for value in found]


def _with_optics(columns: Columns, optics: Mapping[str, list[Any]], path: str | os.PathLike) -> Columns:
    if GROUP not in columns or GROUP not in optics:
        raise InputError(f"{path}: has an optics block, but no column _{GROUP} to join it by")
    places = {group: place for place, group in enumerate(optics[GROUP])}
    unknown = set(columns[GROUP]) - places.keys()
    if unknown:
        raise InputError(f"{path}: rows name optics group {brief(min(unknown, key=str))}, which the optics block does not have")
    if len(places) < len(optics[GROUP]):
        raise InputError(f"{path}: its optics block has an optics group twice")
    rows = [places[group] for group in columns[GROUP]]
    joined = {name_in_optics(label): [values[row] for row in rows] for label, values in optics.items() if label not in columns}
    return {label: values for label, values in columns.items() if label != GROUP} | joined
