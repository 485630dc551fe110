"""Log-likelihood of poses as matrix products.

An image y with CTF c and noise of variance s (per complex coefficient), seen in the pose (R, t) of a reference p_R, has

    log L = - 1/2 sum |shift_t(y) - c p_R|² / s  =  const + Re < shift_t(c y / s), p_R > - 1/2 < c² / s, |p_R|² >

with sums over the whole Fourier plane. Rows of the first product are shifted images, columns are projections.
`shift_t` moves the image by t, so that the particle gets centred. Half-plane points carry hermitian weights w: they are put on
the projections (`weigh_projections`), once, and never on the images.

A search consumes marginals of the softmax of tempered scores. On a GPU they come from `fast_marginals`, whose product is in half precision
(kernels/half_precision) and which never writes the scores to memory; `score_halves` with `marginals_` is its definition.
"""

import importlib
import importlib.util

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.half_precision import HalfLines

LEAST_CAPABILITY = 8, 0
"""Of NVIDIA GPUs: the first whose tensor cores and asynchronous copies the compiled product is made for (Ampere)."""


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
    return log_likelihoods(cross_terms(rows, columns), ctf_power @ powers.T, scaled=True)


def score_scale_free(
    rows: Float[Tensor, "b t m2"], ctf_power: Float[Tensor, "b m"], columns: Float[Tensor, "g m2"], powers: Float[Tensor, "g m"]
) -> Float[Tensor, "b t g"]:
    """As score_poses, maximised over a positive factor on each projection: for references of unknown grey scale."""
    return log_likelihoods(cross_terms(rows, columns), ctf_power @ powers.T, scaled=False)


def score_halves(rows: HalfLines, columns: HalfLines, norms: Float[Tensor, "b g"], scaled: bool) -> Float[Tensor, "b t g"]:
    """As score_poses or, if not scaled, score_scale_free, from operands in half precision (half_rows, half_columns)."""
    cross = cross_terms(rows.values.float(), columns.values.float()) * (rows.scales[:, None, None] * columns.scales)
    return log_likelihoods(cross, norms, scaled)


def log_likelihoods(cross: Float[Tensor, "b t g"], norms: Float[Tensor, "b g"], scaled: bool) -> Float[Tensor, "b t g"]:
    """Scores from cross terms and norms, at the given grey scale of the projections or at the best one that is positive."""
    if scaled:
        return cross - norms[:, None]
    return 0.25 * cross.clamp(min=0) ** 2 / norms[:, None].clamp(min=5e-31)


def marginals_(scores_: Float[Tensor, "b t g"], temper: float) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b t"], Float[Tensor, " b"]]:
    """Probabilities of projections and of shifts, and log of the sum of all exponentials, of temper times scores, which are used up."""
    peak = scores_.amax(dim=(1, 2), keepdim=True)
    joint = scores_.sub_(peak).mul_(temper).exp_()
    by_node, by_shift = joint.sum(1), joint.sum(2)
    total = by_node.sum(1, keepdim=True)
    return by_node / total, by_shift / total, temper * peak[:, 0, 0] + torch.log(total[:, 0])


def fast_marginals(
    rows: HalfLines, columns: HalfLines, norms: Float[Tensor, "b g"], shift_prior: Float[Tensor, "b t"], temper: float, scaled: bool
) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b t"], Float[Tensor, " b"]]:
    """marginals_ of score_halves plus a log prior of shifts, with no scores in memory; where marginals_are_fast."""
    compiled = importlib.import_module("firn.kernels.fast.marginals")
    found: tuple[Tensor, Tensor, Tensor] = compiled.half_marginals(rows, columns, norms, shift_prior, temper, scaled)
    return found


def marginals_are_fast(device: torch.device) -> bool:
    """Whether a device has fast_marginals: a GPU with tensor cores, and Triton, which comes with torch for CUDA."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def cross_terms(rows: Float[Tensor, "b t m2"], columns: Float[Tensor, "g m2"]) -> Float[Tensor, "b t g"]:
    """Re < shift_t(c y / s), p > for all images, shifts and projections: one matrix product."""
    b, t, m2 = rows.shape
    return (rows.reshape(b * t, m2) @ columns.T).reshape(b, t, -1)
