"""Projection of a volume by central slices of its padded spectrum (projection-slice theorem, trilinear interpolation).

Convention: `r_volume = R r_image` with zyx matrices R, so the image frequency (0, ky, kx) reads the volume's spectrum at
R (0, ky, kx). Spectra are zero-frequency-first, unnormalised, with the real-space origin at index `n // 2`.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import rfft3
from firn.kernels.grid import fourier_disc
from firn.kernels.spectrum import read_slices, spectrum_table


def prepare_volume(volume: Float[Tensor, "n n n"], padding: int = 2) -> Complex[Tensor, "d d h"]:
    """Half spectrum of side `padding * n`, divided beforehand in real space by what trilinear interpolation will multiply."""
    n = volume.shape[0]
    return rfft3(pad_volume(volume / gridding_window(n, padding, volume.device), padding * n))


def project(
    spectrum: Complex[Tensor, "d d h"], rotations: Float[Tensor, "b 3 3"], n: int, radius: float | None = None, padding: int = 2
) -> Complex[Tensor, "b n w"]:
    """Spectra of projection images of side n, zero beyond the radius (units of 1/n; by default all within the inscribed circle)."""
    disc = fourier_disc(n, n / 2 if radius is None else radius, spectrum.device)
    out = spectrum.new_zeros(len(rotations), n * (n // 2 + 1))
    out[:, disc.index] = project_points(spectrum, rotations, disc.points, padding)
    return out.reshape(len(rotations), n, n // 2 + 1)


def project_points(
    spectrum: Complex[Tensor, "d d h"], rotations: Float[Tensor, "b 3 3"], points: Float[Tensor, "m 2"], padding: int = 2
) -> Complex[Tensor, "b m"]:
    """Central slices at yx frequencies in units of 1/n; the spectrum may be cropped (resize_spectrum3), which saves cache."""
    return project_table(spectrum_table(spectrum), rotations, points, padding)


def project_table(
    table: Float[Tensor, "..."], rotations: Float[Tensor, "b 3 3"], points: Float[Tensor, "m 2"], padding: int = 2
) -> Complex[Tensor, "b m"]:
    """As project_points, from the spectrum_table of a padded spectrum."""
    return read_slices(table, rotations * padding, points)


def gridding_window(n: int, padding: int, device: torch.device | str = "cpu") -> Float[Tensor, "n n n"]:
    """What trilinear interpolation in a spectrum padded to `padding * n` multiplies a volume by: sinc² along each axis."""
    axis = torch.sinc((torch.arange(n, device=device) - n // 2) / (padding * n)) ** 2
    return axis[:, None, None] * axis[None, :, None] * axis


def pad_volume(volume: Float[Tensor, "n n n"], d: int) -> Float[Tensor, "d d d"]:
    """Zero-pad a cube; the origin stays at index `side // 2`."""
    n = volume.shape[0]
    start = d // 2 - n // 2
    out = volume.new_zeros(d, d, d)
    out[start : start + n, start : start + n, start : start + n] = volume
    return out


def crop_volume(volume: Float[Tensor, "d d d"], n: int) -> Float[Tensor, "n n n"]:
    """Cut the central cube of side n; the origin stays at index `side // 2`."""
    start = volume.shape[0] // 2 - n // 2
    return volume[start : start + n, start : start + n, start : start + n]
