"""Frames moved back and summed, plain and dose-weighted, each resampled once.

The global shift is exact (a phase ramp); what the local field adds is a warp by cubic splines. The dose weights
of all frames have low rank, so a few weighted sums and their transforms replace one transform per frame.
"""

import torch
from torch import Tensor

from firn.kernels.dose import dose_weights, factorise, radial_lookup
from firn.kernels.fourier import frequencies2, plain_irfft2, plain_rfft2, shift_phases
from firn.kernels.interpolate import spline_prefilter, warp_coefficients
from firn.preprocess.frames import Frames
from firn.preprocess.motion import Field, Motion, crop_spectra

SMALLEST_WARP_PX = 0.01
DOSE_SAMPLES = 2000


def sum_frames(
    frames: Frames, motion: Motion, pixel_size: float, doses: Tensor | None, voltage_kv: float, f_crop: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """(plain sum `(y, x)`, dose-weighted sum or None without doses); doses `(f,)` in e/Å² at the end of each frame."""
    shape = frames.shape
    mixing, profiles, step = _factor_weights(len(frames), doses, voltage_kv, pixel_size)
    plain = torch.zeros(shape, device=motion.shifts.device)
    mixed = torch.zeros(mixing.shape[1], *shape, device=plain.device)
    for number in range(len(frames)):
        moved = move_frame(frames[number], motion, number, pixel_size)
        plain += moved
        for row, weight in zip(mixed, mixing[number].tolist(), strict=True):
            row.add_(moved, alpha=weight)
    weighted = _weighted_spectrum(mixed, profiles, step) if doses is not None else None
    cropped = plain if f_crop == 1 else crop_spectra(plain_rfft2(plain), shape, f_crop)
    return cropped, None if weighted is None else crop_spectra(weighted, shape, f_crop)


def move_frame(frame: Tensor, motion: Motion, number: int, pixel_size: float) -> Tensor:
    """One frame `(y, x)` moved onto the first one."""
    shape = (frame.shape[0], frame.shape[1])
    rigid = motion.shifts[number] / pixel_size
    local = None if motion.field is None else _local_shifts(motion.field, number, shape, frame.device) / pixel_size
    if local is not None:
        mean = local.mean(dim=(1, 2))
        rigid, local = rigid + mean, local - mean[:, None, None]
    spectrum = _shift_spectrum(plain_rfft2(frame), shape, rigid)
    if local is None or float(local.abs().max()) < SMALLEST_WARP_PX:
        return plain_irfft2(spectrum, shape)
    rows, columns = spline_prefilter(shape, frame.device)
    return warp_coefficients(plain_irfft2(spectrum * rows * columns, shape), local)


def _shift_spectrum(spectrum: Tensor, shape: tuple[int, int], shift: Tensor) -> Tensor:
    grid = frequencies2(shape, spectrum.device)
    zero = torch.zeros_like(shift[:1])
    rows = shift_phases(grid[:, :1], torch.cat((shift[:1], zero)))
    columns = shift_phases(grid[:1], torch.cat((zero, shift[1:])))
    return spectrum * rows * columns


def _local_shifts(field: Field, number: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Shifts `(2, y, x)` in Å at the centres of all pixels."""
    y, x = ((torch.arange(side, device=device) + 0.5) / side for side in shape)
    return field.on_raster(number, y, x)


def _factor_weights(frames: int, doses: Tensor | None, voltage_kv: float, pixel_size: float) -> tuple[Tensor, Tensor, float]:
    """(mixing `(f, r)`, radial profiles `(r, n)`, their step in cycles per pixel); rank 0 without doses."""
    step = 0.7072 / (DOSE_SAMPLES - 1)
    if doses is None:
        return torch.zeros(frames, 0), torch.zeros(0, DOSE_SAMPLES), step
    samples = torch.arange(DOSE_SAMPLES, device=doses.device) * step / pixel_size
    mixing, profiles = factorise(dose_weights(samples, doses, voltage_kv))
    return mixing, profiles, step


def _weighted_spectrum(mixed: Tensor, profiles: Tensor, step: float) -> Tensor:
    radius = frequencies2((mixed.shape[1], mixed.shape[2]), mixed.device).square().sum(dim=-1).sqrt()
    total = torch.zeros(radius.shape, dtype=torch.complex64, device=mixed.device)
    for image, profile in zip(mixed, profiles, strict=True):
        total += plain_rfft2(image) * radial_lookup(profile[None], radius, step)[0]
    return total
