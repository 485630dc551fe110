"""Reconstruct a map and its half maps from particles whose poses are known."""

from typing import ClassVar

from firn.families.posed_particles import read_posed
from firn.families.reconstruction import THRESHOLD, Reconstruction, ReconstructionParams, reconstruct_table
from firn.report.postprocess import draw_fsc
from firn.report.refine import draw_directions
from firn.report.volumes import draw_slices, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import Kind

CURVES = ("unmasked", "spherical", "loose", "tight", "corrected")


class Params(ReconstructionParams):
    """Put particles together in the poses they have, without searching; half-sets are kept apart, so their FSC is that of the poses' job."""

    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")


def run(job: Job[Params]) -> None:
    """Reconstruct all particles and report."""
    made = reconstruct_table(job, read_posed(job.input("particles", "particles.star")), job.folder)
    resolutions = {name: made.resolution(name) for name in CURVES}
    for name in ("corrected", "tight", "unmasked"):
        job.metric(f"resolution_{name}", resolutions[name], "Å")
    job.metric("particles", len(made.angles))
    if resolutions["corrected"] < 1.05 * 2 * made.pixel_size:
        job.warn(f"The FSC reaches Nyquist ({2 * made.pixel_size:.2f} Å): extract with smaller pixels to see how far the map goes.")
    _draw(job, made, resolutions)


def _draw(job: Job[Params], made: Reconstruction, resolutions: dict[str, float]) -> None:
    caption = (
        "Agreement of the two half maps by resolution. The corrected curve is the one to quote, read at 0.143; it is honest as far as the "
        "two half-sets never met while their poses were found."
    )
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), made.table(), resolutions, THRESHOLD)
    volume, mask = made.combined.cpu().numpy(), made.mask.cpu().numpy()
    caption = "Central slices of the map from all particles, weighted by its signal-to-noise ratio; the orange line is the mask's edge."
    draw_slices(job.figure("slices", "Map", caption), volume, made.pixel_size, mask)
    caption = "Surface of the map, unsharpened, seen along the three axes."
    draw_surfaces(job.figure("surface", "Surface", caption), volume * mask, surface_level(volume, mask))
    caption = "Viewing directions of the particles. Empty regions make resolution depend on direction."
    draw_directions(job.figure("directions", "Viewing directions", caption), made.angles[:, 0], made.angles[:, 1])
