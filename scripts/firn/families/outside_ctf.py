"""Fits of the CTF by programs of the users' own: what ctffind and gctf share.

The programs fit one defocus to a whole micrograph, so the surface that patch_ctf measures is told as flat.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import Field

from firn.errors import ExposureError, InputError, brief
from firn.families.ctf import NEEDS, CtfSearch, Row, fitted_path, read_image, record_fits
from firn.families.outside import record_program, version_said
from firn.formats.exposures import failed_row, write_failed
from firn.formats.foreign_ctf import ForeignFit
from firn.formats.mrc import check_header, write_image
from firn.formats.tables import read_table, require_columns, write_table
from firn.kernels.defocus_surface import NAMES
from firn.runtime.job import Job

IMAGE = "image.mrc"
MODES = (0, 1, 2, 6)
"""Kinds of pixels that every program reads; others, such as 16-bit floats, are handed on as 32-bit floats."""


class OutsideCtfParams(CtfSearch):
    """Parameters of every fit by another program."""

    box_px: int = Field(512, ge=128, multiple_of=2)
    """Pixels. Side of the power spectrum that is fitted; more for high defocus and small pixels."""
    defocus_step: float = Field(500.0, gt=0)
    """Å. Step of the first search."""
    phase_shift_step: float = Field(10.0, gt=0)
    """Degrees. Step of the first search for a phase shift."""
    executable: str | None = None
    """Path of the program; by default the one on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program."""
    time_limit_s: float = Field(600.0, gt=0)
    """s. A micrograph that takes longer is given up."""


P = TypeVar("P", bound=OutsideCtfParams)
FitOne = Callable[[Row, Path, list[str]], tuple[list[str], ForeignFit]]


def fit_batch(
    job: Job[P],
    program: str,
    record: str,
    fit_one: FitOne,
    draw: Callable[[Row, Path, ForeignFit], None],
    told: Mapping[str, str] | None = None,
) -> None:
    """Fit every exposure of the batch; one that cannot be fitted goes to failed.star, and the rest goes on.

    fit_one: of a row, an empty folder and a list to which it adds what the program says, the command line and the fit; draw: its figure.
    record: name of the file that tells program, version and arguments; told: what it tells besides, read when all is done. Raises InputError when none of several exposures can be fitted.
    """
    path = job.input("exposures", "exposures.star")
    table = read_table(path, "exposures")
    require_columns(table, NEEDS if len(table) else (), path)
    work = (job.folder / "work").absolute()
    fitted: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    commands: list[tuple[str, ...]] = []
    version = "unknown"
    for row in job.over(table.to_dict("records"), "exposures"):
        folder = work / str(row["exposure_id"])
        folder.mkdir(parents=True)
        said: list[str] = []
        try:
            command, fit = fit_one(row, folder, said)
        except ExposureError as error:
            failed.append(failed_row(row, error))
            job.warn(str(error))
            continue
        commands.append(tuple(command))
        version = version_said(program, said)
        fitted.append(row | fit_columns(fit))
        if len(fitted) <= job.params.plots:
            draw(row, folder, fit)
        shutil.rmtree(folder)
    shutil.rmtree(work, ignore_errors=True)
    if len(failed) > 1 and not fitted:
        raise InputError(f"none of {len(failed)} exposures could be fitted; the first: {failed[0]['reason']}")
    record_program(job.folder / record, program, list(dict.fromkeys(commands)), version=version, **(told or {}))
    write_table(job.folder / "exposures.star", pd.DataFrame(fitted, columns=None if fitted else table.columns), "exposures")
    write_failed(job.folder, failed)
    fits = pd.DataFrame(fitted)
    record_fits(job, fits, len(failed))
    if fitted:
        job.metric("median_ctf_score", float(fits["ctf_score"].median()))


def place_image(row: Row, folder: Path) -> None:
    """Lay the image to fit into a folder under a fixed name: a link, or a copy where not every program reads its kind of pixels.

    Raises ExposureError when it cannot be fitted.
    """
    image, path = read_image(row), fitted_path(row)
    plain = Path(path).suffix.lower() == ".mrc" and check_header(path)[0] in MODES
    if plain:
        (folder / IMAGE).symlink_to(Path(path).absolute())
    else:
        write_image(folder / IMAGE, image, float(row["micrograph_pixel_size"]))


def blamed(row: Row, error: InputError) -> ExposureError:
    """A failure of the program as the fault of an exposure."""
    return error if isinstance(error, ExposureError) else ExposureError("PROGRAM", f"{fitted_path(row)}: {error}")


def no_fit(said: Sequence[str]) -> InputError:
    """What to say of a program that did nothing and told of no error."""
    return InputError(
        f"the program ended without an error, but wrote no fit; its last line: {brief(said[-1] if said else 'it said nothing')}"
    )


def fit_columns(fit: ForeignFit) -> dict[str, float]:
    """What exposures.star says of a fit; the surface is flat."""
    return {
        "defocus_u": fit.defocus_u,
        "defocus_v": fit.defocus_v,
        "defocus_angle": fit.defocus_angle,
        "phase_shift": fit.phase_shift,
        "ctf_fit_resolution": fit.resolution,
        "ctf_score": fit.score,
        "astigmatism": fit.defocus_u - fit.defocus_v,
        **dict.fromkeys((*NAMES, "specimen_tilt", "tilt_axis"), 0.0),
    }


def figure_of(job: Job[P], row: Row, fit: ForeignFit) -> tuple[Path, str]:
    """(path of an exposure's figure, its title)."""
    name, mean = fitted_path(row).rsplit("/", 1)[-1], (fit.defocus_u + fit.defocus_v) / 2
    title = f"{name}: defocus {mean / 1e4:.3f} µm, astigmatism {fit.defocus_u - fit.defocus_v:.0f} Å at {fit.defocus_angle:.0f}°"
    title += f", phase shift {fit.phase_shift:.0f}°" if job.params.fit_phase_shift else ""
    return job.figure(f"ctf_{row['exposure_id']}", f"CTF of {name}", f"{title}; rings followed to {fit.resolution:.1f} Å."), title


def words(values: Sequence[Any]) -> list[str]:
    """Values as a program reads them: numbers without needless digits."""
    return [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
