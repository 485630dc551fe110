"""Repeat each particle in every pose that symmetry makes equivalent."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from firn.errors import InputError
from firn.formats.poses import read_angles, read_shifts, with_halves, with_poses
from firn.formats.tables import read_table, write_table
from firn.kernels.expansion import expand_rotations, helical_poses
from firn.kernels.rotation import euler_matrices, matrix_angles
from firn.kernels.symmetry import symmetry_matrices
from firn.report.refine import draw_directions
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Repeat each particle with the pose of every symmetry operator, so that asymmetric units can be treated one by one.

    Copies of one image stay in its half-set and remember it. Refine them locally only, without symmetry.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    particles: str = slot("particles")
    """Particles with poses from a refinement with the symmetry."""
    symmetry: str = "C1"
    """Point group the map has: Cn, Dn, T, O, I, I1 ... I4, with RELION's axes."""
    helical_twist: float | None = None
    """Degrees. Turn about z from one subunit of a helix to the next; right-handed when positive."""
    helical_rise: float | None = None
    """Å. Way along z from one subunit of a helix to the next."""
    helical_copies: int = Field(1, ge=1, le=1000)
    """Number of subunits of the helix to move to the centre in turn."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if (self.helical_twist is None) != (self.helical_rise is None) or (self.helical_copies > 1) != (self.helical_rise is not None):
            raise ValueError("a helix needs helical_twist, helical_rise and at least two helical_copies")
        return self


def run(job: Job[Params]) -> None:
    """Read, repeat, write."""
    path = job.input("particles", "particles.star")
    table = with_halves(read_table(path, "particles", needs=("image", "image_pixel_size")))
    if "source_particle" in table.columns:
        raise InputError(f"{path}: these particles are expanded already; expand the ones they came from")
    rotations = euler_matrices(torch.tensor(read_angles(table, str(path))))
    expanded, shifts = _equivalent_poses(job.params, rotations, torch.tensor(read_shifts(table, 1.0)))
    copies = expanded.shape[1]
    if copies < 2:
        raise InputError(f"job {job.name}: symmetry {job.params.symmetry} has one operator only, so there is nothing to expand")
    angles = matrix_angles(expanded.flatten(0, 1)).numpy()
    repeated = with_poses(_repeated(table, copies), angles, shifts.flatten(0, 1).numpy())
    write_table(job.folder / "particles.star", repeated, "particles")
    job.metric("particles", len(repeated))
    job.metric("copies", copies)
    caption = f"Viewing directions of all {len(repeated)} copies. They repeat in every asymmetric unit."
    draw_directions(job.figure("directions", "Viewing directions", caption), angles[:, 0], angles[:, 1])


def _equivalent_poses(params: Params, rotations: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations `(n, c, 3, 3)` and shifts yx in Å `(n, c, 2)` of every copy; the first is the particle's own."""
    operators = symmetry_matrices(params.symmetry)
    expanded = expand_rotations(rotations, operators)
    moved = shifts[:, None].expand(-1, len(operators), -1)
    if params.helical_twist is None or params.helical_rise is None:
        return expanded, moved
    count, group = expanded.shape[:2]
    turned, slid = helical_poses(
        expanded.flatten(0, 1), moved.flatten(0, 1), params.helical_twist, params.helical_rise, params.helical_copies
    )
    return turned.reshape(count, group * params.helical_copies, 3, 3), slid.reshape(count, -1, 2)


def _repeated(table: pd.DataFrame, copies: int) -> pd.DataFrame:
    """Each row `copies` times in a row, with a name of its own and its source's."""
    repeated = table.loc[table.index.repeat(copies)].reset_index(drop=True)
    number = np.tile(np.arange(1, copies + 1), len(table))
    source = repeated["particle_id" if "particle_id" in table.columns else "image"].astype(str)
    names = [f"{name}-s{copy:02d}" for name, copy in zip(source, number, strict=True)]
    return repeated.assign(particle_id=names, source_particle=source, symmetry_copy=number)
