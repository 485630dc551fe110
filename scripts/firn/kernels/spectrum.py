"""Trilinear interpolation in half spectra of volumes, its adjoint, and cropping of such spectra.

Convention: spectra `(d, d, d // 2 + 1)` in the rfft layout, zero frequency first, real-space origin at the centre; points are
zyx frequencies in units of one step of that layout. A point with x < 0 is read at its Friedel mate and conjugated.
"""

import itertools

import torch
from jaxtyping import Complex, Float
from torch import Tensor

HOST_CHUNK, DEVICE_CHUNK = 2**16, 2**22
MOST_PLANES = 400


def read_spectrum(spectrum: Complex[Tensor, "d d h"], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """Values of a half spectrum at points; zero beyond its largest frequency."""
    return read_table(spectrum_table(spectrum), points)


def spectrum_table(spectrum: Complex[Tensor, "d d h"], planes: bool | None = None) -> Float[Tensor, "..."]:
    """A half spectrum laid out for read_table, worth keeping for many reads.

    On a CPU, whose interpolation is several times faster in two dimensions, planes z and z + 1 lie side by side as `(1, 4, d d, h)`,
    unless d is so large that row numbers lose their fractions; else it is `(1, 2, d, d, h)`. planes: choose one or the other.
    """
    d = spectrum.shape[0]
    table = _centred(torch.view_as_real(spectrum)).permute(3, 0, 1, 2)[None].contiguous()
    if not (spectrum.device.type == "cpu" and d <= MOST_PLANES if planes is None else planes):
        return table
    above = torch.cat((table[:, :, 1:], torch.zeros_like(table[:, :, :1])), dim=2)
    return torch.cat((table, above), dim=1).flatten(2, 3)


def read_table(table: Float[Tensor, "..."], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """As read_spectrum, from spectrum_table."""
    z, y, x = (part.reshape(-1) for part in points.unbind(-1))
    side = torch.where(x < 0, -1.0, 1.0)
    read = _read_planes if table.ndim == 4 else _read_volume
    real, imaginary = read(table, z * side, y * side, x.abs())
    return torch.complex(real, imaginary * side).reshape(points.shape[:-1])


def _read_volume(table: Tensor, z: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    d = table.shape[2]
    scale, centre = 2 / (d - 1), 2 * (d // 2) / (d - 1) - 1
    grid = torch.stack((x * (2 / (d // 2)) - 1, y * scale + centre, z * scale + centre), dim=-1)
    values = torch.nn.functional.grid_sample(table, grid[None, None, None], align_corners=True)[0, :, 0, 0]
    return values[0], values[1]


def _read_planes(table: Tensor, z: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    d = round(table.shape[2] ** 0.5)
    low = z.floor()
    share, scale = z - low, 2 / (d * d - 1)
    rows = low * (d * scale) + y * scale + ((d // 2) * (d + 1) * scale - 1)
    grid = torch.stack((x * (2 / (d // 2)) - 1, rows), dim=-1)
    values = torch.nn.functional.grid_sample(table, grid[None, None], align_corners=True)[0, :, 0]
    real, imaginary = torch.lerp(values[:2], values[2:], share)
    return real, imaginary


def add_to_spectrum_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "*p"],
    weights: Float[Tensor, "*p"],
    points: Float[Tensor, "*p 3"],
) -> None:
    """Add values and weights to the eight neighbours of each point: the adjoint of read_spectrum.

    A value near the plane x = 0 reaches that plane only from its own side; `with_friedel_mates` adds the other side afterwards.
    Points must not lie beyond the largest frequency; what would fall on a neighbour beyond it is lost.
    """
    d = sum_.shape[0]
    spread = [torch.zeros(d + 1, d + 1, d // 2 + 2, device=sum_.device) for _ in range(3)]
    chunk = HOST_CHUNK if sum_.device.type == "cpu" else DEVICE_CHUNK
    for value, weight, near in zip(
        *(part.split(chunk) for part in (values.reshape(-1), weights.reshape(-1), points.reshape(-1, 3))), strict=True
    ):
        flat, mirrored = _half_points(near)
        parts = [value.real.contiguous(), torch.where(mirrored, -value.imag, value.imag), weight]
        _spread_([part.view(-1) for part in spread], parts, flat, d)
    real, imaginary, total = (_uncentred(part[:d, :d, : d // 2 + 1]) for part in spread)
    sum_ += torch.complex(real, imaginary)
    weight_ += total


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


def _spread_(spread_: list[Tensor], parts: list[Tensor], points: Tensor, d: int) -> None:
    """Scatter parts `(p,)` into centred flat arrays, one plane larger than the spectrum at each far end."""
    low = points.T.floor()
    high_share = points.T - low
    z, y, x = (low + torch.tensor([d // 2, d // 2, 0], device=points.device)[:, None]).long()
    rows, width = d + 1, d // 2 + 2
    base = (z * rows + y) * width + x
    shares = tuple(zip(1 - high_share, high_share, strict=True))
    for dz, dy, dx in itertools.product((0, 1), repeat=3):
        share = shares[0][dz] * shares[1][dy] * shares[2][dx]
        index = base + ((dz * rows + dy) * width + dx)
        for target_, part in zip(spread_, parts, strict=True):
            target_.scatter_add_(0, index, part * share)


def _half_points(points: Tensor) -> tuple[Tensor, Tensor]:
    flat = points.reshape(-1, 3)
    mirrored = flat[:, 2] < 0
    return torch.where(mirrored[:, None], -flat, flat), mirrored


def _centred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (half, half), dims=(0, 1))


def _uncentred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (-half, -half), dims=(0, 1))
