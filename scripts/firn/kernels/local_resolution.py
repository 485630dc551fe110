"""Resolution at every place of a map, by correlation of band-passed half maps in a window, and filtering by it.

Convention: resolutions in Å or, where named `frequency`, in cycles per pixel. Both half maps are band-passed as a whole, then
correlated in a Gaussian window: `FSC(r, f) = W*(a b) / sqrt(W*(a²) W*(b²))`. Since the window comes after the band-pass, it cannot leak
strong coarse shells into fine ones, so that nothing has to be corrected for it: independent noise gives 0 in any window.
A window is some times wider than the detail it judges. Source: Cardone, Heymann & Steven, J. Struct. Biol. 184, 226 (2013).
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.filter import b_factor_decay, butterworth_low_pass, gaussian_low_pass, radial_frequencies
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.spectrum import resize_spectrum3

BAND_RATIO = 1.08
BAND_WIDTH = 0.12
"""Standard deviation of a band as a part of its frequency."""
WINDOW_SIGMAS = 4.0
"""Width of a window, given as its diameter, in standard deviations of its Gaussian."""
REACH = 2.5
"""Standard deviations of a band beyond which its coefficients are left out."""
MASK_FLOOR = 1e-3


def band_frequencies(coarsest: float, finest: float) -> list[float]:
    """Frequencies from the coarsest to the finest (cycles per pixel), each at most BAND_RATIO times the one before."""
    steps = max(1, math.ceil(math.log(finest / coarsest) / math.log(BAND_RATIO)))
    return [coarsest * (finest / coarsest) ** (step / steps) for step in range(steps + 1)]


def window_sigma(frequency: float, factor: float, n: int) -> float:
    """Standard deviation in pixels of the window for a frequency: factor periods wide, at most the box."""
    return min(factor / frequency, n) / WINDOW_SIGMAS


def local_fsc(
    first: Complex[Tensor, "n n h"],
    second: Complex[Tensor, "n n h"],
    mask: Float[Tensor, "m m m"],
    frequency: float,
    sigma: float,
) -> Float[Tensor, "m m m"]:
    """Correlation of two half maps' spectra in a band about a frequency, on the mask's grid, in Gaussian windows of sigma pixels.

    Only what the mask (of the same field of view) holds counts in a window; 0 where it holds nothing.
    """
    n, m = first.shape[0], mask.shape[0]
    side = min(n, 2 * math.ceil(n * frequency * (1 + REACH * BAND_WIDTH)) + 2)
    band = torch.exp(-0.5 * ((radial_frequencies((side,) * 3, first.device) * (side / n) / frequency - 1) / BAND_WIDTH) ** 2)
    a, b = (irfft3(resize_spectrum3(spectrum, side) * band, (side,) * 3) for spectrum in (first, second))
    weights = resized(mask, side).clamp(min=0)
    smooth = gaussian_low_pass(radial_frequencies((side,) * 3, first.device), sigma * side / n)
    cross, power_a, power_b = (_window(weights * product, smooth, m) for product in (a * b, a * a, b * b))
    power = (power_a.clamp(min=0) * power_b.clamp(min=0)).sqrt()
    return torch.where(power > MASK_FLOOR * power.max(), cross / power.clamp(min=1e-30), torch.zeros_like(power))


def local_frequencies(curves: Iterable[tuple[float, Tensor]], threshold: float) -> Tensor:
    """Frequency at which each voxel's correlation first falls below the threshold, linear between bands given coarse to fine.

    A voxel below it from the first band on gets that band's frequency, one that never falls the last band's.
    """
    found: Tensor | None = None
    for frequency, curve in curves:
        if found is None:
            found, alive, before, last = torch.full_like(curve, frequency), curve >= threshold, curve, frequency
            continue
        share = ((before - threshold) / (before - curve).clamp(min=1e-6)).clamp(0, 1)
        crossing = last + share * (frequency - last)
        found = torch.where(alive, torch.where(curve >= threshold, torch.full_like(curve, frequency), crossing), found)
        alive, before, last = alive & (curve >= threshold), curve, frequency
    if found is None:
        raise ValueError("no bands were given")
    return found


def resized(volume: Float[Tensor, "n n n"], side: int) -> Float[Tensor, "m m m"]:
    """A slowly varying map on a grid of another side over the same field of view, trilinear; origins coincide, edges are held."""
    n = volume.shape[0]
    if n == side:
        return volume
    axis = (torch.arange(side, device=volume.device) - side // 2) * (n / side) + n // 2
    unit = axis * (2 / (n - 1)) - 1
    points = torch.stack(torch.meshgrid(unit, unit, unit, indexing="ij"), dim=-1).flip(-1)
    return torch.nn.functional.grid_sample(volume[None, None], points[None], align_corners=True, padding_mode="border")[0, 0]


def filter_locally(
    volume: Float[Tensor, "n n n"], frequencies: Float[Tensor, "n n n"], order: int = 8, b_factor: float = 0.0, pixel_size: float = 1.0
) -> Float[Tensor, "n n n"]:
    """The map with every voxel low-passed (Butterworth) at its own frequency in cycles per pixel, after a B-factor in Å².

    Between the filters of a geometric series, densities are interpolated in the logarithm of the frequency.
    """
    n = volume.shape[-1]
    radii = radial_frequencies(tuple(volume.shape), volume.device)
    spectrum = rfft3(volume) * b_factor_decay(radii, b_factor, pixel_size)
    cutoffs = band_frequencies(float(frequencies.min()), max(float(frequencies.max()), float(frequencies.min()) * 1.001))
    spacing = math.log(cutoffs[1] / cutoffs[0])
    place = torch.log(frequencies / cutoffs[0]) / spacing
    out = torch.zeros_like(volume)
    for number, cutoff in enumerate(cutoffs):
        share = (1 - (place - number).abs()).clamp(min=0)
        if bool(share.any()):
            out = out + share * irfft3(spectrum * butterworth_low_pass(radii, cutoff, order), (n, n, n))
    return out


def _window(product: Tensor, smooth: Tensor, side: int) -> Tensor:
    """The product averaged in windows, on a grid of another side."""
    spectrum = resize_spectrum3(rfft3(product) * smooth, side)
    return irfft3(spectrum, (side,) * 3) * (side / product.shape[0]) ** 3
