"""Pick particles with Topaz, a program of the user's own: its model scores every place of the micrographs of a batch."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError, brief
from firn.families.micrographs import each_micrograph, read_exposures
from firn.families.outside import find_program, run_program, version_of
from firn.formats.exposures import PICK_COLUMNS, join_tables, picks_table, write_failed
from firn.formats.foreign_picks import read_foreign_picks
from firn.formats.tables import write_table
from firn.report.picks import draw_decisions
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

HEADER = "image_name\tx_coord\ty_coord"
WORK = "topaz"
"""Folder, deleted afterwards, of links to micrographs under the exposures' ids, which are unlike each other, and of what Topaz writes."""


class Params(JobParams):
    """Find particles with a neural network, by the program `topaz`, which is installed apart from this one.

    The micrographs of a batch are made smaller and normalised together by `topaz preprocess`; `topaz extract` scores them with the model and
    keeps places that score best within a particle's radius. The scores are log-likelihood ratios.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures to pick in."""
    diameter: float = Field(gt=0)
    """Å. Diameter of a particle; picks are at least half of it apart."""
    model: str = "resnet16"
    """File of a trained model, or the name of one that comes with Topaz."""
    downsampling: int = Field(8, ge=1, le=64)
    """Factor by which micrographs are made smaller first: the one that the model was trained with."""
    threshold: float = 0.0
    """Smallest score of a pick; 0: as likely a particle as not, lower ones find more."""
    executable: str | None = None
    """Path of the program; by default the `topaz` on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `topaz extract`, such as `--dims=2`, which some versions need and others do not know."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their picks, per batch."""


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, and topaz.json, which tells the program, its version and its arguments."""
    program = find_program("topaz", job.params.executable)
    exposures = read_exposures(job)
    work = (job.folder / WORK).absolute()
    work.mkdir()
    failed: list[dict[str, str]] = []
    rows, shown = _linked(job, exposures, work, failed)
    found = _found(job, program, rows, work) if rows else pd.DataFrame({name: [] for name in ("name", "x", "y", "score")})
    shutil.rmtree(work)
    tables = {str(row["exposure_id"]): _table(found, row, job.params.diameter) for row in rows}
    write_table(job.folder / "picks.star", join_tables(list(tables.values()), PICK_COLUMNS), "picks")
    write_failed(job.folder, failed)
    _report(job, tables, shown, rows)


def preprocess_arguments(program: str, images: Sequence[Path], downsampling: int, folder: Path) -> list[str]:
    """Arguments that make micrographs smaller and normalise them, into a folder."""
    return [program, "preprocess", f"--scale={downsampling}", f"--destdir={folder}", *map(str, images)]


def extract_arguments(
    program: str, images: Sequence[Path], params: Params, pixel_size: float, device: torch.device, threads: int
) -> list[str]:
    """Arguments that score the smaller micrographs and print picks in pixels of the whole ones; pixel_size (Å) is of those."""
    radius = max(1, round(params.diameter / 2 / (pixel_size * params.downsampling)))
    number = (device.index or 0) if device.type == "cuda" else -1
    where = [f"--device={number}", f"--num-threads={threads}", f"--num-workers={threads}"]
    options = [f"--model={params.model}", f"--radius={radius}", f"--threshold={params.threshold:g}", f"--up-scale={params.downsampling}"]
    return [program, "extract", *options, *where, *params.arguments, *map(str, images)]


def _linked(
    job: Job[Params], exposures: pd.DataFrame, work: Path, failed_: list[dict[str, str]]
) -> tuple[list[dict[Any, Any]], list[np.ndarray]]:
    """(rows of exposures that can be read, the first micrographs to draw); a link to each lies in the folder."""
    rows: list[dict[Any, Any]] = []
    shown: list[np.ndarray] = []
    for row, micrograph in each_micrograph(job, exposures, failed_):
        (work / f"{row['exposure_id']}.mrc").symlink_to(Path(str(row["micrograph"])).absolute())
        rows.append(row)
        if len(shown) < job.params.plots:
            shown.append(micrograph)
    return rows, shown


def _found(job: Job[Params], program: str, rows: Sequence[dict[Any, Any]], work: Path) -> pd.DataFrame:
    """What Topaz found in all micrographs: name (the exposure's id), x, y in pixels, score."""
    sizes = {float(row["micrograph_pixel_size"]) for row in rows}
    if len(sizes) > 1:
        raise InputError(f"job {job.name}: its micrographs have several pixel sizes ({min(sizes):g} to {max(sizes):g} Å); Topaz takes one")
    model = Path(job.params.model)
    params = job.params.model_copy(update={"model": str(model.absolute())}) if model.is_file() else job.params
    names, said = [str(row["exposure_id"]) for row in rows], work / "said.txt"
    prepare = preprocess_arguments(program, [work / f"{name}.mrc" for name in names], params.downsampling, work / "small")
    small = [work / "small" / f"{name}.tiff" for name in names]
    extract = extract_arguments(program, small, params, sizes.pop(), job.device, job.threads)
    record = {"program": program, "version": version_of(program), "arguments": [prepare[1:], extract[1:]]}
    (job.folder / "topaz.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    run_program(prepare, work)
    run_program(extract, work, said)
    found = read_foreign_picks(_printed_table(said))
    strange = next((name for name in found["name"] if name not in names), None)
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


def _table(found: pd.DataFrame, row: dict[Any, Any], diameter: float) -> pd.DataFrame:
    mine = found[found["name"] == row["exposure_id"]]
    places = {"x_px": mine["x"].to_numpy(), "y_px": mine["y"].to_numpy(), "pick_score": mine["score"].to_numpy()}
    return picks_table(row, places | {"diameter": np.full(len(mine), diameter)})


def _report(job: Job[Params], tables: dict[str, pd.DataFrame], shown: Sequence[np.ndarray], rows: Sequence[dict[Any, Any]]) -> None:
    count = sum(map(len, tables.values()))
    job.metric("exposures", len(rows))
    job.metric("picks", count)
    job.metric("picks per exposure", count / max(len(rows), 1))
    for row, micrograph in zip(rows, shown, strict=False):
        name = str(row["exposure_id"])
        path = job.figure(f"picks_{name}", f"Picks of Topaz in {name}", "All picks that score as much as the threshold.")
        draw_decisions(path, [(name, micrograph, tables[name].assign(kept=True))], float(row["micrograph_pixel_size"]))
