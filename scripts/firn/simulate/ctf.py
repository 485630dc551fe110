"""Contrast transfer by its own formula, on rfft grids.

Convention: defocus in Å, positive = underfocus; defocus_angle in degrees from +x towards +y to the defocus_u axis. The value
is +sin(chi): it multiplies particles whose protein is white; in a micrograph protein is dark and the factor is its negative.
chi = pi lambda z s^2 - pi/2 Cs lambda^3 s^4 + phase_shift + asin(A), z = (u + v) / 2 + (u - v) / 2 cos 2(azimuth - angle).
Source: Mindell & Grigorieff, J. Struct. Biol. 142, 334 (2003); Rohou & Grigorieff, J. Struct. Biol. 192, 216 (2015).
"""

from dataclasses import dataclass, field

import numpy as np

from firn.simulate.aberrations import Aberrations, even_phase

ELECTRON_REST_KV = 510.99895
PLANCK_C_KV = 12.398420


@dataclass(frozen=True)
class Optics:
    """The microscope: kV, mm, fraction, Å per pixel, the B-factor (Å²) of the envelope exp(-B s² / 4), and its misalignments."""

    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    pixel_size: float = 1.0
    b_factor: float = 0.0
    aberrations: Aberrations = field(default_factory=Aberrations)

    @property
    def wavelength(self) -> float:
        """Å. de Broglie: hc / sqrt(E (E + 2 m c²))."""
        return PLANCK_C_KV / np.sqrt(self.voltage_kv * (self.voltage_kv + 2 * ELECTRON_REST_KV))

    @property
    def interaction(self) -> float:
        """Å. Phase shift in rad of one Å of scattering amplitude per Å² of area: wavelength times relativistic mass ratio."""
        return self.wavelength * (1 + self.voltage_kv / ELECTRON_REST_KV)


def frequency_grid(shape: tuple[int, int], pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """(fy `(ny, 1)`, fx `(1, nx // 2 + 1)`) in 1/Å, zero frequency first, float32."""
    fy = np.fft.fftfreq(shape[0], pixel_size).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_size).astype(np.float32)[None, :]
    return fy, fx


def contrast_transfer(
    shape: tuple[int, int], optics: Optics, defocus_u: float, defocus_v: float, defocus_angle: float, phase_shift: float = 0.0
) -> np.ndarray:
    """CTF `(ny, nx // 2 + 1)` float32 of an image of the given shape; defocus in Å, angles in degrees; without envelope."""
    fy, fx = frequency_grid(shape, optics.pixel_size)
    s2 = fx**2 + fy**2
    mean, half = (defocus_u + defocus_v) / 2, (defocus_u - defocus_v) / 2
    ast = np.deg2rad(2 * defocus_angle)
    defocus_s2 = mean * s2 + half * (np.cos(ast) * (fx**2 - fy**2) + np.sin(ast) * 2 * fx * fy)
    lam = optics.wavelength
    constant = np.deg2rad(phase_shift) + np.arcsin(optics.amplitude_contrast)
    chi = np.pi * lam * defocus_s2 - (0.5 * np.pi * optics.cs_mm * 1e7 * lam**3) * s2**2 + constant
    if optics.aberrations.tetrafoil[0]:
        chi = chi - even_phase(fy, fx, lam, optics.aberrations)
    return np.sin(chi).astype(np.float32)


def envelope(shape: tuple[int, int], optics: Optics) -> np.ndarray:
    """exp(-B s² / 4) `(ny, nx // 2 + 1)` float32."""
    fy, fx = frequency_grid(shape, optics.pixel_size)
    return np.exp(-0.25 * optics.b_factor * (fx**2 + fy**2)).astype(np.float32)
