"""Rotation and shift that lay one map on another, from nothing: all rotations and shifts coarsely, the best ones finely.

Convention: zyx; `turned(r) = volume(R r)`, then `aligned(r) = turned(r - shift)`, about the origin n // 2, shifts in pixels; in Fourier space
F_aligned(k) = F_volume(R k) exp(-2 pi i k shift). Correlations are those of Fourier coefficients up to a radius, without the mean.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import fast_size, irfft3, resize_volumes, rfft3, shift_phases
from firn.kernels.grid import layout_points
from firn.kernels.project import prepare_volume
from firn.kernels.sampling import local_rotations, rotation_grid, rotations_from_vectors
from firn.kernels.spectrum import read_table, spectrum_table

FIRST_ORDER, FIRST_STEP = 2, 15.0
"""Order of the grid of rotations searched everywhere, and its step in degrees."""
FIRST_RADIUS, LARGEST_RADIUS = 7.0, 48.0
CANDIDATES, REFINED = 24, 4
NUDGE = (0.2, 0.05)
"""Change of a rotation (degrees) and of a shift (pixels) from which slopes are taken."""
STEPS = 12
BATCH = 48


@dataclass(frozen=True)
class Placement:
    """Rotation `(3, 3)`, shift `(3,)` in pixels, and the correlation reached."""

    rotation: Tensor
    shift: Tensor
    correlation: float


def align(volume: Float[Tensor, "n n n"], reference: Float[Tensor, "n n n"], radius: float) -> Placement:
    """Best placement of a volume on a reference of the same box and pixel size, using Fourier radii up to `radius` (units of 1/n)."""
    n = volume.shape[0]
    radius = min(radius, LARGEST_RADIUS, n / 2 - 1)
    radii = [min(FIRST_RADIUS, radius)]
    while radii[-1] < radius:
        radii.append(min(1.6 * radii[-1], radius))
    pair = _Pair.make(volume, reference, radii[0])
    found = _distinct(_scored(pair, rotation_grid(FIRST_ORDER).to(volume)), CANDIDATES)
    step = FIRST_STEP
    for level in radii:
        step /= 2
        pair = _Pair.make(volume, reference, level)
        around = local_rotations(step, 1.8 * step).to(volume)
        found = [max(_scored(pair, one.rotation @ around), key=_by_correlation) for one in found]
        found = sorted(found, key=_by_correlation, reverse=True)[: REFINED if level < radii[-1] else 2]
    best = max((_climbed(pair, one) for one in found), key=_by_correlation)
    return replace(best, shift=best.shift * (n / pair.side))


def place(volume: Float[Tensor, "n n n"], rotation: Float[Tensor, "3 3"], shift: Float[Tensor, " 3"]) -> Float[Tensor, "n n n"]:
    """The volume turned, then shifted in pixels; what lies beyond the Fourier ball of radius n / 2 is lost."""
    n = volume.shape[0]
    table = spectrum_table(prepare_volume(volume))
    spectrum = torch.zeros(n, n, n // 2 + 1, dtype=torch.complex64, device=volume.device)
    for plane, points in enumerate(layout_points(n, volume.device)):
        inside = (points.norm(dim=-1) <= n / 2) & (points.abs() <= (n - 1) // 2).all(dim=-1)
        values = read_table(table, 2 * points[inside] @ rotation.T)
        spectrum[plane][inside] = values * shift_phases(points[inside] / n, shift)
    return irfft3(spectrum, (n, n, n))


@dataclass(frozen=True)
class _Pair:
    """Both maps cropped to a Fourier radius: a padded spectrum to read from, and the reference's coefficients at points."""

    table: Float[Tensor, "..."]
    """Of the volume's padded spectrum."""
    expected: Complex[Tensor, " m"]
    points: Float[Tensor, "m 3"]
    inside: Tensor
    weights: Float[Tensor, " m"]
    side: int

    @classmethod
    def make(cls, volume: Tensor, reference: Tensor, radius: float) -> "_Pair":
        side = min(fast_size(int(2 * radius) + 4), volume.shape[0])
        small, target = (resize_volumes(map_, side) for map_ in (volume, reference))
        grid = layout_points(side, volume.device)
        norms = grid.norm(dim=-1)
        inside = (norms <= radius) & (norms > 0)
        points = grid[inside]
        weights = torch.where(points[:, 2] == 0, 1.0, 2.0)
        expected = rfft3(target)[inside]
        return cls(spectrum_table(prepare_volume(small)), expected / _norm(expected, weights), points, inside, weights, side)

    def turned(self, rotations: Tensor) -> Tensor:
        """Normalised coefficients `(b, m)` of the volume turned."""
        values = read_table(self.table, 2 * torch.einsum("bij,mj->bmi", rotations, self.points))
        return values / _norm(values, self.weights)[:, None]

    def moved(self, rotations: Tensor, shifts: Tensor) -> Tensor:
        """Normalised coefficients `(b, m)` of the volume turned and shifted."""
        return self.turned(rotations) * shift_phases(self.points / self.side, shifts)

    def correlation(self, rotation: Tensor, shift: Tensor) -> float:
        return float((self.weights * (self.moved(rotation[None], shift[None])[0] * self.expected.conj()).real).sum())


def _scored(pair: _Pair, rotations: Tensor) -> list[Placement]:
    """Every rotation with its best shift, to a pixel of the pair."""
    found: list[Placement] = []
    n = pair.side
    for part in rotations.split(BATCH):
        spectra = torch.zeros(len(part), n, n, n // 2 + 1, dtype=pair.expected.dtype, device=part.device)
        spectra[:, pair.inside] = pair.turned(part).conj() * pair.expected
        best, where = (irfft3(spectra, (n, n, n)) * n**3).flatten(1).max(dim=1)
        shifts = torch.stack((where // n**2, where // n % n, where % n), dim=-1) - n // 2
        found += [Placement(r, s.to(part), float(c)) for r, s, c in zip(part, shifts, best, strict=True)]
    return found


def _distinct(found: list[Placement], count: int) -> list[Placement]:
    """The best placements that are at least a step apart in rotation."""
    kept: list[Placement] = []
    for one in sorted(found, key=_by_correlation, reverse=True):
        if all(float((one.rotation * other.rotation).sum()) < 1 + 2 * 0.966 for other in kept):
            kept.append(one)
        if len(kept) == count:
            break
    return kept


def _climbed(pair: _Pair, start: Placement) -> Placement:
    """Gauss-Newton on rotation and shift; every step that does not raise the correlation is halved, at last given up."""
    best, damping = replace(start, correlation=pair.correlation(start.rotation, start.shift)), 1.0
    for _ in range(STEPS):
        change = _improvement(pair, best)
        rotation = best.rotation @ rotations_from_vectors(damping * change[:3]).to(best.rotation)
        shift = best.shift + damping * change[3:].to(best.shift)
        reached = pair.correlation(rotation, shift)
        if reached > best.correlation:
            best, damping = Placement(rotation, shift, reached), 1.0
        else:
            damping /= 4
    return best


def _improvement(pair: _Pair, at: Placement) -> Tensor:
    """Change of rotation vector (degrees) and shift that makes the volume most like the reference, to first order."""
    nudges = torch.cat((torch.zeros(1, 3), NUDGE[0] * torch.eye(3), torch.zeros(3, 3))).to(at.rotation)
    moves = torch.cat((torch.zeros(4, 3), NUDGE[1] * torch.eye(3))).to(at.shift)
    values = pair.moved(at.rotation @ rotations_from_vectors(nudges).to(at.rotation), at.shift + moves)
    slopes = (values[1:] - values[0]) / torch.tensor([NUDGE[0]] * 3 + [NUDGE[1]] * 3, device=values.device)[:, None]
    columns = torch.view_as_real(torch.cat((values[:1], slopes)) * pair.weights.sqrt()).flatten(1).double()
    residual = torch.view_as_real((pair.expected - values[0]) * pair.weights.sqrt()).flatten().double()
    normal = columns @ columns.T
    normal = normal + 1e-9 * normal.diagonal().mean() * torch.eye(7, device=normal.device, dtype=normal.dtype)
    return torch.linalg.solve(normal, columns @ residual)[1:]


def _norm(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * (values.real**2 + values.imag**2)).sum(-1).clamp(min=1e-30).sqrt()


def _by_correlation(placement: Placement) -> float:
    return placement.correlation
