"""Non-uniform regularisation: at every voxel and frequency band, the factor by which one half map best predicts the other.

The half-maps, evened out against uneven sampling, are split into bands by Butterworth filters. In a window around each voxel, some
wavelengths wide, least squares gives each band the factor g that minimises |g m1 - v2|² + |g m2 - v1|² (m: the evened maps, v: the
unfiltered ones): the local Wiener filter, 0 where the halves agree on nothing. From the first band on whose local correlation is
below 0.143, correlations and factors may only fall, so that noise does not come back as detail.
Source: Punjani, Zhang & Fleet, Nat. Methods 17, 1214 (2020), with a filter per band instead of one cutoff, which also weighs the
bands that are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.filter import butterworth_low_pass, gaussian_low_pass, radial_frequencies
from firn.kernels.fourier import irfft3, rfft3
from firn.refine.maximisation import filtered_map
from firn.refine.regularise import HalfMaps

COARSEST_SHELLS = 3.0
"""Bands begin at this radius (units of 1/n); what is coarser counts as one with the first."""
BAND_RATIO = 1.26
LEAST_EVENED = 0.3
"""Correlation assumed at least when maps are evened out, so that no shell is lost before the local factors are found."""
THRESHOLD = 0.143


@dataclass(frozen=True)
class CrossValidated:
    """Regulariser; order of the Butterworth filters, and width of the windows in wavelengths of the band."""

    order: int = 8
    window_factor: float = 3.0

    def __call__(self, halves: HalfMaps) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """References of both half-sets and the map from all particles."""
        curve = halves.curve.clamp(min=LEAST_EVENED)
        first, second = (rfft3(filtered_map(sums, halves.side, halves.radius, curve)) for sums in halves.sums)
        plain, shape = (rfft3(halves.maps[0]), rfft3(halves.maps[1])), (halves.side,) * 3
        total = torch.zeros(3, *shape, device=first.device)
        ceiling = torch.ones_like(total[0])
        for band, sigma in self._bands(halves.side, halves.radius, first.device):
            pair, seen = ([irfft3(spectrum * band, shape) for spectrum in spectra] for spectra in ((first, second), plain))
            correlation, factor = _local_fit(pair, seen, sigma)
            correlation = torch.minimum(correlation, ceiling)
            kept = factor * (correlation / correlation.clamp(min=THRESHOLD))
            ceiling = torch.where(correlation < THRESHOLD, correlation, ceiling)
            both = kept / (1 + correlation) * (pair[0] + pair[1])
            total += torch.stack((kept * pair[0], kept * pair[1], both))
        return (total[0], total[1]), total[2]

    def _bands(self, side: int, radius: float, device: torch.device) -> Iterator[tuple[Tensor, float]]:
        """(amplitude filter, standard deviation of the window in pixels) of each band; the filters add up to a low-pass at the radius."""
        frequencies = radial_frequencies((side, side, side), device)
        former = torch.zeros_like(frequencies)
        for cutoff in band_cutoffs(radius):
            low = butterworth_low_pass(frequencies, cutoff / side, self.order)
            low = low if cutoff < radius else torch.ones_like(low)
            yield low - former, self.window_factor * side / cutoff / 3
            former = low


def band_cutoffs(radius: float) -> list[float]:
    """Upper edges of the bands in units of 1/n, the last one the radius: BAND_RATIO and at least two shells apart."""
    cutoffs = [min(COARSEST_SHELLS, radius)]
    while cutoffs[-1] < radius:
        following = max(cutoffs[-1] * BAND_RATIO, cutoffs[-1] + 2)
        cutoffs.append(radius if following * BAND_RATIO > radius else following)
    return cutoffs


def _local_fit(
    evened: list[Float[Tensor, "n n n"]], plain: list[Float[Tensor, "n n n"]], sigma: float
) -> tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]]:
    """(correlation of the half-maps in the window, clipped at 0; factor that best predicts the one from the other)."""
    cross, power, mutual = (
        evened[0] * plain[1] + evened[1] * plain[0],
        evened[0] ** 2 + evened[1] ** 2,
        2 * evened[0] * evened[1],
    )
    cross, power, mutual = (_windowed(part, sigma) for part in (cross, power, mutual))
    power = power.clamp(min=1e-6 * float(power.max()) + 1e-30)
    return (mutual / power).clamp(0, 1), (cross / power).clamp(0, 1 / LEAST_EVENED)


def _windowed(values: Float[Tensor, "n n n"], sigma: float) -> Float[Tensor, "n n n"]:
    """Gaussian mean around each voxel."""
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return irfft3(rfft3(values) * gaussian_low_pass(radial_frequencies(shape, values.device), sigma), shape)
