"""Volumes at another pixel size, filtered, turned, and compared shell by shell: numpy's own versions.

Convention: `(z, y, x)` with the origin at index `n // 2`; rotations act on xyz column vectors in Å about the origin.
"""

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates, spline_filter


def resample(volume: np.ndarray, pixel_size: float, box: int, new_pixel_size: float) -> np.ndarray:
    """The volume `(n, n, n)` on a box of another pixel size (Å), by its trigonometric series; zero outside the old box.

    Values stay those of a density: they do not change with the pixel size. Detail finer than the new pixels is left out.
    """
    matrix = _interpolation(volume.shape[0], pixel_size, box, new_pixel_size)
    for _ in range(3):
        volume = np.tensordot(volume, matrix, axes=(0, 1))
    return volume.astype(np.float32)


def low_pass(volume: np.ndarray, pixel_size: float, resolution: float) -> np.ndarray:
    """Gaussian filter `(n, n, n)` whose amplitude falls to 1/e at the resolution in Å."""
    spectrum = scipy.fft.rfftn(volume)
    return scipy.fft.irfftn(spectrum * np.exp(-_squared_frequency(volume.shape[0], pixel_size) * resolution**2), s=volume.shape)


def turn(volume: np.ndarray, rotation: np.ndarray, shift_px: np.ndarray | None = None, mirror: bool = False) -> np.ndarray:
    """result(r) = volume(R r + t), for the volume mirrored in z first when asked; t xyz in px; cubic interpolation, 0 outside."""
    source = mirror_z(volume) if mirror else volume
    points = grid_points(volume.shape[0])
    return sample(spline_filter(source, order=3, output=np.float32), points, rotation, shift_px).reshape(volume.shape)


def mirror_z(volume: np.ndarray) -> np.ndarray:
    """volume(x, y, -z): the other hand, the origin staying at n // 2."""
    n = volume.shape[0]
    return volume[(2 * (n // 2) - np.arange(n)) % n]


def sample(
    coefficients: np.ndarray, points: np.ndarray, rotation: np.ndarray, shift_px: np.ndarray | None = None, order: int = 3
) -> np.ndarray:
    """Values `(k,)` at R r + t for points r `(k, 3)` xyz in px from the origin; coefficients are those of spline_filter for order 3."""
    there = points @ rotation.T + (0 if shift_px is None else shift_px)
    zyx = there[:, ::-1].T + np.array([side // 2 for side in coefficients.shape])[:, None]
    return map_coordinates(coefficients, zyx, order=order, prefilter=False, mode="constant", output=np.float32)


def grid_points(n: int) -> np.ndarray:
    """All voxels of a box as points `(n³, 3)` xyz in px from the origin, x fastest."""
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack((x.ravel(), y.ravel(), z.ravel()), axis=-1).astype(np.float64)


def correlation_by_shell(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Fourier shell correlation `(n // 2 + 1,)` of two volumes, nearest shells."""
    n = first.shape[0]
    a, b = scipy.fft.fftn(first), scipy.fft.fftn(second)
    axis = np.fft.fftfreq(n) * n
    shell = np.rint(np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)).astype(int).ravel()
    cross, power_a, power_b = (
        np.bincount(shell, values.ravel())[: n // 2 + 1] for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    return cross / np.sqrt(np.maximum(power_a * power_b, 1e-30))


def resolution_at(curve: np.ndarray, threshold: float, n: int, pixel_size: float) -> float:
    """Å at which a curve by shell first falls below a threshold, interpolated; Nyquist when it never does."""
    below = np.flatnonzero(curve[1:] < threshold)
    if len(below) == 0:
        return 2 * pixel_size
    shell = int(below[0]) + 1
    high, low = curve[shell - 1], curve[shell]
    crossing = shell - 1 + (high - threshold) / max(high - low, 1e-12) if shell > 1 else 1.0
    return float(n * pixel_size / max(crossing, 1e-6))


def _interpolation(n: int, pixel_size: float, box: int, new_pixel_size: float) -> np.ndarray:
    """Matrix `(box, n)` that evaluates a band-limited periodic series at the new positions."""
    positions = (np.arange(box) - box // 2) * new_pixel_size / pixel_size + n // 2
    k = np.round(np.fft.fftfreq(n) * n)
    kept = np.abs(k) / (n * pixel_size) < min(0.5 / new_pixel_size, 0.5 / pixel_size) * (1 - 1e-9)
    difference = positions[:, None] - np.arange(n)[None, :]
    kernel = np.sum(np.cos(2 * np.pi * k[kept] * difference[..., None] / n), axis=-1) / n
    inside = (positions >= 0) & (positions <= n - 1)
    return kernel * inside[:, None]


def _squared_frequency(n: int, pixel_size: float) -> np.ndarray:
    full, half = np.fft.fftfreq(n, pixel_size) ** 2, np.fft.rfftfreq(n, pixel_size) ** 2
    return full[:, None, None] + full[None, :, None] + half[None, None, :]
