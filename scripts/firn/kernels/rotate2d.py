"""Rotated Fourier discs of 2D references, and the adjoint that sums such discs back into images.

Convention: an angle psi in degrees turns a reference as RELION does with rot = tilt = 0: the value of the turned image at the
frequency f is the reference's at R f, R = Rz(psi) in xyz. Points are yx frequencies in units of 1/n; only one of each Friedel
pair is listed and the zero frequency is left out, so a real image's energy is twice the sum over the points.
Interpolation is bilinear in a zero-padded spectrum, its attenuation undone in real space (gridding correction).
"""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.grid import fourier_disc

CLASSES_AT_ONCE = 16


class HalfDisc(NamedTuple):
    """Unique points of a disc, sorted by radius, so that a smaller disc is a prefix."""

    points: Float[Tensor, "f 2"]
    """yx frequencies in units of 1/n."""
    layout: Int[Tensor, " f"]
    """Positions in the flattened rfft layout of an image of side n."""
    shells: Int[Tensor, " f"]
    """Nearest integer radius."""


def half_disc(n: int, radius: float | int, device: torch.device | str = "cpu") -> HalfDisc:
    """One point of each Friedel pair with `0 < |k| <= radius`, sorted by radius."""
    disc = fourier_disc(n, float(radius), device)
    y, x = disc.points.unbind(-1)
    unique = ((x > 0) | ((x == 0) & (y > 0))).nonzero().squeeze(-1)
    order = unique[torch.argsort(disc.points[unique].norm(dim=-1), stable=True)]
    return HalfDisc(disc.points[order], disc.index[order], disc.shells[order])


def prefix_length(disc: HalfDisc, radius: int) -> int:
    """Number of points in the shells up to a radius: whole shells, so that sums per shell are complete."""
    return int((disc.shells <= radius).sum())


def read_rotated(
    images: Float[Tensor, "k n n"], angles: Float[Tensor, " r"], points: Float[Tensor, "f 2"], pad: int = 2
) -> Complex[Tensor, "k r f"]:
    """Spectra at the points of each image turned by each angle (degrees), without normalisation."""
    index, weights, mirrored = _corners(rotated_points(points, angles) * pad, images.shape[-1] * pad)
    sign = torch.where(mirrored, -1.0, 1.0)[:, None]
    parts = [_read(group, index, weights, sign, pad) for group in images.split(CLASSES_AT_ONCE)]
    return torch.cat(parts).reshape(len(images), len(angles), len(points))


def add_rotated(
    values: Complex[Tensor, "k r f"], angles: Float[Tensor, " r"], points: Float[Tensor, "f 2"], n: int, pad: int = 2
) -> Float[Tensor, "k n n"]:
    """Images `(k, n, n)` summed from discs turned by angles: the adjoint of read_rotated under Re<., .>.

    Times `2 / n²` it undoes read_rotated for one angle and an image whose spectrum lies within the disc.
    """
    index, weights, mirrored = _corners(rotated_points(points, angles) * pad, n * pad)
    sign = torch.where(mirrored, -1.0, 1.0)[:, None]
    parts = [_add(group.reshape(len(group), -1), index, weights, sign, n, pad) for group in values.split(CLASSES_AT_ONCE)]
    return torch.cat(parts)


def rotated_points(points: Float[Tensor, "f 2"], angles: Float[Tensor, " r"]) -> Float[Tensor, "r f 2"]:
    """R f for every angle and every yx point f."""
    radians = torch.deg2rad(angles.double())
    cosine, sine = torch.cos(radians).float()[:, None], torch.sin(radians).float()[:, None]
    y, x = points.unbind(-1)
    return torch.stack((sine * x + cosine * y, cosine * x - sine * y), dim=-1)


def _read(images: Tensor, index: Tensor, weights: Tensor, sign: Tensor, pad: int) -> Tensor:
    count, n = len(images), images.shape[-1]
    spectra = rfft2(_padded(images * _gridding(n, pad, images.device), pad)).reshape(count, -1)
    table = torch.cat((spectra.real, spectra.imag)).T.contiguous()
    rows = torch.nn.functional.embedding_bag(index, table, per_sample_weights=weights, mode="sum")
    return torch.complex(rows[:, :count].T.contiguous(), (rows[:, count:] * sign).T.contiguous())


def _add(values: Tensor, index: Tensor, weights: Tensor, sign: Tensor, n: int, pad: int) -> Tensor:
    count, side = len(values), n * pad
    rows = torch.cat((values.real.T, values.imag.T * sign), dim=1)
    table = rows.new_zeros(side * (side // 2 + 1), 2 * count)
    for corner in range(4):
        table.index_add_(0, index[:, corner], rows * weights[:, corner, None])
    spectra = torch.complex(table[:, :count].T.contiguous(), table[:, count:].T.contiguous())
    spectra = spectra.reshape(count, side, side // 2 + 1)
    spectra[..., 0] *= 2
    images = irfft2(spectra, (side, side)) * (side**2 / 2)
    return _cropped(images, n) * _gridding(n, pad, images.device)


def _corners(points: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    points = points.reshape(-1, 2)
    mirrored = points[:, 1] < 0
    points = torch.where(mirrored[:, None], -points, points)
    low = points.floor()
    fraction_y, fraction_x = (points - low).unbind(-1)
    y = torch.stack((low[:, 0], low[:, 0] + 1), dim=-1).long().remainder(side)
    x = torch.stack((low[:, 1], low[:, 1] + 1), dim=-1).long().clamp(max=side // 2)
    index = (y[:, :, None] * (side // 2 + 1) + x[:, None, :]).reshape(-1, 4)
    along_y, along_x = torch.stack((1 - fraction_y, fraction_y), dim=-1), torch.stack((1 - fraction_x, fraction_x), dim=-1)
    return index, (along_y[:, :, None] * along_x[:, None, :]).reshape(-1, 4), mirrored


def _gridding(n: int, pad: int, device: torch.device) -> Tensor:
    attenuation = torch.sinc((torch.arange(n, device=device) - n // 2) / (n * pad)) ** 2
    return 1 / (attenuation[:, None] * attenuation[None, :])


def _padded(images: Tensor, pad: int) -> Tensor:
    n = images.shape[-1]
    before = (n * pad) // 2 - n // 2
    after = n * pad - n - before
    return torch.nn.functional.pad(images, (before, after, before, after))


def _cropped(images: Tensor, n: int) -> Tensor:
    start = images.shape[-1] // 2 - n // 2
    return images[..., start : start + n, start : start + n]
