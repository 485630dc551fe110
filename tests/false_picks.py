"""Simulated particles with false picks, from files through classify_2d and select_2d; formulae of its own."""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.formats.ids import half_set
from firn.formats.mrc import write_stack
from firn.formats.tables import image_names, write_table
from firn.jobs import classify_2d, select_2d
from firn.runtime.entry import open_job
from firn.runtime.job import Job

BOX, PIXEL_SIZE = 32, 5.0
MOTIF = np.array([(0.0, 28.0, 9.0, 1.0), (-20.0, -20.0, 11.0, 1.2), (24.0, -12.0, 9.0, 0.8)])
"""y, x, sigma in Å and weight of Gaussians."""


def contrast_transfer(defocus: float) -> np.ndarray:
    """sin(chi) for 300 kV, Cs 2.7 mm, 0.1 amplitude contrast; `(BOX, BOX)` in the order of np.fft."""
    frequency = np.fft.fftfreq(BOX, PIXEL_SIZE)
    square = frequency[:, None] ** 2 + frequency**2
    wavelength = 0.0196875
    chi = np.pi * wavelength * defocus * square - np.pi / 2 * 2.7e7 * wavelength**3 * square**2
    return np.sin(chi + np.arctan(0.1 / np.sqrt(0.99)))


def particle(psi: float, shift_yx: np.ndarray, defocus: float) -> np.ndarray:
    y, x = (np.indices((BOX, BOX)) - BOX // 2) * PIXEL_SIZE
    c, s = np.cos(np.deg2rad(psi)), np.sin(np.deg2rad(psi))
    image = np.zeros((BOX, BOX))
    for y0, x0, sigma, weight in MOTIF:
        x1, y1 = c * x0 + s * y0 + shift_yx[1], -s * x0 + c * y0 + shift_yx[0]
        image += weight * np.exp(-((y - y1) ** 2 + (x - x1) ** 2) / (2 * sigma**2))
    return np.fft.ifft2(np.fft.fft2(image) * contrast_transfer(defocus)).real


def write_particles(folder: Path, count: int, false: int, seed: int = 1) -> pd.DataFrame:
    """Particles at known poses followed by false picks of noise alone."""
    chance = np.random.default_rng(seed)
    psi, shift, defocus = (
        chance.uniform(0, 360, count + false),
        chance.normal(0, 5, (count + false, 2)),
        chance.uniform(15e3, 25e3, count + false),
    )
    images = [
        particle(*pose) if number < count else np.zeros((BOX, BOX)) for number, pose in enumerate(zip(psi, shift, defocus, strict=True))
    ]
    stack = np.array(images) * 4 + chance.normal(size=(count + false, BOX, BOX))
    names = [f"e000000000000-{number:05d}" for number in range(count + false)]
    table = pd.DataFrame(
        {
            "image": image_names(f"{folder}/particles.mrcs", count + false), "particle_id": names, "half": [half_set(name) for name in names],
            "defocus_u": defocus, "defocus_v": defocus, "defocus_angle": 0.0, "phase_shift": 0.0, "origin_x": 0.0, "origin_y": 0.0,
            "firnTruePsi": psi, "firnTrueShiftY": shift[:, 0], "firnTrueShiftX": shift[:, 1], "firnTrue": (np.arange(count + false) < count).astype(int),
            "optics_name": "g", "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "image_pixel_size": PIXEL_SIZE, "box_px": BOX,
        }
    )  # fmt: skip
    write_stack(folder / "particles.mrcs", stack, PIXEL_SIZE)
    write_table(folder / "particles.star", table, "particles")
    return table


def classify(**settings) -> Job:
    settings = {"particles": "stack", "classes": 5, "iterations": 12, "max_resolution": 11.0, "particle_diameter": 120.0} | settings
    with open_job(classify_2d.Params, settings, {"particles": ["results/stack"]}, Path("results/class2d"), "class2d", threads=1) as job:
        classify_2d.run(job)
    return job


def select(name: str = "keep", **settings) -> Job:
    settings = {"particles": "class2d", "templates": "class2d"} | settings
    inputs = {"particles": ["results/class2d"], "templates": ["results/class2d"]}
    with open_job(select_2d.Params, settings, inputs, Path("results") / name, name, threads=1) as job:
        select_2d.run(job)
    return job
