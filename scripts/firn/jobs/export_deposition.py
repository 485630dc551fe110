"""Collect what a deposition of a map asks for in one folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError
from firn.formats.fsc import read_fsc, write_fsc_xml
from firn.formats.mrc import write_volume
from firn.formats.oscem import FinalMap, oscem_document, oscem_faults, write_oscem
from firn.formats.tables import read_table
from firn.formats.volumes import read_like, read_volume
from firn.kernels.fsc import resolution_at
from firn.report.postprocess import draw_fsc
from firn.report.volumes import draw_slices, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot
from firn.runtime.provenance import versions

CURVES = {"corrected": "fsc", "tight": "fsc_masked", "unmasked": "fsc_unmasked"}
"""Curves that are written as EMDB's XML, by the file's name; the first that there is is the one to upload."""
TITLES = {"corrected": "Masked FSC, corrected by phase randomisation", "tight": "Masked FSC", "unmasked": "Unmasked FSC"}


class Params(JobParams):
    """Make a folder of what the EMDB asks for: map, half maps, mask, FSC curves as EMDB's XML, and metadata as OSC-EM JSON.

    Maps are written anew with plain headers. What nobody measured, such as the name of the microscope, comes from the session's `about`.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"

    volume: str = slot("volume")
    """Map with its half maps, mask and FSC."""
    sharpened: str | None = slot("volume", optional=True)
    """Map to deposit as the primary one, such as the sharpened; default: the volume's own."""
    mask: str | None = slot("mask", optional=True)
    """Mask to deposit, in place of the volume's own."""
    exposures: str | None = slot("exposures", optional=True)
    """Exposures that the particles came from, for acquisition and CTF."""
    particles: str | None = slot("particles", optional=True)
    """Particles of the map; default: those in the volume's folder."""
    templates: str | None = slot("templates", optional=True)
    """2D classes to count."""
    about: dict[str, str | float | bool] = Field(default_factory=dict)
    """What the run folder cannot know: sample, source, microscope, electron_source, detector, date ... Added to the session's `about`."""


def run(job: Job[Params]) -> None:
    """Write the folder `deposition`."""
    folder = job.folder / "deposition"
    folder.mkdir()
    density, pixel_size = _write_maps(job, folder)
    resolutions = _write_curves(job, folder, len(density), pixel_size)
    found = next((resolutions[name] for name in CURVES if name in resolutions), None)
    final = FinalMap(len(density), found, _particle_count(job))
    _write_metadata(job, folder, final)
    facts = dict(_facts(job, density, pixel_size, final, resolutions))
    (folder / "summary.txt").write_text("".join(f"{name}: {value}\n" for name, value in facts.items()), encoding="utf-8")
    job.metric("files", len(list(folder.iterdir())))


def _write_maps(job: Job[Params], folder: Path) -> tuple[np.ndarray, float]:
    """The primary map and its pixel size."""
    primary = job.input("sharpened" if job.has("sharpened") else "volume", "map.mrc")
    density, pixel_size = read_volume(primary)
    if pixel_size <= 0:
        raise InputError(f"{primary}: names no pixel size, which a deposition needs")
    write_volume(folder / "map.mrc", density, pixel_size)
    mask = job.input("mask", "mask.mrc") if job.has("mask") else job.input("volume", "mask.mrc")
    for name, path in (("half1", job.input("volume", "half1.mrc")), ("half2", job.input("volume", "half2.mrc")), ("mask", mask)):
        if path.exists():
            write_volume(folder / f"{name}.mrc", read_like(path, len(density), pixel_size), pixel_size)
        else:
            job.warn(f"{path}: is not there, but the EMDB asks for {'a mask' if name == 'mask' else 'both half maps'}")
    draw_slices(job.figure("map", "Map to deposit", "Central slices of the primary map."), density, pixel_size)
    return density, pixel_size


def _write_curves(job: Job[Params], folder: Path, side: int, pixel_size: float) -> dict[str, float]:
    """Resolution (Å) at FSC 0.143 by curve."""
    path = job.input("volume", "fsc.star")
    if not path.exists():
        job.warn(f"{path}: is not there, so no FSC is handed on; run validate_fsc and give its volume")
        return {}
    table = read_fsc(path)
    found = {}
    for name, file in CURVES.items():
        if name in table.columns:
            write_fsc_xml(folder / f"{file}.xml", table["frequency"].to_numpy(), table[name].to_numpy(), TITLES[name])
            found[name] = resolution_at(torch.tensor(table[name].to_numpy(dtype=float)), 0.143, pixel_size, side)
            job.metric(f"resolution_{name}", found[name], "Å")
    if found:
        draw_fsc(job.figure("fsc", "Fourier shell correlation", "The curves that are handed on as XML."), table, found)
    return found


def _write_metadata(job: Job[Params], folder: Path, final: FinalMap) -> None:
    exposures = read_table(job.input("exposures", "exposures.star"), "exposures") if job.has("exposures") else pd.DataFrame()
    classes: list[int] = []
    if job.has("templates") and job.input("templates", "classes.star").exists():
        classes = [int(count) for count in read_table(job.input("templates", "classes.star"), "classes").get("class_count", [])]
    document = oscem_document(job.params.about, exposures, final, classes)
    write_oscem(folder / "oscem.json", document)
    faults = oscem_faults(document)
    job.metric("oscem_faults", len(faults))
    if faults:
        job.warn(f"oscem.json lacks what OSC-EM requires: {'; '.join(faults)}. Say it in `about`, and give exposures.")


def _facts(
    job: Job[Params], density: np.ndarray, pixel_size: float, final: FinalMap, resolutions: dict[str, float]
) -> Iterator[tuple[str, str]]:
    for name, value in job.params.about.items():
        yield name, str(value)
    yield "box", f"{final.side} px of {pixel_size:.4f} Å"
    yield "density", f"{density.min():.4g} to {density.max():.4g}, mean {density.mean():.4g}, sd {density.std():.4g}"
    yield "contour level to start from", f"{surface_level(density, _own_mask(job, len(density), pixel_size)):.4g}"
    for name, value in resolutions.items():
        yield f"resolution at FSC 0.143, {TITLES[name]}", f"{value:.2f} Å"
    if final.particles:
        yield "particles", str(final.particles)
    symmetry = next((str(settings["symmetry"]) for _, settings in _line(job.input("volume")) if "symmetry" in settings), None)
    if symmetry:
        yield "symmetry", symmetry
    yield "software", ", ".join(f"{name} {version}" for name, version in versions().items())


def _own_mask(job: Job[Params], side: int, pixel_size: float) -> np.ndarray | None:
    path = job.input("mask", "mask.mrc") if job.has("mask") else job.input("volume", "mask.mrc")
    return read_like(path, side, pixel_size) if path.exists() else None


def _particle_count(job: Job[Params]) -> int | None:
    own = [job.input("particles")] if job.has("particles") else [folder for folder, _ in _line(job.input("volume"))]
    path = next((folder / "particles.star" for folder in own if (folder / "particles.star").exists()), None)
    if path is None:
        return None
    count = len(read_table(path, "particles"))
    job.metric("particles", count)
    return count


def _line(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders and settings of the jobs that made a map, the last first, as far as each names the volume it came from."""
    while (folder / "job.json").exists():
        settings = json.loads((folder / "job.json").read_text(encoding="utf-8"))["settings"]
        yield folder, settings
        before = settings.get("volume")
        if not isinstance(before, str):
            return
        folder = Path("results") / before.partition(".")[0]
