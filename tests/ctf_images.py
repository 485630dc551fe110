"""Micrographs for CTF tests: noise filtered by its own CTF formulae (numpy, nothing from kernels)."""

import numpy as np

HC_EV_A, ELECTRON_REST_EV = 12398.41984, 510998.95


def electron_wavelength(voltage_kv: float) -> float:
    """Wavelength in Å: hc / sqrt(E (E + 2 m c^2))."""
    energy = voltage_kv * 1e3
    return HC_EV_A / np.sqrt(energy * (energy + 2 * ELECTRON_REST_EV))


def ctf_grid(
    shape: tuple[int, int], pixel_size: float, u: float, v: float, angle: float, kv: float, cs: float, ac: float, phase: float = 0.0
) -> np.ndarray:
    """sin(chi) on the rfft grid of the shape."""
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0], pixel_size), np.fft.rfftfreq(shape[1], pixel_size), indexing="ij")
    s2, azimuth, wave = fx**2 + fy**2, np.arctan2(fy, fx), electron_wavelength(kv)
    local = 0.5 * (u + v) + 0.5 * (u - v) * np.cos(2 * (azimuth - np.deg2rad(angle)))
    return np.sin(np.pi * wave * local * s2 - 0.5 * np.pi * cs * 1e7 * wave**3 * s2**2 + np.deg2rad(phase) + np.arcsin(ac))


def noisy_micrograph(
    shape: tuple[int, int],
    pixel_size: float,
    u: float,
    v: float,
    angle: float,
    kv: float = 300.0,
    cs: float = 2.7,
    ac: float = 0.1,
    *,
    b_factor: float = 100.0,
    signal: float = 0.6,
    seed: int = 0,
    slope: tuple[float, float] = (0.0, 0.0),
    bend: float = 0.0,
    cut: float = 0.0,
    phase: float = 0.0,
) -> np.ndarray:
    """White noise through |CTF| exp(-B s^2 / 4) with strong low frequencies, plus white noise of variance 1.

    slope: defocus at the right (bottom) edge less that at the centre, in Å; bend: Å of u^2 - 1/3 across the width. cut: resolution in Å beyond which there is no signal.
    """  # fmt: skip
    rng = np.random.default_rng(seed)
    s2 = np.fft.fftfreq(shape[0], pixel_size)[:, None] ** 2 + np.fft.rfftfreq(shape[1], pixel_size)[None] ** 2
    envelope = signal * np.exp(-b_factor * s2 / 4) * (1 + 3 * np.exp(-s2 * 400))
    if cut:
        envelope = envelope * (s2 < cut**-2)
    source = np.fft.rfft2(rng.standard_normal(shape)) * envelope
    noise = rng.standard_normal(shape)
    return noise + _through_surface(
        source, shape, slope, bend, lambda offset: ctf_grid(shape, pixel_size, u + offset, v + offset, angle, kv, cs, ac, phase)
    )


def _through_surface(source: np.ndarray, shape: tuple[int, int], slope: tuple[float, float], bend: float, ctf) -> np.ndarray:
    """Image blended linearly from images at the two nearest of a ladder of defocus offsets."""
    columns, rows = np.linspace(-1, 1, shape[1]), np.linspace(-1, 1, shape[0])
    offset = slope[0] * columns[None] + slope[1] * rows[:, None] + bend * (columns[None] ** 2 - 1 / 3)
    if not offset.any():
        return np.fft.irfft2(source * ctf(0.0), shape)
    step = 50.0
    out = np.zeros(shape)
    for level in np.arange(np.floor(offset.min() / step), np.ceil(offset.max() / step) + 1) * step:
        out += np.clip(1 - np.abs(offset - level) / step, 0, None) * np.fft.irfft2(source * ctf(level), shape)
    return out
