"""Measure the resolution of a map by the agreement of its half maps."""

import shutil
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.formats.fsc import fsc_table, write_fsc, write_fsc_xml
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_halves, read_independent_halves, read_like
from firn.kernels.fsc import fsc, resolution_at
from firn.refine.validation import automatic_mask, corrected_curves, spherical_mask
from firn.report.postprocess import draw_fsc
from firn.report.volumes import draw_slices, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, slot

MEASURED = ("unmasked", "spherical", "loose", "tight", "corrected")


class Params(JobParams):
    """FSC of two half maps without a mask, under a spherical, a loose and a tight mask, and freed of the mask's own correlation."""

    stage: ClassVar[str] = "postprocess"
    revision: ClassVar[int] = 2
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask to use as the tight one; none = made from the half maps."""
    loose: tuple[float, float] = (25.0, 40.0)
    """Å. Distances from the molecule where the loose mask starts to fall and where it ends."""
    tight: tuple[float, float] = (6.0, 12.0)
    """Å. Distances from the molecule where the tight mask starts to fall and where it ends."""
    threshold: float = Field(0.143, gt=0, lt=1)
    """FSC at which the resolution is read."""
    reference: str | None = None
    """File of a map, such as one computed from a model, of the same box and pixel size, to correlate with at 0.5."""


def run(job: Job[Params]) -> None:
    """Correlate, correct, draw, and hand on the maps with their mask and curves."""
    first, second, pixel_size = _load(job)
    masks = _masks(job, first, second, pixel_size)
    curves = corrected_curves(first, second, masks["tight"], job.session_generator("phases"))
    for name in job.over(("spherical", "loose"), "masks"):
        curves[name] = fsc(first * masks[name], second * masks[name])
    if job.params.reference:
        reference = torch.tensor(read_like(job.params.reference, first.shape[0], pixel_size), device=job.device)
        curves["model"] = fsc((first + second) / 2 * masks["tight"], reference * masks["tight"])
    _write_maps(job, masks["tight"], pixel_size)
    _report_curves(job, curves, first.shape[0], pixel_size)
    _draw_maps(job, ((first + second) / 2).cpu().numpy(), masks["tight"].cpu().numpy(), pixel_size)


def _load(job: Job[Params]) -> tuple[Tensor, Tensor, float]:
    first, second, pixel_size = read_independent_halves(job.input("volume"))
    return torch.tensor(first, device=job.device), torch.tensor(second, device=job.device), pixel_size


def _masks(job: Job[Params], first: Tensor, second: Tensor, pixel_size: float) -> dict[str, Tensor]:
    n = first.shape[0]
    masks = {"spherical": spherical_mask(n, pixel_size, device=job.device)}
    masks["loose"] = automatic_mask(first, second, pixel_size, *job.params.loose)
    if job.has("mask"):
        masks["tight"] = given_mask(job, n, pixel_size)
    else:
        masks["tight"] = automatic_mask(first, second, pixel_size, *job.params.tight)
    if not bool((masks["tight"] > 0).any()):
        raise InputError(f"{job.input('mask', 'mask.mrc') if job.has('mask') else job.input('volume')}: the tight mask is empty")
    return masks


def _write_maps(job: Job[Params], mask: Tensor, pixel_size: float) -> None:
    first, second, _ = read_halves(job.input("volume"))
    for name in ("half1.mrc", "half2.mrc"):
        shutil.copyfile(job.input("volume", name), job.folder / name)
    if job.input("volume", "map.mrc").exists():
        shutil.copyfile(job.input("volume", "map.mrc"), job.folder / "map.mrc")
    else:
        write_volume(job.folder / "map.mrc", (first + second) / 2, pixel_size)
    write_volume(job.folder / "mask.mrc", mask.cpu().numpy(), pixel_size)


def _report_curves(job: Job[Params], curves: dict[str, Tensor], n: int, pixel_size: float) -> None:
    resolutions = {name: resolution_at(curves[name], job.params.threshold, pixel_size, n) for name in MEASURED}
    for name in ("corrected", "tight", "loose", "spherical", "unmasked"):
        job.metric(f"resolution_{name}", resolutions[name], "Å")
        job.metric(f"resolution_{name}_at_05", resolution_at(curves[name], 0.5, pixel_size, n), "Å")
    if "model" in curves:
        resolutions["model"] = resolution_at(curves["model"], 0.5, pixel_size, n)
        job.metric("resolution_model_at_05", resolutions["model"], "Å")
    table = fsc_table({name: curve.cpu().numpy() for name, curve in curves.items()}, n, pixel_size)
    write_fsc(job.folder / "fsc.star", table)
    write_fsc_xml(
        job.folder / "fsc.xml", table["frequency"].to_numpy(), table["corrected"].to_numpy(), "Masked FSC, corrected by phase randomisation"
    )
    _warn(job, curves, resolutions, 2 * pixel_size)
    caption = (
        "Agreement of the two half maps by resolution. The corrected curve (blue) is the one to quote: what the mask alone adds, measured "
        f"with randomised phases (dotted), is taken off. Resolutions are read at {job.params.threshold:g}."
    )
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), table, resolutions, job.params.threshold)


def _warn(job: Job[Params], curves: dict[str, Tensor], resolutions: dict[str, float], nyquist: float) -> None:
    if resolutions["corrected"] < 1.05 * nyquist:
        job.warn(
            f"The FSC reaches Nyquist ({nyquist:.2f} Å): extract with smaller pixels to see how far it goes, or check that the halves are independent."
        )
    if resolutions["corrected"] > 1.15 * resolutions["tight"]:
        job.warn("The correction takes much off the masked FSC: the mask is too tight or too sharp at its edge.")
    if float(curves["unmasked"][-5:].mean()) > 0.3:
        job.warn(
            "The half maps agree even at the highest resolution: they are not independent (the same particles in both, or a filter in common)."
        )


def _draw_maps(job: Job[Params], volume: np.ndarray, mask: np.ndarray, pixel_size: float) -> None:
    caption = "Central slices of the mean of the half maps; the orange line is where the tight mask is one half. It should cut through no density."
    draw_slices(job.figure("slices", "Map and tight mask", caption), volume, pixel_size, mask)
    caption = "Surface of the mean of the half maps, unsharpened, seen along the three axes."
    draw_surfaces(job.figure("surface", "Surface", caption), volume * mask, surface_level(volume, mask))
