"""A small molecule made of Gaussians, seen in random orientations: closed formulae, independent of the projector."""

import math

import torch

from firn.kernels.fourier import frequencies2, irfft2, shift_phases
from firn.kernels.rotation import random_rotations
from firn.refine.state import Optics

BOX, PIXEL_SIZE, WIDTH = 32, 6.0, 8.0
CENTRES = torch.tensor(
    [
        [0.0, 0, 0],
        [0, 12, 0],
        [12, -6, 0],
        [0, -25, 10],
        [-30, 0, 5],
        [-38, 12, 0],
        [25, 30, -10],
        [10, 0, 40],
        [15, -8, 48],
        [-10, -30, -30],
    ]
)
"""zyx in Å; no symmetry, and not its own mirror image."""


def volume() -> torch.Tensor:
    """Density at the voxel centres, the grey scale free."""
    axis = (torch.arange(BOX) - BOX // 2) * PIXEL_SIZE
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return sum(torch.exp(-(grid - centre).square().sum(-1) / (2 * WIDTH**2)) for centre in CENTRES)


def particles(count: int, snr: float, seed: int) -> tuple[torch.Tensor, Optics, torch.Tensor, torch.Tensor]:
    """(images with noise of variance 1, CTF parameters, rotations, shifts yx in Å that centre them)."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotations(count, generator)
    origins = 5 * (2 * torch.rand(count, 2, generator=generator) - 1)
    frequencies = frequencies2((BOX, BOX)) / PIXEL_SIZE
    seen = torch.einsum("bji,cj->bci", rotations, CENTRES)[..., 1:]
    phase = -2 * math.pi * torch.einsum("bci,yxi->bcyx", seen, frequencies)
    envelope = torch.exp(-2 * math.pi**2 * WIDTH**2 * frequencies.square().sum(-1))
    spectra = torch.polar(torch.ones_like(phase), phase).sum(1) * envelope
    defocus = 10000 + 15000 * torch.rand(count, generator=generator, dtype=torch.float64)
    full = torch.ones_like(defocus)
    ctf = Optics(defocus + 150, defocus - 150, 30 * full, 300 * full, 2.7 * full, 0 * full, 0.1 * full)
    values = ctf.at(torch.arange(count), frequencies2((BOX, BOX)), PIXEL_SIZE, 1)
    clean = irfft2(spectra * values * shift_phases(frequencies2((BOX, BOX)), -origins / PIXEL_SIZE), (BOX, BOX))
    images = clean * math.sqrt(snr) / clean.std() + torch.randn(clean.shape, generator=generator)
    return images, ctf, rotations, origins
