"""Sharpen a map: undo the decay of its amplitudes, weight by what the half maps agree on, cut at the resolution."""

import shutil
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_independent_halves, read_mask
from firn.kernels.filter import b_factor_decay, cosine_low_pass, filter_volumes, radial_frequencies
from firn.kernels.fsc import resolution_at, shell_indices
from firn.refine.validation import automatic_mask, corrected_curves, fsc_weights, guinier_fit, log_amplitudes
from firn.report.postprocess import draw_guinier
from firn.report.volumes import draw_slice_pairs, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, slot

THRESHOLD = 0.143
SHORT_LEVER = 1.5


class Params(JobParams):
    """Sharpen the mean of two half maps by a B-factor, given or fitted, with weights from their FSC."""

    stage: ClassVar[str] = "postprocess"
    revision: ClassVar[int] = 2
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask for the FSC and the fit; none = the mask that lies with the map, or one made from it."""
    b_factor: float | None = Field(None, ge=-2000, le=2000)
    """Å². Negative sharpens; none = fitted to the Guinier plot from `guinier_from` to the resolution."""
    guinier_from: float = Field(10.0, gt=0)
    """Å. Coarse end of the fit; protein's amplitudes follow no straight line before it."""
    resolution: float | None = Field(None, gt=0)
    """Å. Where the map is cut off; none = where the corrected FSC falls to 0.143."""
    fsc_weighting: bool = True
    """Weight every shell by sqrt(2 FSC / (1 + FSC)) of the corrected curve."""
    low_pass_edge: float = Field(4.0, ge=0)
    """px. Width of the cosine edge of the cut-off, in Fourier pixels."""


class _Maps(NamedTuple):
    mean: Tensor
    mask: Tensor
    curve: Tensor
    pixel_size: float
    resolution: float


def run(job: Job[Params]) -> None:
    """Measure the FSC, fit, filter, write."""
    maps = _measure(job)
    weights = fsc_weights(maps.curve)
    b_factor = _b_factor(job, maps, weights)
    sharpened = _filter(job.params, maps, weights, b_factor)
    write_volume(job.folder / "map.mrc", sharpened.cpu().numpy(), maps.pixel_size)
    write_volume(job.folder / "map_masked.mrc", (sharpened * maps.mask).cpu().numpy(), maps.pixel_size)
    write_volume(job.folder / "mask.mrc", maps.mask.cpu().numpy(), maps.pixel_size)
    for name in ("half1.mrc", "half2.mrc"):
        shutil.copyfile(job.input("volume", name), job.folder / name)
    _draw_maps(job, maps, sharpened)


def _measure(job: Job[Params]) -> _Maps:
    halves = read_independent_halves(job.input("volume"))
    first, second = torch.tensor(halves[0], device=job.device), torch.tensor(halves[1], device=job.device)
    pixel_size, n = halves[2], first.shape[0]
    mask = _mask(job, first, second, pixel_size)
    curves = corrected_curves(first, second, mask, job.session_generator("phases"))
    table = fsc_table({name: curve.cpu().numpy() for name, curve in curves.items()}, n, pixel_size)
    write_fsc(job.folder / "fsc.star", table)
    measured = resolution_at(curves["corrected"], THRESHOLD, pixel_size, n)
    job.metric("resolution_corrected", measured, "Å")
    resolution = job.params.resolution or measured
    if resolution < 2 * pixel_size:
        raise InputError(f"{job.name}: the resolution {resolution:g} Å is beyond Nyquist, {2 * pixel_size:g} Å")
    if resolution < 0.95 * measured:
        job.warn(
            f"The map is cut at {resolution:.2f} Å, finer than the {measured:.2f} Å the half maps agree to: what lies between is noise."
        )
    return _Maps((first + second) / 2, mask, curves["corrected"], pixel_size, resolution)


def _mask(job: Job[Params], first: Tensor, second: Tensor, pixel_size: float) -> Tensor:
    path = job.input("mask", "mask.mrc") if job.has("mask") else job.input("volume", "mask.mrc")
    if job.has("mask") or path.exists():
        return torch.tensor(read_mask(path, first.shape[0], pixel_size), device=job.device)
    return automatic_mask(first, second, pixel_size, 6.0, 12.0)


def _b_factor(job: Job[Params], maps: _Maps, weights: Tensor) -> float:
    n, span = maps.mean.shape[0], (job.params.guinier_from, maps.resolution)
    masked = maps.mean * maps.mask
    plain, weighted = log_amplitudes(masked), log_amplitudes(masked, weights)
    fit = guinier_fit(weighted, maps.pixel_size, n, *span)
    chosen = job.params.b_factor
    if chosen is None:
        chosen = fit[0] if fit else 0.0
        _warn_fit(job, fit, *span)
    job.metric("b_factor", chosen, "Å²")
    if fit:
        job.metric("b_factor_guinier", fit[0], "Å²")
    s2 = (torch.arange(n // 2 + 1) / (n * maps.pixel_size)) ** 2
    used = s2 <= 1 / maps.resolution**2
    curves = {
        "mean of the half maps": plain.cpu().numpy(),
        "weighted by FSC": np.where(used, weighted.cpu(), np.nan),
        "sharpened": np.where(used, weighted.cpu() - chosen / 4 * s2, np.nan),
    }
    caption = (
        "Logarithm of the amplitudes inside the mask against the square of the spatial frequency. The slope of the weighted curve beyond "
        f"{span[0]:g} Å is the B-factor (dashed); sharpening makes that part level."
    )
    draw_guinier(job.figure("guinier", "Guinier plot", caption), s2.numpy(), curves, fit, span)
    return chosen


def _warn_fit(job: Job[Params], fit: tuple[float, float] | None, coarse: float, fine: float) -> None:
    if fit is None:
        job.warn(
            f"No Guinier fit is possible: fewer than five shells lie between {coarse:g} Å and the resolution, {fine:.2f} Å. B = 0 is used."
        )
    elif coarse / fine < SHORT_LEVER:
        job.warn(f"The Guinier fit spans only {coarse:g} to {fine:.2f} Å, so the B-factor of {fit[0]:.0f} Å² is uncertain.")
    if fit is not None and fit[0] > 0:
        job.warn(f"The fitted B-factor is positive ({fit[0]:.0f} Å²), so it blurs: the half maps may have been sharpened already.")


def _filter(params: Params, maps: _Maps, weights: Tensor, b_factor: float) -> Tensor:
    n = maps.mean.shape[0]
    frequencies = radial_frequencies(tuple(maps.mean.shape), maps.mean.device)
    gain = cosine_low_pass(frequencies, maps.pixel_size / maps.resolution, params.low_pass_edge / n)
    gain = gain * b_factor_decay(frequencies, b_factor, maps.pixel_size)
    if params.fsc_weighting:
        shells = shell_indices(tuple(maps.mean.shape), maps.mean.device)
        gain = gain * torch.cat((weights, weights.new_zeros(1)))[shells]
    return filter_volumes(maps.mean, gain)


def _draw_maps(job: Job[Params], maps: _Maps, sharpened: Tensor) -> None:
    before, after, mask = (tensor.cpu().numpy() for tensor in (maps.mean, sharpened, maps.mask))
    caption = "Central slices before and after: sharpening should bring out detail inside the molecule, not grain outside it."
    names = ("mean of halves", "sharpened")
    draw_slice_pairs(job.figure("slices", "Before and after sharpening", caption), before, after, maps.pixel_size, names)
    caption = "Surface of the sharpened map inside its mask, seen along the three axes."
    draw_surfaces(job.figure("surface", "Sharpened map", caption), after * mask, surface_level(after, mask))
