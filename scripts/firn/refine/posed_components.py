"""Principal components of what differs between particles in known poses, and clusters of particles along them.

Each half-set's component is made of its own images, and a particle's coordinate is measured with the other half-set's component: an
image's noise then never meets itself, and components that both half-sets do not share fade away.
Source: probabilistic principal components by expectation-maximisation on images, Punjani & Fleet, J. Struct. Biol. 213, 107702 (2021).
"""

import torch
from torch import Tensor

from firn.kernels.fsc import fsc
from firn.kernels.grid import FourierDisc
from firn.kernels.project import prepare_volume, project_points
from firn.refine.maximisation import falling, unfiltered_map
from firn.refine.posed_disc import PosedDisc
from firn.refine.shared_difference import filtered_by
from firn.refine.slice_sums import SliceSums

TURNS = 12
LEAST_CURVE = 0.02
CLUSTER_STARTS, CLUSTER_STEPS = 20, 50


def coordinates(
    disc: PosedDisc, references: tuple[Tensor, Tensor], focus: Tensor, count: int, radius: float, chance: torch.Generator
) -> Tensor:
    """Coordinates `(n, count)` of unit variance along components within the focus mask, found one after the other.

    references: prepared spectra that particles of half-set 1 and 2 are compared with.
    """
    part = disc.within(radius)
    rest = _rest(disc, part, references)
    found = []
    for number in range(count):
        values, explained = _component(disc, part, rest, focus, radius, chance, f"particles, component {number + 1}")
        rest = rest - explained
        found.append(values)
    return torch.stack(found, dim=-1)


def clusters(points: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """Labels `(n,)` from 0 of points `(n, q)`: the best of several k-means runs with spread-out starts (Arthur & Vassilvitskii 2007)."""
    best, least = torch.zeros(len(points), dtype=torch.long), float("inf")
    for _ in range(CLUSTER_STARTS):
        centres = points[torch.randint(len(points), (1,), generator=chance)]
        while len(centres) < count:
            distance = torch.cdist(points, centres).amin(1).square() + 1e-12
            centres = torch.cat((centres, points[torch.multinomial(distance, 1, generator=chance)]))
        for _ in range(CLUSTER_STEPS):
            labels = torch.cdist(points, centres).argmin(1)
            members = torch.nn.functional.one_hot(labels, count).to(points.dtype)
            centres = (members.T @ points) / members.sum(0).clamp(min=1)[:, None]
        cost = float(torch.cdist(points, centres).amin(1).square().sum())
        if cost < least:
            best, least = torch.cdist(points, centres).argmin(1), cost
    return best


def _rest(disc: PosedDisc, part: FourierDisc, references: tuple[Tensor, Tensor]) -> Tensor:
    """Images less what the references explain `(n, m)`, on the host."""
    out = torch.zeros(len(disc.data), len(part.points), dtype=torch.complex64)
    for batch in disc.batches(part, "particles, differences"):
        out[batch.rows] = (batch.images - batch.ctf * _from_halves(references, batch.half, batch.rotations, part.points)).cpu()
    return out


def _component(
    disc: PosedDisc, part: FourierDisc, rest: Tensor, focus: Tensor, radius: float, chance: torch.Generator, step: str
) -> tuple[Tensor, Tensor]:
    """(coordinates `(n,)` of unit variance, what the component explains of each image `(n, m)`)."""
    values = torch.randn(len(disc.data), generator=chance)
    explained = torch.zeros_like(rest)
    precision = disc.precision(part)
    for turn in range(1, TURNS + 1):
        maps = _component_maps(disc, part, rest, values, focus, radius)
        for batch in disc.batches(part, f"{step}, turn {turn}"):
            model = _from_halves(maps, batch.half, batch.rotations, part.points) * batch.ctf
            cross = (precision * (model.conj() * rest[batch.rows].to(disc.device)).real).sum(1)
            along = cross / ((precision * (model.real**2 + model.imag**2)).sum(1) + 1)
            values[batch.rows], explained[batch.rows] = along.cpu(), (along[:, None] * model).cpu()
        values = (values - values.mean()) / values.std().clamp(min=1e-12)
    return values, explained


def _component_maps(
    disc: PosedDisc, part: FourierDisc, rest: Tensor, values: Tensor, focus: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Prepared spectra of both half-sets' component, weighted by how far they agree, with the same sign."""
    sums = [SliceSums(disc.side, radius, part.points) for _ in (1, 2)]
    precision = disc.precision(part) / 2
    for batch in disc.batches(part, "particles, component maps"):
        scale = values[batch.rows].to(disc.device)[:, None]
        data, powers = rest[batch.rows].to(disc.device) * batch.ctf * precision * scale, batch.ctf**2 * precision * scale**2
        for half, target in enumerate(sums, start=1):
            chosen = batch.half == half
            target.add(data[chosen], powers[chosen], batch.rotations[chosen])
    first, second = (unfiltered_map(target.completed(), disc.side, radius) * focus for target in sums)
    weights = falling(fsc(first, second).abs()).clamp(LEAST_CURVE, 1)
    sign = 1.0 if float((first * second).sum()) >= 0 else -1.0
    return prepare_volume(filtered_by(first, weights)), prepare_volume(filtered_by(sign * second, weights))


def _from_halves(pair: tuple[Tensor, Tensor], half: Tensor, rotations: Tensor, points: Tensor) -> Tensor:
    """Slices `(b, m)`: of the first spectrum for particles of half-set 1, of the second for those of half-set 2."""
    out = torch.zeros(len(half), len(points), dtype=pair[0].dtype, device=points.device)
    for number, prepared in enumerate(pair, start=1):
        chosen = half == number
        out[chosen] = project_points(prepared, rotations[chosen], points)
    return out
