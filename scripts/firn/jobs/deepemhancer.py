"""Sharpen a map with DeepEMhancer, a program of the user's own: a network makes it look like maps of models."""

import shutil
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from firn.errors import InputError
from firn.families.outside import find_program, record_program, run_program
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_halves, read_like
from firn.report.volumes import draw_slice_pairs, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

PROGRAM = "deepemhancer"
WORK = "deepemhancer"


class Params(JobParams):
    """Sharpen and mask a map by the neural network of `deepemhancer`, which is installed apart from this one.

    Its map is for looking and building, not for measuring: what a network made has no FSC. The half maps and the mask are handed on as they
    were.
    """

    stage: ClassVar[str] = "postprocess"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("volume",)
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask whose inside is protein, by which densities are normalised; none = the program normalises by itself, with the model below."""
    model: Literal["tightTarget", "wideTarget", "highRes"] = "tightTarget"
    """What it was taught to make: tight maps, wider ones with less contrast, or maps of better than 4 Å."""
    models: str | None = None
    """Folder of the models, where they lie elsewhere than the program expects them."""
    executable: str | None = None
    """Path of the program; by default the `deepemhancer` on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program."""


def run(job: Job[Params]) -> None:
    """Write map.mrc, and deepemhancer.json, which tells the program, its version and its arguments."""
    program = find_program(PROGRAM, job.params.executable)
    first, second, pixel_size = read_halves(job.input("volume"))
    work = job.folder / WORK
    for number, half in enumerate((first, second), start=1):
        write_volume(work / f"half{number}.mrc", half, pixel_size)
    if job.has("mask"):
        mask = read_like(job.input("mask", "mask.mrc"), first.shape[0], pixel_size)
        write_volume(work / "mask.mrc", (mask > 0.5).astype(np.float32), pixel_size)
    arguments = [program, *options(job, pixel_size)]
    record_program(job.folder / "deepemhancer.json", program, [arguments])
    run_program(arguments, work)
    if not (work / "out.mrc").exists():
        raise InputError(f"{PROGRAM} ended without writing its map; what it said is in the job's log")
    made = read_like(work / "out.mrc", first.shape[0], pixel_size)
    shutil.rmtree(work)
    write_volume(job.folder / "map.mrc", made, pixel_size)
    for name in ("half1.mrc", "half2.mrc", "mask.mrc"):
        if job.input("volume", name).exists():
            shutil.copyfile(job.input("volume", name), job.folder / name)
    _report(job, (first + second) / 2, made, pixel_size)


def options(job: Job[Params], pixel_size: float) -> list[str]:
    """Arguments of DeepEMhancer; -1 is its word for no GPU."""
    params = job.params
    device = str(job.device.index or 0) if job.device.type == "cuda" else "-1"
    files = ["-i", "half1.mrc", "-i2", "half2.mrc", "-o", "out.mrc", *(["-m", "mask.mrc"] if job.has("mask") else [])]
    models = ["--deepLearningModelPath", str(Path(params.models).absolute())] if params.models else []
    return [*files, "-s", f"{pixel_size:g}", "-p", params.model, "-g", device, *models, *params.arguments]


def _report(job: Job[Params], before: np.ndarray, after: np.ndarray, pixel_size: float) -> None:
    if not after.any():
        raise InputError(f"{PROGRAM} wrote an empty map; give it half maps that are neither masked nor sharpened")
    job.metric("volume_kept", float((after > 0).mean()))
    caption = "Central slices of the mean of the half maps, and of the map that the network made of them."
    names = ("mean of halves", "DeepEMhancer")
    draw_slice_pairs(job.figure("slices", "Before and after", caption), before, after, pixel_size, names)
    caption = "Surface of the map that the network made, seen along the three axes."
    draw_surfaces(job.figure("surface", "Map of DeepEMhancer", caption), after, surface_level(after, (after > 0).astype(np.float32)))
