"""Simulated half maps by plain numpy: Gaussian atoms with a known B-factor, and independent noise."""

from pathlib import Path

import numpy as np

from firn.formats.mrc import write_volume


def atoms_map(n: int, pixel_size: float, atoms: int = 150, radius: float = 18.0, b_factor: float = 60.0, seed: int = 0) -> np.ndarray:
    """Density `(n, n, n)` of atoms scattered in a ball (Å) about index n // 2, each of the Fourier amplitude exp(-B s² / 4)."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(atoms, 3))
    centres = directions / np.linalg.norm(directions, axis=1, keepdims=True) * radius * generator.random((atoms, 1)) ** (1 / 3)
    variance = b_factor / (8 * np.pi**2)
    axis = (np.arange(n) - n // 2) * pixel_size
    lines = [np.exp(-((axis[None] - centres[:, dim, None]) ** 2) / (2 * variance)) for dim in range(3)]
    density = np.einsum("az,ay,ax->zyx", *lines) * (pixel_size / np.sqrt(2 * np.pi * variance)) ** 3
    return density.astype(np.float32)


def noisy_halves(signal: np.ndarray, noise: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of the signal with independent white noise, its standard deviation in units of the signal's."""
    generator = np.random.default_rng(seed)
    scale = noise * signal.std()
    first, second = (signal + scale * generator.normal(size=signal.shape) for _ in range(2))
    return first.astype(np.float32), second.astype(np.float32)


def write_halves(folder: Path, halves: tuple[np.ndarray, np.ndarray], pixel_size: float) -> None:
    """A volume job's folder with map.mrc, half1.mrc and half2.mrc."""
    for name, volume in zip(("half1", "half2", "map"), (*halves, (halves[0] + halves[1]) / 2), strict=True):
        write_volume(folder / f"{name}.mrc", volume, pixel_size)
