"""Fourier shell and ring correlation, and averages over shells.

Convention: shell k of a map of side n holds the Fourier voxels whose radius, in voxels, rounds to k (0 ... n // 2), so its
resolution is `n * pixel_size / k` Å; voxels beyond n // 2 belong to no shell. Shell 0 is a single real number and tells
nothing, so a correlation there is 1 by definition. Every voxel of the full transform counts once (Hermitian weights).
Source: Harauz & van Heel, Optik 73, 146 (1986); phase randomisation: Chen et al., Ultramicroscopy 135, 24 (2013).
"""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import frequencies2, frequencies3, hermitian_weights, irfft3, rfft2, rfft3


def shell_indices(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Int[Tensor, "..."]:
    """Shell number of each rfft coefficient of a square `(n, n)` or cubic `(n, n, n)` shape; n // 2 + 1 for those beyond.

    Raises ValueError when the sides differ or there are not two or three of them.
    """
    if len(set(shape)) != 1 or len(shape) not in (2, 3):
        raise ValueError(f"shells are defined for a square or a cube, got the shape {shape}")
    n = shape[0]
    grid = frequencies2((n, n), device) if len(shape) == 2 else frequencies3((n, n, n), device)
    return torch.round(torch.linalg.vector_norm(grid, dim=-1) * n).long().clamp(max=n // 2 + 1)


def shell_sum(values: Float[Tensor, "..."], indices: Int[Tensor, "..."], n: int) -> Float[Tensor, "... shells"]:
    """Float64 sums `(*b, n // 2 + 1)` over shells of rfft-shaped values `(*b, *indices.shape)`, both half-planes counted."""
    weighted = (values.double() * hermitian_weights(n, values.device)).reshape(-1, indices.numel())
    sums = weighted.new_zeros(weighted.shape[0], n // 2 + 2)
    sums = sums.index_add(1, indices.reshape(-1), weighted)
    return sums[:, : n // 2 + 1].reshape(*values.shape[: values.ndim - indices.ndim], n // 2 + 1)


def shell_average(values: Float[Tensor, "..."], indices: Int[Tensor, "..."], n: int) -> Float[Tensor, "... shells"]:
    """Mean over each shell `(*b, n // 2 + 1)` of rfft-shaped values `(*b, *indices.shape)`, such as a power spectrum."""
    counts = shell_sum(torch.ones(indices.shape, device=values.device), indices, n)
    return (shell_sum(values, indices, n) / counts).to(values.dtype)


def correlate_spectra(
    first: Complex[Tensor, "..."], second: Complex[Tensor, "..."], indices: Int[Tensor, "..."], n: int
) -> Float[Tensor, "... shells"]:
    """Correlation per shell `(*b, n // 2 + 1)` of rfft spectra `(*b, *indices.shape)`; 0 where a spectrum is empty."""
    cross = shell_sum((first * second.conj()).real, indices, n)
    power = shell_sum(_power(first), indices, n) * shell_sum(_power(second), indices, n)
    curve = torch.where(power > 0, cross / power.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)
    curve[..., 0] = 1.0
    return curve.float()


def fsc(first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"]) -> Float[Tensor, " shells"]:
    """Fourier shell correlation `(n // 2 + 1,)` of two maps."""
    n = first.shape[-1]
    return correlate_spectra(rfft3(first), rfft3(second), shell_indices((n, n, n), first.device), n)


def frc(first: Float[Tensor, "b n n"], second: Float[Tensor, "b n n"]) -> Float[Tensor, "b shells"]:
    """Fourier ring correlations `(b, n // 2 + 1)` of pairs of images."""
    n = first.shape[-1]
    return correlate_spectra(rfft2(first), rfft2(second), shell_indices((n, n), first.device), n)


def resolution_at(curve: Float[Tensor, " shells"], threshold: float, pixel_size: float, n: int) -> float:
    """Resolution in Å where the curve first falls below the threshold, linear between shells.

    The curve is taken as 1 at shell 0; one that never falls gives the resolution of its last shell (Nyquist for even n).
    """
    values = [1.0, *curve[1:].tolist()]
    for shell in range(1, len(values)):
        if values[shell] < threshold:
            above, below = values[shell - 1], values[shell]
            return n * pixel_size / (shell - 1 + (above - threshold) / (above - below))
    return n * pixel_size / (len(values) - 1)


def first_shell_below(curve: Float[Tensor, " shells"], threshold: float) -> int:
    """Number of the first shell (from 1) whose value is below the threshold; the number of shells when there is none."""
    below = torch.nonzero(curve[1:] < threshold)
    return int(below[0]) + 1 if len(below) else len(curve)


def randomise_phases(volume: Float[Tensor, "n n n"], shell: int, generator: torch.Generator) -> Float[Tensor, "n n n"]:
    """The map with the phases of all shells >= shell replaced by random ones, amplitudes kept.

    The phases are those of white noise, so the spectrum stays that of a real map.
    """
    n = volume.shape[-1]
    noise = rfft3(torch.randn(volume.shape, generator=generator, device=generator.device).to(volume.device))
    spectrum = rfft3(volume)
    beyond = shell_indices((n, n, n), volume.device) >= shell
    return irfft3(torch.where(beyond, spectrum.abs() * torch.sgn(noise), spectrum), (n, n, n))


def true_fsc(masked: Float[Tensor, " shells"], randomised: Float[Tensor, " shells"], start: int) -> Float[Tensor, " shells"]:
    """Masked FSC freed of the mask's own correlation: `(FSC_t - FSC_n) / (1 - FSC_n)` from shell `start` on (Chen 2013, eq. 4).

    masked: of the masked maps; randomised: of the masked maps whose phases were random beforehand. Where randomised maps
    correlate better than the real ones, or fully, nothing is left and the result is 0.
    """
    corrected = torch.where(randomised < 1, (masked - randomised) / (1 - randomised).clamp(min=1e-6), 0.0)
    corrected = torch.where(randomised > masked, 0.0, corrected)
    return torch.where(torch.arange(len(masked), device=masked.device) < start, masked, corrected)


def _power(spectra: Tensor) -> Tensor:
    return spectra.real.double() ** 2 + spectra.imag.double() ** 2
