"""One hand for all classes and for both halves: images tell a molecule from its mirror image in no way, so that each comes out in either.

Convention: inverted(r) = volume(-r) about the origin n // 2. Inversion commutes with rotations, so that the axes of a point group stay.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.align_volumes import align
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import correlate_spectra, fsc, shell_indices

CERTAIN = 4.0
"""Standard deviations by which half-maps must agree better with one of them inverted."""
HIGHEST_CORRELATION = 0.999
LEAST_ALIKE = 0.97
"""Correlation of a volume with its mirror image, in all shells, from which on it has no hand."""


def inverted(volume: Float[Tensor, "n n n"]) -> Float[Tensor, "n n n"]:
    """The other hand; of even sizes the first plane of each axis, which has no counterpart, stays in its place."""
    return torch.roll(volume.flip(0, 1, 2), (1 - volume.shape[0] % 2,) * 3, (0, 1, 2))


def inverted_rotations(rotations: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Poses whose projections of the inverted volume are those of the volume: R' = -R diag(-1, 1, 1), half a turn in the image plane."""
    return rotations * rotations.new_tensor([1.0, -1.0, -1.0])


def other_hands(volumes: Sequence[Float[Tensor, "n n n"]], reference: int, radius: float) -> Bool[Tensor, " k"]:
    """Which volumes resemble the reference, one of them, better when inverted; up to a Fourier radius (units of 1/n)."""
    other = torch.zeros(len(volumes), dtype=torch.bool)
    for number, volume in enumerate(volumes):
        if number != reference and volume.any():
            same, turned = (align(hand, volumes[reference], radius).correlation for hand in (volume, inverted(volume)))
            other[number] = turned > same
    return other


def without_hand(volume: Float[Tensor, "n n n"], radius: float) -> bool:
    """Whether a volume is its own image by inversion, up to a Fourier radius (units of 1/n)."""
    return bool(fsc(volume, inverted(volume))[1 : int(radius) + 1].min() > LEAST_ALIKE)


def halves_of_two_hands(
    halves: tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]], mask: Float[Tensor, "n n n"], radius: float, operators: int
) -> bool:
    """Whether two half-maps are of opposite hands: clearly more alike, up to a Fourier radius (units of 1/n), with the second inverted.

    mask: what both lie in, mirror-symmetric; operators: of the point group, each of which repeats the same coefficients. Correlations r of
    N coefficients are compared as atanh r, whose variance is 1 / N (Fisher, Metron 1, 3, 1921). Inversion conjugates a spectrum.
    """
    n = mask.shape[0]
    first, second = (rfft3(half * mask) for half in halves)
    shells = torch.arange(1, int(min(radius, n / 2 - 1)) + 1, device=mask.device)
    independent = 2 * math.pi * shells**2 * mask.mean() / operators
    index = shell_indices((n, n, n), mask.device)
    curves = (correlate_spectra(first, hand, index, n)[shells] for hand in (second, second.conj()))
    same, turned = (torch.atanh(curve.clamp(0, HIGHEST_CORRELATION)) for curve in curves)
    return bool((independent * (turned - same)).sum() > CERTAIN * (2 * independent.sum()).sqrt())
