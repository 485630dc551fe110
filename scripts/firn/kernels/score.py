"""Log-likelihood of poses as matrix products.

An image y with CTF c and noise of variance s (per complex coefficient), seen in the pose (R, t) of a reference p_R, has

    log L = - 1/2 sum |shift_t(y) - c p_R|² / s  =  const + Re < shift_t(c y / s), p_R > - 1/2 < c² / s, |p_R|² >

with sums over the whole Fourier plane. Rows of the first product are shifted images, columns are projections.
`shift_t` moves the image by t, so that the particle gets centred. Half-plane points carry hermitian weights w: they are put on
the projections (`weigh_projections`), once, and never on the images.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def shifted_rows(images: Complex[Tensor, "b m"], phases: Complex[Tensor, "t m"]) -> Float[Tensor, "b t m2"]:
    """Real rows (real and imaginary part of each coefficient) of every image moved by every shift (phases: shift_phases)."""
    moved = images[:, None] * phases[None]
    return torch.view_as_real(moved).flatten(-2)


def weigh_projections(
    projections: Complex[Tensor, "*g m"], weights: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "*g m2"], Float[Tensor, "*g m"]]:
    """Columns for score_poses: (w p as real numbers, w |p|² / 2)."""
    weighted = torch.view_as_real(projections * weights).flatten(-2)
    return weighted, (projections.real**2 + projections.imag**2) * (weights / 2)


def score_poses(
    rows: Float[Tensor, "b t m2"], ctf_power: Float[Tensor, "b m"], columns: Float[Tensor, "g m2"], powers: Float[Tensor, "g m"]
) -> Float[Tensor, "b t g"]:
    """Log-likelihoods, up to a constant per image, of all shifts and all projections.

    rows: shifted_rows(c y / s); ctf_power: c² / s; columns, powers: weigh_projections.
    """
    return cross_terms(rows, columns) - (ctf_power @ powers.T)[:, None]


def score_scale_free(
    rows: Float[Tensor, "b t m2"], ctf_power: Float[Tensor, "b m"], columns: Float[Tensor, "g m2"], powers: Float[Tensor, "g m"]
) -> Float[Tensor, "b t g"]:
    """As score_poses, maximised over a positive factor on each projection: for references of unknown grey scale."""
    norms = 2 * (ctf_power @ powers.T)[:, None]
    return 0.5 * cross_terms(rows, columns).clamp(min=0) ** 2 / norms.clamp(min=1e-30)


def cross_terms(rows: Float[Tensor, "b t m2"], columns: Float[Tensor, "g m2"]) -> Float[Tensor, "b t g"]:
    """Re < shift_t(c y / s), p > for all images, shifts and projections: one matrix product."""
    b, t, m2 = rows.shape
    return (rows.reshape(b * t, m2) @ columns.T).reshape(b, t, -1)
