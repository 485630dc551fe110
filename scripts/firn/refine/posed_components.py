"""Principal components of what differs between particles in known poses, and first classes of particles within them.

Each half-set's component is made of its own images, and a particle's coordinate is measured with the other half-set's component: an
image's noise then never meets itself, and components that both half-sets do not share fade away.
Classes are points in the space of the components, found by expectation-maximisation on the images' likelihoods there: of particles whose
coordinates are drowned in noise, clusters would be equal slices of one cloud.
Source: probabilistic principal components by expectation-maximisation on images, Punjani & Fleet, J. Struct. Biol. 213, 107702 (2021).
"""

from dataclasses import dataclass

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
STARTS, STEPS = 20, 100
LEAST_FRACTION = 1e-4

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Components:
    """Particles' coordinates `(n, q)` of unit variance, products `(n, q)` of images with the components, and of these `(n, q, q)`."""

    coordinates: Tensor
    along: Tensor
    powers: Tensor


def components(disc: PosedDisc, references: Pair, focus: Tensor, count: int, radius: float, chance: torch.Generator) -> Components:
    """Components within the focus mask, found one after the other.

    references: prepared spectra that particles of half-set 1 and 2 are compared with.
    """
    part = disc.within(radius)
    whole = rest = _rest(disc, part, references)
    values, maps = [], []
    for number in range(count):
        found, pair, explained = _component(disc, part, rest, focus, radius, chance, f"particles, component {number + 1}")
        rest = rest - explained
        values.append(found)
        maps.append(pair)
    along, powers = (torch.zeros(len(whole), *([count] * rank)) for rank in (1, 2))
    root = disc.precision(part).sqrt()
    for batch in disc.batches(part, "particles, components"):
        models = [_from_halves(pair, batch.half, batch.rotations, part.points) * batch.ctf * root for pair in maps]
        both = products(torch.stack(models, dim=1), whole[batch.rows].to(disc.device) * root)
        along[batch.rows], powers[batch.rows] = (one.cpu() for one in both)
    return Components(torch.stack(values, dim=-1), along, powers)


def products(models: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Real scalar products `(b, q)` of coefficients `(b, m)` with models `(b, q, m)` of them, and `(b, q, q)` of the models."""
    rows = torch.view_as_real(models).flatten(2)
    return (rows @ torch.view_as_real(images).flatten(1)[..., None]).squeeze(-1), rows @ rows.mT


def first_shares(found: Components, count: int, chance: torch.Generator) -> Tensor:
    """Shares `(n, count)` of classes in particles: the likeliest of several mixtures of points in the space of the components.

    Starts are regions around particles far apart (Arthur & Vassilvitskii 2007).
    """
    best, most = torch.zeros(len(found.along), count), -float("inf")
    for _ in range(STARTS):
        shares = torch.nn.functional.one_hot(_regions(found.coordinates, count, chance), count).float()
        likelihood = most
        for _ in range(STEPS):
            logs = _mixture(found, shares)
            shares, likelihood = logs.softmax(1), float(logs.logsumexp(1).double().sum())
        if likelihood > most:
            best, most = shares, likelihood
    return best


def _regions(points: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """Number `(n,)` of the nearest of some points drawn far apart, of points `(n, q)`."""
    centres = points[torch.randint(len(points), (1,), generator=chance)]
    while len(centres) < count:
        distance = torch.cdist(points, centres).amin(1).square() + 1e-12
        centres = torch.cat((centres, points[torch.multinomial(distance, 1, generator=chance)]))
    return torch.cdist(points, centres).argmin(1)


def class_fractions(shares: Tensor) -> Tensor:
    """Parts `(k,)` of all particles that classes of shares `(n, k)` hold; none vanishes for good."""
    fractions = shares.mean(0).clamp(min=LEAST_FRACTION)
    return fractions / fractions.sum()


def _mixture(found: Components, shares: Tensor) -> Tensor:
    """Log-likelihoods `(n, k)` of images under classes made of shares `(n, k)`, over that of no difference; with the classes' fractions."""
    curves = torch.einsum("nk,npq->kpq", shares, found.powers) + torch.eye(found.along.shape[1])
    points = torch.linalg.solve(curves, (shares.T @ found.along)[..., None]).squeeze(-1)
    lost = torch.einsum("kp,npq,kq->nk", points, found.powers, points) / 2
    return found.along @ points.T - lost + class_fractions(shares).log()


def _rest(disc: PosedDisc, part: FourierDisc, references: Pair) -> Tensor:
    """Images less what the references explain `(n, m)`, on the host."""
    out = torch.zeros(len(disc.data), len(part.points), dtype=torch.complex64)
    for batch in disc.batches(part, "particles, differences"):
        out[batch.rows] = (batch.images - batch.ctf * _from_halves(references, batch.half, batch.rotations, part.points)).cpu()
    return out


def _component(
    disc: PosedDisc, part: FourierDisc, rest: Tensor, focus: Tensor, radius: float, chance: torch.Generator, step: str
) -> tuple[Tensor, Pair, Tensor]:
    """(coordinates `(n,)` of unit variance, the component's maps, what it explains of each image `(n, m)`)."""
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
    return values, maps, explained


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


def _from_halves(pair: Pair, half: Tensor, rotations: Tensor, points: Tensor) -> Tensor:
    """Slices `(b, m)`: of the first spectrum for particles of half-set 1, of the second for those of half-set 2."""
    out = torch.zeros(len(half), len(points), dtype=pair[0].dtype, device=points.device)
    for number, prepared in enumerate(pair, start=1):
        chosen = half == number
        out[chosen] = project_points(prepared, rotations[chosen], points)
    return out
