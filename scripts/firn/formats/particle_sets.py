"""Set arithmetic of particle tables by the particles' names; a particle's row is that of the first table that has it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from firn.errors import InputError


def unite(tables: Sequence[pd.DataFrame], key: str) -> pd.DataFrame:
    """Rows of all tables, each particle once; columns absent from some are filled with NaN or empty text."""
    check_halves(tables, key)
    joined = pd.concat(tables, ignore_index=True)
    return joined[~joined[key].duplicated()].reset_index(drop=True)


def split_by_membership(table: pd.DataFrame, others: Sequence[pd.DataFrame], key: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of the table that are in every other table, the rows that are not)."""
    check_halves([table, *others], key)
    shared = np.ones(len(table), dtype=bool)
    for other in others:
        shared &= table[key].isin(other[key]).to_numpy()
    return table[shared].reset_index(drop=True), table[~shared].reset_index(drop=True)


def check_halves(tables: Sequence[pd.DataFrame], key: str) -> None:
    """Raise InputError when a particle belongs to different half-sets in different tables."""
    halves = [table[[key, "half"]] for table in tables if "half" in table.columns]
    if len(halves) < 2:
        return
    distinct = pd.concat(halves, ignore_index=True).dropna().drop_duplicates()
    wrong = distinct[key][distinct[key].duplicated()]
    if len(wrong):
        raise InputError(
            f"particle {wrong.iloc[0]} and {len(wrong) - 1} others are in half-set 1 in one table and 2 in another; halves must not mix"
        )
