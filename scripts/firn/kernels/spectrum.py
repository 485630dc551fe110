"""Trilinear interpolation in half spectra of volumes, its adjoint, and cropping of such spectra.

Convention: spectra `(d, d, d // 2 + 1)` in the rfft layout, zero frequency first, real-space origin at the centre; points are
zyx frequencies in units of one step of that layout. A point with x < 0 is read at its Friedel mate and conjugated.
"""

import itertools

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from firn.kernels.fast import trilinear
from firn.kernels.grid import layout_points
from firn.kernels.symmetry import group_factors

CHUNK = 2**22
COMPILED_AXES = 4


def read_spectrum(spectrum: Complex[Tensor, "d d h"], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """Values of a half spectrum at points; zero where one of the eight neighbours would lie beyond its largest frequency."""
    return read_table(spectrum_table(spectrum), points)


def spectrum_table(spectrum: Complex[Tensor, "d d h"], compiled: bool | None = None) -> Float[Tensor, "..."]:
    """A half spectrum laid out for read_table, worth keeping for many reads.

    compiled: `(d, d, h, 2)` for compiled loops, which is the choice on a CPU, or `(1, 2, d, d, h)` for torch.
    """
    centred = _centred(torch.view_as_real(spectrum))
    if is_host(spectrum) if compiled is None else compiled:
        return centred.contiguous()
    return centred.permute(3, 0, 1, 2)[None].contiguous()


def read_table(table: Float[Tensor, "..."], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """As read_spectrum, from spectrum_table."""
    if table.ndim == COMPILED_AXES:
        return trilinear.read(table, torch.eye(3)[None], points.reshape(-1, 3)).reshape(points.shape[:-1])
    z, y, x = (part.reshape(-1) for part in points.unbind(-1))
    side = torch.where(x < 0, -1.0, 1.0)
    real, imaginary = _read_volume(table, z * side, y * side, x.abs())
    return torch.complex(real, imaginary * side).reshape(points.shape[:-1])


def read_slices(table: Float[Tensor, "..."], frames: Float[Tensor, "b 3 3"], places: Float[Tensor, "m 2"]) -> Complex[Tensor, "b m"]:
    """As read_table, at frames times (0, ky, kx)."""
    if table.ndim == COMPILED_AXES:
        return trilinear.read(table, frames, _in_plane(places))
    return read_table(table, places @ frames[:, :, 1:].mT)


def slice_products(
    table: Float[Tensor, "..."],
    frames: Float[Tensor, "b c 3 3"],
    places: Float[Tensor, "m 2"],
    rows: Complex[Tensor, "b t m"],
    powers: Float[Tensor, "b m"],
    wanted: tuple[Bool[Tensor, "b c"], Bool[Tensor, "b t"]],
    keep: bool = True,
) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b c"], Complex[Tensor, "b c m"] | None]:
    """(Re < row, slice >, sum of powers |slice|², slices) of each image's own slices, read as by read_slices; anything where not wanted.

    keep: whether the slices are asked for.
    """
    if table.ndim == COMPILED_AXES:
        slices = torch.empty(len(frames), frames.shape[1] if keep else 1, 2 * len(places))
        parts = torch.view_as_real(rows).flatten(-2), powers, wanted, slices
        cross, norms = trilinear.score(table, frames, _in_plane(places), *parts)
        return cross, norms, torch.view_as_complex(slices.unflatten(-1, (-1, 2))) if keep else None
    parts = frames.flatten(0, 1).split(max(1, CHUNK // len(places)))
    slices = torch.cat([read_slices(table, part, places) for part in parts]).unflatten(0, frames.shape[:2])
    cross = torch.view_as_real(rows).flatten(-2) @ torch.view_as_real(slices).flatten(-2).mT
    norms = ((slices.real**2 + slices.imag**2) @ powers[:, :, None])[..., 0]
    return cross, norms, slices if keep else None


def _read_volume(table: Tensor, z: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    d = table.shape[2]
    scale, centre = 2 / (d - 1), 2 * (d // 2) / (d - 1) - 1
    grid = torch.stack((x * (2 / (d // 2)) - 1, y * scale + centre, z * scale + centre), dim=-1)
    values = torch.nn.functional.grid_sample(table, grid[None, None, None], align_corners=True)[0, :, 0, 0]
    first, last = -(d // 2), (d - 1) // 2
    known = (z >= first) & (z < last) & (y >= first) & (y < last) & (x < d // 2)
    return values[0] * known, values[1] * known


def add_to_spectrum_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "*p"],
    weights: Float[Tensor, "*p"],
    points: Float[Tensor, "*p 3"],
    compiled: bool | None = None,
) -> None:
    """Add values and weights to the eight neighbours of each point: the adjoint of read_spectrum.

    A value near the plane x = 0 reaches that plane only from its own side; `with_friedel_mates` adds the other side afterwards.
    Points must not lie beyond the largest frequency; what would fall on a neighbour beyond it is lost. compiled: as for spectrum_table.
    """
    if is_host(sum_) if compiled is None else compiled:
        trilinear.add_(sum_, weight_, values.reshape(1, -1), weights.reshape(1, -1), torch.eye(3)[None], points.reshape(-1, 3))
        return
    d = sum_.shape[0]
    spread = [torch.zeros(d + 1, d + 1, d // 2 + 2, device=sum_.device) for _ in range(3)]
    for value, weight, near in zip(
        *(part.split(CHUNK) for part in (values.reshape(-1), weights.reshape(-1), points.reshape(-1, 3))), strict=True
    ):
        flat, mirrored = _half_points(near)
        parts = [value.real.contiguous(), torch.where(mirrored, -value.imag, value.imag), weight]
        _spread_([part.view(-1) for part in spread], parts, flat, d)
    real, imaginary, total = (_uncentred(part[:d, :d, : d // 2 + 1]) for part in spread)
    sum_ += torch.complex(real, imaginary)
    weight_ += total


def add_slices_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "b m"],
    weights: Float[Tensor, "b m"],
    frames: Float[Tensor, "b 3 3"],
    places: Float[Tensor, "m 2"],
) -> None:
    """As add_to_spectrum_, at frames times (0, ky, kx)."""
    if is_host(sum_):
        trilinear.add_(sum_, weight_, values, weights, frames, _in_plane(places))
    else:
        add_to_spectrum_(sum_, weight_, values, weights, places @ frames[:, :, 1:].mT)


def symmetrise_spectra(
    sums: Complex[Tensor, "d d h"], weights: Float[Tensor, "d d h"], operators: Float[Tensor, "g 3 3"], compiled: bool | None = None
) -> tuple[Complex[Tensor, "d d h"], Float[Tensor, "d d h"]]:
    """Sums and weights averaged over operators at the points of the ball inside them; zero elsewhere. compiled: as for spectrum_table."""
    if is_host(sums) if compiled is None else compiled:
        tables = spectrum_table(sums), _centred(weights)
        for factor in group_factors(operators):
            tables = trilinear.symmetrise(*tables, factor)
        return torch.view_as_complex(_uncentred(tables[0])), _uncentred(tables[1])
    points = layout_points(sums.shape[0], sums.device)
    inside = points.norm(dim=-1) <= sums.shape[0] // 2 - 1
    read = [spectrum_table(part, compiled) for part in (sums, torch.complex(weights, torch.zeros_like(weights)))]
    out, out_weights = torch.zeros_like(sums), torch.zeros_like(weights)
    for operator in operators:
        turned = points[inside] @ operator.T
        out[inside] += read_table(read[0], turned) / len(operators)
        out_weights[inside] += read_table(read[1], turned).real / len(operators)
    return out, out_weights


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


def is_host(values: Tensor) -> bool:
    """Whether values lie in the memory of the CPU, where compiled loops can read them."""
    return values.device.type == "cpu"


def _in_plane(places: Tensor) -> Tensor:
    """yx places as zyx."""
    return torch.nn.functional.pad(places, (1, 0))
