"""Back-projection: slices are added to a padded half spectrum, which is then divided by its weights (direct Fourier inversion).

Convention: as in kernels/project.py. `sum_` gathers CTF * image / noise, `weight_` gathers CTF² / noise, both at the slice's
points; their ratio, regularised per shell, is the volume's spectrum (Wiener filter; Scheres, J. Struct. Biol. 180, 519, 2012).
Weights of half-plane points: give `fourier_disc(...).weights / 2`, so that points whose mirror is listed count half.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import irfft3_centre
from firn.kernels.grid import ball_shells, layout_points
from firn.kernels.project import gridding_window
from firn.kernels.spectrum import add_slices_, resize_spectrum3, symmetrise_spectra, with_friedel_mates

MIN_RELATIVE_WEIGHT = 1e-3


def empty_sums(d: int, device: torch.device | str = "cpu") -> tuple[Complex[Tensor, "d d h"], Float[Tensor, "d d h"]]:
    """Zero accumulators of side d."""
    return torch.zeros(d, d, d // 2 + 1, dtype=torch.complex64, device=device), torch.zeros(d, d, d // 2 + 1, device=device)


def insert_points_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "b m"],
    weights: Float[Tensor, "b m"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "m 2"],
    padding: int = 2,
) -> None:
    """Add slices at yx frequencies in units of 1/n to the accumulators: the adjoint of project_points."""
    add_slices_(sum_, weight_, values, weights, rotations * padding, points)


def symmetrise_sums(
    total: Complex[Tensor, "d d h"], weight: Float[Tensor, "d d h"], operators: Float[Tensor, "g 3 3"]
) -> tuple[Complex[Tensor, "d d h"], Float[Tensor, "d d h"]]:
    """Completed sums averaged over the operators of a point group, by interpolation in the accumulators.

    Both accumulators must have gone through with_friedel_mates, and are returned so; as they are by a group of one.
    """
    return (total, weight) if len(operators) == 1 else symmetrise_spectra(total, weight, operators)


def shell_weights(weight: Float[Tensor, "d d h"], n: int, padding: int = 2) -> Float[Tensor, " s"]:
    """Mean weight of each shell 0 ... n // 2 (units of 1/n) of a completed accumulator."""
    shells = _image_shells(weight.shape[0], padding, weight.device).flatten()
    count = max(n // 2, int(shells.max())) + 1
    totals = torch.zeros(count, device=weight.device).index_add_(0, shells, weight.flatten())
    numbers = torch.zeros(count, device=weight.device).index_add_(0, shells, torch.ones_like(weight).flatten())
    return (totals / numbers.clamp(min=1))[: n // 2 + 1]


def reconstruct(
    total: Complex[Tensor, "d d h"],
    weight: Float[Tensor, "d d h"],
    n: int,
    prior: Float[Tensor, " s"] | None = None,
    radius: float | None = None,
    padding: int = 2,
) -> Float[Tensor, "n n n"]:
    """Volume of side n from completed accumulators (with_friedel_mates; symmetrise_sums if there is symmetry).

    prior: what is added to the weight in each shell 0 ... n // 2 (units of 1/n), the inverse signal power of a Wiener filter;
    without it the volume is not regularised. radius: frequencies beyond it (units of 1/n; default n / 2) are zero.
    """
    shells = _image_shells(total.shape[0], padding, total.device)
    means = shell_weights(weight, n, padding)
    last = shells.clamp(max=n // 2)
    denominator = torch.maximum(weight, means[last] * MIN_RELATIVE_WEIGHT)
    if prior is not None:
        denominator = denominator + prior[last]
    limit = (n / 2 if radius is None else radius) * padding
    inside = (layout_points(total.shape[0], total.device).norm(dim=-1) <= limit) & (denominator > 0)
    spectrum = torch.where(inside, total / denominator.clamp(min=1e-30), torch.zeros_like(total))
    d = padding * n
    return irfft3_centre(resize_spectrum3(spectrum, d), d, n) / gridding_window(n, padding, total.device)


def completed(total: Complex[Tensor, "d d h"], weight: Float[Tensor, "d d h"]) -> tuple[Complex[Tensor, "d d h"], Float[Tensor, "d d h"]]:
    """Accumulators whose plane x = 0 holds the Friedel mates too, ready for reconstruct."""
    return with_friedel_mates(total), with_friedel_mates(weight)


def _image_shells(d: int, padding: int, device: torch.device) -> Tensor:
    return torch.round(ball_shells(d, device) / padding).long()
