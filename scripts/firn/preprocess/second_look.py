"""A second look at a micrograph whose CTF is not known, with templates as strong at each frequency as its clearest particles are.

What a CTF makes of a template is measured instead. A matched filter needs each frequency in the strength that particles have beyond what
passes for one: in white noise the best weights are the difference of the amplitudes that templates have in particles and in other maxima
(Fisher, Ann. Eugen. 7, 179, 1936). Amplitudes are fitted by least squares.
Convention: gains are given at evenly spaced frequencies from 0 to Nyquist and are interpolated between them.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.crop import crop_boxes
from firn.kernels.fourier import frequencies2, hermitian_weights, rfft2
from firn.kernels.templates import disc_mask, filter_images
from firn.preprocess.pick import MARGIN, Picks, Scene, Shape, pick
from firn.preprocess.thresholds import divide_picks, largest_power
from firn.preprocess.whiten import radial_values

CLEAREST = 0.5
"""Share of the particles, those farthest beyond the limit, that are measured."""
FEWEST = 5
"""Particles that must be measured."""
MOST = 256
"""Particles, and other maxima, that are measured at most, evenly taken from all: each adds to hundreds of pixels of every frequency."""
KEEPS = 1e-3
"""Share of the mean energy of other maxima that keeps their fit stable."""


def pick_twice(scene: Scene, separation: float, edge: float, limit: int) -> Picks:
    """Picks of a whitened micrograph as `pick` gives them, by templates weighted after its own particles where these are clear."""
    first = pick(scene, separation, edge, limit)
    particles, others = clearest(first)
    if int(particles.sum()) < FEWEST or not bool(others.any()):
        return first
    gains, factors = particle_gains(scene, first, particles, others), scene.factors
    radius = frequencies2((factors.shape[0], factors.shape[0]), factors.device).norm(dim=-1)
    return pick(replace(scene, factors=factors * radial_values(gains, radius)), separation, edge, limit)


def clearest(picks: Picks) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "n"]]:
    """(the clearest particles among picks, those that are none), both empty where the picks do not fall into two clear parts."""
    score, power = picks.score.double().cpu(), picks.power.double().cpu()
    line = divide_picks(score, power, whole=True)
    passed = line.passes(score, power)
    largest = largest_power(power, passed)
    particles = passed if largest is None else passed & (power <= largest)
    if line.separation == 0 or not bool(particles.any()):
        return torch.zeros_like(passed), torch.zeros_like(passed)
    height = line.height(score, power)
    return particles & (height >= torch.quantile(height[particles], 1 - CLEAREST)), ~passed


def particle_gains(scene: Scene, picks: Picks, particles: Bool[Tensor, "n"], others: Bool[Tensor, "n"]) -> Float[Tensor, "r"]:
    """Amplitude of the templates in particles beyond that in other maxima, at frequencies a particle's inverse diameter apart.

    Frequencies that say little are drawn towards the mean of all: the prior is normal, its mean and its deviation the amplitude
    that fits all frequencies alike. All 1 where that is not positive.
    """
    energy, cross = _products(scene, picks, particles)
    noise_energy, noise_cross = _products(scene, picks, others)
    one = torch.eye(len(cross), dtype=cross.dtype, device=cross.device)
    elsewhere = torch.linalg.solve(noise_energy + KEEPS * noise_energy.diagonal().mean() * one, noise_cross)
    beyond = cross - energy @ elsewhere
    mean = beyond.sum() / energy.sum()
    if not bool(mean > 0):
        return torch.ones_like(cross).to(scene.factors.dtype)
    return (torch.linalg.solve(energy + one / mean**2, beyond + 1 / mean) / mean).to(scene.factors.dtype)


def _products(scene: Scene, picks: Picks, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Scalar products of the templates' bands with each other `(r, r)` and with the image `(r,)`, summed over the chosen picks."""
    reduced, shapes, factors = scene.reduced, scene.shapes, scene.factors
    side = shapes[0].templates.shape[-1]
    mask = disc_mask(max(shape.diameter for shape in shapes) * MARGIN, side, reduced.pixel_size, factors.device).to(factors.dtype)
    image = torch.nn.functional.pad(torch.where(scene.clean, reduced.image, 0.0), (side, side, side, side))
    centres = (picks.points / torch.tensor(reduced.stride, device=mask.device)).round().long() + side
    rows = torch.nonzero(chosen.to(mask.device)).flatten()
    rows = rows[:: -(-len(rows) // MOST)]
    seen = _spectra(crop_boxes(image, centres[rows], side), mask)
    drawn = _spectra(filter_images(_templates(shapes, picks, rows), factors), mask)
    energy = drawn.abs().square().sum(0, dtype=torch.float64)
    cross = (drawn.conj() * seen).real.sum(0, dtype=torch.float64)
    bands = _bands(side, float(shapes[0].diameter / reduced.pixel_size), mask.device)
    weights = hermitian_weights(side, mask.device).double() / side**2
    return torch.einsum("ryf,yf,qyf->rq", bands, energy * weights, bands), torch.einsum("ryf,yf->r", bands, cross * weights)


def _spectra(images: Tensor, mask: Tensor) -> Tensor:
    """Spectra of images of mean 0 under the mask and 0 outside it."""
    return rfft2((images - (images * mask).sum((-2, -1), keepdim=True) / mask.sum()) * mask)


def _templates(shapes: list[Shape], picks: Picks, rows: Tensor) -> Tensor:
    """The template `(n, side, side)` that each pick matches."""
    found = [shapes[number] for number in picks.shape[rows].tolist()]
    turns = [int((shape.angles - angle).abs().argmin()) for shape, angle in zip(found, picks.angle[rows], strict=True)]
    return torch.stack([shape.templates[turn] for shape, turn in zip(found, turns, strict=True)])


def _bands(side: int, diameter: float, device: torch.device) -> Tensor:
    """Functions `(r, side, f)` of frequency that are 1 at one of r frequencies, 0 at the others and straight between; diameter in pixels."""
    count = max(round(diameter / 2), 2) + 1
    radius = frequencies2((side, side), device).norm(dim=-1).double()
    return torch.stack([radial_values(row, radius) for row in torch.eye(count, dtype=torch.float64, device=device)])
