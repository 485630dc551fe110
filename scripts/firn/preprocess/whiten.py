"""Making a micrograph's noise white before it is matched with templates.

A matched filter is best where the noise has equal power at all frequencies (Turin, IRE Trans. Inf. Theory 6, 311 (1960)); in single
particles: Lucas et al., eLife 10, e68946 (2021). Whatever filtered a micrograph (its detector, smoothing, denoising) acted on
particles and noise alike, so that a white picture is compared with templates that nothing but its own filters were applied to.
Convention: radial functions are given at evenly spaced frequencies from 0 to Nyquist.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.fourier import frequencies2
from firn.kernels.power_spectrum import radial_means, tile_corners, tile_spectra, tile_window, usable_tiles
from firn.kernels.templates import high_pass_filter, low_pass_filter
from firn.preprocess.reduced import BACKGROUND, Reduced, filter_mirrored

TILE, FLANK = 4.0, 0.5
"""Side of the tiles that the power spectrum is averaged over, in diameters; their windows rise over this share of it."""
FAINTEST = 1e-4
"""Share of the strongest power below which a frequency is left faint: rounding, not noise, is what a filter left there."""
SOLID = 0.5
"""The power spectrum is known where the micrograph's own band-pass is at least this; elsewhere it is as at the nearest such frequency."""


def whiten(reduced: Reduced, factors: Float[Tensor, "n f"], low_pass: float, diameter: float) -> tuple[Reduced, Float[Tensor, "n f"]]:
    """(micrograph with white noise within its band, in units of that noise; factors on the templates' spectra to go with it)."""
    power = noise_power(reduced, low_pass, diameter)
    floor = FAINTEST * power.max().clamp(min=1e-12)
    gain, share = torch.rsqrt(power.clamp(min=floor)), (power / floor).clamp(max=1).sqrt()
    image = filter_mirrored(reduced.image, BACKGROUND * diameter / reduced.pixel_size, lambda radius: radial_values(gain, radius))
    radius = frequencies2((factors.shape[0], factors.shape[0]), factors.device).norm(dim=-1)
    return dataclasses.replace(reduced, image=image), factors * radial_values(share, radius)


def noise_power(reduced: Reduced, low_pass: float, diameter: float) -> Float[Tensor, "r"]:
    """Power per pixel of the ordinary tiles of the micrograph before its band-pass, from frequency 0 to Nyquist."""
    image = reduced.image
    tile = max(2 * round(min(TILE * diameter / reduced.pixel_size, *image.shape) / 2), 16)
    corners = tile_corners((image.shape[0], image.shape[1]), tile)
    known = torch.stack([reduced.valid[y : y + tile, x : x + tile].all() for y, x in corners.tolist()]).to(corners.device)
    spectra = tile_spectra(image, corners[known] if bool(known.any()) else corners, tile, FLANK)
    mean = spectra[usable_tiles(spectra.flatten(1))].mean(0) / tile_window(tile, image.device, FLANK).square().sum() ** 2
    power = radial_means(mean, frequencies2((tile, tile), image.device), tile)
    frequencies = torch.linspace(0, 0.5, len(power), device=image.device) / reduced.pixel_size
    filters = low_pass_filter(frequencies, low_pass) * high_pass_filter(frequencies, BACKGROUND * diameter)
    solid = torch.nonzero((filters >= SOLID) & (power > 0)).flatten()
    if len(solid) == 0:
        return torch.ones_like(power)
    nearest = torch.arange(len(power), device=image.device).clamp(solid[0], solid[-1])
    return (power / filters.square())[nearest]


def radial_values(values: Float[Tensor, "r"], radius: Float[Tensor, "*g"]) -> Float[Tensor, "*g"]:
    """A radial function at radii in cycles per pixel, by linear interpolation; beyond Nyquist as at Nyquist."""
    place = (radius * 2 * (len(values) - 1)).clamp(max=len(values) - 1)
    below = place.long().clamp(max=len(values) - 2)
    return torch.lerp(values[below], values[below + 1], place - below)
