"""Simulate movies of particles in ice with known truth."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.formats.mrc import write_image, write_volume
from firn.formats.tables import write_table
from firn.report.simulate import draw_drift, draw_movie, draw_specimen
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane
from firn.simulate.ctf import Optics
from firn.simulate.detector import Detector, count_electrons, gain_reference, random_detector
from firn.simulate.movie import Exposure
from firn.simulate.session import Plan, Shot, plan_shot, shoot, shot_kinds
from firn.simulate.specimen import Specimen, load_specimen, render
from firn.simulate.truth import exposure_row, particle_rows, write_motion
from firn.simulate.write_movie import truncate_file, write_movie


class Params(JobParams):
    """Movies of particles in ice, with motion, damage, gain, defects and dirt, counted electron by electron, and their truth."""

    stage: ClassVar[str] = "simulate"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("movies", "truth")

    model: str = "phantom"
    """PDB or mmCIF file (may be gzipped; its biological assembly is used), or `phantom` for a made-up molecule without symmetry."""
    phantom_radius: float = Field(60, gt=0)
    """Å. Radius of the phantom."""
    resolution: float = Field(4.0, gt=0)
    """Å. Finest detail of the molecule; two pixels if that is more."""
    movies: int = Field(10, ge=1)
    """Number of movies, bad ones included."""
    empty: int = Field(0, ge=0)
    """Number of movies without particles."""
    dirty: int = Field(1, ge=0)
    """Number of movies with ice crystals or a carbon edge."""
    drifted: int = Field(0, ge=0)
    """Number of movies ruined by drift."""
    truncated: int = Field(0, ge=0)
    """Number of movie files that break off."""
    particles_per_movie: int = Field(80, ge=0)
    """Most particles in a movie; fewer when no more fit."""
    spacing: float = Field(0.85, gt=0)
    """Least distance between particle centres, as a multiple of the largest diameter."""
    size_px: int = Field(1024, ge=32, le=16384)
    """Width and height of a frame."""
    frames: int = Field(20, ge=1)
    """Frames of a movie."""
    pixel_size: float = Field(1.5, gt=0)
    """Å per pixel."""
    voltage_kv: float = Field(300, ge=60, le=1000)
    """kV. Acceleration voltage."""
    cs_mm: float = Field(2.7, ge=0)
    """mm. Spherical aberration."""
    amplitude_contrast: float = Field(0.1, ge=0, lt=1)
    """Fraction of amplitude contrast."""
    b_factor: float = Field(60, ge=0)
    """Å². Envelope exp(-B s² / 4) of microscope and detector."""
    dose_per_frame: float = Field(2.0, gt=0)
    """e/Å². Dose of one frame."""
    pre_exposure: float = Field(0.0, ge=0)
    """e/Å². Dose before the first frame."""
    defocus_min: float = 8000
    """Å. Least mean underfocus."""
    defocus_max: float = 20000
    """Å. Greatest mean underfocus."""
    astigmatism: float = Field(200, ge=0)
    """Å. Standard deviation of defocus u - v."""
    tilt: float = Field(3, ge=0, le=70)
    """Degrees. Greatest tilt of the specimen, about a random axis."""
    tilt_min: float = Field(0, ge=0, le=70)
    """Degrees. Least tilt of the specimen."""
    drift_px: float = Field(6, ge=0)
    """Length of the drift of a movie, most of it early."""
    local_motion_px: float = Field(2, ge=0)
    """Greatest displacement of a part of the image against the whole."""
    ice_thickness: float = Field(300, ge=0)
    """Å. Thickness of the ice."""
    ice_noise: float = Field(1.0, ge=0)
    """Grain of the ice, 1 for that of water."""
    gain_sd: float = Field(0.04, ge=0, le=0.3)
    """Standard deviation of the detector's gain."""
    dead_pixels: int = Field(20, ge=0)
    """Pixels that read 0 and are 0 in the gain reference."""
    hot_pixels: int = Field(10, ge=0)
    """Pixels that count far too much, unknown to the gain reference."""
    format: Literal["tif", "eer", "mrc"] = "tif"
    """File format of the movies; EER is for small frames."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.empty + self.dirty + self.drifted + self.truncated > self.movies:
            raise ValueError(f"empty + dirty + drifted + truncated exceed the {self.movies} movies")
        if self.tilt_min > self.tilt:
            raise ValueError(f"tilt_min {self.tilt_min} exceeds tilt {self.tilt}")
        if self.defocus_min > self.defocus_max:
            raise ValueError(f"defocus_min {self.defocus_min} exceeds defocus_max {self.defocus_max}")
        return self


def run(job: Job[Params]) -> None:
    """Write movies/, gain.mrc, movies.star and truth/: particles.star, exposures.star, motion/, model.mrc."""
    p = job.params
    specimen = load_specimen(p.model, max(p.resolution, 2 * p.pixel_size), job.derived_seed("model") % 2**32, p.phantom_radius)
    plan = make_plan(p, specimen)
    detector = random_detector(p.size_px, p.size_px, p.gain_sd, p.dead_pixels, p.hot_pixels, job.numpy_generator("detector"))
    kinds = shot_kinds(p.movies, p.empty, p.dirty, p.drifted, p.truncated, job.numpy_generator("kinds"))
    total = np.zeros((p.size_px, p.size_px), dtype=np.float32)
    shots = {}
    for number, kind in enumerate(job.over(kinds, "movies"), start=1):
        shown = total if kind == "good" and not total.any() else np.zeros_like(total)
        shots[f"sim_{number:04d}"] = _simulate(job, plan, specimen, detector, kind, f"sim_{number:04d}", shown)
    _write_gain(job, detector)
    _write_tables(job, shots)
    volume = _write_model(job, specimen)
    _report(job, shots, specimen, total * gain_reference(detector), volume)


def make_plan(p: Params, specimen: Specimen) -> Plan:
    """What the exposures share, from the parameters."""
    return Plan(
        optics=Optics(p.voltage_kv, p.cs_mm, p.amplitude_contrast, p.pixel_size, p.b_factor),
        exposure=Exposure(p.frames, p.dose_per_frame, p.pre_exposure, p.voltage_kv, p.pixel_size),
        height=p.size_px,
        width=p.size_px,
        particles=p.particles_per_movie,
        spacing=p.spacing * 2 * specimen.radius,
        resolution=p.resolution,
        defocus=(p.defocus_min, p.defocus_max),
        astigmatism=p.astigmatism,
        tilt=p.tilt,
        ice_thickness=p.ice_thickness,
        ice_noise=p.ice_noise,
        drift_px=p.drift_px,
        local_px=p.local_motion_px,
        least_tilt=p.tilt_min,
    )


def _simulate(job: Job[Params], plan: Plan, specimen: Specimen, detector: Detector, kind: str, name: str, sum_: np.ndarray) -> Shot:
    shot = plan_shot(plan, kind, [specimen], [1.0], job.numpy_generator(f"plan {name}"))
    generator = job.numpy_generator(f"frames {name}")
    frames = _count(shoot(plan, shot, [specimen], generator), detector, generator, sum_)
    path = job.folder / "movies" / f"{name}.{job.params.format}"
    write_movie(path, frames, job.params.pixel_size, generator)
    if kind == "truncated":
        truncate_file(path)
    write_motion(job.folder / "truth" / "motion" / f"{name}.star", shot.motion)
    return shot


def _count(expected: Iterable[np.ndarray], detector: Detector, generator: np.random.Generator, sum_: np.ndarray) -> Iterator[np.ndarray]:
    """Counted frames, added up in sum_ on their way."""
    for frame in expected:
        counts = count_electrons(frame, detector, generator)
        sum_ += counts
        yield counts


def _write_gain(job: Job[Params], detector: Detector) -> None:
    """As import_movies takes it: an EER gain not named .gain divides."""
    gain = gain_reference(detector)
    if job.params.format == "eer":
        gain = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    write_image(job.folder / "gain.mrc", gain, job.params.pixel_size)


def _write_tables(job: Job[Params], shots: dict[str, Shot]) -> None:
    p = job.params
    movies = {name: job.output_path(f"movies/{name}.{p.format}") for name in shots}
    optics = {
        "voltage_kv": p.voltage_kv,
        "cs_mm": p.cs_mm,
        "amplitude_contrast": p.amplitude_contrast,
        "movie_pixel_size": p.pixel_size,
        "micrograph_pixel_size": p.pixel_size,
    }
    shared = {"gain": job.output_path("gain.mrc"), "frames": p.frames, "dose_per_frame": p.dose_per_frame, "pre_exposure": p.pre_exposure}
    write_table(job.folder / "movies.star", pd.DataFrame({"movie": list(movies.values())}).assign(**shared, **optics), "movies")
    particles = pd.concat([particle_rows(movies[name], shot) for name, shot in shots.items()], ignore_index=True)
    write_table(job.folder / "truth" / "particles.star", particles.assign(**optics), "particles")
    rows = [exposure_row(movies[name], shot, job.output_path(f"truth/motion/{name}.star")) for name, shot in shots.items()]
    write_table(job.folder / "truth" / "exposures.star", pd.DataFrame(rows).assign(**optics), "exposures")


def _write_model(job: Job[Params], specimen: Specimen) -> np.ndarray:
    pixel_size = job.params.pixel_size
    box = 2 * int(np.ceil(1.25 * specimen.radius / pixel_size + 4))
    volume = render(specimen, box, pixel_size)
    write_volume(job.folder / "truth" / "model.mrc", volume, pixel_size)
    return volume


def _report(job: Job[Params], shots: dict[str, Shot], specimen: Specimen, total: np.ndarray, volume: np.ndarray) -> None:
    pixel_size = job.params.pixel_size
    job.metric("movies", len(shots))
    job.metric("particles", sum(len(shot.scene.centres) for shot in shots.values()))
    job.metric("diameter", 2 * specimen.radius, "Å")
    job.metric("total_dose", job.params.frames * job.params.dose_per_frame, "e/Å²")
    draw_specimen(job.figure("model", "The model", "Slice and projections of the model along x, y and z."), volume, pixel_size)
    caption = "Path of the specimen in each movie since its first frame, without local motion."
    draw_drift(job.figure("drift", "Drift", caption), {name: shot.motion.trajectory for name, shot in shots.items()})
    name, shot = next(((name, shot) for name, shot in shots.items() if shot.kind == "good"), (None, None))
    if shot is not None:
        caption = f"Sum of the frames of {name}, corrected for gain but not for motion, and the same smoothed with the true positions."
        draw_movie(job.figure("movie", "A simulated movie", caption), total, shot.scene.centres, specimen.radius, pixel_size)
