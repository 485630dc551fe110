"""Radial filters of images and volumes.

Convention: frequencies are in cycles per pixel unless a pixel size is given; a B-factor is in Å² and multiplies amplitudes
by exp(-B s² / 4), so that a positive one blurs and a negative one sharpens.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.fourier import frequencies2, frequencies3, irfft2, irfft3, rfft2, rfft3


def radial_frequencies(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Float[Tensor, "..."]:
    """Magnitude in cycles per pixel of each rfft frequency of a `(y, x)` or `(z, y, x)` shape."""
    grid = frequencies2((shape[0], shape[1]), device) if len(shape) == 2 else frequencies3((shape[0], shape[1], shape[2]), device)
    return torch.linalg.vector_norm(grid, dim=-1)


def cosine_low_pass(frequencies: Float[Tensor, "..."], cutoff: float, width: float) -> Float[Tensor, "..."]:
    """1 below cutoff - width / 2, 0 above cutoff + width / 2, a raised cosine between (one half at the cutoff)."""
    if width <= 0:
        return (frequencies <= cutoff).float()
    return 0.5 + 0.5 * torch.cos(torch.pi * ((frequencies - cutoff) / width + 0.5).clamp(0, 1))


def butterworth_low_pass(frequencies: Float[Tensor, "..."], cutoff: float, order: int = 8) -> Float[Tensor, "..."]:
    """Amplitude `1 / sqrt(1 + (s / cutoff)^(2 order))`, 1 / sqrt(2) at the cutoff."""
    return torch.rsqrt(1 + (frequencies / cutoff) ** (2 * order))


def b_factor_decay(frequencies: Float[Tensor, "..."], b_factor: float, pixel_size: float) -> Float[Tensor, "..."]:
    """exp(-B s² / 4) with s in 1/Å; frequencies in cycles per pixel, pixel_size in Å."""
    return torch.exp(-b_factor / 4 * (frequencies / pixel_size) ** 2)


def gaussian_low_pass(frequencies: Float[Tensor, "..."], sigma_px: float) -> Float[Tensor, "..."]:
    """Transform of a normalised Gaussian of standard deviation sigma_px pixels in real space."""
    return torch.exp(-2 * (torch.pi * sigma_px * frequencies) ** 2)


def filter_images(images: Float[Tensor, "*b y x"], weights: Float[Tensor, "y half_x"]) -> Float[Tensor, "*b y x"]:
    """Images multiplied by real weights in Fourier space."""
    return irfft2(rfft2(images) * weights, (images.shape[-2], images.shape[-1]))


def filter_volumes(volumes: Float[Tensor, "*b z y x"], weights: Float[Tensor, "z y half_x"]) -> Float[Tensor, "*b z y x"]:
    """Volumes multiplied by real weights in Fourier space."""
    return irfft3(rfft3(volumes) * weights, (volumes.shape[-3], volumes.shape[-2], volumes.shape[-1]))


def low_pass_volume(
    volume: Float[Tensor, "n n n"], pixel_size: float, resolution: float, edge_shells: float = 4.0
) -> Float[Tensor, "n n n"]:
    """Map low-passed at a resolution in Å, with a cosine edge edge_shells Fourier voxels wide."""
    weights = cosine_low_pass(
        radial_frequencies(tuple(volume.shape), volume.device), pixel_size / resolution, edge_shells / volume.shape[-1]
    )
    return filter_volumes(volume, weights)


def low_pass_images(
    images: Float[Tensor, "*b y x"], pixel_size: float, resolution: float, edge_pixels: float = 4.0
) -> Float[Tensor, "*b y x"]:
    """Images low-passed at a resolution in Å, with a cosine edge edge_pixels Fourier pixels of the longer side wide."""
    shape = (images.shape[-2], images.shape[-1])
    weights = cosine_low_pass(radial_frequencies(shape, images.device), pixel_size / resolution, edge_pixels / max(shape))
    return filter_images(images, weights)


def high_pass_images(
    images: Float[Tensor, "*b y x"], pixel_size: float, resolution: float, edge_pixels: float = 2.0
) -> Float[Tensor, "*b y x"]:
    """Images without what is coarser than a resolution in Å: the complement of low_pass_images."""
    return images - low_pass_images(images, pixel_size, resolution, edge_pixels)
