"""Tables of exposures, picks and particles: pandas frames with firn's names inside, RELION-3.1+ STAR on disk.

Inside, every row carries its own optics (pixel_size in Å, voltage_kv, cs_mm, amplitude_contrast); on disk they
form the optics block. Columns with no name in NAMES (table_names) keep their label, those of the optics block behind OF_OPTICS, and pass through
untouched, so none is lost.
"""

import os
import re
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError, brief
from firn.formats.aberrations import neutral_filled
from firn.formats.star import read_star, write_star
from firn.formats.table_names import ABSENT, BLOCKS, NUMBERS, OF_OPTICS, OPTICS, TO_LABEL, TO_NAME, block_of, label_of, name_in_optics

_IMAGE_NUMBER = re.compile(r"0*[1-9][0-9]{0,8}", re.ASCII)


def read_table(path: str | os.PathLike, kind: str, needs: Iterable[str] = ()) -> pd.DataFrame:
    """One row per exposure, pick, particle or class, with the optics of its group joined on.

    kind: a key of BLOCKS. needs: names of columns that must be there; a table without rows gets those it lacks, without values.
    Raises InputError naming the file and the RELION label of a column that is missing.
    """
    blocks = read_star(path)
    table = blocks[block_of(blocks, kind, path)]
    if "optics" in blocks:
        table = _join_optics(table, blocks["optics"], path)
    table = table.rename(columns=TO_NAME)
    table = _with_numbers(table, path)
    if table.empty:
        return table.reindex(columns=[*table.columns, *(name for name in needs if name not in table.columns)])
    require_columns(table, needs, path)
    return table


def _with_numbers(table: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """The table with NaN where a number is left out; raises InputError when a column that must hold numbers holds something else."""
    texts = [name for name in NUMBERS if name in table.columns and not (table.empty or pd.api.types.is_numeric_dtype(table[name]))]
    for name in texts:
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = table[name][numbers.isna() & ~table[name].isin(ABSENT)]
        if len(bad):
            raise InputError(f"{path}: the column _{TO_LABEL[name]} holds '{brief(bad.iloc[0])}', which is no number")
        table = table.assign(**{name: numbers})
    return table


def write_table(path: str | os.PathLike, table: pd.DataFrame, kind: str) -> None:
    """Write a table as RELION-3.1+ STAR; optics columns become the optics block."""
    optics_columns = [name for name in OPTICS if name in table.columns and name != "optics_name"]
    optics_columns += [name for name in table.columns if name.startswith(OF_OPTICS)]
    if not optics_columns or kind in ("classes", "failed") or table.empty:
        write_star(path, {BLOCKS[kind]: table.rename(columns=label_of)})
        return
    table = neutral_filled(table.reset_index(drop=True))
    optics, groups = _split_optics(table, optics_columns)
    main = table.drop(columns=[*optics_columns, "optics_name", "rlnOpticsGroup"], errors="ignore")
    main = main.assign(rlnOpticsGroup=groups)
    write_star(path, {"optics": optics, BLOCKS[kind]: main.rename(columns=label_of)})


def require_columns(table: pd.DataFrame, names: Iterable[str], where: str | os.PathLike) -> None:
    """Raise InputError when a named column is missing."""
    missing = [TO_LABEL.get(name, name) for name in names if name not in table.columns]
    if missing:
        raise InputError(f"{where}: has no column {', '.join('_' + label for label in missing)}")


def concatenate(paths: Iterable[str | os.PathLike], kind: str, needs: Iterable[str] = ()) -> pd.DataFrame:
    """The tables of several files as one; columns absent from some are filled with NaN or empty text. Errors as read_table."""
    tables = [read_table(path, kind, needs) for path in paths if Path(path).exists()]
    full = [table for table in tables if not table.empty]
    return pd.concat(full, ignore_index=True) if full else (tables[0] if tables else pd.DataFrame())


def write_batches(folder: str | os.PathLike, table: pd.DataFrame, kind: str, batches: Iterable[str]) -> None:
    """Write `batches/<batch>/<kind>.star` below folder, one for every batch, empty ones too; needs the column `batch`."""
    for batch in batches:
        rows = table[table["batch"].astype(str) == str(batch)] if "batch" in table.columns else table.iloc[:0]
        write_table(Path(folder) / "batches" / str(batch) / f"{kind}.star", rows, kind)


def image_names(stack: str | os.PathLike, count: int) -> list[str]:
    """RELION image names `000001@stack` ... of a stack with count images."""
    return join_image_names(range(count), repeat(stack, count))


def join_image_names(sections: Iterable[int], stacks: Iterable[str | os.PathLike]) -> list[str]:
    """RELION image names of 0-based section numbers and stack paths: the inverse of split_image_names."""
    return [f"{section + 1:06d}@{stack}" for section, stack in zip(sections, stacks, strict=True)]


def without_number(table: pd.DataFrame, names: Iterable[str]) -> np.ndarray:
    """Whether a row has anything but a finite number in one of the named columns that are there, `(n,)`."""
    columns = [pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in names if name in table.columns]
    return ~np.isfinite(np.array(columns)).all(axis=0) if columns else np.zeros(len(table), dtype=bool)


def require_finite(table: pd.DataFrame, names: Iterable[str], where: str | os.PathLike, remark: str) -> None:
    """Raise InputError when a named column that is there holds anything but finite numbers. remark: what to do about it."""
    for name in names:
        rows = np.flatnonzero(without_number(table, [name]))
        if len(rows):
            label = TO_LABEL.get(name, name)
            raise InputError(
                f"{where}: {len(rows)} of {len(table)} rows, the first row {rows[0] + 1}, have no number in _{label}; {remark}"
            )


def split_image_names(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """(0-based section numbers, stack paths) of RELION image names.

    Raises InputError when a name is not `number@path`.
    """
    parts = [str(name).partition("@") for name in names]
    bad = next((number + at + path for number, at, path in parts if not (at and _IMAGE_NUMBER.fullmatch(number))), None)
    if bad is not None:
        raise InputError(f"'{brief(bad)}' is not an image name of the form 000001@stack.mrcs")
    return np.array([int(number) - 1 for number, _, _ in parts], dtype=np.int64), np.array([path for _, _, path in parts], dtype=object)


def _join_optics(table: pd.DataFrame, optics: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    if "rlnOpticsGroup" not in table.columns or "rlnOpticsGroup" not in optics.columns:
        raise InputError(f"{path}: has an optics block, but no column _rlnOpticsGroup to join it by")
    unknown = set(table["rlnOpticsGroup"]) - set(optics["rlnOpticsGroup"])
    if unknown:
        first = min(unknown, key=str)
        raise InputError(f"{path}: rows name optics group {brief(first)}, which the optics block does not have")
    twice = optics["rlnOpticsGroup"][optics["rlnOpticsGroup"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: its optics block has the optics group {brief(twice.iloc[0])} twice")
    own = [label for label in optics.columns if label == "rlnOpticsGroup" or label not in table.columns]
    joined = optics[own].rename(columns=name_in_optics)
    return (
        table.rename(columns=TO_NAME).merge(joined, on="rlnOpticsGroup", how="left", validate="many_to_one").drop(columns="rlnOpticsGroup")
    )


def _split_optics(table: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    keys = [*(["optics_name"] if "optics_name" in table.columns else []), *columns]
    grouped = table.groupby(keys, sort=False, dropna=False)
    optics = table.loc[grouped.head(1).index, keys].reset_index(drop=True)
    groups = grouped.ngroup().to_numpy() + 1
    names = _unique_names(optics)
    optics = optics.drop(columns="optics_name", errors="ignore").rename(columns=label_of)
    optics.insert(0, "rlnOpticsGroup", np.arange(1, len(optics) + 1))
    optics.insert(0, "rlnOpticsGroupName", names)
    return optics, groups


def _unique_names(optics: pd.DataFrame) -> list[str]:
    """Names of optics groups as they are given, with a number behind those that others before them have."""
    numbered = [f"opticsGroup{number}" for number in range(1, len(optics) + 1)]
    given = optics["optics_name"].fillna(pd.Series(numbered, index=optics.index)) if "optics_name" in optics.columns else numbered
    names: dict[str, None] = {}
    for name in map(str, given):
        tries = (name, *(f"{name}_{number}" for number in range(2, len(optics) + 2)))
        names[next(tried for tried in tries if tried not in names)] = None
    return list(names)
