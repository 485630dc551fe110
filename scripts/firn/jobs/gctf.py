"""Estimate the CTF of exposures with Gctf, a program of the user's own, and read its fits."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from firn.errors import InputError
from firn.families.ctf import Row
from firn.families.outside import find_one_of, run_program
from firn.families.outside_ctf import IMAGE, OutsideCtfParams, blamed, figure_of, fit_batch, no_fit, place_image, words
from firn.formats.foreign_ctf import ForeignFit, read_gctf
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.report.foreign_ctf import draw_foreign_fit
from firn.runtime.job import Job

PROGRAMS = ("Gctf", "gctf")
LOG_ENDING = "_gctf.log"
COARSEST = 50.0
"""Å. The lowest resolution that Gctf takes."""


class Params(OutsideCtfParams):
    """Estimate the contrast transfer function by the program Gctf, which is installed apart from this one and needs a GPU.

    It is meant for sums without dose weights, which are fitted where there are some.
    """

    revision: ClassVar[int] = 1

    box_px: int = Field(1024, ge=128, multiple_of=2)
    """Pixels. Side of the power spectrum that is fitted."""
    tolerated_astigmatism: float = Field(1000.0, gt=0)
    """Å. Astigmatism that is expected at most."""
    b_factor: float = Field(150.0, ge=0)
    """Å². Fall-off assumed in the fit."""
    equiphase_average: bool = True
    """Average the spectrum along rings of equal phase, from which the fit resolution is told."""
    high_resolution_refinement: bool = False
    """Refine the fit at resolutions from 15 Å to the highest one used."""


def run(job: Job[Params]) -> None:
    """Fit every exposure of the batch; one that cannot be fitted goes to failed.star with its reason."""
    program = find_one_of(PROGRAMS, job.params.executable)
    columns = read_table(job.input("exposures", "exposures.star"), "exposures").columns
    if "motion_star" in columns and "micrograph_plain" not in columns:
        job.warn(
            "these exposures have no sums without dose weights, so the micrographs are fitted; Gctf needs such as have no dose weights"
        )

    def fit_one(row: Row, folder: Path, said: list[str]) -> tuple[list[str], ForeignFit]:
        return _fit(job, program, row, folder, said)

    def draw(row: Row, folder: Path, fit: ForeignFit) -> None:
        spectrum = folder / f"{Path(IMAGE).stem}.ctf"
        if spectrum.is_file():
            path, title = figure_of(job, row, fit)
            draw_foreign_fit(path, title, read_mrc(spectrum)[0], fit.resolution, None)

    fit_batch(job, program, "gctf.json", fit_one, draw)


def gctf_arguments(params: Params, row: Row, gpu: int) -> list[str]:
    """Arguments for one exposure, whose image lies under a fixed name in the folder where the program runs."""
    pixel_size = float(row["micrograph_pixel_size"])
    finest = max(params.max_resolution, 2 * pixel_size)
    told: dict[str, float | int | str] = {"--apix": pixel_size, "--kV": float(row["voltage_kv"]), "--cs": float(row["cs_mm"])}
    told |= {
        "--ac": float(row["amplitude_contrast"]),
        "--defL": params.min_defocus,
        "--defH": params.max_defocus,
        "--defS": params.defocus_step,
    }
    told |= {"--astm": params.tolerated_astigmatism, "--resL": min(params.min_resolution, COARSEST), "--resH": finest}
    told |= {"--bfac": params.b_factor, "--boxsize": params.box_px, "--do_EPA": int(params.equiphase_average), "--logsuffix": LOG_ENDING}
    if params.fit_phase_shift:
        told |= {"--phase_shift_L": params.min_phase_shift, "--phase_shift_H": params.max_phase_shift}
        told |= {"--phase_shift_S": params.phase_shift_step}
    if params.high_resolution_refinement:
        told |= {"--do_Hres_ref": 1, "--Href_resL": 15.0, "--Href_resH": finest}
    return [*words([part for pair in told.items() for part in pair]), "--gid", str(gpu), *params.arguments, IMAGE]


def _fit(job: Job[Params], program: str, row: Row, folder: Path, said_: list[str]) -> tuple[list[str], ForeignFit]:
    """(command line, fit) of one exposure."""
    place_image(row, folder)
    command, log = [program, *gctf_arguments(job.params, row, job.device.index or 0)], folder / f"{Path(IMAGE).stem}{LOG_ENDING}"
    try:
        run_program(command, folder, heard=said_.append, limit_s=job.params.time_limit_s)
        if not log.is_file():
            raise no_fit(said_)
        return command, read_gctf(log)
    except InputError as error:
        raise blamed(row, error) from error
