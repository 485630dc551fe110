"""From accumulated sums to class averages: Wiener or FRC filter, recentring, reseeding of empty classes.

Sums are kept as real images: numerators `(k, 2, n, n)` per class and half-set, mean c² per Fourier shell
`(k, 2, s)`, s = n // 2 + 1.
Both are whitened, so that a denominator is a signal-to-noise weight.
Source of the filter: Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003): the full average has FRC 2 F / (1 + F), which is
also its Wiener filter; SSNR of the average is one at F = 1/3 (Scheres, J. Struct. Biol. 180, 519, 2012).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.fourier import frequencies2, irfft2, rfft2, shift_phases
from firn.kernels.fsc import correlate_spectra, shell_average, shell_indices
from firn.kernels.mask import centre_distance

UNRESOLVED = 1 / 3
"""FRC of half averages at which the signal-to-noise ratio of the full average is one."""


@dataclass(frozen=True)
class ClassSums:
    """Decayed sums of everything seen so far."""

    numerator: Float[Tensor, "k 2 n n"]
    denominator: Float[Tensor, "k 2 s"]
    count: Float[Tensor, " k"]

    def blended(self, new: "ClassSums", rate: float) -> "ClassSums":
        """`(1 - rate) old + rate new`."""
        return ClassSums(*(torch.lerp(getattr(self, name), getattr(new, name), rate) for name in ("numerator", "denominator", "count")))


@dataclass(frozen=True)
class Averages:
    """Class averages and what is known about them."""

    images: Float[Tensor, "k n n"]
    """Filtered, masked: the references of the next search."""
    frc: Float[Tensor, "k s"]
    """Correlation of the two half-set averages per shell, smoothed; 1 at the origin."""


def average(
    sums: ClassSums,
    mask: Float[Tensor, "n n"],
    radius: int | Int[Tensor, " k"],
    use_frc: bool = True,
    frc: Float[Tensor, "k s"] | None = None,
) -> Averages:
    """Averages within a radius of Fourier pixels, one for all classes or one each.

    use_frc: filter by the classes' own FRC; otherwise by a Wiener filter with each class's radial power as prior. frc: of these sums, if known.
    """
    n, shells = sums.numerator.shape[-1], sums.denominator.shape[-1]
    index = shell_indices((n, n), mask.device)
    frc = half_correlation(sums, mask) if frc is None else frc
    total, weight = rfft2(sums.numerator.sum(1)), sums.denominator.sum(1)
    factor = frc_filter(frc) if use_frc else _wiener_filter(_divide(total, weight, index), weight, index)
    factor = factor * _within(radius, shells, mask.device)
    spectra = _divide(total, weight, index) * _on_grid(factor, index)
    return Averages(irfft2(spectra, (n, n)) * mask, frc)


def half_references(
    sums: ClassSums, mask: Float[Tensor, "n n"], radius: int | Int[Tensor, " k"], use_frc: bool = True
) -> Float[Tensor, "k 2 n n"]:
    """Averages of the half-sets, each filtered for its own noise: by the FRC itself, which is a half average's Wiener filter, or as `average` does."""
    n, shells = sums.numerator.shape[-1], sums.denominator.shape[-1]
    index = shell_indices((n, n), mask.device)
    spectra = _divide(rfft2(sums.numerator), sums.denominator, index)
    if use_frc:
        frc = half_correlation(sums, mask)
        factor = (_alive(frc) * frc)[:, None].expand(sums.denominator.shape)
    else:
        factor = _wiener_filter(spectra, sums.denominator, index)
    factor = factor * _within(radius, shells, mask.device)[:, None]
    return irfft2(spectra * _on_grid(factor, index), (n, n)) * mask


def _within(radius: int | Int[Tensor, " k"], shells: int, device: torch.device) -> Bool[Tensor, "k s"]:
    return torch.arange(shells, device=device) <= torch.as_tensor(radius, device=device).reshape(-1, 1)


def half_correlation(sums: ClassSums, mask: Float[Tensor, "n n"]) -> Float[Tensor, "k s"]:
    """Correlation of the masked half-set averages per shell, smoothed; 0 beyond the last shell that particles were added up in.

    The mask spreads what lies within over the shells beyond, where the halves would seem to agree.
    """
    n = mask.shape[-1]
    index = shell_indices((n, n), mask.device)
    halves = rfft2(irfft2(_divide(rfft2(sums.numerator), sums.denominator, index), (n, n)) * mask)
    frc = smooth_frc(correlate_spectra(halves[:, 0], halves[:, 1], index, n))
    seen = (sums.denominator > _least(sums.denominator)).all(dim=1).int()
    within = seen.flip(-1).cummax(dim=-1).values.flip(-1).bool()
    within[:, 0] = True
    return frc * within


def with_unresolved(averages: Averages, sums: ClassSums, mask: Float[Tensor, "n n"], radius: int) -> Averages:
    """Averages in which those that no FRC supports, and which are therefore empty, show the Wiener-filtered sum of their few particles."""
    empty = averages.images.abs().amax(dim=(-2, -1)) == 0
    return replace(averages, images=torch.where(empty[:, None, None], average(sums, mask, radius, use_frc=False).images, averages.images))


def frc_filter(frc: Float[Tensor, "k s"]) -> Float[Tensor, "k s"]:
    """Wiener weights 2 F / (1 + F), zero beyond the first shell at which F falls below 1/7."""
    return _alive(frc) * 2 * frc / (1 + frc).clamp(min=0.5)


def _alive(frc: Float[Tensor, "k s"]) -> Float[Tensor, "k s"]:
    """One up to the first shell at which the FRC falls below 1/7, then zero."""
    return torch.cumprod((frc > 1 / 7).float(), dim=-1)


def smooth_frc(frc: Float[Tensor, "k s"]) -> Float[Tensor, "k s"]:
    """FRC averaged over three shells by their number of points; the innermost three shells, which hold few, share one value."""
    points = torch.arange(frc.shape[-1], device=frc.device).clamp(min=1).float()
    padded = torch.nn.functional.pad(frc * points, (1, 1))
    weight = torch.nn.functional.pad(points, (1, 1))
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / (weight[:-2] + weight[1:-1] + weight[2:])
    smooth[:, 1:4] = ((frc * points)[:, 1:6].sum(-1) / points[1:6].sum())[:, None].clamp(min=0)
    smooth[:, 0] = 1.0
    return smooth


def resolved_shell(frc: Float[Tensor, "k s"], threshold: float = UNRESOLVED) -> Tensor:
    """Last shell `(k,)` before the FRC first falls below the threshold."""
    return torch.cumprod((frc >= threshold).long(), dim=-1).sum(-1) - 1


def recentred(sums: ClassSums, images: Float[Tensor, "k n n"], threshold: float, reach_px: float) -> ClassSums:
    """Sums moved so that each average's centre of mass (of what exceeds threshold times its maximum) comes to the centre.

    A move is limited to reach_px, one below half a pixel is left out.
    """
    n = images.shape[-1]
    shifts = -centre_of_mass(images, threshold)
    shifts = shifts * (reach_px / shifts.norm(dim=-1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    shifts = shifts * (shifts.norm(dim=-1, keepdim=True) > 0.5)
    phases = shift_phases(frequencies2((n, n), images.device), shifts)
    return replace(sums, numerator=irfft2(rfft2(sums.numerator) * phases[:, None], (n, n)))


def centre_of_mass(images: Float[Tensor, "k n n"], threshold: float) -> Float[Tensor, "k 2"]:
    """yx pixels from index n // 2 of the density above threshold times the maximum; 0 for an empty image."""
    n = images.shape[-1]
    weight = images.clamp(min=0) * (images > threshold * images.amax(dim=(-2, -1), keepdim=True))
    axis = torch.arange(n, device=images.device, dtype=images.dtype) - n // 2
    total = weight.sum(dim=(-2, -1)).clamp(min=1e-12)
    return torch.stack(((weight.sum(-1) * axis).sum(-1), (weight.sum(-2) * axis).sum(-1)), dim=-1) / total[:, None]


def reseeded(sums: ClassSums, smallest: float, generator: torch.Generator) -> tuple[ClassSums, Int[Tensor, " k"]]:
    """Sums in which each class of fewer than `smallest` particles is replaced by one part of the fullest class, parted by chance.

    Also the number of the class that each one comes from.
    """
    source = torch.arange(len(sums.count), device=sums.count.device)
    numerator, denominator, count = sums.numerator.clone(), sums.denominator.clone(), sums.count.clone()
    for empty in (count < smallest).nonzero().flatten().tolist():
        full = int(count.argmax())
        if count[full] < 2 * smallest:
            break
        numerator[[empty, full]] = _parted(numerator[full], denominator[full], generator)
        denominator[[empty, full]] = denominator[full] / 2
        count[empty] = count[full] = count[full] / 2
        source[empty] = source[full]
    return ClassSums(numerator, denominator, count), source


def _parted(numerator: Float[Tensor, "2 n n"], denominator: Float[Tensor, "2 s"], generator: torch.Generator) -> Float[Tensor, "2 2 n n"]:
    """Two parts of a class's numerators, as if a coin had been tossed for each of its particles.

    Either part of a sum of noise of variance v per coefficient, here the denominator, is half of it plus or minus noise of variance v / 4.
    The half-sets have noise of their own in each part, so that their correlation tells what the part is worth.
    """
    n = numerator.shape[-1]
    index = shell_indices((n, n), numerator.device)
    drawn = torch.randn(numerator.shape, generator=generator).to(numerator) / (2 * n)
    apart = irfft2(rfft2(drawn) * _on_grid(denominator.clamp(min=0).sqrt(), index), (n, n))
    return torch.stack((numerator / 2 + apart, numerator / 2 - apart))


def soft_circle(n: int, radius_px: float, edge_px: float, device: torch.device | str = "cpu") -> Float[Tensor, "n n"]:
    """Circular mask, one half at the radius, with a cosine edge edge_px wide about it."""
    beyond = (centre_distance((n, n), device) - radius_px) / edge_px + 0.5
    return 0.5 + 0.5 * torch.cos(torch.pi * beyond.clamp(0, 1))


def _divide(spectra: Tensor, denominator: Tensor, index: Tensor) -> Tensor:
    return spectra * _on_grid(torch.where(denominator > _least(denominator), 1 / denominator.clamp(min=1e-12), 0.0), index)


def _least(denominator: Tensor) -> Tensor:
    """What a denominator must exceed to be divided by."""
    return 1e-3 * denominator.amax(dim=-1, keepdim=True).clamp(min=1e-6)


def _on_grid(values: Tensor, index: Tensor) -> Tensor:
    return torch.nn.functional.pad(values, (0, 1))[..., index.clamp(max=values.shape[-1])]


def _wiener_filter(spectra: Tensor, weight: Tensor, index: Tensor) -> Tensor:
    snr = shell_average(spectra.abs().square(), index, spectra.shape[-2]) * weight
    return snr / (snr + 1)
