"""What two half-sets agree on in how one map differs from another: a Wiener filter by shell and by place.

A class and the map of all particles are alike nearly everywhere, and what noise adds to their difference there tells particles apart by
chance. So the difference is weighted in each shell, and then at each place, by the part of its power that both half-sets share:
cross-power over mean power, the Wiener filter of one half map when both have the same signal and noise of their own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.filter import filter_volumes, gaussian_low_pass, radial_frequencies
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.fsc import shell_indices, shell_sum
from firn.refine.subtraction import shell_filtered

NEAR = 2


def filtered_by(volume: Float[Tensor, "n n n"], weights: Float[Tensor, " s"]) -> Float[Tensor, "n n n"]:
    """A volume with each shell multiplied by its weight, zero beyond the last."""
    return irfft3(shell_filtered(rfft3(volume), weights), (volume.shape[-1],) * 3)


def shared_by_shell(first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"]) -> Float[Tensor, " s"]:
    """Part from 0 to 1 of the power of two volumes that both have, per shell, over NEAR shells to either side."""
    side, spectra = first.shape[-1], (rfft3(first), rfft3(second))
    shells = shell_indices((side,) * 3, first.device)
    cross = shell_sum((spectra[0] * spectra[1].conj()).real, shells, side)
    power = shell_sum((spectra[0].abs() ** 2 + spectra[1].abs() ** 2) / 2, shells, side)
    cross, power = (torch.nn.functional.avg_pool1d(part[None], 2 * NEAR + 1, 1, NEAR)[0] for part in (cross, power))
    return (cross / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(0, 1).float()


def shared_by_place(first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"], spread: float) -> Float[Tensor, "n n n"]:
    """Part from 0 to 1 of the power of two volumes that both have around each voxel, under a Gaussian of standard deviation `spread` voxels."""
    window = gaussian_low_pass(radial_frequencies(tuple(first.shape), first.device), spread)
    cross, power = filter_volumes(torch.stack((first * second, (first**2 + second**2) / 2)), window)
    return (cross / power.clamp(min=1e-6 * float(power.max()) + torch.finfo(power.dtype).tiny)).clamp(0, 1)


def shared_differences(
    first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"], radius: float
) -> tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]]:
    """Both half-sets' differences up to a Fourier radius, weighted by what they share; places are as wide as the finest detail."""
    side = first.shape[-1]
    inside = (torch.arange(side // 2 + 1, device=first.device) <= radius).float()
    shared = shared_by_shell(first, second) * inside
    rough = filtered_by(first, shared.sqrt()), filtered_by(second, shared.sqrt())
    place = shared_by_place(*rough, side / radius)
    return filtered_by(first, shared) * place, filtered_by(second, shared) * place
