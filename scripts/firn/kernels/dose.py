"""Exposure filter: how much of the signal survives a dose, and weights for summing frames.

Convention: doses in e/Å² at the end of each frame, pre-exposure included; frequencies in 1/Å; weights are normalised so that
white noise keeps one variance at every frequency.
Source: Grant & Grigorieff, eLife 4, e06980 (2015), eqs. 3 and 5-9.
"""

import torch
from jaxtyping import Float
from torch import Tensor

A, B, C = 0.245, -1.665, 2.81
FACTOR_200_KV = 0.8
LOWEST_FREQUENCY = 1e-6


def critical_dose(frequencies: Float[Tensor, "*n"], voltage_kv: float) -> Float[Tensor, "*n"]:
    """Dose in e/Å² after which the signal at a frequency has fallen to 1/e of its power; measured at 300 kV, 0.8 of it at 200 kV and below."""
    critical = A * frequencies.clamp(min=LOWEST_FREQUENCY) ** B + C
    return critical * (FACTOR_200_KV if voltage_kv < 250 else 1.0)


def dose_weights(frequencies: Float[Tensor, "n"], doses: Float[Tensor, "f"], voltage_kv: float) -> Float[Tensor, "f n"]:
    """Weight of each frame at each frequency, `q / sqrt(sum q^2)` with `q = exp(-dose / 2 critical_dose)`."""
    exponents = -doses.double()[:, None] / (2 * critical_dose(frequencies.double(), voltage_kv)[None])
    weights = torch.exp(exponents - exponents.max(dim=0, keepdim=True).values)
    return (weights / weights.square().sum(dim=0, keepdim=True).sqrt()).float()


def factorise(weights: Float[Tensor, "f n"], tolerance: float = 2e-5) -> tuple[Float[Tensor, "f r"], Float[Tensor, "r n"]]:
    """(mixing, profiles) whose product is the weights, of the lowest rank: r sums of frames replace f transforms.

    The first column of the mixing is 1, that of the plain sum, and costs no rank, since all frames weigh the same at zero frequency.
    tolerance: of the root of the summed squared errors of the frames, the error's size relative to the noise at any frequency.
    """
    exact = weights.double()
    plain = exact.mean(dim=0, keepdim=True)
    rest = exact - plain
    directions = torch.linalg.eigh(rest @ rest.T).eigenvectors.flip(1)
    parts = directions.T @ rest
    left_out = parts.square().flip(0).cumsum(dim=0).flip(0).amax(dim=1).sqrt()
    rank = int((left_out > tolerance).sum())
    mixing = torch.cat((torch.ones(len(exact), 1, dtype=exact.dtype, device=exact.device), directions[:, :rank]), dim=1)
    return mixing.float(), torch.cat((plain, parts[:rank])).float()
