"""Pick particles with Gautomatch, a program of the user's own, by templates or by a disc."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.outside import find_one_of, record_program, run_program, version_said
from firn.families.outside_picks import Laid, OutsidePickerParams, lay_out, write_picks
from firn.formats.foreign_picks import read_foreign_picks
from firn.formats.mrc import read_mrc, write_stack
from firn.runtime.job import Job
from firn.runtime.params import slot

NAMES = ("Gautomatch", "gautomatch")
LEFT_OUT = ("rejected", "nonunique")
"""Lists of places that Gautomatch found and did not keep: on dirt, and too near to better ones."""
WORK = "gautomatch"


class Params(OutsidePickerParams):
    """Find particles by correlation with `Gautomatch`, which is installed apart from this one: with templates, or with a disc when there are none.

    It looks at sums without dose weights where there are some. Scores are its correlations; places that it rejects, and those too near to
    better ones, are counted only.
    """

    templates: str | None = slot("templates", optional=True)
    """2D classes to look for; none = a disc of the diameter."""
    diameter: float = Field(gt=0)
    """Å. Diameter of a particle."""
    min_distance: float | None = Field(None, gt=0)
    """Å. Least distance between picks; none = 0.7 of the diameter."""
    min_score: float = Field(0.1, ge=0, le=1)
    """Smallest correlation of a pick."""
    angular_step: float = Field(5.0, gt=0, le=90)
    """Degrees. Step between the rotations of templates."""
    speed: int = Field(2, ge=0, le=4)
    """0 is slow and thorough, 4 fast."""
    low_pass: float = Field(30.0, gt=0)
    """Å. Detail finer than this is left out."""
    high_pass: float = Field(1000.0, gt=0)
    """Å. Detail coarser than this is left out."""
    max_local_sigma: float = Field(1.2, gt=0)
    """Largest local standard deviation, in those of the micrograph: ice and carbon have more."""
    local_average: tuple[float, float] = (-1.0, 1.0)
    """Least and largest local mean, in standard deviations."""


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, and gautomatch.json, which tells the program, its version and its arguments."""
    program = find_one_of(NAMES, job.params.executable)
    laid = lay_out(job, job.folder / WORK, plain=True)
    if laid.rows:
        _warn_of_weights(job, laid)
        arguments = [program, *(laid.path(number).name for number in range(len(laid.rows))), *options(job, laid)]
        said: list[str] = []
        run_program(arguments, laid.folder, heard=said.append)
        record_program(job.folder / "gautomatch.json", program, [arguments], version=version_said(program, said))
    for name in LEFT_OUT:
        job.metric(name, sum(len(_listed(laid, number, name)) for number in range(len(laid.rows))))
    write_picks(job, laid, lambda number: _listed(laid, number, "automatch"), job.params.diameter, "Gautomatch")
    shutil.rmtree(laid.folder)


def options(job: Job[Params], laid: Laid) -> list[str]:
    """Arguments besides the micrographs."""
    params, pixel_size = job.params, laid.pixel_size("Gautomatch")
    least, most = params.local_average
    numbers = {
        "--apixM": pixel_size,
        "--diameter": params.diameter,
        "--min_dist": params.min_distance or 0.7 * params.diameter,
        "--speed": params.speed,
        "--boxsize": 2 * round(0.6 * params.diameter / pixel_size),
        "--cc_cutoff": params.min_score,
        "--lp": params.low_pass,
        "--hp": params.high_pass,
        "--lsigma_D": params.diameter,
        "--lsigma_cutoff": params.max_local_sigma,
        "--lave_D": params.diameter,
        "--lave_min": least,
        "--lave_max": most,
    }
    device = {"--gid": job.device.index or 0} if job.device.type == "cuda" else {}
    shared = [word for name, value in (numbers | device).items() for word in (name, f"{value:g}")]
    return [*shared, *_templates(job, laid.folder), *params.arguments]


def _templates(job: Job[Params], folder: Path) -> Sequence[str]:
    """Arguments for templates: white ones, as Gautomatch expects them, without empty averages, in a stack of its own kind."""
    if not job.has("templates"):
        return []
    images, pixel_size = read_mrc(job.input("templates", "classes.mrcs"))
    images = images.reshape(-1, *images.shape[-2:])
    write_stack(folder / "templates.mrcs", images[images.any(axis=(1, 2))], pixel_size)
    return ["--T", "templates.mrcs", "--apixT", f"{pixel_size:g}", "--ang_step", f"{job.params.angular_step:g}"]


def _listed(laid: Laid, number: int, name: str) -> pd.DataFrame:
    stem = laid.path(number).with_suffix("")
    for suffix in (".star", ".box"):
        path = Path(f"{stem}_{name}{suffix}")
        if path.exists():
            return read_foreign_picks(path)
    if name == "automatch" and not any(laid.folder.glob("*_automatch.*")):
        raise InputError(f"Gautomatch ended without writing {stem.name}_automatch.star or .box; what it said is in the job's log")
    return pd.DataFrame({"x": np.empty(0), "y": np.empty(0), "score": np.empty(0)})


def _warn_of_weights(job: Job[Params], laid: Laid) -> None:
    weighted = [row for row in laid.rows if "movie" in row and "micrograph_plain" not in row]
    if weighted:
        job.warn(
            f"{len(weighted)} micrographs have no sum without dose weights, which Gautomatch is made for; keep save_plain on in the motion correction"
        )
