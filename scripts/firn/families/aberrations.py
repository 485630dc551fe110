"""Particle images as they would be without beam tilt, other odd aberrations and uneven magnification, and the optics that are left.

All jobs that compare particles with a map or with averages read them here, so that projections, CTF and phases need no second set of
coordinates. Shifts of a table are those of the corrected images.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from firn.errors import InputError
from firn.formats.aberrations import Aberrations, aberrated_groups, even_coefficients, is_magnified
from firn.formats.particles import iterate_images, load_images
from firn.kernels.aberrations import image_frequencies, odd_phase, stretched, turned_phases
from firn.refine.state import CTF_COLUMNS, Optics

BATCH = 256


def particle_optics(table: pd.DataFrame) -> Optics:
    """What the CTF of each particle depends on."""
    even = even_coefficients(table)
    columns = {name: torch.tensor(table[name].to_numpy(np.float64)) for name in CTF_COLUMNS}
    return Optics(**columns, even=None if even is None else torch.tensor(even))


def load_corrected(table: pd.DataFrame, device: torch.device | str = "cpu") -> Tensor:
    """Float32 images `(n, y, x)` in the table's order, without odd aberrations and uneven magnification."""
    return correct_(torch.as_tensor(load_images(table), device=device), table)


def iterate_corrected(table: pd.DataFrame, batch_size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(row numbers, corrected images) in table order, batch_size rows at a time."""
    for rows, images in iterate_images(table, batch_size):
        yield rows, correct_(torch.as_tensor(images), table.iloc[rows])


def correct_(images_: Tensor, table: pd.DataFrame) -> Tensor:
    """Take odd phases and magnification away from images of the table's rows as recorded, in place; returns them.

    Raises InputError when an image holds NaN or infinity, of which a single one would spoil a whole map.
    """
    bad = ~images_.sum(dim=(1, 2)).isfinite()
    if bad.any():
        first = table["image"].iloc[int(bad.nonzero()[0])]
        raise InputError(f"{first}: the image has pixels that are no number; check_particles leaves such particles out")
    for group, rows, phase in _groups(images_, table):
        for part in rows.split(BATCH):
            plain = stretched(images_[part], torch.tensor(group.magnification)) if is_magnified(group) else images_[part]
            images_[part] = turned_phases(plain, -phase)
    return images_


def record_(images_: Tensor, table: pd.DataFrame) -> Tensor:
    """Turn corrected images back into what the microscope records, in place: the inverse of `correct_`; returns them."""
    for group, rows, phase in _groups(images_, table):
        for part in rows.split(BATCH):
            turned = turned_phases(images_[part], phase)
            images_[part] = stretched(turned, torch.tensor(np.linalg.inv(group.magnification))) if is_magnified(group) else turned
    return images_


def _groups(images: Tensor, table: pd.DataFrame) -> Iterator[tuple[Aberrations, Tensor, Tensor]]:
    """Groups with their rows and odd phase `(n, n // 2 + 1)`."""
    for group in aberrated_groups(table):
        pixel_size = float(table["image_pixel_size"].iloc[group.rows[0]])
        frequencies = image_frequencies(images.shape[-1], pixel_size, images.device)
        phase = odd_phase(frequencies, group.tilt, group.voltage_kv, group.cs_mm, torch.tensor(group.odd))
        yield group, torch.tensor(group.rows, device=images.device), phase
