"""A small simulated session for refinements: particles of a phantom on disk, with their truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from firn.formats.mrc import write_stack, write_volume
from firn.formats.tables import image_names, write_table
from firn.kernels.rotation import euler_matrices
from firn.simulate.phantom import Phantom, phantom_projection, phantom_volume, random_phantom

BOX, PIXEL = 32, 5.0
PHANTOM = random_phantom(60, 45.0, seed=4, widths=(3.5, 5.0))


@dataclass(frozen=True)
class Truth:
    """Angles (rot, tilt, psi) in degrees, shifts xy in Å that moved the particle, defocus in Å, noise-free images, grey scales."""

    angles: np.ndarray
    shifts: np.ndarray
    defocus: np.ndarray
    clean: np.ndarray
    scale: np.ndarray

    @property
    def rotations(self) -> torch.Tensor:
        """Matrices for zyx."""
        return euler_matrices(torch.tensor(self.angles))


def simulate(count: int, phantoms: list[Phantom], kinds: np.ndarray, seed: int = 1, box: int = BOX, scale_sd: float = 0) -> Truth:
    """Images of phantoms (kinds: which of them, or len(phantoms) for nothing) in random poses, with CTF, of standard deviation 1."""
    chance = np.random.default_rng(seed)
    angles = np.stack(
        (chance.uniform(-180, 180, count), np.degrees(np.arccos(chance.uniform(-1, 1, count))), chance.uniform(-180, 180, count)), -1
    )
    rotations = torch.flip(euler_matrices(torch.tensor(angles)), (-2, -1)).numpy()
    shifts = chance.normal(0, 4.0, (count, 2))
    clean = np.zeros((count, box, box), np.float32)
    for number, kind in enumerate(kinds):
        if kind < len(phantoms):
            clean[number] = phantom_projection(phantoms[kind], rotations[number], box, PIXEL, tuple(shifts[number]))
    defocus = chance.uniform(10000, 25000, count)
    images = np.fft.irfft2(np.fft.rfft2(clean) * ctf(defocus, box), s=(box, box))
    scale = 1 + scale_sd * chance.normal(size=count)
    return Truth(angles, shifts, defocus, scale[:, None, None] * images / images[kinds < len(phantoms)].std(), scale)


def ctf(defocus: np.ndarray, box: int = BOX) -> np.ndarray:
    """sin(chi) at 300 kV, 2.7 mm, amplitude contrast 0.1, in the rfft layout."""
    s2 = np.fft.fftfreq(box, PIXEL)[:, None] ** 2 + np.fft.rfftfreq(box, PIXEL)[None] ** 2
    chi = np.pi * 0.019687 * defocus[:, None, None] * s2 - np.pi / 2 * 2.7e7 * 0.019687**3 * s2**2
    return np.sin(chi + np.arcsin(0.1))


def write_particles(folder: Path, truth: Truth, images: np.ndarray, name: str = "keep", **columns: object) -> pd.DataFrame:
    """Stack and table in a folder below; further columns as given."""
    count, box = len(images), images.shape[-1]
    (folder / name).mkdir()
    write_stack(folder / f"{name}/particles.mrcs", images.astype(np.float32), PIXEL)
    table = pd.DataFrame({"image": image_names(f"{name}/particles.mrcs", count), "defocus_u": truth.defocus, "defocus_v": truth.defocus})
    table = table.assign(defocus_angle=0.0, voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, image_pixel_size=PIXEL)
    table = table.assign(box_px=box, dimensionality=2, optics_name="a", half=1 + np.arange(count) % 2, **columns)
    write_table(folder / f"{name}/particles.star", table, "particles")
    return table


def write_start(folder: Path, volume: np.ndarray, name: str = "start") -> None:
    """A map in a folder below."""
    (folder / name).mkdir()
    write_volume(folder / f"{name}/map.mrc", volume, PIXEL)


def write_session(folder: Path, count: int, snr: float, scale_sd: float = 0) -> Truth:
    """Particles of PHANTOM in keep/ and its map, on another grey scale, in start/; SNR 0 is pure noise."""
    truth = simulate(count, [PHANTOM], np.zeros(count, int), scale_sd=scale_sd)
    noise = np.random.default_rng(2).normal(size=truth.clean.shape)
    write_particles(folder, truth, truth.clean * np.sqrt(snr) + noise)
    write_start(folder, 7.0 * phantom_volume(PHANTOM, BOX, PIXEL))
    return truth
