"""Simulated particles with known poses: analytic projections of phantoms, CTF and noise by plain numpy."""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.formats.mrc import write_stack
from firn.formats.tables import image_names, write_table
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import Phantom, phantom_projection

WAVELENGTH = 0.019687
"""Å, at 300 kV."""


def random_angles(count: int, seed: int = 1) -> np.ndarray:
    """Uniform (rot, tilt, psi) in degrees `(count, 3)`."""
    chance = np.random.default_rng(seed)
    tilt = np.degrees(np.arccos(chance.uniform(-1, 1, count)))
    return np.stack((chance.uniform(-180, 180, count), tilt, chance.uniform(-180, 180, count)), axis=-1)


def ctf_images(defocus: np.ndarray, box: int, pixel_size: float) -> np.ndarray:
    """sin(chi) at 300 kV, 2.7 mm, amplitude contrast 0.1, in the rfft layout `(n, box, box // 2 + 1)`."""
    s2 = np.fft.fftfreq(box, pixel_size)[:, None] ** 2 + np.fft.rfftfreq(box, pixel_size)[None] ** 2
    chi = np.pi * WAVELENGTH * defocus[:, None, None] * s2 - np.pi / 2 * 2.7e7 * WAVELENGTH**3 * s2**2
    return np.sin(chi + np.arcsin(0.1))


def write_particles(
    folder: str | Path,
    phantom: Phantom | list[Phantom],
    angles: np.ndarray,
    box: int,
    pixel_size: float,
    snr: float = np.inf,
    seed: int = 1,
) -> pd.DataFrame:
    """particles.mrcs and particles.star, with poses and alternate half-sets, below a folder of the working directory.

    A list of phantoms takes turns. Noise is white, of standard deviation 1; without noise images have standard deviation 1.
    """
    chance, count = np.random.default_rng(seed), len(angles)
    phantoms = phantom if isinstance(phantom, list) else [phantom]
    origins = chance.normal(0, pixel_size, (count, 2))
    defocus = chance.uniform(10000, 25000, count)
    matrices = euler_to_matrix(*angles.T)
    clean = np.stack(
        [phantom_projection(phantoms[i % len(phantoms)], matrices[i], box, pixel_size, tuple(-origins[i])) for i in range(count)]
    )
    signal = np.fft.irfft2(np.fft.rfft2(clean) * ctf_images(defocus, box, pixel_size), s=(box, box))
    signal = signal / signal.std()
    images = signal if np.isinf(snr) else signal * np.sqrt(snr) + chance.normal(size=signal.shape)
    stack = Path(folder) / "particles.mrcs"
    write_stack(stack, images.astype(np.float32), pixel_size)
    table = pd.DataFrame({"image": image_names(stack, count), "particle_id": [f"e1-{i:05d}" for i in range(count)]})
    table = table.assign(rot=angles[:, 0], tilt=angles[:, 1], psi=angles[:, 2], origin_x=origins[:, 0], origin_y=origins[:, 1])
    table = table.assign(
        defocus_u=defocus, defocus_v=defocus, defocus_angle=0.0, half=1 + (np.arange(count) // len(phantoms)) % 2,
        voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, image_pixel_size=pixel_size, box_px=box, dimensionality=2, optics_name="a",
    )  # fmt: skip
    write_table(Path(folder) / "particles.star", table, "particles")
    return table
