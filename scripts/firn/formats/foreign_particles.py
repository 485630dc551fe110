"""Particle tables of other programs (RELION 3.0, 3.1 and later; CryoSPARC), brought to firn's names, units and identities.

Convention: shifts become Å; RELION 3.0's pixel size is its detector pixel over its magnification; particle ids follow from the
micrograph and the image's number in its stack, so that the same file always gives the same ids.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats import ids
from firn.formats.cryosparc import join_cs, particles_from_cs, read_cs, read_csg
from firn.formats.linked_files import path_in_run
from firn.formats.mrc import read_shape
from firn.formats.tables import OPTICS, join_image_names, read_table, split_image_names

POSE_COLUMNS = ("rot", "tilt", "psi", "origin_x", "origin_y", "class_number", "class_probability")
OVERRIDES = {"voltage_kv": "voltage_kv", "cs_mm": "cs_mm", "amplitude_contrast": "amplitude_contrast", "image_pixel_size": "pixel_size"}


def read_foreign(
    path: str | os.PathLike,
    folder: str | None,
    overrides: Mapping[str, float],
    ignore_poses: bool,
    passthrough: str | None = None,
    exposures: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Particles with optics, CTF, ids, half-sets, shifts in Å and checked stacks; no image is read.

    folder: where the stacks' paths begin; None tries the working directory, then the STAR file's folder and those above it.
    overrides: optics columns (keys of OVERRIDES) to values that replace the file's. passthrough: second `.cs` file of the same particles.
    exposures: ids of exposures by the file's names of their micrographs, for particles without ids.
    Raises InputError naming the file and the column, stack or image that is missing or does not fit.
    """
    table = _read(path, passthrough)
    if table.empty:
        raise InputError(f"{path}: has no particles")
    _refuse_volumes(table, path)
    table = _with_optics(table, overrides, path)
    table = _with_poses(table, ignore_poses)
    table = _with_identity(table, path, exposures or {})
    return _with_stacks(table, Path(path), folder)


def _read(path: str | os.PathLike, passthrough: str | None) -> pd.DataFrame:
    if Path(path).suffix == ".csg":
        return particles_from_cs(read_csg(path), path)
    if Path(path).suffix != ".cs":
        return read_table(path, "particles", needs=("image", "defocus_u", "defocus_v", "defocus_angle"))
    fields = read_cs(path)
    return particles_from_cs(join_cs(fields, read_cs(passthrough), passthrough) if passthrough else fields, path)


def _refuse_volumes(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Raise InputError for the subtomograms of RELION, each in a file of its own."""
    deep = pd.to_numeric(table.get("dimensionality", pd.Series(dtype=float)), errors="coerce").eq(3).any()
    if deep or ("rlnTomoName" in table.columns and not table["image"].astype(str).str.contains("@").all()):
        raise InputError(f"{path}: its particles are subtomograms; firn takes single images of particles, number@stack.mrcs")


def _with_optics(table: pd.DataFrame, overrides: Mapping[str, float], path: str | os.PathLike) -> pd.DataFrame:
    table = with_old_pixel_size(table, "image_pixel_size")
    for name, parameter in OVERRIDES.items():
        if name in overrides:
            table = table.assign(**{name: overrides[name]})
        elif name not in table.columns:
            raise InputError(f"{path}: has no column _{OPTICS[name]}, and {parameter} is not given")
    if not (table["image_pixel_size"] > 0).all():
        raise InputError(f"{path}: has a pixel size of {table['image_pixel_size'].min():g} Å; give pixel_size")
    if "ctf_premultiplied" in table.columns and (table["ctf_premultiplied"] != 0).any():
        raise InputError(f"{path}: its images are multiplied by their CTF (_rlnCtfDataAreCtfPremultiplied); extract them without that")
    missing = {} if "phase_shift" in table.columns else {"phase_shift": 0.0}
    return table.assign(**missing)


def with_old_pixel_size(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with a column of pixel sizes where it only has RELION 3.0's: detector pixel in micrometres, times 10^4 over the magnification."""
    if name in table.columns or not {"rlnDetectorPixelSize", "rlnMagnification"} <= set(table.columns):
        return table
    return table.assign(**{name: table["rlnDetectorPixelSize"] * 1e4 / table["rlnMagnification"]})


def _with_poses(table: pd.DataFrame, ignore_poses: bool) -> pd.DataFrame:
    if ignore_poses:
        table = table.drop(columns=[*POSE_COLUMNS, "rlnOriginX", "rlnOriginY"], errors="ignore")
    for name, old in (("origin_x", "rlnOriginX"), ("origin_y", "rlnOriginY")):
        if name not in table.columns:
            shift = table[old] * table["image_pixel_size"] if old in table.columns else 0.0
            table = table.assign(**{name: shift})
    return table.drop(columns=["rlnOriginX", "rlnOriginY"], errors="ignore")


def _with_identity(table: pd.DataFrame, path: str | os.PathLike, known: Mapping[str, str]) -> pd.DataFrame:
    sections, stacks = split_image_names(table["image"])
    source = table["micrograph"].astype(str) if "micrograph" in table.columns else pd.Series(stacks, index=table.index).astype(str)
    named = {name: known.get(name) or ids.exposure_id(name) for name in source.unique()}
    exposures = table["exposure_id"] if "exposure_id" in table.columns else source.map(named)
    table = table.assign(exposure_id=exposures, micrograph=source)
    if "batch" not in table.columns:
        table = table.assign(batch="0001")
    if "particle_id" not in table.columns:
        table = table.assign(particle_id=_particle_ids(table["exposure_id"], sections))
    if table["particle_id"].duplicated().any():
        raise InputError(f"{path}: has the particle {table['particle_id'][table['particle_id'].duplicated()].iloc[0]} twice")
    return table.assign(half=_half_sets(table))


def _particle_ids(exposures: pd.Series, sections: np.ndarray) -> list[str]:
    numbers = pd.Series(sections + 1, index=exposures.index)
    if pd.DataFrame({"exposure": exposures, "number": numbers}).duplicated().any():
        numbers = exposures.groupby(exposures, sort=False).cumcount() + 1
    return [ids.particle_id(exposure, number) for exposure, number in zip(exposures, numbers, strict=True)]


def _half_sets(table: pd.DataFrame) -> pd.Series:
    """The file's half-sets where it has them (1 and 2), else a coin fixed by each particle's id."""
    made = table["particle_id"].map(ids.half_set)
    if "half" not in table.columns:
        return made
    kept = pd.to_numeric(table["half"], errors="coerce")
    return kept.where(kept.isin([1, 2]), made).astype(int)


def _with_stacks(table: pd.DataFrame, path: Path, folder: str | None) -> pd.DataFrame:
    sections, stacks = split_image_names(table["image"])
    found = {stack: _find_stack(stack, path, folder) for stack in pd.unique(stacks)}
    missing = [stack for stack, place in found.items() if place is None]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(found)} stacks are not there, the first is {missing[0]}; give the folder their paths begin in"
        )
    boxes = _check_stacks({stack: str(place) for stack, place in found.items()}, pd.Series(sections).groupby(stacks).max(), path)
    images = join_image_names(sections, [str(found[stack]) for stack in stacks])
    return table.assign(image=images, box_px=[boxes[stack] for stack in stacks], dimensionality=2)


def _find_stack(stack: str, path: Path, folder: str | None) -> str | None:
    """Path by which the run folder knows a stack."""
    bases = [Path(folder)] if folder is not None else [Path(), path.parent, *path.parent.parents]
    place = next((base / stack for base in bases if (base / stack).is_file()), None)
    return None if place is None else path_in_run(place)


def _check_stacks(places: Mapping[str, str], highest: pd.Series, path: Path) -> dict[str, int]:
    """Box of each stack; all boxes are square and alike, and every image asked for is there."""
    boxes: dict[str, int] = {}
    for stack, place in places.items():
        (count, height, width), _ = read_shape(place)
        if height != width:
            raise InputError(f"{place}: has images of {width} x {height} px, but particle images must be square")
        if highest[stack] >= count:
            raise InputError(f"{path}: names image {highest[stack] + 1} of {place}, which holds {count}")
        boxes[stack] = width
    if len(set(boxes.values())) > 1:
        raise InputError(
            f"{path}: names stacks with different boxes ({', '.join(map(str, sorted(set(boxes.values()))))} px); import them one by one"
        )
    return boxes
