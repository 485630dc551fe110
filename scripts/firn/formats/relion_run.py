"""The files that RELION's refinement reads and writes: particles handed over, iterations, poses and models read back.

Convention: a run has a root, such as `folder/run`; the files of its iteration n begin with `<root>_it<nnn>_`, and those of a refinement that
has converged with `<root>_`. RELION keeps columns that it does not know, so a row number in one tells which particle a row is.
Source: the files of RELION 3.1.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from firn.errors import InputError
from firn.formats.linked_files import PLAIN, bring_files, with_plain_names
from firn.formats.mrc_header import read_mrc_header
from firn.formats.star import read_star, write_star
from firn.formats.tables import OPTICS, read_table, write_table

ROW = "firnRow"
HANDED = (
    *("image", "micrograph", "x_px", "y_px", "defocus_u", "defocus_v", "defocus_angle", "phase_shift", "ctf_b_factor"),
    *("rot", "tilt", "psi", "origin_x", "origin_y", "half", "group_name"),
)
"""Columns, besides the optics, that say something to RELION's refinement."""
FOUND = (
    *("rot", "tilt", "psi", "origin_x", "origin_y", "class_number", "class_probability", "significant_poses"),
    *("rlnNormCorrection", "rlnLogLikeliContribution"),
)
_ITERATION = re.compile(r"_it(\d+)_optimiser\.star$")


@dataclass(frozen=True)
class RelionIteration:
    """One iteration: its optimiser file, the run's numbers, and the blocks of its model (that of half-set 1 where the halves are apart)."""

    number: int
    optimiser: Path
    general: pd.Series
    model: dict[str, pd.DataFrame]

    @property
    def resolution(self) -> float:
        """Å. As RELION has it."""
        return float(self.model["model_general"]["rlnCurrentResolution"].iloc[0])

    @property
    def finest(self) -> float:
        """Å. Finest detail that was used of the images."""
        row = self.model["model_general"].iloc[0]
        return float(2 * row["rlnOriginalImageSize"] * row["rlnPixelSize"] / row["rlnCurrentImageSize"])

    @property
    def classes(self) -> pd.DataFrame:
        """Reference, fraction and resolution of each class."""
        return self.model["model_classes"]


def hand_over(path: Path, table: pd.DataFrame, box_px: int) -> None:
    """Write the particles as RELION reads them, each with its row number; stacks whose names it does not read are linked beside them."""
    kept, renamed = with_plain_names(
        table[[name for name in (*HANDED, *OPTICS) if name in table.columns and name != "micrograph"]], path.parent / PLAIN
    )
    bring_files(Path(), Path(), renamed, renamed=renamed)
    groups = table["exposure_id"] if "exposure_id" in table.columns else table.get("micrograph", pd.Series("all", index=table.index))
    words = {name: kept[name].astype(str).str.replace(r"\s", "_", regex=True) for name in ("optics_name", "group_name") if name in kept}
    named = kept.assign(micrograph=groups.astype(str).str.replace(r"\s", "_", regex=True), **words)
    write_table(path, named.assign(**{ROW: range(len(table))}, box_px=box_px, dimensionality=2), "particles")


def write_references(path: Path, files: Sequence[str]) -> None:
    """Write a list of references, one for each class, as RELION reads it."""
    write_star(path, {"references": pd.DataFrame({"rlnReferenceImage": list(files)})})


def with_results(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table in its own order with poses, classes and probabilities from RELION's; all else, the half-sets among it, is as it was.

    Raises InputError when the file does not tell of every particle once.
    """
    found = read_table(path, "particles", needs=(ROW, "origin_x", "origin_y"))
    numbers = pd.to_numeric(found[ROW], errors="coerce")
    if sorted(numbers) != list(range(len(table))):
        raise InputError(f"{path}: tells of {len(found)} particles, but RELION was given {len(table)}; each must be there once")
    found = found.assign(**{ROW: numbers}).sort_values(ROW)
    return table.assign(**{name: found[name].to_numpy() for name in FOUND if name in found.columns})


def newest_iteration(root: str | os.PathLike, count: int) -> int | None:
    """Number of the newest iteration all of whose files are there, whole, and tell of `count` particles; None when there is none.

    Iteration 0 is what RELION starts with, and it cannot go on from there.
    """
    root = Path(root)
    names = [_ITERATION.search(path.name) for path in root.parent.glob(f"{root.name}_it*_optimiser.star")]
    numbers = sorted((int(match.group(1)) for match in names if match), reverse=True)
    return next((number for number in numbers if number > 0 and _is_whole(root, number, count)), None)


def read_iteration(root: str | os.PathLike, number: int) -> RelionIteration:
    """What one iteration found; raises InputError when a file of it is not there or not whole."""
    optimiser = Path(f"{root}_it{number:03d}_optimiser.star")
    general = _block(optimiser, "optimiser_general").iloc[0]
    model = read_star(_named(general, "rlnModelStarFile", optimiser))
    for name in ("model_general", "model_classes"):
        if name not in model:
            raise InputError(f"{general['rlnModelStarFile']}: has no block data_{name}")
    return RelionIteration(number, optimiser, general, model)


def _is_whole(root: Path, number: int, count: int) -> bool:
    try:
        found = read_iteration(root, number)
        models = [found.model]
        if "rlnModelStarFile2" in found.general:
            models.append(read_star(str(found.general["rlnModelStarFile2"])))
        _block(Path(_named(found.general, "rlnOrientSamplingStarFile", found.optimiser)), "sampling_general")
        particles = _block(Path(_named(found.general, "rlnExperimentalDataStarFile", found.optimiser)), "particles")
        for model in models:
            for name in model["model_classes"]["rlnReferenceImage"]:
                read_mrc_header(str(name).rpartition("@")[2])
    except (InputError, KeyError):
        return False
    return len(particles) == count


def _block(path: Path, name: str) -> pd.DataFrame:
    blocks = read_star(path)
    if name not in blocks:
        raise InputError(f"{path}: has no block data_{name}")
    return blocks[name]


def _named(general: pd.Series, label: str, path: Path) -> str:
    if label not in general:
        raise InputError(f"{path}: has no value _{label}")
    return str(general[label])
