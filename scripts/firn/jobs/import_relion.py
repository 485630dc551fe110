"""Bring a RELION project into the session: micrographs, picks, particles, classes, maps and masks of its jobs."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.families.map_files import describe_maps, read_maps, write_maps
from firn.families.micrographs import decision_panels
from firn.families.particle_figures import draw_particles
from firn.formats.discovery import failed_rows
from firn.formats.exposures import PICK_COLUMNS, join_tables
from firn.formats.foreign_exposures import read_foreign_exposures, read_foreign_picks_of, with_paths_in_run
from firn.formats.foreign_particles import read_foreign
from firn.formats.mrc import read_shape, write_stack
from firn.formats.particles import load_images
from firn.formats.relion_jobs import coordinate_files, find_maps, find_output, newest_jobs, read_2d_classes
from firn.formats.tables import image_names, split_image_names, write_batches, write_table
from firn.report.picks import draw_decisions, draw_montage
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane

KINDS = ("micrographs", "picks", "particles", "templates", "volume", "mask")
SHOWN = 24
CIRCLE = 0.04
"""Circles drawn around picks, in widths of the micrograph."""


class Params(JobParams):
    """Go on from a RELION project (3.0 to 5, single particles): micrographs with their CTF, picks, particles, 2D classes, maps and masks.

    A job is named as in RELION, such as `Refine3D/job019`, by its alias or number, or by one of its files, such as
    `Class3D/job012/run_it010_model.star`. Images and micrographs are used where they lie; half-sets, optics groups, poses and all other
    columns are kept. Of a job with several classes each is offered as `class_1`, `class_2` ..., and the largest as the map.
    """

    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures", "picks", "particles", "templates", "volume", "mask")
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"class_*": ("volume", "particles")}

    project: str
    """Folder of the project, the one with `default_pipeline.star`."""
    micrographs: str | None = None
    """Job such as `CtfFind/job003` whose micrographs become exposures. Where no kind is named, the last finished job of each is taken."""
    picks: str | None = None
    """Job such as `AutoPick/job006` whose coordinates become picks; needs micrographs."""
    particles: str | None = None
    """Job such as `Extract/job007`, `Select/job010`, `Class2D/job009` or `Refine3D/job019` whose particles are taken."""
    templates: str | None = None
    """Job such as `Class2D/job009` whose class averages are taken, to pick with or to select."""
    volume: str | None = None
    """Job such as `Refine3D/job019`, `Class3D/job012` or `PostProcess/job021` whose maps, half maps and mask are taken."""
    mask: str | None = None
    """Job such as `MaskCreate/job020` whose mask is taken, in place of the one that goes with the map."""
    batch_size: int = Field(10, ge=1)
    """Exposures that later jobs take together."""
    ignore_poses: bool = False
    """Forget angles, shifts and classes of the particles."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.picks and not self.micrographs:
            raise ValueError("picks need the micrographs that they lie on; name their job")
        return self


def run(job: Job[Params]) -> None:
    """Read what is wanted of each kind, check it, write it under firn's names."""
    project = Path(job.params.project)
    if not project.is_dir():
        raise InputError(f"{project}: is no folder; project must be that of a RELION project")
    wanted = _wanted(job, project)
    exposures = _add_exposures(job, project, wanted["micrographs"]) if "micrographs" in wanted else None
    if exposures is not None and "picks" in wanted:
        _add_picks(job, project, wanted["picks"], exposures)
    particles = _add_particles(job, project, wanted["particles"], exposures) if "particles" in wanted else None
    if "templates" in wanted:
        _add_templates(job, project, wanted["templates"])
    if "volume" in wanted or "mask" in wanted:
        _add_maps(job, project, wanted, particles)


def _wanted(job: Job[Params], project: Path) -> dict[str, str]:
    """The job or file that is taken, by kind; the newest of each where none is named."""
    named = {kind: str(getattr(job.params, kind)) for kind in KINDS if getattr(job.params, kind)}
    if named:
        return named
    found = newest_jobs(project)
    job.warn(
        f"{project}: no job is named, so the last finished ones are taken: {', '.join(f'{kind} {name}' for kind, name in found.items())}"
    )
    return found


def _add_exposures(job: Job[Params], project: Path, name: str) -> pd.DataFrame:
    path = find_output(project, name, "micrographs")
    table, faults = read_foreign_exposures(path, project, job.params.batch_size)
    if table.empty:
        raise InputError(f"{path}: none of {len(faults)} micrographs can be used; the first: {next(iter(faults.values()))}")
    if faults:
        write_table(job.folder / "failed.star", failed_rows(faults, "micrograph"), "failed")
        job.warn(
            f"{path}: {len(faults)} of {len(faults) + len(table)} micrographs cannot be used; the first: {next(iter(faults.values()))}"
        )
    job.batches = sorted(table["batch"].astype(str).unique())
    _write_by_batch(job, table.drop(columns="name_there"), "exposures")
    job.metric("micrographs_accepted", len(table))
    job.metric("micrographs_failed", len(faults))
    return table


def _add_picks(job: Job[Params], project: Path, name: str, exposures: pd.DataFrame) -> None:
    path = find_output(project, name, "picks")
    files = coordinate_files(project, path)
    tables = read_foreign_picks_of(files, exposures)
    picks = join_tables(tables, PICK_COLUMNS)
    if picks.empty:
        raise InputError(f"{path}: has picks on none of the {len(exposures)} micrographs")
    if len(tables) < len(exposures):
        job.warn(f"{path}: {len(exposures) - len(tables)} of {len(exposures)} micrographs have no picks")
    _write_by_batch(job, picks, "picks")
    job.metric("picks", len(picks))
    counts = exposures["exposure_id"].map(picks.groupby("exposure_id").size()).fillna(0).to_numpy()
    pixel_size = float(exposures["micrograph_pixel_size"].iloc[0])
    shown = picks.assign(kept=True, diameter=CIRCLE * float(exposures["width_px"].iloc[0]) * pixel_size)
    caption = "The exposures with most, median and fewest picks. Particles must be centred in the circles."
    draw_decisions(job.figure("micrographs", "Imported picks", caption), decision_panels(exposures, shown, counts), pixel_size)


def _write_by_batch(job: Job[Params], table: pd.DataFrame, kind: str) -> None:
    write_table(job.folder / f"{kind}.star", table, kind)
    write_batches(job.folder, table, kind, job.batches)


def _add_particles(job: Job[Params], project: Path, name: str, exposures: pd.DataFrame | None) -> pd.DataFrame:
    path = find_output(project, name, "particles")
    known = dict(zip(exposures["name_there"], exposures["exposure_id"], strict=True)) if exposures is not None else {}
    table = with_paths_in_run(read_foreign(path, str(project), {}, job.params.ignore_poses, exposures=known), project)
    if exposures is not None:
        batches = table["exposure_id"].map(exposures.set_index("exposure_id")["batch"])
        if batches.isna().any():
            job.warn(f"{path}: {int(batches.isna().sum())} of {len(table)} particles lie on micrographs that are not among the exposures")
        table = table.assign(batch=batches.fillna(table["batch"]))
    write_table(job.folder / "particles.star", table, "particles")
    job.metric("particles", len(table))
    job.metric("half_1", int((table["half"] == 1).sum()))
    chosen = table.iloc[np.unique(np.linspace(0, len(table) - 1, SHOWN).astype(int))]
    draw_particles(job, "Imported particles", f"{len(chosen)} of {len(table)} imported particles; protein must be white.", chosen)
    return table


def _add_templates(job: Job[Params], project: Path, name: str) -> None:
    classes = read_2d_classes(project, name)
    images = load_images(classes.assign(image=classes["class_image"]))
    pixel_size = read_shape(split_image_names(classes["class_image"])[1][0])[1]
    write_stack(job.folder / "classes.mrcs", images, pixel_size)
    names = image_names(job.output_path("classes.mrcs"), len(classes))
    write_table(job.folder / "classes.star", classes.assign(class_image=names), "classes")
    job.metric("classes_2d", len(classes))
    draw_montage(job.figure("classes", "Imported 2D classes", "Class averages in their order; protein must be white."), images, pixel_size)


def _add_maps(job: Job[Params], project: Path, wanted: dict[str, str], particles: pd.DataFrame | None) -> None:
    maps = find_maps(project, wanted["volume"]) if "volume" in wanted else None
    files = dict(maps.files) if maps else {}
    if "mask" in wanted:
        files["mask"] = find_output(project, wanted["mask"], "mask")
    volumes, pixel_size = read_maps(files)
    write_maps(job.folder, volumes, pixel_size)
    describe_maps(job, volumes, pixel_size, files)
    if maps and maps.are_filtered:
        job.warn(f"{files['half1'].parent}: its half maps are those of an iteration, which RELION filters, so their FSC means little")
    if maps and len(maps.classes) > 1:
        for number, path in enumerate(maps.classes, start=1):
            _add_class(job, number, path, particles)
        job.metric("classes", len(maps.classes))


def _add_class(job: Job[Params], number: int, path: Path, particles: pd.DataFrame | None) -> None:
    """One class: its map, and the particles whose class it is."""
    folder = job.folder / f"class_{number}"
    volumes, pixel_size = read_maps({"map": path})
    write_maps(folder, volumes, pixel_size)
    if particles is not None and "class_number" in particles.columns:
        write_table(folder / "particles.star", particles[particles["class_number"] == number], "particles")
