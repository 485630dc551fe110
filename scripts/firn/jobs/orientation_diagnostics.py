"""Say whether a map is resolved alike in all directions, and which views are missing."""

from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.families.map_files import given_mask
from firn.formats.poses import read_angles
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_independent_halves
from firn.kernels.anisotropy import (
    area_under,
    conical_fsc,
    correlation_sums,
    half_sphere,
    planar_fsc,
    plane_counts,
    sampling_compensation,
    viewing_directions,
)
from firn.kernels.expansion import expand_rotations
from firn.kernels.fsc import first_shell_below, fsc, randomise_phases, resolution_at, true_fsc
from firn.kernels.rotation import euler_matrices, matrix_angles
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.validation import GAP_SHELLS, RANDOMISE_BELOW, automatic_mask
from firn.report.orientation import SphereMap, draw_conical_fsc, draw_spheres
from firn.report.refine import draw_directions
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

THRESHOLD = 0.143
ANISOTROPIC_AREAS, ANISOTROPIC_SAMPLING = 0.5, 0.81


class Params(JobParams):
    """Conical FSC by direction, its area ratio (cFAR), the relative signal of each view, and how evenly the views fill Fourier space (SCF*)."""

    stage: ClassVar[str] = "postprocess"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ()
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask for the correlations; none = made from the half maps."""
    particles: str | None = slot("particles", optional=True)
    """Particles with the poses the map was made from, for viewing directions and sampling."""
    symmetry: str = "C1"
    """Point group the map was refined with; it multiplies the views."""
    cone: float = Field(20.0, ge=5, le=60)
    """Degrees. Half-angle of the cones."""
    directions: int = Field(3072, ge=64, le=20000)
    """Number of directions over the sphere."""
    sampling_radius: int = Field(23, ge=4, le=200)
    """Fourier pixels. Radius of the shell on which sampling is counted."""
    sampled_particles: int = Field(10000, ge=100)
    """Most views used to count sampling, drawn at random; SCF* of few and of many particles compare only at equal numbers."""


class _Directional(NamedTuple):
    """Curves `(d, s)` in cones and in viewed planes, both corrected for the mask."""

    conical: Tensor
    planar: Tensor


def run(job: Job[Params]) -> None:
    """Correlate by direction, count views, tell what is missing."""
    angles, axes = half_sphere(job.params.directions // 2)
    axes = axes.to(job.device)
    first, second, pixel_size = read_independent_halves(job.input("volume"))
    halves = torch.tensor(first, device=job.device), torch.tensor(second, device=job.device)
    curves = _curves(job, halves, axes, pixel_size)
    table = pd.DataFrame({"rot": angles[:, 0].numpy(), "tilt": angles[:, 1].numpy()})
    table = table.assign(**_report_correlation(job, curves, axes, pixel_size, first.shape[0]))
    if job.has("particles"):
        table = table.assign(firnSampling=_report_views(job, axes))
    write_table(job.folder / "directions.star", table, "directions")


def _curves(job: Job[Params], halves: tuple[Tensor, Tensor], axes: Tensor, pixel_size: float) -> _Directional:
    """Masked correlation in cones and planes, freed of what the mask itself adds."""
    mask = given_mask(job, halves[0].shape[0], pixel_size) if job.has("mask") else automatic_mask(*halves, pixel_size, 6.0, 12.0)
    start = first_shell_below(fsc(*halves), RANDOMISE_BELOW)
    chance = job.generator("phases")
    random = [randomise_phases(half, start, chance) for half in halves]
    masked, substituted = (correlation_sums(pair[0] * mask, pair[1] * mask) for pair in (halves, random))
    whole = substituted.sum(0)
    noise = whole[:, 0] / (whole[:, 1] * whole[:, 2]).clamp(min=1e-300).sqrt()
    sections = conical_fsc(masked, axes, job.params.cone), planar_fsc(masked, axes, job.params.cone / 2)
    return _Directional(*(torch.stack([true_fsc(row, noise, start + GAP_SHELLS) for row in rows]) for rows in sections))


def _report_correlation(job: Job[Params], curves: _Directional, axes: Tensor, pixel_size: float, n: int) -> dict[str, np.ndarray]:
    areas, planes = (area_under(part, THRESHOLD) for part in curves)
    reached = np.array([resolution_at(row, THRESHOLD, pixel_size, n) for row in curves.conical])
    ratio = float(areas.min() / areas.max().clamp(min=1e-12))
    job.metric("cfar", ratio)
    job.metric("resolution_best_direction", reached.min(), "Å")
    job.metric("resolution_worst_direction", reached.max(), "Å")
    signal = (planes / planes.max().clamp(min=1e-12)).cpu().numpy()
    job.metric("relative_signal_least", signal.min())
    _warn(job, ratio, reached, pixel_size)
    frequency = np.arange(n // 2 + 1) / (n * pixel_size)
    caption = (
        f"FSC of the half maps within cones of {job.params.cone:g}° half-angle about {2 * len(axes)} directions. A narrow band is isotropic. "
        f"cFAR, the smallest over the largest area under a curve, is {ratio:.2f}; below 0.5 the map is anisotropic."
    )
    draw_conical_fsc(job.figure("conical_fsc", "Conical FSC", caption), curves.conical.cpu().numpy(), frequency, reached, THRESHOLD)
    caption = (
        "Left: resolution by direction in Fourier space. Right: signal of each viewing direction, relative to the best: the area under the FSC of "
        "the central plane which that view measures. Dark views on the right are missing, or are of poor particles."
    )
    maps = [
        SphereMap(reached, "resolution along a direction", "Å", "viridis_r"),
        SphereMap(signal, "relative signal of a view", "of the best"),
    ]
    draw_spheres(job.figure("spheres", "Resolution and signal by direction", caption), axes.cpu().numpy(), maps)
    return {"firnConicalArea": areas.cpu().numpy(), "firnConicalResolution": reached, "firnRelativeSignal": signal}


def _warn(job: Job[Params], ratio: float, reached: np.ndarray, pixel_size: float) -> None:
    at_end = float((reached < 1.05 * 2 * pixel_size).mean())
    if at_end > 0.1:
        job.warn(
            f"{at_end:.0%} of the directions reach Nyquist ({2 * pixel_size:.2f} Å), which hides anisotropy beyond it: cFAR is an upper bound. "
            "Extract with smaller pixels."
        )
    if ratio < ANISOTROPIC_AREAS:
        job.warn(
            f"The map is anisotropic: cFAR is {ratio:.2f} (isotropic maps have at least 0.5), and resolution ranges from {reached.min():.1f} to {reached.max():.1f} Å."
        )


def _report_views(job: Job[Params], axes: Tensor) -> np.ndarray:
    path = job.input("particles", "particles.star")
    rotations = euler_matrices(torch.tensor(read_angles(read_table(path, "particles"), str(path))))
    equivalent = expand_rotations(rotations, symmetry_matrices(job.params.symmetry)).flatten(0, 1)
    chosen = torch.randperm(len(equivalent), generator=job.generator("views"))[: job.params.sampled_particles]
    views = viewing_directions(equivalent[chosen]).to(axes)
    counts = plane_counts(views, axes, job.params.sampling_radius)
    compensation, missing = sampling_compensation(counts)
    job.metric("scf", compensation)
    job.metric("unmeasured", 100 * missing, "%")
    if compensation < ANISOTROPIC_SAMPLING:
        job.warn(
            f"The views fill Fourier space unevenly: SCF* is {compensation:.2f} (side views alone have 0.81), {missing:.0%} is not measured."
        )
    shown = matrix_angles(equivalent[chosen]).numpy()
    caption = (
        f"Viewing directions of {len(chosen)} particles, with symmetry. Together with its opposite each view measures one central plane."
    )
    draw_directions(job.figure("views", "Viewing directions", caption), shown[:, 0], shown[:, 1])
    values = (counts / counts.mean()).cpu().numpy()
    caption = (
        f"How often each direction of Fourier space is measured, relative to the mean, {job.params.sampling_radius} Fourier pixels from the "
        f"origin. SCF* is {compensation:.2f}: 1 is even, side views alone have 0.81."
    )
    figure = job.figure("sampling", "Sampling of Fourier space", caption)
    draw_spheres(figure, axes.cpu().numpy(), [SphereMap(values, "sampling of Fourier space", "of the mean", "magma")])
    return values
