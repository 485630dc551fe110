"""What 2D classification begins with: particles sorted by angular orders, or averages that are there already.

Particles are turned and at most a little off their centres. The covariances of their angular orders then say which patterns they have in
common; by these, freed of CTF and noise, all are compared with each other at every angle, which needs no references, and gathered around
as many centres as there are classes. Centres have unit length, so that a full, well-known one attracts no more than others.
Source: Zhao & Singer, J. Struct. Biol. 186, 153 (2014); the CTF: Bhamre, Zhang & Singer, J. Struct. Biol. 195, 72 (2016); centres:
Arthur & Vassilvitskii, SODA 1027 (2007), of unit length: Dhillon & Modha, Machine Learning 42, 143 (2001).
"""

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.grid import shell_sums
from firn.kernels.rotate2d import prefix_length
from firn.kernels.steerable import EDGE, angles_for, angular_orders, best_turns, noise_covariance, turned_by
from firn.refine.class2d_average import Averages, ClassSums, average, soft_circle
from firn.refine.class2d_state import Particles, Plan, State
from firn.refine.class2d_sums import PARTICLES_AT_ONCE, as_images, empty_sums, first_noise, points_per_shell

WIDEST = 24
"""Rings to begin with at most: large particles begin coarser."""
FEWEST, PER_CLASS = 1000, 20
"""Particles that are sorted first: all if fewer than FEWEST, else as many, or PER_CLASS for each class."""
TRIES, ROUNDS = 4, 15
"""Choices of first centres, of which the tightest counts, and rounds of moving them."""
RIDGE = 0.03
"""Share of the greatest variance of noise that each ring is given beside its own."""
LEAST_LEVEL = 1e-4
"""Of the noise's variance in a ring: even images of nothing have a little."""
REACHED = 0.1
"""Orders in which a ring has less of its noise than this, of the order in which it has most, are left out: what is there is interpolated."""
TWIN = 0.5
SPARSE = 0.01
"""Share of the greatest weight below which a covariance counts as unseen."""


def initial_state(particles: Particles, plan: Plan, generator: torch.Generator) -> State:
    """Classes of some particles by their angular orders, averaged as turned, and the noise as the particles' mean power."""
    order = torch.randperm(len(particles.half), generator=generator)
    noise = first_noise(particles, plan, order)
    rows = order[: max(FEWEST, PER_CLASS * plan.classes)].sort().values.to(noise.device)
    radius = int(plan.first_radius)
    angles = angles_for(radius, 2 * math.pi * plan.mask_radius_px / plan.box_px, noise.device)
    number, turn = _sorted(_components(particles, plan, rows, noise, radius, angles), plan.classes, angles, generator)
    sums = _sums(particles, plan, noise, rows, (number, turn, angles))
    reach = torch.full((plan.classes,), radius, device=noise.device)
    return State(sums, noise, average(sums, plan.mask(), reach, plan.use_frc), reach)


def continued_state(particles: Particles, plan: Plan, generator: torch.Generator, images: Float[Tensor, "c n n"], radius: int) -> State:
    """Start from former averages `images`, largest class first, in the plan's side and the engine's grey values, and of sums of nothing.

    Classes beyond them are made by moving the largest apart in two, by chance: by a share TWIN of an image of the same power.
    """
    noise = first_noise(particles, plan, torch.randperm(len(particles.half), generator=generator))
    former = images[: plan.classes].clone()
    for number in range(plan.classes - len(former)):
        source = former[number % len(images)]
        wanted = torch.randn(source.shape, generator=generator).to(source)
        step = TWIN * irfft2(rfft2(source).abs() * torch.exp(1j * rfft2(wanted).angle()), (plan.side, plan.side))
        former = torch.cat((former, (source - step)[None]))
        former[number % len(images)] = source + step
    sums = ClassSums(*(torch.zeros(size, device=former.device) for size in _shapes(plan)))
    reach = torch.full((plan.classes,), radius, device=noise.device)
    return State(sums, noise, Averages(former * plan.mask(), torch.zeros_like(sums.denominator[:, 0])), reach)


def _shapes(plan: Plan) -> tuple[tuple[int, ...], ...]:
    return (plan.classes, 2, plan.side, plan.side), (plan.classes, 2, plan.side // 2 + 1), (plan.classes,)


def _components(
    particles: Particles, plan: Plan, rows: Int[Tensor, " b"], noise: Float[Tensor, " s"], radius: int, angles: Float[Tensor, " m"]
) -> Complex[Tensor, "b k q"]:
    """Principal components of the particles' angular orders, restored and of unit variance each; orders from one on count twice.

    Only rings that are compared count.
    """
    points, shells = _within(plan, radius + EDGE)
    seen = points_per_shell(plan)[1 : radius + 1]
    orders, transfer = [], []
    for part in rows.split(PARTICLES_AT_ONCE):
        spectra, ctf = particles.take(part)
        orders.append(angular_orders(spectra[:, : len(points)] * noise[shells].rsqrt(), points, radius, angles))
        transfer.append(shell_sums(ctf[:, : len(points)], shells, plan.side // 2 + 1)[:, 1 : radius + 1] / seen)
    known = torch.cat(transfer)
    measured = torch.cat(orders)
    white = noise_covariance(soft_circle(plan.box_px, plan.mask_radius_px, plan.mask_edge_px, known.device), radius, angles)
    common = (known * measured[:, 0].real).sum(0) / known.square().sum(0).clamp(min=1e-12)
    measured[:, 0] -= known * common
    first = min(math.ceil(plan.least_radius), radius) - 1 if plan.least_radius > 1 else 0
    white, measured = _levelled(white[:, first:, first:], measured[..., first:])
    found = [restored(values, known[:, first:], covariance) for covariance, values in zip(white, measured.unbind(1), strict=True)]
    most = max(part.shape[1] for part in found)
    last = max((number for number, part in enumerate(found) if part.shape[1]), default=0)
    padded = torch.stack([torch.nn.functional.pad(part, (0, most - part.shape[1])) for part in found[: last + 1]], dim=1)
    padded[:, 1:] *= math.sqrt(2)
    return padded


def restored(values: Complex[Tensor, "b r"], transfer: Float[Tensor, "b r"], noise: Float[Tensor, "r r"]) -> Complex[Tensor, "b q"]:
    """One order's signal in each particle, in units of its standard deviations along its principal components.

    The covariance of the signal, which is real as mirror images are as likely, is what that of the values has beyond the noise's, element by
    element over its weight; components that chance alone could make are left out. Each particle's share is its conditional mean.
    """
    count, rings = values.shape
    product = torch.einsum("br,bs->rs", values * transfer, (values * transfer).conj()).real
    weight = transfer.square().T @ transfer.square()
    signal = (product - noise * (transfer.T @ transfer)) / (weight + SPARSE * weight.max())
    root = torch.linalg.cholesky(noise)
    half = torch.linalg.solve_triangular(root, signal, upper=False)
    strength, patterns = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    chance = math.sqrt(2 * rings / count) / float(transfer.square().mean())
    patterns = (root @ patterns * strength.clamp(min=0).sqrt())[:, strength > chance]
    if not patterns.shape[1]:
        return values[:, :0]
    blurred = transfer[..., None] * patterns
    parts = torch.linalg.solve(blurred @ blurred.mT + noise, torch.view_as_real(values))
    return torch.view_as_complex((blurred.mT @ parts).contiguous())


def _levelled(white: Float[Tensor, "k r r"], measured: Complex[Tensor, "b k r"]) -> tuple[Float[Tensor, "k r r"], Complex[Tensor, "b k r"]]:
    """Covariances of noise of each ring's own level, and what was measured, without rings that an order hardly reaches.

    The level is the median over orders, most of which hold little signal, of the median particle's power beside that of white noise.
    """
    expected = white.diagonal(dim1=1, dim2=2)
    reached = expected > REACHED * expected.amax(0)
    ratio = torch.where(reached, measured.abs().square().median(0).values / math.log(2) / expected.clamp(min=1e-12), torch.nan)
    level = ratio.nanmedian(dim=0).values.clamp(LEAST_LEVEL, 1).sqrt()
    least = RIDGE * expected.amax() * torch.eye(len(level), device=level.device)
    return (white * reached[:, None] * reached[..., None] + least) * level[:, None] * level, measured * reached


def _sorted(
    images: Complex[Tensor, "b k q"], classes: int, angles: Float[Tensor, " m"], generator: torch.Generator
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """(class of each image, number of the angle by which its class is turned to look like it); by chance where images have nothing in common."""
    if not bool(images.any()):
        number = torch.randint(classes, (len(images),), generator=generator).to(angles.device)
        return number, torch.zeros_like(number)
    tries = (_gathered(images, classes, angles, generator) for _ in range(TRIES))
    number, turn, _ = max(tries, key=lambda found: float(found[2].sum()))
    return number, turn


def _gathered(
    images: Complex[Tensor, "b k q"], classes: int, angles: Float[Tensor, " m"], generator: torch.Generator
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"], Float[Tensor, " b"]]:
    """(class, number of the angle, product with the class) of each image, around centres that began with some of the images."""
    centres = _first_centres(images, classes, len(angles), generator)
    for _ in range(ROUNDS):
        number, turn, _ = _nearest(centres, images, len(angles))
        straight = turned_by(images, -angles[turn])
        centres = _unit(torch.zeros_like(centres).index_add_(0, number, straight), centres)
    return _nearest(centres, images, len(angles))


def _first_centres(images: Complex[Tensor, "b k q"], classes: int, turns: int, generator: torch.Generator) -> Complex[Tensor, "c k q"]:
    """Images drawn one after the other, the less alike they are to those drawn before the likelier."""
    among = _unit(images, images)
    unlike = torch.ones(len(images), device=images.device)
    drawn: list[int] = []
    for _ in range(classes):
        drawn.append(int(torch.multinomial(unlike.cpu() + 1e-6, 1, generator=generator)))
        product = best_turns(among[drawn[-1:]], among, turns)[0][:, 0]
        unlike = torch.minimum(unlike, (1 - product).clamp(min=0).square())
    return among[drawn]


def _nearest(
    centres: Complex[Tensor, "c k q"], images: Complex[Tensor, "b k q"], turns: int
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"], Float[Tensor, " b"]]:
    product, turn = best_turns(centres, images, turns)
    best, number = product.max(-1)
    return number, turn.gather(1, number[:, None])[:, 0], best


def _unit(images: Complex[Tensor, "c k q"], former: Complex[Tensor, "c k q"]) -> Complex[Tensor, "c k q"]:
    """Images of unit length; the former ones where there is nothing."""
    length = images.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(length > 0, images / length.clamp(min=1e-12), former)


def _sums(
    particles: Particles, plan: Plan, noise: Float[Tensor, " s"], rows: Int[Tensor, " b"], found: tuple[Tensor, Tensor, Tensor]
) -> ClassSums:
    """Sums of particles whose class and angle are known, up to the radius that is read next."""
    number, turn, angles = found
    points, shells = plan.disc.points, plan.disc.shells
    sums = empty_sums(plan, len(angles), len(points))
    weight = noise[shells].rsqrt()
    for some in torch.arange(len(rows), device=rows.device).split(PARTICLES_AT_ONCE):
        spectra, ctf = (values * weight for values in particles.take(rows[some]))
        place = (number[some], particles.half[rows[some]])
        sums.numerator.index_put_((*place, turn[some]), spectra * ctf, accumulate=True)
        sums.denominator.index_put_(place, shell_sums(ctf.square(), shells, plan.side // 2 + 1), accumulate=True)
    sums.count += torch.bincount(number, minlength=plan.classes)
    return as_images(plan, sums, angles, points)


def _within(plan: Plan, radius: int) -> tuple[Float[Tensor, "f 2"], Int[Tensor, " f"]]:
    """Points of the disc up to a radius, and their shells."""
    length = prefix_length(plan.disc, radius)
    return plan.disc.points[:length], plan.disc.shells[:length]
