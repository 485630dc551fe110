"""What ab-initio reconstruction looks at: particle spectra and CTFs on the Fourier disc of the finest resolution used.

Convention: images white-protein, cropped in Fourier space to a working box of side n; noise is the variance per complex
coefficient of the unnormalised transform, one value per shell (units of 1/n).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import fast_size, resize_images, rfft2, shift_phases
from firn.kernels.grid import FourierDisc, fourier_disc, shell_sums
from firn.kernels.mask import centre_distance, soft_disc
from firn.refine.state import Optics

WINDOW_INNER, WINDOW_OUTER = 0.85, 0.99
"""Radii, relative to half the box, between which particle images fade out."""


class Geometry(NamedTuple):
    """The working box."""

    n: int
    pixel_size: float
    disc: FourierDisc

    def radius(self, resolution: float) -> float:
        """Fourier radius (units of 1/n) of a resolution in Å, at most that of the disc."""
        return min(self.n * self.pixel_size / resolution, float(self.disc.points.norm(dim=-1).max()))


class Observations(NamedTuple):
    """A batch of particles on the disc."""

    spectra: Complex[Tensor, "b m"]
    ctf: Float[Tensor, "b m"]

    def pick(self, rows: Tensor | slice, points: Tensor | slice = slice(None)) -> "Observations":
        """Some of the particles, on some of the points."""
        return Observations(self.spectra[rows][:, points], self.ctf[rows][:, points])


def working_geometry(
    box_px: int, pixel_size: float, resolution: float, max_radius: int = 32, device: torch.device | str = "cpu"
) -> Geometry:
    """Smallest convenient box in which `resolution` Å lies inside Nyquist; never finer than box / max_radius, to bound the work."""
    extent = box_px * pixel_size
    radius = min(extent / resolution, max_radius, (box_px - 1) // 2)
    n = min(fast_size(math.ceil(2.2 * radius) + 2), box_px)
    return Geometry(n, extent / n, fourier_disc(n, min(radius, (n - 1) // 2), device))


def observe(
    images: Float[Tensor, "b y x"], pixel_size: float, optics: Optics, origins: Float[Tensor, "b 2"], geometry: Geometry
) -> Observations:
    """Windowed, centred by their yx origins (Å), cropped particles on the disc, with the CTFs of their optics."""
    box, n = images.shape[-1], geometry.n
    window = soft_disc(box, WINDOW_INNER * box / 2, (WINDOW_OUTER - WINDOW_INNER) * box / 2, images.device)
    spectra = rfft2(resize_images(images * window, (n, n))).flatten(1)[:, geometry.disc.index]
    ctf = optics.at(torch.arange(len(images)), geometry.disc.points, geometry.pixel_size, n)
    return Observations(spectra * shift_phases(geometry.disc.points / n, origins / geometry.pixel_size), ctf)


def solvent_power(images: Float[Tensor, "b y x"], diameter_px: float, geometry: Geometry) -> Float[Tensor, " s"]:
    """Noise variance per shell, from what lies outside the particle: the sum over the batch's mean, per full image area.

    Smoothed over neighbouring shells, since the region outside is a narrow one.
    """
    box, n = images.shape[-1], geometry.n
    inner = min(diameter_px / 2, 0.8 * box / 2)
    outside = 1 - soft_disc(box, inner, 0.1 * box, images.device)
    level = (images * outside).sum((-2, -1), keepdim=True) / outside.sum()
    spectra = rfft2(resize_images((images - level) * outside, (n, n))).flatten(1)[:, geometry.disc.index]
    window = soft_disc(box, WINDOW_INNER * box / 2, (WINDOW_OUTER - WINDOW_INNER) * box / 2, images.device)
    power = (spectra.abs() ** 2).mean(0) * (window.square().sum() / outside.square().sum())
    return smooth_shells(shell_means(power, geometry.disc))


def shell_means(values: Float[Tensor, "*b m"], disc: FourierDisc) -> Float[Tensor, "*b s"]:
    """Means over the shells of the disc."""
    count = int(disc.shells.max()) + 1
    return shell_sums(values * disc.weights, disc.shells, count) / shell_sums(disc.weights, disc.shells, count)


def smooth_shells(values: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    """Running mean over three shells; shell 0 takes its neighbour's value."""
    padded = torch.cat((values[1:2], values[1:2], values[1:], values[-1:]))
    return padded.unfold(0, 3, 1).mean(-1)


def solvent_sphere(n: int, radius_px: float, device: torch.device | str = "cpu") -> Float[Tensor, "n n n"]:
    """Soft sphere that holds the particle: 1 to radius_px, then a cosine edge to the box's side."""
    edge = max(min(0.1 * n, n / 2 - 1 - radius_px), 2.0)
    beyond = (centre_distance((n, n, n), device) - radius_px) / edge
    return 0.5 + 0.5 * torch.cos(torch.pi * beyond.clamp(0, 1))
