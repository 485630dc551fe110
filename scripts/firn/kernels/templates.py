"""Templates to pick with: blobs drawn at the picking resolution, or images rotated and rescaled to it.

Convention: protein is white, the origin is index `n // 2`, angles in degrees turn the content from +x towards +y (towards
increasing row), lengths in Å. RELION's psi of such a template is minus its angle (see kernels/rotation).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.fourier import frequencies2, irfft2, rfft2

RING_HOLE = 0.5
"""Inner diameter of a ring in outer diameters."""
EDGE = 0.12
"""Width (sd) of the soft edge of the low-pass filter in cut-off frequencies."""


def low_pass_filter(frequencies: Float[Tensor, "*g"], resolution: float) -> Float[Tensor, "*g"]:
    """Soft low-pass factors at frequencies in 1/Å: 1/2 at the resolution in Å."""
    return 0.5 * torch.erfc((frequencies * resolution - 1) / (EDGE * math.sqrt(2)))


def high_pass_filter(frequencies: Float[Tensor, "*g"], length: float) -> Float[Tensor, "*g"]:
    """Gaussian high-pass factors at frequencies in 1/Å: 1 - exp(-1/2) at 1 / length."""
    return 1 - torch.exp(-0.5 * (frequencies * length) ** 2)


def draw_blobs(
    kind: str, long_axis: float, short_axis: float, angles: Float[Tensor, "t"], n: int, pixel_size: float
) -> Float[Tensor, "t n n"]:
    """Projections of balls and ellipsoids, or rings with soft edges, long axis along each angle; axes in Å, box side n pixels.

    A ball's projection rather than a disc: it is what a globular particle shows, and has weak side lobes in Fourier space,
    where a particle's inside need not agree with them.
    """
    line = (torch.arange(n, device=angles.device) - n // 2) * pixel_size
    y, x = torch.meshgrid(line, line, indexing="ij")
    cosine, sine = torch.cos(torch.deg2rad(angles))[:, None, None], torch.sin(torch.deg2rad(angles))[:, None, None]
    radius = torch.sqrt(((x * cosine + y * sine) * 2 / long_axis) ** 2 + ((y * cosine - x * sine) * 2 / short_axis) ** 2)
    if kind != "ring":
        return (1 - radius**2).clamp(min=0).sqrt()
    softness = 2 * pixel_size / short_axis
    return ((1 - radius) / softness + 0.5).clamp(0, 1) - ((RING_HOLE - radius) / softness + 0.5).clamp(0, 1)


def draw_lines(length: float, width: float, angles: Float[Tensor, "a"], n: int, pixel_size: float) -> Float[Tensor, "t n n"]:
    """Straight lines, and steps after them, along each angle; length and width (sd across) in Å, box side n pixels."""
    line = (torch.arange(n, device=angles.device) - n // 2) * pixel_size
    y, x = torch.meshgrid(line, line, indexing="ij")
    cosine, sine = torch.cos(torch.deg2rad(angles))[:, None, None], torch.sin(torch.deg2rad(angles))[:, None, None]
    along, across = (x * cosine + y * sine) / length, (y * cosine - x * sine) / width
    profile = torch.exp(-0.5 * across**2) * (along.abs() <= 0.5)
    return torch.cat((profile, profile * across))


def disc_mask(diameter: float, n: int, pixel_size: float, device: torch.device | str = "cpu") -> Bool[Tensor, "n n"]:
    """Pixels of a box of side n within half the diameter (Å) of the origin."""
    line = (torch.arange(n, device=device) - n // 2) * pixel_size
    return line[:, None] ** 2 + line[None, :] ** 2 <= (diameter / 2) ** 2


def rotate_rescale(images: Float[Tensor, "t h w"], angles: Float[Tensor, "r"], scale: float, n: int) -> Float[Tensor, "t r n n"]:
    """Images turned about their origin by each angle and sampled at every `scale` pixels in a box of side n; 0 beyond the images.

    Linear interpolation: the images should hold nothing beyond about half of Nyquist, of theirs and of the result's.
    """
    line = (torch.arange(n, device=images.device) - n // 2) * scale
    y, x = torch.meshgrid(line, line, indexing="ij")
    cosine, sine = torch.cos(torch.deg2rad(angles))[:, None, None], torch.sin(torch.deg2rad(angles))[:, None, None]
    height, width = images.shape[-2:]
    source_x, source_y = x * cosine + y * sine + width // 2, y * cosine - x * sine + height // 2
    grid = torch.stack((source_x * 2 / (width - 1) - 1, source_y * 2 / (height - 1) - 1), dim=-1)
    channels = images[None].expand(len(angles), -1, -1, -1)
    return torch.nn.functional.grid_sample(channels, grid.to(images.dtype), align_corners=True, padding_mode="zeros").transpose(0, 1)


def recentre(images: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Images moved, by whole pixels, so that the centre of mass of what is above their mean plus one sd lies on the origin."""
    height, width = images.shape[-2:]
    weight = (images - images.mean((-2, -1), keepdim=True) - images.std((-2, -1), keepdim=True)).clamp(min=0)
    total = weight.sum((-2, -1)).clamp(min=1e-12)
    rows = (weight.sum(-1) @ torch.arange(height, device=images.device, dtype=images.dtype)) / total
    columns = (weight.sum(-2) @ torch.arange(width, device=images.device, dtype=images.dtype)) / total
    shifts = torch.stack((height // 2 - rows, width // 2 - columns), dim=-1).round().int().tolist()
    moved = [torch.roll(image, tuple(shift), dims=(0, 1)) for image, shift in zip(images, shifts, strict=True)]
    return torch.stack(moved)


def band_filter(
    shape: tuple[int, int], pixel_size: float, low_pass: float, longest: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "y f"]:
    """The filter a micrograph and its templates share: low-pass at `low_pass` Å, background over `longest` Å removed."""
    frequencies = frequencies2(shape, device=device).norm(dim=-1) / pixel_size
    return low_pass_filter(frequencies, low_pass) * high_pass_filter(frequencies, longest)


def filter_images(images: Float[Tensor, "*t h w"], factors: Float[Tensor, "h f"]) -> Float[Tensor, "*t h w"]:
    """Images multiplied by real factors in Fourier space."""
    return irfft2(rfft2(images) * factors, (images.shape[-2], images.shape[-1]))
