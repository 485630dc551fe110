"""How far two half maps agree: FSC under masks, and freed of the mask's own correlation by phase randomisation.

Source: Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003) for 0.143 and the Guinier fit; Chen et al., Ultramicroscopy 135, 24
(2013) for phase randomisation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import first_shell_below, fsc, randomise_phases, resolution_at, shell_average, shell_indices, true_fsc
from firn.kernels.mask import mask_from_map, soft_sphere, solvent_threshold

RANDOMISE_BELOW = 0.8
MASK_RESOLUTION = 15.0
GAP_SHELLS = 2
"""Shells after the first randomised one that stay uncorrected, since masking mixes neighbouring shells."""


def corrected_curves(
    first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"], mask: Float[Tensor, "n n n"], generator: torch.Generator, draws: int = 4
) -> dict[str, Tensor]:
    """The curves unmasked, tight (under the mask), randomised (phases random, then masked) and corrected, each `(n // 2 + 1,)`.

    Phases are random from the first shell where the unmasked curve is below 0.8; `randomised` is the mean over the draws.
    """
    unmasked, tight = fsc(first, second), fsc(first * mask, second * mask)
    start = first_shell_below(unmasked, RANDOMISE_BELOW)
    randomised = torch.stack([_randomised_fsc(first, second, mask, start, generator) for _ in range(draws)]).mean(0)
    return {
        "unmasked": unmasked,
        "tight": tight,
        "randomised": randomised,
        "corrected": true_fsc(tight, randomised, start + GAP_SHELLS),
    }


def spherical_mask(n: int, pixel_size: float, edge: float = 12.0, device: torch.device | str = "cpu") -> Float[Tensor, "n n n"]:
    """The largest ball that fits into the box with its soft edge (Å)."""
    edge_px = min(edge / pixel_size, n / 8)
    return soft_sphere(n, n / 2 - edge_px - 1, edge_px, device)


def molecule_mask(
    volume: Float[Tensor, "n n n"],
    pixel_size: float,
    near: float,
    far: float,
    resolution: float = MASK_RESOLUTION,
    threshold: float | None = None,
    components: int | None = 1,
) -> Float[Tensor, "n n n"]:
    """Mask of the molecule, 1 up to `near` Å from it and 0 from `far` Å on.

    The map is low-passed at `resolution` (Å), then thresholded; without a threshold, one is found (kernels.mask).
    """
    smooth = low_pass_volume(volume, pixel_size, max(resolution, 2 * pixel_size))
    level = solvent_threshold(smooth) if threshold is None else threshold
    return mask_from_map(smooth, level, near / pixel_size, (far - near) / pixel_size, components)


def automatic_mask(
    first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"], pixel_size: float, near: float, far: float
) -> Float[Tensor, "n n n"]:
    """molecule_mask of the mean of two half maps, low-passed at 15 Å or, if that is worse, where their FSC falls to 0.5."""
    n = first.shape[-1]
    resolution = max(MASK_RESOLUTION, resolution_at(fsc(first, second), 0.5, pixel_size, n))
    return molecule_mask((first + second) / 2, pixel_size, near, far, resolution)


def log_amplitudes(volume: Float[Tensor, "n n n"], weights: Float[Tensor, " shells"] | None = None) -> Float[Tensor, " shells"]:
    """Natural logarithm of the root mean square Fourier amplitude per shell, times weights per shell: a Guinier plot's ordinate."""
    n = volume.shape[-1]
    spectrum = rfft3(volume)
    power = shell_average(spectrum.real**2 + spectrum.imag**2, shell_indices((n, n, n), volume.device), n)
    logs = 0.5 * power.clamp(min=1e-30).log()
    return logs if weights is None else logs + weights.clamp(min=1e-15).log()


def guinier_fit(logs: Float[Tensor, " shells"], pixel_size: float, n: int, coarse: float, fine: float) -> tuple[float, float] | None:
    """(B-factor in Å², intercept) of the line `ln F = intercept + B s² / 4` between two resolutions in Å.

    A map whose amplitudes decay has a negative B. None when fewer than five shells lie between, too few for a slope.
    """
    s2 = (torch.arange(len(logs), dtype=torch.float64, device=logs.device) / (n * pixel_size)) ** 2
    chosen = (s2 >= 1 / coarse**2) & (s2 <= 1 / fine**2)
    if int(chosen.sum()) < 5:
        return None
    x, y = s2[chosen], logs[chosen].double()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return float(4 * slope), float(y.mean() - slope * x.mean())


def fsc_weights(curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Best filter `sqrt(2 FSC / (1 + FSC))` of the mean of the half maps, 0 where the FSC is negative (Rosenthal & Henderson 2003)."""
    positive = curve.clamp(min=0)
    return torch.sqrt(2 * positive / (1 + positive))


def _randomised_fsc(first: Tensor, second: Tensor, mask: Tensor, start: int, generator: torch.Generator) -> Tensor:
    return fsc(randomise_phases(first, start, generator) * mask, randomise_phases(second, start, generator) * mask)
