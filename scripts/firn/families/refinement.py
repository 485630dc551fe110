"""Refinements of one structure: the parameters they share, and what they read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.aberrations import particle_optics
from firn.families.map_files import given_mask
from firn.families.memory_needs import refinement_needs
from firn.families.particle_images import StoredImages, images_in_memory
from firn.formats.particles import common_box, read_particles
from firn.formats.poses import read_shifts, with_halves
from firn.formats.volumes import read_volume
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import resize_volumes
from firn.kernels.project import crop_volume, pad_volume
from firn.refine.ranks import ALONE, Ranks
from firn.refine.state import Particles, Settings
from firn.refine.validation import MASK_RESOLUTION, molecule_mask
from firn.runtime.job import Job
from firn.runtime.memory_room import expect, fits
from firn.runtime.params import JobParams, Kind, Lane, slot

FEWEST_PER_HALF = 20
MOST_DEVICES = 16
"""Not more than particles of a half-set, so that each has some."""
WINDOW = (0.85, 0.99)
EDGE = 10.0
"""Å. Width of the soft edge of the particle's disc."""


class SearchParams(JobParams):
    """Parameters of everything that searches the poses of particles against maps."""

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    gpu_gb: ClassVar[int | None] = 11
    particles: str = slot("particles")
    """Particles to refine."""
    symmetry: str = "C1"
    """Point group: Cn, Dn, T, O, I, I1 ... I4, with RELION's axes."""
    initial_lowpass: float = Field(30.0, gt=0)
    """Å. Low-pass filter of what to start from."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Finest detail used to find poses; none = as far as the half maps agree, up to Nyquist."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Longest extent; images are masked to it. None = a window over 0.85 to 0.99 of the box."""
    shift_range: float | None = Field(None, gt=0)
    """Å. How far particles may lie from their present centres; none = a tenth of the box."""
    group_noise: bool = True
    """Estimate the noise of each exposure by itself; off = one noise for all particles."""
    iterations: int = Field(30, ge=2)
    """Largest number of iterations; fewer when nothing improves any more."""
    devices: int = Field(1, ge=1, le=MOST_DEVICES)
    """GPUs of one machine that share the particles; without a GPU, processes that share the CPU cores."""


class RefinementParams(SearchParams):
    """Parameters of every refinement of one structure."""

    revision: ClassVar[int] = 2
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")
    volume: str = slot("volume")
    """Map to start from; low-passed, so that only its coarse shape counts. Its hand is kept."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the references; none = a disc at first, then one made from the map in each iteration."""
    dynamic_mask_from: float = Field(12.0, gt=0)
    """Å. Resolution from which on a mask made from the map is used; coarser, a ball."""
    dynamic_mask_threshold: float = Field(0.2, gt=0, lt=1)
    """Density, as a part of the largest, of the edge of the mask made from the map."""
    dynamic_mask_near: float = Field(6.0, ge=0)
    """Å from the density where the mask made from the map starts to fall."""
    dynamic_mask_far: float = Field(14.0, gt=0)
    """Å from the density where the mask made from the map ends."""
    particle_scale: bool = True
    """Estimate each particle's grey scale, as far as the images tell scales from noise."""


S = TypeVar("S", bound=SearchParams)
P = TypeVar("P", bound=RefinementParams)


@dataclass(frozen=True)
class Inputs:
    """What a refinement starts from; the map in the particles' box."""

    table: pd.DataFrame
    particles: Particles
    settings: Settings
    start: Tensor

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return self.particles.side

    @property
    def pixel_size(self) -> float:
        """Å per pixel."""
        return self.particles.pixel_size

    def resolution(self, shell: float) -> float:
        """Å of a Fourier radius in units of 1/n."""
        return self.side * self.pixel_size / shell


def read_inputs(job: Job[P]) -> Inputs:
    """Particles, settings and starting map; raises InputError in one sentence for what does not fit."""
    table = halved_table(job)
    side, pixel_size = common_box(table)
    settings = replace(search_settings(job, side, pixel_size), particle_scale=job.params.particle_scale)
    held = images_held(job, len(table), side, settings)
    start = volume_in_box(job.input("volume", "map.mrc"), side, pixel_size)
    return Inputs(table, particles_of(table, pixel_size, job.params.group_noise, ranks=job.ranks, held=held), settings, start)


def images_held(job: Job[S], count: int, side: int, settings: Settings, maps: int = 2) -> bool:
    """Whether all images are kept in memory, or read again whenever they are needed since they do not fit; maps as in refinement_needs.

    Says what the job needs; raises InputError when even without images it is more than there is.
    """
    held = fits(job, refinement_needs(count, side, settings, maps))
    expect(job, refinement_needs(count, side, settings, maps, held))
    if not held:
        job.warn(f"{count:,} images of {side} px do not fit in memory beside the rest: they are read again in every pass.")
    return held


def particles_of(
    table: pd.DataFrame, pixel_size: float, group_noise: bool, box_px: int | None = None, ranks: Ranks = ALONE, held: bool = True
) -> Particles:
    """Images of this rank, and optics, half-sets and noise groups (exposures) of a table.

    box_px: crop images in Fourier space to this side; held: keep them in memory.
    """
    grouped = group_noise and "exposure_id" in table.columns
    groups = pd.factorize(table["exposure_id"])[0] if grouped else np.zeros(len(table), dtype=np.int64)
    side = common_box(table)[0]
    box = side if box_px is None else min(side, box_px)
    half = torch.tensor(table["half"].to_numpy(np.int64))
    own = ranks.part(half) if ranks.size > 1 else None
    kept = table if own is None else table.iloc[own.numpy()]
    images = images_in_memory(kept, box) if held else StoredImages(kept, box)
    return Particles(images, particle_optics(table), half, torch.tensor(groups), pixel_size * side / box, own)


def origins_of(table: pd.DataFrame, pixel_size: float) -> Tensor:
    """Shifts yx `(n, 2)` in pixels, float32; zero where the table has none."""
    return torch.tensor(read_shifts(table, pixel_size), dtype=torch.float32)


def start_files(folders: Sequence[Path]) -> list[Path]:
    """Map of each starting volume; the folder of a job with several classes stands for all of them, in the order of their numbers."""
    files: list[Path] = []
    for folder in folders:
        classes = sorted(folder.glob("class_*/map.mrc"), key=lambda path: int(path.parent.name.removeprefix("class_")))
        files += classes or [folder / "map.mrc"]
    return files


def volume_in_box(path: Path, side: int, pixel_size: float) -> Tensor:
    """A map brought to the particles' pixel size and box."""
    volume, own = read_volume(path)
    start = torch.tensor(volume)
    if own > 0 and abs(own - pixel_size) > 0.002 * pixel_size:
        start = resize_volumes(start, round(volume.shape[0] * own / pixel_size))
    if not bool(start.any()):
        raise InputError(f"{path}: the starting map is empty")
    return crop_volume(pad_volume(start, side) if start.shape[0] < side else start, side)


def mask_maker(job: Job[P], inputs: Inputs) -> Callable[[Tensor, float], Tensor | None]:
    """The given mask always, or one made from the map once its resolution is good enough, or none."""
    params, pixel_size = job.params, inputs.pixel_size
    given = None
    if job.has("mask"):
        given = given_mask(job, inputs.side, pixel_size)

    def mask_of(volume: Tensor, resolved: float) -> Tensor | None:
        if given is not None or inputs.resolution(resolved) > params.dynamic_mask_from:
            return given
        smooth = low_pass_volume(volume, pixel_size, max(MASK_RESOLUTION, 2 * pixel_size))
        threshold = params.dynamic_mask_threshold * float(smooth.max())
        return molecule_mask(volume, pixel_size, params.dynamic_mask_near, params.dynamic_mask_far, threshold=threshold)

    return mask_of


def halved_table(job: Job[S]) -> pd.DataFrame:
    """The particle table with half-sets: the ones it has, or drawn from the particles' names."""
    table = with_halves(read_particles(job.input("particles", "particles.star")))
    counts = [int((table["half"] == half).sum()) for half in (1, 2)]
    if min(counts) < FEWEST_PER_HALF or sum(counts) != len(table):
        raise InputError(
            f"job {job.name}: the half-sets hold {counts[0]} and {counts[1]} of {len(table)} particles, but each needs {FEWEST_PER_HALF}"
        )
    return table.reset_index(drop=True)


def search_settings(job: Job[S], side: int, pixel_size: float) -> Settings:
    """Settings in pixels; raises InputError for lengths that do not fit the box."""
    params, box = job.params, side * pixel_size
    if params.initial_lowpass < 2 * pixel_size or (params.max_resolution or box) < 2 * pixel_size:
        raise InputError(f"job {job.name}: initial_lowpass and max_resolution must be coarser than two pixels ({2 * pixel_size:g} Å)")
    diameter = params.particle_diameter or WINDOW[0] * box
    if diameter > box:
        raise InputError(f"job {job.name}: particle_diameter {diameter:g} Å is larger than the box, {box:g} Å")
    radius = diameter / 2 if params.particle_diameter else WINDOW[0] * box / 2
    edge = min(EDGE, box / 2 - radius) if params.particle_diameter else (WINDOW[1] - WINDOW[0]) * box / 2
    return Settings(
        group=params.symmetry,
        diameter=diameter / pixel_size,
        mask_radius=radius / pixel_size,
        mask_edge=max(edge / pixel_size, 1.0),
        initial_radius=box / params.initial_lowpass,
        max_radius=min(side / 2 - 1, box / params.max_resolution) if params.max_resolution else side / 2 - 1,
        shift_reach=(params.shift_range or 0.1 * box) / pixel_size,
        device=job.device,
        ranks=job.ranks,
    )
