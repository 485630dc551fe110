"""Give picks or particles the CTF of their place, from the defocus surfaces of their exposures."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import model_validator

from firn.formats.tables import read_table, require_columns, write_table
from firn.preprocess.local_ctf import local_ctf
from firn.report.ctf import draw_local_defocus
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEEDS = ("exposure_id", "width_px", "height_px", "defocus_u", "defocus_v", "defocus_angle")
OPTICS = ("voltage_kv", "cs_mm", "amplitude_contrast")


class Params(JobParams):
    """Evaluate the defocus surfaces of exposures at picks or particles; what they carried of a CTF is replaced."""

    stage: ClassVar[str] = "ctf"
    lane: ClassVar[Lane] = "cpu"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("picks", "particles")

    exposures: str = slot("exposures")
    """Exposures with CTF."""
    picks: str | None = slot("picks", optional=True)
    """Picks to complete."""
    particles: str | None = slot("particles", optional=True)
    """Particles to complete, instead of picks; their refined centres count."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if (self.picks is None) == (self.particles is None):
            raise ValueError("give either picks or particles to ctf_at_picks")
        return self


def run(job: Job[Params]) -> None:
    """Write picks.star or particles.star with local defocus, those of this batch's exposures."""
    kind = "particles" if job.has("particles") else "picks"
    path = job.input("exposures", "exposures.star")
    exposures = read_table(path, "exposures")
    require_columns(exposures, NEEDS if len(exposures) else (), path)
    source = job.input(kind, f"{kind}.star")
    table = read_table(source, kind)
    require_columns(table, ("exposure_id", "x_px", "y_px") if len(table) else (), source)
    done = [
        _completed(table[table["exposure_id"] == row["exposure_id"]], row)
        for row in job.over(exposures.to_dict("records"), "exposures")
        if len(table)
    ]
    local = pd.concat(done, ignore_index=True) if done else table.iloc[:0]
    write_table(job.folder / f"{kind}.star", local, kind)
    job.metric(kind, len(local))
    if kind == "picks" and len(local) < len(table):
        job.warn(f"{len(table) - len(local)} picks are left out, since their exposures are not among those given")
    if len(local):
        _report(job, local)


def _completed(rows: pd.DataFrame, exposure: Mapping[Any, Any]) -> pd.DataFrame:
    """The rows of one exposure with its CTF at their true centres (coordinate - origin / pixel size) and its optics."""
    places = rows[["x_px", "y_px"]].to_numpy(dtype=np.float64)
    if "origin_x" in rows.columns:
        places = places - rows[["origin_x", "origin_y"]].to_numpy(dtype=np.float64) / float(exposure["micrograph_pixel_size"])
    optics = {name: exposure[name] for name in OPTICS if name in exposure}
    columns = local_ctf(exposure, places[:, 0], places[:, 1], int(exposure["width_px"]), int(exposure["height_px"]))
    return rows.assign(**columns, **optics)


def _report(job: Job[Params], local: pd.DataFrame) -> None:
    mean = (local["defocus_u"] + local["defocus_v"]) / 2
    within = mean - mean.groupby(local["exposure_id"]).transform("mean")
    job.metric("defocus_spread_within", float(within.std(ddof=0)), "Å")
    name = local["exposure_id"].iloc[int(within.abs().argmax())]
    chosen = local["exposure_id"] == name
    caption = "The exposure whose defocus varies most, by place. Colours: local defocus."
    path = job.figure("local_defocus", f"Local defocus in exposure {name}", caption)
    draw_local_defocus(path, local.loc[chosen, "x_px"].to_numpy(), local.loc[chosen, "y_px"].to_numpy(), mean[chosen].to_numpy())
