"""Trilinear interpolation in half spectra of volumes, its adjoint, and cropping of such spectra.

Convention: spectra `(d, d, d // 2 + 1)` in the rfft layout, zero frequency first, real-space origin at the centre; points are
zyx frequencies in units of one step of that layout. A point with x < 0 is read at its Friedel mate and conjugated.
"""

import itertools

import torch
from jaxtyping import Complex, Float
from torch import Tensor

HOST_CHUNK, DEVICE_CHUNK = 2**16, 2**22


def read_spectrum(spectrum: Complex[Tensor, "d d h"], points: Float[Tensor, "*p 3"]) -> Complex[Tensor, "*p"]:
    """Values of a half spectrum at points; zero beyond its largest frequency."""
    table = _centred(torch.view_as_real(spectrum)).permute(3, 0, 1, 2)[None]
    scale = torch.tensor(_steps_to_units(spectrum.shape[0]), device=points.device)
    coordinates = points.flip(-1) * scale
    side = torch.where(points[..., 2:] < 0, -1.0, 1.0)
    coordinates *= side
    coordinates += _origin(spectrum.shape[0], points.device)
    values = torch.nn.functional.grid_sample(table, coordinates.reshape(1, 1, 1, -1, 3), align_corners=True)[0, :, 0, 0]
    values[1] *= side.reshape(-1)
    return torch.complex(values[0], values[1]).reshape(points.shape[:-1])


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
    flat, mirrored = _half_points(points)
    values = values.reshape(-1)
    parts = (values.real.contiguous(), torch.where(mirrored, -values.imag, values.imag), weights.reshape(-1))
    d = sum_.shape[0]
    spread = [torch.zeros(d + 1, d + 1, d // 2 + 2, device=sum_.device) for _ in parts]
    chunk = HOST_CHUNK if sum_.device.type == "cpu" else DEVICE_CHUNK
    for start in range(0, len(flat), chunk):
        _spread_([part.view(-1) for part in spread], [part[start : start + chunk] for part in parts], flat[start : start + chunk], d)
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


def _steps_to_units(d: int) -> tuple[float, float, float]:
    """Factors xyz from steps of the layout to grid_sample's coordinates, whose -1 and 1 are the first and last stored plane."""
    return 2 / (d // 2), 2 / (d - 1), 2 / (d - 1)


def _origin(d: int, device: torch.device) -> Tensor:
    """grid_sample's coordinates xyz of zero frequency."""
    centre = 2 * (d // 2) / (d - 1) - 1
    return torch.tensor((-1.0, centre, centre), device=device)


def _centred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (half, half), dims=(0, 1))


def _uncentred(values: Tensor) -> Tensor:
    half = values.shape[0] // 2
    return torch.roll(values, (-half, -half), dims=(0, 1))
