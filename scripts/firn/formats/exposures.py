"""Rows of an exposure table as what a job needs of one exposure: its micrograph, its optics, its place among the failed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firn.errors import ExposureError, InputError
from firn.formats.ids import particle_id
from firn.formats.mrc import read_mrc
from firn.formats.storage import blame_storage
from firn.formats.table_names import OF_OPTICS, OPTICS
from firn.formats.tables import write_table

IDENTITY = ("exposure_id", "batch", "micrograph")
PICK_COLUMNS = (*IDENTITY, "particle_id", "x_px", "y_px", "pick_score", "pick_power", "diameter")


def load_micrograph(row: Mapping[Any, Any]) -> np.ndarray:
    """Float32 micrograph `(y, x)` of an exposure.

    Raises ExposureError when the file cannot be read, is no single image, or is constant.
    """
    path = str(row["micrograph"])
    try:
        image, _ = read_mrc(path)
    except InputError as error:
        raise ExposureError("HEADER", str(error)) from error
    if image.ndim != 2:
        raise ExposureError("SHAPE", f"{path}: is a stack of {image.shape[0]} images, not one micrograph")
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        raise ExposureError("NONFINITE", f"{path}: has no finite pixel")
    if float(finite.min()) == float(finite.max()):
        raise ExposureError("ZERO", f"{path}: is constant ({float(finite.min()):g} everywhere)")
    return image


def ctf_values(row: Mapping[Any, Any]) -> tuple[float, float, float, float, float, float, float] | None:
    """(defocus_u, defocus_v, defocus_angle, voltage_kv, cs_mm, phase_shift, amplitude_contrast), or None without a CTF fit."""
    needed = ("defocus_u", "defocus_v", "defocus_angle", "voltage_kv", "cs_mm")
    if not all(name in row and math.isfinite(float(row[name])) for name in needed):
        return None
    u, v, angle, voltage, cs = (float(row[name]) for name in needed)
    return u, v, angle, voltage, cs, float(row.get("phase_shift", 0.0)), float(row.get("amplitude_contrast", 0.1))


def optics_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The optics columns of a row."""
    return {name: row[name] for name in (*OPTICS, *(name for name in row if str(name).startswith(OF_OPTICS))) if name in row}


def picks_table(row: Mapping[Any, Any], columns: Mapping[str, Any]) -> pd.DataFrame:
    """Pick table of one exposure: identities of exposure and picks, the given columns, and the optics."""
    table = pd.DataFrame(dict(columns))
    names = [particle_id(str(row["exposure_id"]), number) for number in range(1, len(table) + 1)]
    identity = {name: row[name] for name in IDENTITY if name in row}
    return table.assign(particle_id=names, **identity, **optics_of(row))[[*identity, "particle_id", *columns, *optics_of(row)]]


def failed_row(row: Mapping[Any, Any], error: ExposureError) -> dict[str, str]:
    """Row of failed.star; raises MachineError when the fault is the disk's."""
    if str(error).startswith(f"{row.get('movie')}: "):
        blame_storage(str(row["movie"]), error)
    identity = {name: str(row[name]) for name in IDENTITY if name in row}
    return identity | {"reason_code": error.code, "reason": str(error)}


def write_failed(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write failed.star into a folder when any exposure failed."""
    if rows:
        write_table(folder / "failed.star", pd.DataFrame(rows), "failed")


def join_tables(tables: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """Tables of several exposures as one; with none, or only empty ones, an empty table with the named columns."""
    full = [table for table in tables if not table.empty]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame({name: [] for name in columns})
