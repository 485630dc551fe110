"""Trilinear interpolation in half spectra of volumes, its adjoint, and cropping of such spectra.

Convention: spectra `(d, d, d // 2 + 1)` in the rfft layout, zero frequency first, real-space origin at the centre; points are
zyx frequencies in units of one step of that layout. A point with x < 0 is read at its Friedel mate and conjugated.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def read_spectrum(spectrum: Complex[Tensor, "d d h"], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """Values of a half spectrum at points; zero beyond its largest frequency."""
    table = _centred(torch.view_as_real(spectrum)).permute(3, 0, 1, 2)[None]
    flat, mirrored = _half_points(points)
    values = torch.nn.functional.grid_sample(table, _unit_coordinates(flat, spectrum.shape[0]), align_corners=True)[0, :, 0, 0]
    imaginary = torch.where(mirrored, -values[1], values[1])
    return torch.complex(values[0], imaginary).reshape(points.shape[:-1])


def add_to_spectrum_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "*p"],
    weights: Float[Tensor, "*p"],
    points: Float[Tensor, "*p 3"],
) -> None:
    """Add values and weights to the eight neighbours of each point: the adjoint of read_spectrum.

    A value near the plane x = 0 reaches that plane only from its own side; `with_friedel_mates` adds the other side afterwards.
    """
    flat, mirrored = _half_points(points)
    values = values.reshape(-1)
    packed = torch.stack((values.real, torch.where(mirrored, -values.imag, values.imag), weights.reshape(-1)))
    table = packed.new_empty(1).expand(1, 3, *sum_.shape)
    spread = torch.ops.aten.grid_sampler_3d_backward(
        packed[None, :, None, None], table, _unit_coordinates(flat, sum_.shape[0]), 0, 0, True, [True, False]
    )[0][0]
    spread = _uncentred(spread.permute(1, 2, 3, 0))
    sum_ += torch.view_as_complex(spread[..., :2].contiguous())
    weight_ += spread[..., 2]


def with_friedel_mates(values: Tensor) -> Tensor:
    """A copy of accumulated `(d, d, h)` values (complex or real) whose plane x = 0 also holds what its Friedel mates received."""
    mates = torch.roll(torch.flip(values[..., 0], dims=(0, 1)), (1, 1), dims=(0, 1))
    out = values.clone()
    out[..., 0] += mates.conj() if values.is_complex() else mates
    return out


def resize_spectrum3(spectrum: Tensor, d: int) -> Tensor:
    """Crop or zero-pad a half spectrum `(d', d', h')` to side d, values kept; unpaired Nyquist planes of the smaller side are dropped."""
    old = spectrum.shape[0]
    if old == d:
        return spectrum
    half = (min(old, d) + 1) // 2
    out = spectrum.new_zeros(d, d, d // 2 + 1)
    low, new_high, old_high = slice(0, half), slice(d - half + 1, d), slice(old - half + 1, old)
    for new_z, old_z in ((low, low), (new_high, old_high)):
        for new_y, old_y in ((low, low), (new_high, old_high)):
            out[new_z, new_y, :half] = spectrum[old_z, old_y, :half]
    return out


def cropped_side(radius: float, padding: int, n: int) -> int:
    """Side of the half spectrum that holds all neighbours of points up to a radius in units of 1/n, at most padding * n."""
    return min(2 * int(padding * radius + 3), padding * n)


def _half_points(points: Tensor) -> tuple[Tensor, Tensor]:
    flat = points.reshape(-1, 3)
    mirrored = flat[:, 2] < 0
    return torch.where(mirrored[:, None], -flat, flat), mirrored


def _unit_coordinates(points: Tensor, d: int) -> Tensor:
    """xyz coordinates in [-1, 1] for grid_sample, whose corners are aligned with the first and last stored plane."""
    half = d // 2
    z, y, x = points.unbind(-1)
    return torch.stack((x * (2 / half) - 1, (y + half) * (2 / (d - 1)) - 1, (z + half) * (2 / (d - 1)) - 1), dim=-1)[None, None, None]


def _centred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (half, half), dims=(0, 1))


def _uncentred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (-half, -half), dims=(0, 1))
