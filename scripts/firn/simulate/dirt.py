"""What spoils an exposure: ice crystals and carbon edges, as contrast on the canvas.

Convention: contrast is relative to clean ice, dark where it is thick.
"""

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from firn.simulate.ctf import Optics, contrast_transfer, envelope
from firn.simulate.micrograph import Canvas

LATTICE = 3.67
"""Å. Spacing of hexagonal ice, drawn no finer than the pixels allow."""


def ice_crystals(canvas: Canvas, optics: Optics, count: int, generator: np.random.Generator) -> np.ndarray:
    """Contrast `(y, x)` float32 of count crystals: dark polygons with a bright rim and lattice fringes."""
    rows, columns = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    contrast = np.zeros(canvas.shape, dtype=np.float32)
    for _ in range(count):
        centre = generator.uniform(0.1, 0.9, 2) * canvas.shape
        size = generator.uniform(0.12, 0.25) * min(canvas.shape)
        inside = _polygon(rows - centre[0], columns - centre[1], size, generator)
        soft = gaussian_filter(inside.astype(np.float32), 2)
        rim = gaussian_filter(soft, 3) - gaussian_filter(soft, 8)
        contrast += -0.35 * soft - 0.5 * rim + 0.25 * soft * _fringes(rows, columns, optics, generator)
    return contrast


def carbon_edge(canvas: Canvas, optics: Optics, defocus: tuple[float, float, float], generator: np.random.Generator) -> np.ndarray:
    """Contrast `(y, x)` float32 of a carbon film that covers a third to a half of the frame, with the strong grain of carbon."""
    rows, columns = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    heading = generator.uniform(0, 2 * np.pi)
    distance = (columns - canvas.shape[1] / 2) * np.cos(heading) + (rows - canvas.shape[0] / 2) * np.sin(heading)
    soft = gaussian_filter((distance > generator.uniform(0, 0.15) * min(canvas.shape)).astype(np.float32), 2)
    transfer = contrast_transfer(canvas.shape, optics, *defocus) * envelope(canvas.shape, optics)
    grain = scipy.fft.irfft2(scipy.fft.rfft2(generator.standard_normal(canvas.shape, dtype=np.float32)) * transfer, s=canvas.shape)
    return soft * (-0.2 + 0.2 * grain / max(float(grain.std()), 1e-9))


def _polygon(y: np.ndarray, x: np.ndarray, size: float, generator: np.random.Generator) -> np.ndarray:
    """A convex shape of five to seven straight sides."""
    headings = np.linspace(0, 2 * np.pi, int(generator.integers(5, 8)), endpoint=False) + generator.uniform(0, 1)
    inside = np.ones(np.broadcast_shapes(y.shape, x.shape), dtype=bool)
    for heading in headings:
        inside &= x * np.cos(heading) + y * np.sin(heading) < size * generator.uniform(0.7, 1.0)
    return inside


def _fringes(rows: np.ndarray, columns: np.ndarray, optics: Optics, generator: np.random.Generator) -> np.ndarray:
    period = max(LATTICE / optics.pixel_size, 2.6)
    heading = generator.uniform(0, np.pi)
    return np.cos(2 * np.pi * (columns * np.cos(heading) + rows * np.sin(heading)) / period).astype(np.float32)
