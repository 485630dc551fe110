"""Particles of two motifs made by closed formulae, at known poses, and a plan to classify them by."""

import math

import torch
from torch import Tensor

from firn.kernels.fourier import rfft2
from firn.kernels.rotate2d import half_disc
from firn.refine.class2d_average import soft_circle
from firn.refine.class2d_state import Plan

BOX = 40
MOTIFS = [
    [(0.0, 7.0, 2.0, 1.0), (-5.0, -5.0, 2.5, 1.0), (6.0, -3.0, 2.0, 0.8)],
    [(0.0, 0.0, 3.0, 1.2), (0.0, 9.0, 2.0, 0.9)],
]


def blobs(motif: list[tuple[float, float, float, float]], psi: float, shift_yx: tuple[float, float], n: int = BOX) -> Tensor:
    """What lies at p in the motif lies at R^-1 p + shift in the image."""
    axis = torch.arange(n) - n // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    c, s = math.cos(math.radians(psi)), math.sin(math.radians(psi))
    image = torch.zeros(n, n)
    for y0, x0, sigma, weight in motif:
        x1, y1 = c * x0 + s * y0 + shift_yx[1], -s * x0 + c * y0 + shift_yx[0]
        image += weight * torch.exp(-((y - y1) ** 2 + (x - x1) ** 2) / (2 * sigma**2))
    return image


class MadeParticles:
    """Particles of two motifs at known poses in white noise, with a CTF that changes sign from particle to particle."""

    def __init__(self, count: int, noise: float, plan_disc, seed: int = 1):
        chance = torch.Generator().manual_seed(seed)
        self.disc = plan_disc
        self.half = torch.arange(count) % 2
        self.motif = torch.randint(2, (count,), generator=chance)
        self.psi = torch.rand(count, generator=chance) * 360
        self.shift = torch.randn(count, 2, generator=chance) * 1.2
        clean = [blobs(MOTIFS[m], float(p), (float(s[0]), float(s[1]))) for m, p, s in zip(self.motif, self.psi, self.shift, strict=True)]
        self.ctf = torch.where(torch.rand(count, 1, generator=chance) < 0.5, 0.9, -0.7) * torch.ones(len(plan_disc.points))
        white = torch.randn(count, BOX, BOX, generator=chance) * noise
        mask = soft_circle(BOX, 15.0, 3.0)
        signal = rfft2(torch.stack(clean)).flatten(1)[:, plan_disc.layout] * self.ctf
        self.spectra = (signal + rfft2(white * mask).flatten(1)[:, plan_disc.layout]) / BOX

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.spectra[rows], self.ctf[rows]


def make_plan(**changes) -> Plan:
    settings = {
        "disc": half_disc(BOX, 19), "box_px": BOX, "finest": 14, "classes": 2, "iterations": 12, "final_iterations": 1, "batch_size": 1000,
        "first_radius": 4.0, "mask_radius_px": 15.0, "mask_edge_px": 3.0, "shift_reach_px": 4.0, "anneal_length": 6,
    }  # fmt: skip
    return Plan(**(settings | changes))
