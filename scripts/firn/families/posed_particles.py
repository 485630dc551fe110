"""Particles in poses that are not searched any more: what reconstruction, subtraction and classification at fixed poses read."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from firn.families.aberrations import load_corrected, particle_optics
from firn.formats.particles import read_particles
from firn.formats.poses import read_angles, read_shifts, with_halves
from firn.kernels.grid import FourierDisc
from firn.kernels.rotation import euler_matrices
from firn.refine.given_poses import GivenPoses, PosedImages


def read_posed(path: Path) -> pd.DataFrame:
    """Particle table with half-sets, numbered from 0; raises InputError when the particles have no poses."""
    table = with_halves(read_particles(path)).reset_index(drop=True)
    read_angles(table, str(path))
    return table


def given_poses(table: pd.DataFrame, pixel_size: float) -> GivenPoses:
    """Poses, scales and optics of all particles of a table."""
    return GivenPoses(
        euler_matrices(torch.tensor(read_angles(table, "particles"))).float(),
        torch.tensor(read_shifts(table, pixel_size)).float(),
        torch.tensor(table["scale"].to_numpy(np.float64) if "scale" in table.columns else np.ones(len(table))),
        particle_optics(table),
        pixel_size,
    )


def load_posed(table: pd.DataFrame, poses: GivenPoses, rows: np.ndarray, disc: FourierDisc, device: torch.device) -> PosedImages:
    """Images of some rows of the table that the poses were made from, with what is known of them."""
    return poses.of(torch.tensor(rows), load_corrected(table.iloc[rows], device), disc)
