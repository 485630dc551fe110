"""Pick particles with Topaz, a program of the user's own: its model scores every place of the micrographs of a batch."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError, brief
from firn.families.outside import find_program, record_program
from firn.families.outside_picks import Laid, OutsidePickerParams, name_of, write_picks
from firn.families.topaz import WORK, Desk, normalised, put_exposures, whole_file
from firn.formats.foreign_picks import read_foreign_picks
from firn.runtime.job import Job
from firn.runtime.params import slot

HEADER = "image_name\tx_coord\ty_coord"
USUAL_MODEL, USUAL_DOWNSAMPLING = "resnet16", 8
SAME_SCALE = 0.02
"""Share by which the pixels of two sets of smaller micrographs may differ, and still are as large."""


class Params(OutsidePickerParams):
    """Find particles with a neural network, by the program `topaz`, which is installed apart from this one.

    The micrographs of a batch are made smaller, `topaz preprocess` normalises them, and `topaz extract` scores them with the model and keeps
    places that score best within a particle's radius. The scores are log-likelihood ratios.
    """

    revision: ClassVar[int] = 2

    trained: str | None = slot("model", optional=True)
    """Model that topaz_train made, instead of `model`."""
    diameter: float = Field(gt=0)
    """Å. Diameter of a particle; picks are at least half of it apart."""
    model: str | None = None
    """File of a trained model, or the name of one that comes with Topaz; none = resnet16 where there is no trained one."""
    downsampling: int | None = Field(None, ge=1, le=64)
    """Factor by which micrographs are made smaller first: the one that the model was trained with, or else 8."""
    denoised: bool = False
    """Pick in the micrographs that topaz_denoise made, for models that were trained on such."""
    threshold: float = 0.0
    """Smallest score of a pick; 0: as likely a particle as not, lower ones find more."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.trained and self.model:
            raise ValueError("give topaz_picker either a trained model or model")
        return self


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, and topaz.json, which tells the program, its version and its arguments."""
    work = (job.folder / WORK).absolute()
    desk = Desk(find_program("topaz", job.params.executable), work, job.device, job.threads)
    scorer = _scorer(job)
    laid = put_exposures(job, desk, scorer.downsampling, job.params.denoised)
    found = _found(job, desk, laid, scorer) if laid.rows else pd.DataFrame({"name": []})
    shutil.rmtree(work)
    write_picks(job, laid, lambda number: found[found["name"] == name_of(number)], job.params.diameter, "Topaz")


def extract_options(params: Params, scorer: "Scorer", pixel_size: float, threads: int) -> list[str]:
    """Options with which smaller micrographs are scored and picks printed in pixels of whole ones; pixel_size (Å) is of the smaller."""
    radius = max(1, round(params.diameter / 2 / pixel_size))
    workers = threads if threads > 1 else 0
    scaled = [f"--radius={radius}", f"--threshold={params.threshold:g}", f"--up-scale={scorer.downsampling}"]
    return [f"--model={scorer.model}", *scaled, f"--num-workers={workers}", *params.arguments]


@dataclass(frozen=True)
class Scorer:
    """A model, by name or whole path, with the factor of its micrographs and their pixel size in Å, where that is known."""

    model: str
    downsampling: int
    pixel_size: float | None = None


def _scorer(job: Job[Params]) -> Scorer:
    params = job.params
    if not job.has("trained"):
        named = params.model or USUAL_MODEL
        model = str(Path(named).absolute()) if Path(named).is_file() else named
        return Scorer(model, params.downsampling or USUAL_DOWNSAMPLING)
    trained = json.loads(job.input("trained", "model.json").read_text(encoding="utf-8"))
    model = str(job.input("trained", "model.sav").absolute())
    return Scorer(model, params.downsampling or int(trained["downsampling"]), float(trained["pixel_size"]))


def _found(job: Job[Params], desk: Desk, laid: Laid, scorer: Scorer) -> pd.DataFrame:
    """What Topaz found in all micrographs: name (of the row's number), x, y in pixels, score."""
    pixel_size = laid.pixel_size("Topaz") * scorer.downsampling
    if scorer.pixel_size and abs(pixel_size / scorer.pixel_size - 1) > SAME_SCALE:
        job.warn(f"the model was trained with pixels of {scorer.pixel_size:.2f} Å, and is to pick at {pixel_size:.2f} Å")
    numbers, said = range(len(laid.rows)), desk.folder / "said.txt"
    files = [whole_file(number) for number in numbers]
    prepare = desk.normalise(files)
    extract = desk.command("extract", extract_options(job.params, scorer, pixel_size, desk.threads), [normalised(file) for file in files])
    record_program(job.folder / "topaz.json", desk.program, [prepare, extract])
    desk.run(prepare)
    desk.run(extract, said)
    found = read_foreign_picks(_printed_table(said))
    strange = next((name for name in found["name"] if name not in set(map(name_of, numbers))), None)
    if strange is not None:
        raise InputError(f"job {job.name}: Topaz tells of picks in '{brief(strange)}', which is none of the micrographs that it was given")
    return found


def _printed_table(said: Path) -> Path:
    """The table alone of what Topaz printed; it is printed in every version, while some write no file though one is asked for."""
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith(HEADER)), None)
    if start is None:
        raise InputError("topaz extract printed no table of picks")
    path = said.with_name("picks.txt")
    path.write_text("".join(f"{line}\n" for line in lines[start:] if line.count("\t") == lines[start].count("\t")), encoding="utf-8")
    return path
