"""Simulate a particle stack with known truth."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.formats.aberrations import MAGNIFICATION, coefficient_text
from firn.formats.ids import exposure_id, half_set, particle_id
from firn.formats.mrc import write_stack, write_volume
from firn.formats.tables import image_names, write_table
from firn.report.simulate import draw_gallery, draw_specimen
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane
from firn.simulate.aberrations import Aberrations, observed_defocus
from firn.simulate.ctf import Optics
from firn.simulate.particles import Poses, add_noise, draw_classes, draw_defocus, draw_poses, signal_images
from firn.simulate.specimen import Specimen, load_specimen, render


class Params(JobParams):
    """Particle images in random orientations with CTF and noise, and their truth; poses are left out of the particle table."""

    stage: ClassVar[str] = "simulate"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles", "truth")

    models: list[str] = Field(["phantom"], min_length=1)
    """PDB or mmCIF files, or `phantom`; several make a mixture, each phantom another molecule."""
    fractions: list[float] | None = None
    """Share of each model; default equal."""
    junk: float = Field(0, ge=0, lt=1)
    """Share of images without a particle: noise alone, or a blob."""
    phantom_radius: float = Field(60, gt=0)
    """Å. Radius of phantoms."""
    resolution: float = Field(6.0, gt=0)
    """Å. Finest detail of the molecules; two pixels if that is more."""
    particles: int = Field(1000, ge=1)
    """Number of images."""
    micrographs: int = Field(10, ge=1)
    """Number of micrographs that the particles are dealt to."""
    box_px: int = Field(64, ge=16, le=1024)
    """Side of an image."""
    pixel_size: float = Field(3.0, gt=0)
    """Å per pixel."""
    snr: float = Field(0.1, gt=0)
    """Power of the signal over that of the noise within the particle's circle."""
    noise_colour: float = Field(0, ge=0)
    """0 for white noise; 2 means three times stronger amplitudes below about 30 Å."""
    shift_sd: float = Field(3.0, ge=0)
    """Å. Standard deviation of the particles' offsets along x and y."""
    voltage_kv: float = Field(300, ge=60, le=1000)
    """kV. Acceleration voltage."""
    cs_mm: float = Field(2.7, ge=0)
    """mm. Spherical aberration."""
    amplitude_contrast: float = Field(0.1, ge=0, lt=1)
    """Fraction of amplitude contrast."""
    b_factor: float = Field(0, ge=0)
    """Å². Envelope exp(-B s² / 4)."""
    defocus_min: float = 8000
    """Å. Least mean underfocus of a micrograph."""
    defocus_max: float = 20000
    """Å. Greatest mean underfocus of a micrograph."""
    defocus_spread: float = Field(0, ge=0)
    """Å. Standard deviation of single particles' defocus around their micrograph's."""
    astigmatism: float = Field(200, ge=0)
    """Å. Standard deviation of defocus u - v."""
    beam_tilt: tuple[float, float] = (0.0, 0.0)
    """mrad. Tilt of the beam along x and y."""
    trefoil: tuple[float, float] = (0.0, 0.0)
    """Å and degrees. Strength of the threefold astigmatism, and its direction."""
    tetrafoil: tuple[float, float] = (0.0, 0.0)
    """Å and degrees. Strength of the fourfold astigmatism, and its direction."""
    magnification: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    """Matrix xx, xy, yx, yy that takes frequencies of the images to those of the particle; its inverse stretches the images."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.fractions is not None and (len(self.fractions) != len(self.models) or min(self.fractions) < 0 or sum(self.fractions) <= 0):
            raise ValueError(f"fractions must be {len(self.models)} numbers, one for each model")
        if self.defocus_min > self.defocus_max:
            raise ValueError(f"defocus_min {self.defocus_min} exceeds defocus_max {self.defocus_max}")
        return self


def run(job: Job[Params]) -> None:
    """Write particles.mrcs, particles.star without poses, and truth/: particles.star, model_<k>.mrc (model.mrc is the first)."""
    p = job.params
    seed = job.derived_seed("model") % 2**32
    finest = max(p.resolution, 2 * p.pixel_size)
    specimens = [load_specimen(model, finest, seed + number, p.phantom_radius) for number, model in enumerate(p.models)]
    _check_size(p, specimens)
    optics = Optics(p.voltage_kv, p.cs_mm, p.amplitude_contrast, p.pixel_size, p.b_factor, _aberrations(p))
    owner = np.sort(np.arange(p.particles) % p.micrographs)
    poses = _draw(job, owner)
    signal = signal_images(poses, specimens, p.box_px, optics, job.numpy_generator("junk"))
    images = add_noise(signal, p.snr, p.noise_colour, p.pixel_size, job.numpy_generator("noise"))
    write_stack(job.folder / "particles.mrcs", images, p.pixel_size)
    _write_tables(job, poses, owner)
    volumes = [render(specimen, p.box_px, p.pixel_size) for specimen in specimens]
    for number, volume in enumerate(volumes, start=1):
        write_volume(job.folder / "truth" / f"model_{number}.mrc", volume, p.pixel_size)
    write_volume(job.folder / "truth" / "model.mrc", volumes[0], p.pixel_size)
    _report(job, specimens, volumes, poses, signal, images)


def _check_size(p: Params, specimens: list[Specimen]) -> None:
    diameter = 2 * max(specimen.radius for specimen in specimens)
    if diameter > p.box_px * p.pixel_size:
        raise InputError(f"box_px: {p.box_px} pixels of {p.pixel_size:g} Å are less than the diameter of {diameter:.0f} Å")


def _aberrations(p: Params) -> Aberrations:
    return Aberrations(p.beam_tilt, p.trefoil, p.tetrafoil, p.magnification)


def _draw(job: Job[Params], owner: np.ndarray) -> Poses:
    p, generator = job.params, job.numpy_generator("poses")
    defocus = draw_defocus(p.micrographs, p.defocus_min, p.defocus_max, p.astigmatism, p.defocus_spread, owner, generator)
    classes = draw_classes(p.particles, p.fractions or [1.0] * len(p.models), p.junk, generator)
    return draw_poses(classes, p.shift_sd, defocus, generator)


def _write_tables(job: Job[Params], poses: Poses, owner: np.ndarray) -> None:
    p = job.params
    exposures = [f"{job.home}/simulated_{number + 1:04d}.mrc" for number in owner]
    identities = [particle_id(exposure_id(exposure), number) for number, exposure in enumerate(exposures, start=1)]
    table = pd.DataFrame({"image": image_names(job.output_path("particles.mrcs"), p.particles), "particle_id": identities})
    table = table.assign(exposure_id=[exposure_id(exposure) for exposure in exposures], batch="0001", micrograph=exposures)
    table = table.assign(x_px=0.0, y_px=0.0, half=[half_set(identity) for identity in identities])
    seen = observed_defocus(poses.defocus, _aberrations(p).matrix) if not _aberrations(p).evenly_magnified else poses.defocus
    table = table.assign(**_defocus_columns(seen))
    table = table.assign(phase_shift=0.0, voltage_kv=p.voltage_kv, cs_mm=p.cs_mm, amplitude_contrast=p.amplitude_contrast)
    table = table.assign(micrograph_pixel_size=p.pixel_size, image_pixel_size=p.pixel_size, box_px=p.box_px, dimensionality=2)
    write_table(job.folder / "particles.star", table.assign(origin_x=0.0, origin_y=0.0), "particles")
    truth = table.assign(**{name: poses.angles[:, i] for i, name in enumerate(("rot", "tilt", "psi"))})
    truth = truth.assign(**_defocus_columns(poses.defocus), **_aberration_columns(p))
    truth = truth.assign(origin_x=poses.origins[:, 0], origin_y=poses.origins[:, 1], class_number=poses.class_numbers)
    write_table(job.folder / "truth" / "particles.star", truth, "particles")


def _defocus_columns(defocus: np.ndarray) -> dict[str, np.ndarray]:
    return {name: defocus[:, i] for i, name in enumerate(("defocus_u", "defocus_v", "defocus_angle"))}


def _aberration_columns(p: Params) -> dict[str, float | str]:
    """What of the microscope a table's optics can say, in RELION's terms; nothing for a perfect one."""
    given = _aberrations(p)
    if given == Aberrations():
        return {}
    wavelength, numbers = Optics(p.voltage_kv).wavelength, {}
    for name, (strength, angle), fold, places in (("odd_zernike", p.trefoil, 3, (5, 2)), ("even_zernike", p.tetrafoil, 4, (8, 4))):
        peak = 2 * np.pi / fold * wavelength ** (fold - 1) * strength
        values = np.zeros(places[0] + 1)
        values[list(places)] = peak * np.cos(np.deg2rad(fold * angle)), peak * np.sin(np.deg2rad(fold * angle))
        numbers[name] = coefficient_text(values)
    tilt = {"beam_tilt_x": p.beam_tilt[0], "beam_tilt_y": p.beam_tilt[1]}
    return tilt | numbers | dict(zip(MAGNIFICATION, p.magnification, strict=True))


def _report(
    job: Job[Params], specimens: list[Specimen], volumes: list[np.ndarray], poses: Poses, signal: np.ndarray, images: np.ndarray
) -> None:
    p = job.params
    job.metric("particles", p.particles)
    job.metric("junk", int(np.sum(poses.class_numbers > len(p.models))))
    job.metric("diameter", 2 * max(specimen.radius for specimen in specimens), "Å")
    for number, volume in enumerate(volumes, start=1):
        caption = f"Slice and projections of model {number} along x, y and z."
        draw_specimen(job.figure(f"model_{number}", f"Model {number}", caption), volume, p.pixel_size)
    chosen = np.linspace(0, p.particles - 1, min(8, p.particles)).astype(int)
    shown = np.concatenate((signal[chosen], images[chosen]))
    numbers = poses.class_numbers[chosen]
    titles = [f"class {number}" if number <= len(p.models) else "junk" for number in numbers] + [""] * len(chosen)
    caption = f"Eight particles without noise (above) and as they are in the stack (below, signal-to-noise {p.snr:g})."
    draw_gallery(job.figure("particles", "Simulated particles", caption), shown, p.pixel_size, titles)
