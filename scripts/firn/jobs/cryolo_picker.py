"""Pick particles with crYOLO, a program of the user's own: its trained network draws boxes around particles."""

import shutil
from pathlib import Path

import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.outside import find_program, record_program, run_program
from firn.families.outside_picks import Laid, OutsidePickerParams, lay_out, write_picks
from firn.formats.foreign_picks import read_foreign_picks
from firn.runtime.job import Job

PROGRAM = "cryolo_predict.py"
WORK = "cryolo"


class Params(OutsidePickerParams):
    """Find particles with a neural network by `cryolo_predict.py`, which is installed apart from this one. Scores are its confidences."""

    config: str
    """crYOLO's configuration file (JSON); files that it names must be given by their whole paths."""
    model: str
    """File of the trained model, such as crYOLO's general one."""
    diameter: float = Field(gt=0)
    """Å. Diameter of a particle, for figures and the jobs that follow."""
    min_score: float = Field(0.3, ge=0, le=1)
    """Smallest confidence of a pick."""


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, and cryolo.json, which tells the program, its version and its arguments."""
    program = find_program(PROGRAM, job.params.executable)
    for name, path in (("config", job.params.config), ("model", job.params.model)):
        if not Path(path).is_file():
            raise InputError(f"{name}: '{path}' is no file")
    work = job.folder / WORK
    laid = lay_out(job, work / "in")
    if laid.rows:
        arguments = [program, *options(job)]
        record_program(job.folder / "cryolo.json", program, [arguments])
        run_program(arguments, work)
    write_picks(job, laid, lambda number: _picks(laid, number, job.params.min_score), job.params.diameter, "crYOLO")
    shutil.rmtree(work)


def options(job: Job[Params]) -> list[str]:
    """Arguments of crYOLO, which runs in a folder of its own: it writes more than it is asked for."""
    params = job.params
    files = ["-c", str(Path(params.config).absolute()), "-w", str(Path(params.model).absolute()), "-i", "in", "-o", "out"]
    device = ["-g", str(job.device.index or 0)] if job.device.type == "cuda" else []
    return [*files, "-t", f"{params.min_score:g}", "-nc", str(job.threads), *device, *params.arguments]


def _picks(laid: Laid, number: int, least: float) -> pd.DataFrame:
    """Picks of a micrograph: a CBOX file holds all that crYOLO looked at, also what is below the threshold."""
    out, name = laid.folder.parent / "out", laid.path(number).stem
    path = next((path for path in (out / "CBOX" / f"{name}.cbox", out / "EMAN" / f"{name}.box") if path.exists()), None)
    if path is None and (out / "CBOX").is_dir():
        return pd.DataFrame({"x": [], "y": [], "score": []}, dtype=float)
    if path is None:
        raise InputError(f"{PROGRAM} ended without the folder CBOX; what it said is in the job's log")
    found = read_foreign_picks(path)
    return found[~(found["score"] < least)]
