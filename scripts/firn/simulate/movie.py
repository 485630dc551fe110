"""Frames of a moving, burning specimen: damage, motion, counting noise.

Convention: frame 0 shows the scene where its coordinates say; frame t shows it displaced by Motion.at. The expected counts per
pixel are dose * pixel area * background * (1 + contrast); row 0 is the image's first row.
Source: damage as exp(-dose / (2 critical dose)), critical dose 0.24499 k^-1.6649 + 2.8141 e/Å² at 300 kV, 0.8 of it at 200 kV:
Grant & Grigorieff, eLife 4, e06980 (2015).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

from firn.simulate.micrograph import Canvas
from firn.simulate.motion import Motion

FAINTEST = 0.02
"""Least relative intensity, where strong contrast would make it negative."""


@dataclass(frozen=True)
class Exposure:
    """How a scene is recorded: frames, dose in e/Å² per frame and before the first, kV, Å per pixel."""

    frames: int
    dose_per_frame: float
    pre_exposure: float
    voltage_kv: float
    pixel_size: float


def damage(shape: tuple[int, int], pixel_size: float, dose: float, voltage_kv: float) -> np.ndarray:
    """Amplitude left after a dose in e/Å², `(ny, nx // 2 + 1)` float32."""
    fy, fx = np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.rfftfreq(shape[1], pixel_size)[None, :]
    k = np.hypot(fy, fx).astype(np.float32)
    critical = 0.24499 * np.maximum(k, 1e-4) ** np.float32(-1.6649) + 2.8141
    return np.exp(-0.5 * dose / (critical * (0.8 if voltage_kv < 250 else 1.0)))


def expected_frames(
    protein: np.ndarray, still: np.ndarray, background: np.ndarray, canvas: Canvas, motion: Motion, exposure: Exposure
) -> Iterator[np.ndarray]:
    """Expected counts `(height, width)` of each frame.

    protein: contrast that the beam destroys; still: contrast that it does not (ice, dirt), both on the canvas and both moving;
    background: relative intensity over the frame, fixed to the detector.
    """
    spectra = [scipy.fft.rfft2(image) / _spline_transfer(canvas.shape) for image in (protein, still)]
    steps = np.gradient(motion.trajectory, axis=0) if exposure.frames > 1 else np.zeros((1, 2))
    scale = exposure.dose_per_frame * exposure.pixel_size**2
    for frame in range(exposure.frames):
        dose = exposure.pre_exposure + (frame + 0.5) * exposure.dose_per_frame
        left = damage(canvas.shape, exposure.pixel_size, dose, exposure.voltage_kv)
        spectrum = (spectra[0] * left + spectra[1]) * _moved(canvas.shape, motion.trajectory[frame], steps[frame])
        contrast = _warped(scipy.fft.irfft2(spectrum, s=canvas.shape), canvas, motion.field[frame])
        yield scale * background * np.maximum(1 + contrast, FAINTEST)


def _moved(shape: tuple[int, int], shift_xy: np.ndarray, step_xy: np.ndarray) -> np.ndarray:
    """Fourier factor of a shift in px, and of the blur by a motion of step_xy px within the frame."""
    fy, fx = np.fft.fftfreq(shape[0]).astype(np.float32), np.fft.rfftfreq(shape[1]).astype(np.float32)
    phase_y, phase_x = np.exp(-2j * np.pi * fy * shift_xy[1]), np.exp(-2j * np.pi * fx * shift_xy[0])
    blur = np.sinc((fy * step_xy[1])[:, None] + (fx * step_xy[0])[None, :])
    return phase_y.astype(np.complex64)[:, None] * phase_x.astype(np.complex64)[None, :] * blur


def _spline_transfer(shape: tuple[int, int]) -> np.ndarray:
    """Transform of the sampled cubic B-spline: dividing by it gives the coefficients that interpolation needs."""
    fy, fx = np.fft.fftfreq(shape[0]).astype(np.float32), np.fft.rfftfreq(shape[1]).astype(np.float32)
    return ((2 + np.cos(2 * np.pi * fy)) / 3)[:, None] * ((2 + np.cos(2 * np.pi * fx)) / 3)[None, :]


def _warped(coefficients: np.ndarray, canvas: Canvas, field: np.ndarray) -> np.ndarray:
    """The frame cut out of the canvas, each pixel fetched from where the field `(6, 2)` brought it from."""
    u = np.linspace(-1, 1, canvas.width, dtype=np.float32)[None, :]
    v = np.linspace(-1, 1, canvas.height, dtype=np.float32)[:, None]
    along_x, along_y = (_polynomial(field[:, axis].astype(np.float32), u, v) for axis in range(2))
    rows = np.arange(canvas.height, dtype=np.float32)[:, None] + canvas.margin - along_y
    columns = np.arange(canvas.width, dtype=np.float32)[None, :] + canvas.margin - along_x
    return map_coordinates(coefficients, np.stack((rows, columns)), order=3, prefilter=False, mode="grid-wrap", output=np.float32)


def _polynomial(c: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sum of coefficients times motion.field_terms on a grid, grouped so that few full-size products are needed."""
    return (c[0] + c[1] * u + c[3] * u * u) + v * (c[2] + c[4] * u + c[5] * v)
