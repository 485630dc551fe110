"""Refine one structure with RELION, a program of the user's own, and read its maps and poses back."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from firn.families.refinement import volume_in_box
from firn.families.refinement_course import write_maps
from firn.families.relion import RelionSearchParams, keep_files, read_inputs, result_file, run_relion
from firn.formats.mrc import write_volume
from firn.formats.relion_run import read_iteration, with_results
from firn.formats.star import read_star
from firn.formats.tables import write_table
from firn.formats.volumes import read_like, read_volume
from firn.refine.validation import automatic_mask, spherical_mask
from firn.report.refine import Moment, draw_convergence, draw_directions, draw_iterations
from firn.runtime.job import Job
from firn.runtime.params import Kind, slot

NEAR, FAR = 6.0, 14.0
"""Å from the density where the mask of the FSC starts to fall and where it ends, as in refinements of firn's own."""


class Params(RelionSearchParams):
    """Refine one structure by RELION's auto-refinement: two halves of the particles apart, by `relion_refine_mpi`, installed apart.

    Half-sets stay as they are. The FSC is measured here, in the same way as after a refinement of firn's own.
    """

    stage: ClassVar[str] = "refine"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")
    volume: str = slot("volume")
    """Map to start from."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the references in RELION, and of the FSC; none = a ball there, and one made from the half maps here."""
    symmetry: str = "C1"
    """Point group, in RELION's names."""
    initial_lowpass: float = Field(60.0, gt=0)
    """Å. Low-pass filter of the map to start from."""
    absolute_greyscale: bool = False
    """Whether the map to start from has the grey scale of the particles, as one of RELION's or of firn's from the same images has."""
    healpix_order: int = Field(2, ge=0, le=6)
    """Fineness of the first search: directions 7.5° apart at 2, each order halves it."""
    local_from_order: int = Field(4, ge=0, le=9)
    """Fineness from which on only the neighbourhood of each pose is searched: 1.8° at 4."""


def run(job: Job[Params]) -> None:
    """Hand over, run, read back."""
    table, box, pixel_size = read_inputs(job)
    reference = job.checkpoint.workplace() / "reference.mrc"
    write_volume(reference, volume_in_box(job.input("volume", "map.mrc"), box, pixel_size).numpy(), pixel_size)
    mask = _given_mask(job, box, pixel_size)
    root, newest = run_relion(job, table, box, options(job.params, reference, _mask_path(job)), halves=True)
    halves = tuple(_volume(result_file(Path(f"{root}_half{half}_class001_unfil.mrc")), box, pixel_size) for half in (1, 2))
    combined = _volume(result_file(Path(f"{root}_class001.mrc")), box, pixel_size)
    posed = with_results(table, result_file(Path(f"{root}_data.star")))
    write_table(job.folder / "particles.star", posed, "particles")
    write_maps(job, (halves[0], halves[1]), combined, _fsc_mask(halves[0], halves[1], pixel_size) if mask is None else mask, pixel_size)
    keep_files(job, root, str(root))
    _report(job, root, newest.number)
    caption = "Viewing directions of the particles. Empty regions make resolution depend on direction."
    draw_directions(job.figure("directions", "Viewing directions", caption), posed["rot"].to_numpy(), posed["tilt"].to_numpy())


def options(params: Params, reference: Path, mask: Path | None) -> list[list[str]]:
    """Arguments of an auto-refinement, besides those of every search."""
    numbers = {"--ini_high": params.initial_lowpass, "--healpix_order": params.healpix_order, "--low_resol_join_halves": 40}
    scale = [] if params.absolute_greyscale else [["--firstiter_cc"]]
    masked = [["--solvent_mask", str(mask)]] if mask else []
    local = ["--auto_local_healpix_order", str(params.local_from_order)]
    start = [["--auto_refine"], ["--split_random_halves"], ["--ref", str(reference)], ["--sym", params.symmetry], local]
    return [*start, *[[name, f"{value:g}"] for name, value in numbers.items()], *scale, *masked]


def _mask_path(job: Job[Params]) -> Path | None:
    return job.input("mask", "mask.mrc") if job.has("mask") else None


def _given_mask(job: Job[Params], box: int, pixel_size: float) -> Tensor | None:
    path = _mask_path(job)
    return None if path is None else torch.tensor(read_like(path, box, pixel_size))


def _volume(path: Path, box: int, pixel_size: float) -> Tensor:
    return torch.tensor(read_like(path, box, pixel_size))


def _fsc_mask(first: Tensor, second: Tensor, pixel_size: float) -> Tensor:
    mask = automatic_mask(first, second, pixel_size, NEAR, FAR)
    return mask if bool((mask > 0).any()) else spherical_mask(first.shape[0], pixel_size)


def _report(job: Job[Params], root: Path, last: int) -> None:
    """Metrics and figures of the way there."""
    history = [moment for number in range(1, last + 1) if (moment := _moment(root, number)) is not None]
    job.metric("iterations", last)
    found = read_star(result_file(Path(f"{root}_model.star"))).get("model_general")
    if found is not None:
        job.metric("resolution_relion", float(found["rlnCurrentResolution"].iloc[0]), "Å")
    if not history:
        return
    caption = (
        "Resolution of each iteration as RELION measured it, without a mask, how fine the images were used, and the change of orientation."
    )
    draw_convergence(job.figure("convergence", "Resolution by iteration", caption), history)
    caption = "Central slices of the map of half-set 1 as it grew."
    draw_iterations(job.figure("iterations", "Map by iteration", caption), history, read_volume(_half_map(root, last))[1])


def _moment(root: Path, number: int) -> Moment | None:
    """One iteration for the figures; None for one that a run cut short left incomplete."""
    if not (Path(f"{root}_it{number:03d}_optimiser.star").exists() and _half_map(root, number).exists()):
        return None
    found = read_iteration(root, number)
    volume = read_volume(_half_map(root, number))[0]
    slices = tuple(np.take(volume, len(volume) // 2, axis) for axis in range(3))
    moved = float(found.general.get("rlnChangesOptimalOrientations", np.nan))
    curve = found.model["model_class_1"]["rlnGoldStandardFsc"].to_numpy()
    return Moment(number, found.resolution, found.finest, moved, slices, curve)


def _half_map(root: Path, number: int) -> Path:
    return Path(f"{root}_it{number:03d}_half1_class001.mrc")
