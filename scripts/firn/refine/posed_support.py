"""How many classes particles in known poses support: classes made from one half-set alone must predict the other's images.

Each half-set is sorted alone, and every image of the other one is judged by what the classes differ by from the map of all. An image's
gain is the logarithm of its likelihood under the classes over that under the one map. Where there are no classes, those found are made of
noise and predict worse than no difference at all, however large they are and however well their half maps agree.
Classes are merged one pair after the other (Ward, J. Am. Stat. Assoc. 58, 236 (1963)); merged classes differ from the map of all by their
weighted mean, so that every number of classes is judged from the same projections.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.project import prepare_volume, project_points
from firn.refine.posed_classes import PosedClasses
from firn.refine.posed_components import products
from firn.refine.posed_disc import PosedDisc

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""What differences are multiplied by: noise makes them too large, filtering too small."""
LEAST_POWER = 1e-4
CERTAIN = 4.0
"""Standard errors by which more classes must predict better."""
LEAST_GAIN, LEAST_SHARE = 1e-3, 0.02
"""Least gain of an image, and least part of what fewer classes gain: two equal classes with images enough to tell 60 % of particles right
gain q^4 / 4 with q = 0.253, the quantile of 0.6."""


@dataclass(frozen=True)
class Support:
    """Number of classes supported, mean gain `(k,)` of an image from 1, 2, ... classes, and standard error of each."""

    classes: int
    gains: tuple[float, ...]
    errors: tuple[float, ...]


def supported(gains: Tensor) -> Support:
    """The fewest classes that no larger number predicts better than, beyond chance, from gains `(n, k)` of images by number of classes."""
    best, count = 0, len(gains)
    for number in range(1, gains.shape[1]):
        more = gains[:, number] - gains[:, best]
        needed = max(CERTAIN * float(more.std()) / count**0.5, LEAST_GAIN, LEAST_SHARE * float(gains[:, best].mean()))
        if float(more.mean()) > needed:
            best = number
    errors = gains.std(0) / count**0.5
    return Support(best + 1, tuple(gains.mean(0).tolist()), tuple(errors.tolist()))


def held_out_gains(trained: PosedClasses, judged: PosedDisc, classes: int) -> Tensor:
    """Gains `(n, classes)` of images from 1, 2, ... classes that were made without them, at the best strength for each number.

    Where some classes hold no particle, those numbers gain what the last of the others does.
    """
    consensus, differences, fractions = _learnt(trained)
    along, powers = (torch.zeros(len(judged.data), *([len(differences)] * rank)) for rank in (1, 2))
    part = judged.within(judged.radius)
    root = judged.precision(part).sqrt()
    for batch in judged.batches(part, "particles, held out"):
        rest = (batch.images - batch.ctf * project_points(consensus, batch.rotations, part.points)) * root
        models = torch.stack([batch.ctf * root * project_points(one, batch.rotations, part.points) for one in differences], dim=1)
        along[batch.rows], powers[batch.rows] = (one.cpu() for one in products(models, rest))
    along = centred_products(along, powers)
    found = torch.stack([_best_gain(mixture, along, powers) for mixture in merged(fractions.cpu(), powers.mean(0))], dim=-1)
    return found[:, torch.arange(classes).clamp(max=found.shape[1] - 1)]


def centred_products(along: Tensor, powers: Tensor) -> Tensor:
    """Products `(n, k)` of images with the classes' differences, after what all images have in common of these is put into the one map.

    powers: products `(n, k, k)` of the differences with each other. What the one map lacks would else count as a difference of particles.
    """
    common = torch.linalg.pinv(powers.double().mean(0), rtol=LEAST_POWER, hermitian=True) @ along.double().mean(0)
    return along - powers @ common.float()


def merged(fractions: Tensor, products: Tensor) -> list[Tensor]:
    """For 1, 2, ... k classes, weights `(j, k + 1)` of the k classes in each merged one, and last the part of the particles in it.

    products: mean scalar products `(k, k)` of the classes' differences.
    """
    groups = torch.eye(len(fractions), device=fractions.device)
    found = [_mixture(groups, fractions)]
    while len(groups) > 1:
        parts = groups @ fractions
        means = groups * fractions / parts[:, None]
        squares = (means @ products @ means.T).diagonal()
        distances = squares[:, None] + squares - 2 * means @ products @ means.T
        costs = distances * parts[:, None] * parts / (parts[:, None] + parts)
        costs.fill_diagonal_(float("inf"))
        first, second = divmod(int(costs.argmin()), len(groups))
        rest = [number for number in range(len(groups)) if number not in (first, second)]
        groups = torch.cat((groups[rest], groups[[first]] + groups[[second]]))
        found.insert(0, _mixture(groups, fractions))
    return found


def _mixture(groups: Tensor, fractions: Tensor) -> Tensor:
    parts = groups @ fractions
    return torch.cat((groups * fractions / parts[:, None], parts[:, None]), dim=1)


def _best_gain(mixture: Tensor, along: Tensor, powers: Tensor) -> Tensor:
    """Gains `(n,)` of images by their products `(n, k)` with the classes' differences and those of these `(n, k, k)`."""
    means, parts = mixture[:, :-1], mixture[:, -1]
    first, second = along @ means.T, torch.einsum("jk,bkl,jl->bj", means, powers, means)
    gains = [torch.logsumexp(parts.log() + strength * first - strength**2 / 2 * second, dim=1) for strength in STRENGTHS]
    return max(gains, key=lambda one: float(one.mean()))


def _learnt(trained: PosedClasses) -> tuple[Tensor, list[Tensor], Tensor]:
    """Prepared spectra of all particles' map and of each class's difference from the classes' mean, and the classes' parts."""
    fractions = trained.shares.mean(0)
    kept = [number for number, part in enumerate(fractions.tolist()) if part > 0]
    parts = (fractions[kept] / fractions[kept].sum()).to(trained.mask.device)
    differences = trained.differences()
    chosen = torch.stack([differences[number] for number in kept])
    centred = chosen - torch.einsum("k,kzyx->zyx", parts, chosen)
    return prepare_volume(trained.consensus.combined * trained.mask), [prepare_volume(one) for one in centred], parts
