"""Denoise micrographs with Topaz, a program of the user's own, for people to look at and Topaz to pick in."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.micrographs import DENOISED, read_exposures
from firn.families.outside import find_program, record_program
from firn.families.topaz import WORK, Desk, TopazParams, put_exposures, whole_file
from firn.formats.exposures import write_failed
from firn.formats.mrc import read_mrc, write_image
from firn.formats.tables import write_table
from firn.report.picks import draw_beside
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot

NETWORKS = ("unet", "unet-small", "affine")
"""Models that come with Topaz and are known to it by `--arch` too."""
MADE, NO_MODEL = "made", "no-such-model"


class Params(TopazParams):
    """Denoise micrographs with a neural network, by the program `topaz`, which is installed apart from this one.

    Each exposure keeps its micrograph and gets a denoised one of the same size beside it, which is shown under picks from there on. Particles
    are cut from the micrograph itself, since what a network made is no measurement.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    exposures: str = slot("exposures")
    """Exposures to denoise."""
    model: str = "unet"
    """Model that comes with Topaz (unet, unet-small, affine), or the file of a trained one, which Topaz 0.2 takes and 0.3 does not."""
    float16: bool = False
    """Write denoised micrographs as 16-bit floats (MRC mode 12)."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn beside what was made of them, per batch."""


def run(job: Job[Params]) -> None:
    """Write denoised micrographs, exposures.star that names them, and topaz.json, which tells the program, its version and its arguments."""
    program = find_program("topaz", job.params.executable)
    work = (job.folder / WORK).absolute()
    work.mkdir()
    desk = Desk(program, work, job.device, job.threads)
    model = _model(desk, job.params.model)
    laid = put_exposures(job, desk)
    rows = laid.rows
    command = desk.command("denoise", [*model, f"--output={MADE}", *job.params.arguments], [whole_file(row) for row in range(len(rows))])
    record_program(job.folder / "topaz.json", program, [command])
    if rows:
        desk.run(command)
    paths = [_keep(job, work / MADE / Path(whole_file(number)).name, row) for number, row in enumerate(rows)]
    table = pd.DataFrame(rows) if rows else read_exposures(job)[:0]
    write_table(job.folder / "exposures.star", table.assign(**{DENOISED: paths}), "exposures")
    write_failed(job.folder, laid.failed)
    shutil.rmtree(work)
    job.metric("exposures", len(rows))
    _draw(job, rows, laid.shown, paths)


def _model(desk: Desk, model: str) -> list[str]:
    """Options that name the model; raises InputError when this Topaz would take no notice of it.

    Topaz 0.3 loads the network that `--arch` names, whatever `--model` says; so a model that cannot be told by its network is asked for
    under a name that cannot be, and must be missed.
    """
    if model in NETWORKS:
        return [f"--model={model}", f"--arch={model}"]
    try:
        desk.run(desk.command("denoise", [f"--model={NO_MODEL}"]))
    except InputError:
        return [f"--model={Path(model).absolute()}" if Path(model).is_file() else f"--model={model}"]
    raise InputError(
        f"model: this Topaz takes no notice of '{model}' and denoises with a network of its own; it knows {', '.join(NETWORKS)}"
    )


def _keep(job: Job[Params], made: Path, row: dict[Any, Any]) -> str:
    """Write what Topaz made as firn writes micrographs; the path for tables."""
    if not made.exists():
        raise InputError(f"topaz denoise wrote nothing for exposure {row['exposure_id']}")
    file = f"micrographs/{row['exposure_id']}_denoised.mrc"
    (job.folder / "micrographs").mkdir(exist_ok=True)
    write_image(job.folder / file, read_mrc(made)[0], float(row["micrograph_pixel_size"]), float16=job.params.float16)
    return job.output_path(file)


def _draw(job: Job[Params], rows: list[dict[Any, Any]], shown: list[np.ndarray], paths: list[str]) -> None:
    for row, micrograph, path in zip(rows, shown, paths, strict=False):
        name = str(row["exposure_id"])
        figure = job.figure(f"denoised_{name}", f"{name} denoised", "Left: the micrograph. Right: what the network made of it.")
        denoised = read_mrc(job.staged_path(path))[0]
        draw_beside(figure, [("micrograph", micrograph), ("denoised", denoised)], float(row["micrograph_pixel_size"]))
