"""Aberrations in CryoSPARC's tables: kept as they are for the way back, and not read as firn's.

Convention: lengths in Å, `tilt_A` being Cs times the beam tilt (https://discuss.cryosparc.com/t/understanding-values-of-beamtilt/17411). The
signs of the odd ones and the direction of the magnification matrix are published by nobody who would agree with the others: pyem
(https://github.com/asarnow/pyem) takes a tilt with the sign that RELION has, a forward model checked with CryoSPARC's own images
(https://github.com/joelyeois/specter) with the other one. So neither is turned into the other here.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from firn.formats.aberrations import MAGNIFICATION, NEUTRAL, TILT, coefficients

COLUMN = "cryosparc_aberrations"
"""Text column: all numbers of a particle in the order of WIDTHS, as `[0,0,1.5,...]`."""
WIDTHS = {"ctf/tilt_A": 2, "ctf/trefoil_A": 2, "ctf/tetra_A": 4, "ctf/anisomag": 4, "ctf/shift_A": 2}
"""CryoSPARC's fields and how many numbers they have."""


def kept_column(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The column of a table whose particles have aberrations, by name; nothing where none has."""
    count = len(fields["uid"])
    parts = [fields[name].reshape(count, -1) if name in fields else np.zeros((count, width)) for name, width in WIDTHS.items()]
    if [part.shape[1] for part in parts] != list(WIDTHS.values()) or not any(part.any() for part in parts):
        return {}
    groups, numbers = np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)
    texts = np.array(["[" + ",".join(f"{value:.9g}" for value in group) + "]" for group in groups], dtype=object)
    return {COLUMN: texts[numbers.reshape(-1)]}


def aberration_fields(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """CryoSPARC's fields: what was kept of them, or zeros where nothing was, or firn has measured aberrations since."""
    width = sum(WIDTHS.values())
    values = np.zeros((len(table), width), dtype=np.float32)
    if COLUMN in table.columns and not measured(table):
        texts = table[COLUMN].fillna("").astype(str)
        known = {text: coefficients(text) for text in texts.unique()}
        whole = {text: numbers if len(numbers) == width else np.zeros(width) for text, numbers in known.items()}
        values = np.array([whole[text] for text in texts], dtype=np.float32).reshape(-1, width)
    ends = np.cumsum(list(WIDTHS.values()))
    return dict(zip(WIDTHS, np.split(values, ends[:-1], axis=1), strict=True))


def measured(table: pd.DataFrame) -> list[str]:
    """Kinds of aberrations that a table has in firn's columns."""
    kinds = {"beam tilt": TILT, "odd polynomials": ("odd_zernike",), "even polynomials": ("even_zernike",), "magnification": MAGNIFICATION}
    return [kind for kind, names in kinds.items() if any(_differs(table, name) for name in names if name in table.columns)]


def _differs(table: pd.DataFrame, name: str) -> bool:
    neutral = NEUTRAL[name]
    if isinstance(neutral, float):
        return bool((pd.to_numeric(table[name], errors="coerce").fillna(neutral) != neutral).any())
    return any(coefficients(text).any() for text in table[name].fillna("").astype(str).unique())
