"""Aberrations beyond defocus and spherical aberration, in RELION's terms, and their removal from images.

Convention: with M the magnification matrix, the spectrum of an image at s (1/Å) is `sin(chi - even(Ms)) exp(i odd(Ms)) P(Ms)`, P the
projection's. odd = -2 pi Cs lambda² |s|² (s . tilt) + sum of antisymmetric Zernike polynomials; even = sum of symmetric ones, both with |s|
in 1/Å as radius and in the order n = 1, 3, ... (0, 2, ...), m = -n, -n + 2, ..., n; m < 0 goes with the sine of the azimuth, taken from +x
towards +y. Tilt in mrad and matrices are xy, as in a table; frequencies and images are yx.
Source: Zivanov, Nakane & Scheres, IUCrJ 7, 253 (2020).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.ctf import ctf_phase, wavelength
from firn.kernels.fourier import frequencies2, irfft2, rfft2, shift_lines


def zernike_mode(index: int, odd: bool) -> tuple[int, int]:
    """(n, m) of the polynomial at a place in the list of the odd or the even ones."""
    row = (math.isqrt(1 + 4 * index) - 1) // 2 if odd else math.isqrt(index)
    degree = 2 * row + odd
    return degree, 2 * (index - row * (row + odd)) - degree


def zernike_basis(frequencies: Float[Tensor, "*grid 2"], count: int, odd: bool) -> Float[Tensor, "k *grid"]:
    """The first polynomials of one parity at frequencies yx in 1/Å, float32."""
    fy, fx = frequencies.double().unbind(-1)
    radius, azimuth = torch.hypot(fx, fy), torch.atan2(fy, fx)
    images = []
    for degree, order in (zernike_mode(index, odd) for index in range(count)):
        radial = sum(factor * radius**power for power, factor in radial_terms(degree, abs(order)).items())
        images.append(radial * (torch.cos(order * azimuth) if order >= 0 else torch.sin(-order * azimuth)))
    return torch.stack(images).float() if images else frequencies.new_zeros(0, *frequencies.shape[:-1])


def radial_terms(degree: int, order: int) -> dict[int, int]:
    """Coefficients of the radial Zernike polynomial R(degree, order), by power."""
    terms = {}
    for k in range((degree - order) // 2 + 1):
        below = math.factorial(k) * math.factorial((degree + order) // 2 - k) * math.factorial((degree - order) // 2 - k)
        terms[degree - 2 * k] = (-1) ** k * math.factorial(degree - k) // below
    return terms


def aberrated_phase(frequencies: Float[Tensor, "*grid 2"], even: Float[Tensor, "b k"] | None, **optics: Tensor) -> Float[Tensor, "b *grid"]:
    """chi - even in rad of images with symmetric Zernike coefficients; optics: arguments of kernels.ctf.ctf_phase."""
    phase = ctf_phase(frequencies, **optics)
    if even is not None:
        phase = phase - torch.tensordot(even.float(), zernike_basis(frequencies, even.shape[1], odd=False), dims=1)
    return phase


def coma_factor(voltage_kv: float, cs_mm: float) -> float:
    """rad Å³ per mrad of beam tilt: 2 pi Cs lambda²."""
    return 2 * math.pi * cs_mm * 1e7 * float(wavelength(voltage_kv)) ** 2 * 1e-3


def odd_phase(
    frequencies: Float[Tensor, "*grid 2"], tilt: tuple[float, float], voltage_kv: float, cs_mm: float, zernike: Float[Tensor, " k"]
) -> Float[Tensor, "*grid"]:
    """Antisymmetric phase in rad that a beam tilt (x, y in mrad) and odd Zernike polynomials add to spectra of images."""
    fy, fx = frequencies.double().unbind(-1)
    coma = -coma_factor(voltage_kv, cs_mm) * (fx**2 + fy**2) * (fx * tilt[0] + fy * tilt[1])
    basis = zernike_basis(frequencies, len(zernike), odd=True)
    return coma.float() + torch.tensordot(zernike.to(basis), basis, dims=1)


def turned_phases(images: Float[Tensor, "b n n"], phase: Float[Tensor, "n w"]) -> Float[Tensor, "b n n"]:
    """Images whose spectra are multiplied by exp(i phase); the unpaired Nyquist row and column of an even side stay as they are."""
    side = images.shape[-1]
    phase = phase.clone()
    if side % 2 == 0:
        phase[side // 2], phase[:, side // 2] = 0.0, 0.0
    return irfft2(rfft2(images) * torch.polar(torch.ones_like(phase), phase), (side, side))


def image_frequencies(side: int, pixel_size: float, device: torch.device | str = "cpu") -> Float[Tensor, "n w 2"]:
    """Frequencies yx in 1/Å of the spectrum of a square image."""
    return frequencies2((side, side), device) / pixel_size


def stretched(images: Float[Tensor, "b n n"], matrix: Float[Tensor, "2 2"]) -> Float[Tensor, "b n n"]:
    """Images whose spectra at s are those of the given ones at `inverse(matrix) s`: magnification by the matrix (xy) taken away.

    In real space g(x) = |det M| f(M^T x), done as two passes along columns and rows, each a shift of every line and one matrix product with
    the band-limited interpolation to a finer or coarser step (Catmull & Smith, Comput. Graph. 14, 279, 1980).
    """
    (a, c), (b, d) = matrix.double().tolist()
    determinant = a * d - b * c
    across = torch.arange(images.shape[-1], device=images.device, dtype=torch.float32) - images.shape[-1] // 2
    columns = shift_lines(images.mT, -(c / a) * across)
    first = columns @ resampling(images.shape[-1], determinant / a).to(columns).T
    rows = shift_lines(first.mT, -b * across)
    return abs(determinant) * (rows @ resampling(images.shape[-1], a).to(rows).T)


def resampling(n: int, step: float) -> Float[Tensor, "n n"]:
    """Matrix that reads a band-limited periodic line of n samples at `step` times the index, from the origin n // 2; float64."""
    index = torch.arange(n, dtype=torch.float64) - n // 2
    angle = torch.pi * (step * index[:, None] - index)
    small = torch.sin(angle / n).abs() < 1e-9
    below = torch.where(small, 1.0, torch.tan(angle / n) if n % 2 == 0 else torch.sin(angle / n))
    return torch.where(small, 1.0, torch.sin(angle) / (n * below))
