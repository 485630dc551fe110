"""Aberrations of a particle table, by optics group: RELION's beam tilt, Zernike lists and magnification matrix as arrays.

Convention: as in RELION 3.1's optics block. Beam tilt x, y in mrad; Zernike coefficients in rad for a radius |s| in 1/Å, written as
`[0,0,1.5]`; the magnification matrix is xy and takes an image's frequency to the specimen's. Groups without a value have none of it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from firn.errors import InputError, brief

TILT = ("beam_tilt_x", "beam_tilt_y")
MAGNIFICATION = ("magnification_xx", "magnification_xy", "magnification_yx", "magnification_yy")
NEUTRAL = dict.fromkeys(TILT, 0.0) | dict(zip(MAGNIFICATION, (1.0, 0.0, 0.0, 1.0), strict=True)) | {"odd_zernike": "", "even_zernike": ""}
"""What a group without an aberration has in its column."""
OPTICS_KEYS = ("optics_name", "voltage_kv", "cs_mm", "image_pixel_size", *NEUTRAL)
"""Columns in which optics groups differ, as far as aberrations go."""


@dataclass(frozen=True)
class Aberrations:
    """One optics group: its name, the positions of its particles in the table, and its aberrations."""

    name: str
    rows: np.ndarray
    voltage_kv: float
    cs_mm: float
    tilt: tuple[float, float]
    odd: np.ndarray
    even: np.ndarray
    magnification: np.ndarray


def optics_groups(table: pd.DataFrame) -> list[Aberrations]:
    """The table's optics groups in the order of their first particles.

    Raises InputError when a list of Zernike coefficients cannot be read or a magnification matrix has no inverse.
    """
    keys = [name for name in OPTICS_KEYS if name in table.columns]
    numbers = table.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    return [_group(table.iloc[rows[0]], rows, number) for number, rows in enumerate(_positions(numbers), start=1)]


def aberrated_groups(table: pd.DataFrame) -> list[Aberrations]:
    """Only the groups whose images differ by a beam tilt, odd polynomials or magnification from what CTF and projection give."""
    if not any(name in table.columns for name in (*TILT, *MAGNIFICATION, "odd_zernike")):
        return []
    return [group for group in optics_groups(table) if any(group.tilt) or group.odd.any() or is_magnified(group)]


def is_magnified(group: Aberrations) -> bool:
    """Whether its magnification is another than 1."""
    return not np.array_equal(group.magnification, np.eye(2))


def even_coefficients(table: pd.DataFrame) -> np.ndarray | None:
    """Even Zernike coefficients `(n, k)` of every particle; None when no particle has any."""
    if "even_zernike" not in table.columns:
        return None
    texts = table["even_zernike"].fillna("").astype(str)
    lists = {text: coefficients(text) for text in texts.unique()}
    longest = max((len(values) for values in lists.values()), default=0)
    if not any(values.any() for values in lists.values()):
        return None
    padded = {text: np.pad(values, (0, longest - len(values))) for text, values in lists.items()}
    return np.stack([padded[text] for text in texts])


def coefficients(text: str) -> np.ndarray:
    """The numbers of a list `[0,0,1.5]`; none for empty text."""
    inside = text.strip().removeprefix("[").removesuffix("]")
    try:
        return np.array([float(value) for value in inside.split(",")] if inside and inside != "nan" else [], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"'{brief(text)}' is not a list of Zernike coefficients such as [0,0,1.5]") from error


def coefficient_text(values: np.ndarray) -> str:
    """A list of numbers as RELION writes it."""
    return "[" + ",".join(f"{value:.6g}" for value in values) + "]"


def neutral_filled(table: pd.DataFrame) -> pd.DataFrame:
    """The table with no gaps in the columns of aberrations, which joining tables leaves."""
    gaps = {name: table[name].fillna(value) for name, value in NEUTRAL.items() if name in table.columns and table[name].isna().any()}
    return table.assign(**gaps)


def _positions(numbers: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []


def _group(row: pd.Series, rows: np.ndarray, number: int) -> Aberrations:
    given = {name: row[name] if name in row and not pd.isna(row[name]) else value for name, value in NEUTRAL.items()}
    matrix = np.array([float(given[name]) for name in MAGNIFICATION]).reshape(2, 2)
    if abs(np.linalg.det(matrix)) < 0.1:
        raise InputError(f"optics group {number} has the magnification matrix {matrix.tolist()}, which has no inverse")
    odd, even = (coefficients(str(given[name])) for name in ("odd_zernike", "even_zernike"))
    tilt = float(given["beam_tilt_x"]), float(given["beam_tilt_y"])
    name = str(row.get("optics_name", f"opticsGroup{number}"))
    return Aberrations(name, rows, float(row["voltage_kv"]), float(row["cs_mm"]), tilt, odd, even, matrix)
