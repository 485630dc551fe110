"""Measure the FSC by direction with 3DFSC, a program of the user's own."""

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError
from firn.families.outside import find_program, record_program, run_program
from firn.formats.mrc import read_mrc, write_volume
from firn.formats.tables import write_table
from firn.formats.threedfsc import directions, read_directional, read_global, sphericity_said
from firn.formats.volumes import read_independent_halves, read_like, read_volume
from firn.kernels.fsc import resolution_at
from firn.report.orientation import SphereMap, draw_conical_fsc, draw_spheres
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot

PROGRAM = "ThreeDFSC_Start.py"
WORK, NAME = "threedfsc", "fsc3d"
RESULTS = f"Results_{NAME}"


class Params(JobParams):
    """FSC within cones about many directions, and the sphericity of where it is above a threshold, by `ThreeDFSC_Start.py`, installed apart.

    `orientation_diagnostics` measures the FSC by direction without another program.
    """

    stage: ClassVar[str] = "postprocess"
    lane: ClassVar[Lane] = "reconstruct"
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the half maps; none = the one that lies with the map, if any."""
    cone: float = Field(20.0, gt=0, le=90)
    """Degrees. Half-angle of the cones."""
    threshold: float = Field(0.143, gt=0, lt=1)
    """FSC at which the resolution of a direction is read."""
    sphericity_threshold: float = Field(0.5, gt=0, lt=1)
    """FSC whose surface the sphericity is of."""
    high_pass: float = Field(200.0, gt=0)
    """Å. Detail coarser than this is taken as resolved, since noise makes dips there."""
    executable: str | None = None
    """Path of the program; by default the `ThreeDFSC_Start.py` on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program."""


def run(job: Job[Params]) -> None:
    """Run in a folder of its own, read curves and sphericity, draw; threedfsc.json tells the program, its version and its arguments."""
    program = find_program(PROGRAM, job.params.executable)
    work, pixel_size = job.folder / WORK, _lay_out(job, job.folder / WORK)
    arguments = [program, *options(job, pixel_size, masked=(work / "mask.mrc").exists())]
    record_program(job.folder / "threedfsc.json", program, [arguments])
    said: list[str] = []
    run_program(arguments, work, heard=said.append)
    results = work / RESULTS
    curves = read_directional(_written(results / "histogram_raw.csv"))
    frequency, mean = read_global(_written(results / f"ResEM{NAME}OutglobalFSC.csv"), pixel_size)
    volume, _ = read_mrc(_written(results / f"{NAME}.mrc"))
    write_volume(job.folder / f"{NAME}.mrc", volume, pixel_size)
    side = volume.shape[0]
    shutil.rmtree(work)
    job.metric("sphericity", sphericity_said(said))
    below = np.flatnonzero(mean < job.params.threshold)
    job.metric("resolution_global", 1 / frequency[max(0, below[0] - 1) if len(below) else -1], "Å")
    _report(job, curves, side, pixel_size)


def options(job: Job[Params], pixel_size: float, masked: bool) -> list[str]:
    """Arguments of 3DFSC."""
    params = job.params
    maps = ["--halfmap1=half1.mrc", "--halfmap2=half2.mrc", "--fullmap=map.mrc", *(["--mask=mask.mrc"] if masked else [])]
    numbers = {
        "apix": pixel_size,
        "dthetaInDegrees": params.cone,
        "FSCCutoff": params.threshold,
        "ThresholdForSphericity": params.sphericity_threshold,
        "HighPassFilter": params.high_pass,
    }
    device = ["--gpu", f"--gpu_id={job.device.index or 0}"] if job.device.type == "cuda" else []
    return [*maps, f"--ThreeDFSC={NAME}", *[f"--{name}={value:g}" for name, value in numbers.items()], *device, *params.arguments]


def _lay_out(job: Job[Params], work: Path) -> float:
    """Write the maps into a folder, since 3DFSC writes beside them and hands their names to a shell; the pixel size in Å."""
    first, second, pixel_size = read_independent_halves(job.input("volume"))
    whole = job.input("volume", "map.mrc")
    maps = {"half1": first, "half2": second, "map": read_volume(whole)[0] if whole.exists() else (first + second) / 2}
    mask = job.input("mask", "mask.mrc") if job.has("mask") else job.input("volume", "mask.mrc")
    if mask.exists():
        maps["mask"] = read_like(mask, first.shape[0], pixel_size)
    for name, volume in maps.items():
        write_volume(work / f"{name}.mrc", volume, pixel_size)
    return pixel_size


def _written(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"3DFSC ended without writing {path.name}; what it said is in the job's log")
    return path


def _report(job: Job[Params], curves: np.ndarray, side: int, pixel_size: float) -> None:
    """Resolution of every direction as table and figures."""
    axes, shells = directions(), np.arange(curves.shape[1])
    reached = np.array([resolution_at(torch.tensor(curve), job.params.threshold, pixel_size, side) for curve in curves])
    job.metric("resolution_best_direction", reached.min(), "Å")
    job.metric("resolution_worst_direction", reached.max(), "Å")
    tilt, rot = np.degrees(np.arccos(axes[:, 0])), np.degrees(np.arctan2(axes[:, 1], axes[:, 2]))
    table = pd.DataFrame({"rot": rot, "tilt": tilt, "firnConicalResolution": reached, "firnConicalArea": curves.mean(1)})
    write_table(job.folder / "directions.star", table, "directions")
    caption = (
        f"FSC of the half maps within cones of {job.params.cone:g}° half-angle about {len(axes)} directions, as 3DFSC measured it. A narrow "
        f"band is isotropic, and so is a sphericity near 1; here it is {job.metrics['sphericity']['value']:.2f}."
    )
    figure = job.figure("conical_fsc", "FSC by direction", caption)
    draw_conical_fsc(figure, curves, shells / (side * pixel_size), reached, job.params.threshold)
    caption = "Resolution by direction in Fourier space. Directions along which it is coarse are measured by few views."
    maps = [SphereMap(reached, "resolution along a direction", "Å", "viridis_r")]
    draw_spheres(job.figure("spheres", "Resolution by direction", caption), axes, maps)
