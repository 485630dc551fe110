"""Sums of turned discs that 2D classes are made of, and the noise they are weighted by."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from firn.kernels.grid import shell_sums
from firn.kernels.rotate2d import add_rotated
from firn.refine.class2d_average import ClassSums, soft_circle
from firn.refine.class2d_search import Sums
from firn.refine.class2d_state import Particles, Plan

PARTICLES_AT_ONCE = 256
SAMPLE = 2000
"""Particles from which the first noise spectrum is estimated."""


def first_noise(particles: Particles, plan: Plan, order: Int[Tensor, " n"]) -> Float[Tensor, " s"]:
    """Mean power per shell of the first SAMPLE particles of an order, which includes their signal."""
    shells = plan.side // 2 + 1
    sample = order[:SAMPLE].to(plan.disc.points.device)
    power = torch.zeros(shells, device=sample.device)
    for rows in sample.split(PARTICLES_AT_ONCE):
        spectra, _ = particles.take(rows)
        power += shell_sums(spectra.abs().square(), plan.disc.shells, shells).sum(0)
    return (power / (points_per_shell(plan) * len(sample) * mask_share(plan))).clamp(min=1e-8)


def empty_sums(plan: Plan, angles: int, points: int) -> Sums:
    """Sums of nothing, for discs of so many points turned by so many angles."""
    device, shells = plan.disc.points.device, plan.side // 2 + 1
    return Sums(
        torch.zeros(plan.classes, 2, angles, points, dtype=torch.complex64, device=device),
        torch.zeros(plan.classes, 2, shells, device=device),
        torch.zeros(plan.classes, device=device),
    )


def as_images(plan: Plan, sums: Sums, angles: Tensor, points: Tensor) -> ClassSums:
    """The discs of each class and half-set turned back and added up, c² as a mean per point of a shell."""
    classes, halves, turned, size = sums.numerator.shape
    flat = sums.numerator.reshape(classes * halves, turned, size)
    images = add_rotated(flat, angles, points, plan.side, plan.pad) * (2 / plan.side**2)
    return ClassSums(images.reshape(classes, halves, plan.side, plan.side), sums.denominator / points_per_shell(plan), sums.count)


def points_per_shell(plan: Plan) -> Float[Tensor, " s"]:
    """Points of the disc in each shell, at least one."""
    return torch.bincount(plan.disc.shells, minlength=plan.side // 2 + 1).clamp(min=1).float()


def mask_share(plan: Plan) -> float:
    """Share of white noise that the particles' mask leaves."""
    return float(soft_circle(plan.box_px, plan.mask_radius_px, plan.mask_edge_px).square().mean())
