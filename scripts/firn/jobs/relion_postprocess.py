"""Sharpen and measure a map with relion_postprocess, a program of the user's own, and read its results back."""

import shutil
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from firn.errors import InputError
from firn.families.outside import find_program, record_program, run_program
from firn.families.relion import RelionParams, merged, result_file
from firn.formats.fsc import read_fsc, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.star import read_star
from firn.formats.volumes import read_independent_halves, read_like
from firn.kernels.fsc import resolution_at
from firn.report.postprocess import draw_fsc
from firn.report.volumes import draw_slice_pairs, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import Kind, slot

PROGRAM = "relion_postprocess"


class Params(RelionParams):
    """FSC of half maps under a mask, corrected by phase randomisation, and a sharpened map, by `relion_postprocess`, installed apart."""

    stage: ClassVar[str] = "postprocess"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask for the FSC; none = the mask that lies with the map."""
    b_factor: float | None = Field(None, ge=-2000, le=2000)
    """Å². Negative sharpens; none = fitted by RELION."""
    guinier_from: float = Field(10.0, gt=0)
    """Å. Coarse end of the fit."""
    low_pass: float | None = Field(None, gt=0)
    """Å. Where the map is cut off, without weights of the FSC; none = weighted by the FSC and cut at the resolution."""
    mtf: str | None = None
    """STAR file with the detector's modulation transfer function."""
    mtf_pixel_size: float | None = Field(None, gt=0)
    """Å. Pixel size of the movies that the function is of; none = that of the map."""


def run(job: Job[Params]) -> None:
    """Run, read back, draw."""
    first, second, pixel_size = read_independent_halves(job.input("volume"))
    mask = _mask_path(job)
    outline = read_like(mask, first.shape[0], pixel_size)
    program = find_program(PROGRAM, job.params.executable)
    root = job.folder / "relion" / "postprocess"
    root.parent.mkdir()
    arguments = [program, *merged(options(job.params, job.input("volume"), mask, root, pixel_size), job.params.arguments)]
    record_program(job.folder / "relion.json", program, [arguments])
    run_program(arguments, Path())
    sharpened = read_like(result_file(Path(f"{root}.mrc"), PROGRAM), first.shape[0], pixel_size)
    masked = read_like(result_file(Path(f"{root}_masked.mrc"), PROGRAM), first.shape[0], pixel_size)
    for name, volume in (("map", sharpened), ("map_masked", masked), ("mask", outline)):
        write_volume(job.folder / f"{name}.mrc", volume, pixel_size)
    for name in ("half1.mrc", "half2.mrc"):
        shutil.copyfile(job.input("volume", name), job.folder / name)
    for suffix in (".mrc", "_masked.mrc"):
        Path(f"{root}{suffix}").unlink()
    _report_curves(job, result_file(Path(f"{root}.star"), PROGRAM), first.shape[0], pixel_size)
    caption = "Central slices before and after: sharpening should bring out detail inside the molecule, not grain outside it."
    names = ("mean of halves", "sharpened")
    draw_slice_pairs(job.figure("slices", "Before and after sharpening", caption), (first + second) / 2, sharpened, pixel_size, names)
    caption = "Surface of the sharpened map inside its mask, seen along the three axes."
    draw_surfaces(job.figure("surface", "Sharpened map", caption), sharpened * outline, surface_level(sharpened, outline))


def options(params: Params, volume: Path, mask: Path, root: Path, pixel_size: float) -> list[list[str]]:
    """Arguments of relion_postprocess."""
    files = {"--i": volume / "half1.mrc", "--i2": volume / "half2.mrc", "--o": root, "--mask": mask, "--angpix": f"{pixel_size:g}"}
    fitted = [["--auto_bfac"], ["--autob_lowres", f"{params.guinier_from:g}"]]
    sharpened = fitted if params.b_factor is None else [["--adhoc_bfac", f"{params.b_factor:g}"]]
    cut = [["--skip_fsc_weighting"], ["--low_pass", f"{params.low_pass:g}"]] if params.low_pass else []
    mtf = [["--mtf", params.mtf], ["--mtf_angpix", f"{params.mtf_pixel_size or pixel_size:g}"]] if params.mtf else []
    return [*[[name, str(value)] for name, value in files.items()], *sharpened, *cut, *mtf]


def _mask_path(job: Job[Params]) -> Path:
    path = job.input("mask", "mask.mrc") if job.has("mask") else job.input("volume", "mask.mrc")
    if not path.exists():
        raise InputError(f"job {job.name}: {job.input('volume')} has no mask.mrc; give mask")
    return path


def _report_curves(job: Job[Params], path: Path, n: int, pixel_size: float) -> None:
    """FSC curves and the numbers that RELION gives."""
    table, general = read_fsc(path), read_star(path)["general"].iloc[0]
    write_fsc(job.folder / "fsc.star", table)
    job.metric("resolution_corrected", float(general["rlnFinalResolution"]), "Å")
    if "rlnBfactorUsedForSharpening" in general:
        job.metric("b_factor", float(general["rlnBfactorUsedForSharpening"]), "Å²")
    named = [name for name in ("tight", "unmasked") if name in table.columns]
    resolutions = {name: resolution_at(torch.tensor(table[name].to_numpy()), 0.143, pixel_size, n) for name in named}
    for name, value in resolutions.items():
        job.metric(f"resolution_{name}", value, "Å")
    resolutions = {"corrected": float(general["rlnFinalResolution"])} | resolutions
    caption = "Agreement of the two half maps by resolution, as RELION measured it. The corrected curve is the one to quote, read at 0.143."
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), table, resolutions)
