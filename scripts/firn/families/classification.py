"""2D classification as jobs: the parameters, particle spectra read once, and what is left behind.

Convention: class averages are written in the particles' box and grey values, largest class first; particles that no average explains
are the last class, whose average is empty.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.aberrations import load_corrected, particle_optics
from firn.families.memory_needs import classification_2d_needs
from firn.formats.mrc import read_shape, write_stack
from firn.formats.particles import read_particles
from firn.formats.poses import read_shifts
from firn.formats.tables import image_names, split_image_names, write_table
from firn.kernels.fourier import frequencies2, irfft2, resize_images, rfft2, shift_phases
from firn.kernels.rotate2d import HalfDisc, half_disc
from firn.refine.class2d import turned_points
from firn.refine.class2d_average import resolved_shell, soft_circle
from firn.refine.class2d_start import WIDEST
from firn.refine.class2d_state import MARGIN, Assignment, Plan, State
from firn.report.classes import draw_convergence, draw_mosaic, draw_sizes
from firn.runtime.job import Job
from firn.runtime.memory_room import expect
from firn.runtime.params import JobParams, Kind, Lane, slot

FEWEST_PARTICLES = 20
FEWEST_PER_CLASS = 10
CACHE_BYTES = 4 * 2**30


class ClassificationParams(JobParams):
    """Parameters of every 2D classification."""

    stage: ClassVar[str] = "classify_2d"
    lane: ClassVar[Lane] = "reconstruct"
    gpu_gb: ClassVar[int | None] = 4
    offers: ClassVar[tuple[Kind, ...]] = ("particles", "templates")
    particles: str = slot("particles")
    """Particles to classify."""
    classes: int = Field(50, ge=1, le=1000)
    """Number of classes; lowered when there are fewer than ten particles per class."""
    max_resolution: float = Field(6.0, gt=0)
    """Å. Finest detail used in the alignment and kept in the averages."""
    first_resolution: float = Field(15.0, gt=0)
    """Å. Resolution at which particles are first sorted, and below which no average falls; 24 Fourier pixels if those are coarser."""
    min_resolution: float | None = Field(None, gt=0)
    """Å. Detail coarser than this is left out of the alignment (40-60 for proteins in micelles); none when empty."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Diameter of the circular mask, a little more than the particle's longest axis; 0.8 of the box when empty."""
    iterations: int = Field(20, ge=0)
    """Online iterations at most, each over a random batch of particles; they end once nothing improves any more."""
    batch_per_class: int = Field(100, ge=2)
    """Particles per class in the batch of one online iteration."""
    final_iterations: int = Field(2, ge=1)
    """Passes over all particles at the end; the last one makes the assignments and averages that are written."""
    shift_range: float | None = Field(None, ge=0)
    """Å. Largest distance of a particle from the centre of its box; 0.15 of the diameter when empty."""
    angular_step: float | None = Field(None, gt=0, le=30)
    """Degrees. Step of the fine in-plane search; from the diameter and the resolution when empty."""
    uncertainty: float = Field(1.0, ge=1)
    """Factor on the noise's standard deviation in the first iterations; above 1 early assignments stay soft."""
    anneal_start: int = Field(2, ge=0)
    """Iteration from which the uncertainty factor falls."""
    anneal_length: int = Field(15, ge=1)
    """Iterations over which the uncertainty factor falls to 1; shortened when there are fewer iterations."""
    recentre: bool = True
    """Move each average's centre of mass to the centre after every online iteration."""
    recentre_threshold: float = Field(0.2, ge=0, lt=1)
    """Fraction of an average's maximum above which density counts for its centre of mass."""
    force_max: bool = True
    """Let only the best pose of a particle in each class count; otherwise all poses by their probability."""
    frc_regulariser: bool = True
    """Filter the averages by their own half-set correlation; otherwise by a Wiener filter with their radial power as prior."""
    unexplained: bool = True
    """Gather particles that no average explains better than noise does in one class more, the last one, whose average stays empty."""
    zero_pad: int = Field(2, ge=1, le=4)
    """Factor by which references are padded before they are turned in Fourier space."""


P = TypeVar("P", bound=ClassificationParams)


@dataclass(frozen=True)
class Inputs:
    """What a classification works on."""

    table: pd.DataFrame
    particles: "ParticleDiscs"
    plan: Plan
    pixel_size: float


def read_inputs(job: Job[P]) -> Inputs:
    """Particles and plan; raises InputError in one sentence for what does not fit."""
    table = read_particles(job.input("particles", "particles.star"))
    box_px, pixel_size = _check(job, table)
    plan = _plan(job, len(table), box_px, pixel_size)
    expect(job, classification_2d_needs(len(table), len(plan.disc.points), turned_points(plan), plan.classes, box_px, CACHE_BYTES))
    particles = ParticleDiscs(table, plan.disc, box_px, pixel_size, plan.mask_radius_px, plan.mask_edge_px, job.device)
    return Inputs(table, particles, plan, pixel_size)


def write_results(job: Job[P], inputs: Inputs, state: State, assignment: Assignment) -> None:
    """particles.star, classes.star, classes.mrcs and the figures."""
    plan, pixel_size = inputs.plan, inputs.pixel_size
    order, classes = _class_table(job, plan, state, assignment, pixel_size)
    images = _full_size(plan, state)[order]
    write_stack(job.folder / "classes.mrcs", images, pixel_size)
    write_table(job.folder / "classes.star", classes, "classes")
    write_table(job.folder / "particles.star", _assigned(inputs.table, assignment, order, pixel_size), "particles")
    _report(job, plan, state, classes, images, pixel_size)


class ParticleDiscs:
    """Particle spectra read once and kept while they fit in memory; otherwise read again each time."""

    def __init__(
        self, table: pd.DataFrame, disc: HalfDisc, box_px: int, pixel_size: float, radius_px: float, edge_px: float, device: torch.device
    ):
        self.table, self.disc, self.box_px, self.pixel_size, self.device = table, disc, box_px, pixel_size, device
        self.mask = soft_circle(box_px, radius_px, edge_px, device)
        self.background = soft_circle(box_px, radius_px, 1.0, device) < 0.5
        self.half = torch.as_tensor(_halves(table), device=device)
        self.optics = particle_optics(table)
        fits = len(table) * len(disc.points) * 8 <= CACHE_BYTES
        self.cache = torch.zeros(len(table), len(disc.points), dtype=torch.complex64, device=device) if fits else None
        self.cached = torch.zeros(len(table), dtype=torch.bool, device=device)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(masked spectra divided by the box side, CTFs), each `(len(rows), points)`."""
        ctf = self.optics.at(rows.cpu(), self.disc.points, self.pixel_size, self.box_px)
        if self.cache is None:
            return self._load(rows), ctf
        missing = rows[~self.cached[rows]]
        if len(missing):
            self.cache[missing] = self._load(missing)
            self.cached[missing] = True
        return self.cache[rows], ctf

    def _load(self, rows: Tensor) -> Tensor:
        part = self.table.iloc[rows.cpu().numpy()]
        images = _normalised(_centred(load_corrected(part, self.device), part, self.pixel_size), self.background) * self.mask
        return rfft2(images).flatten(1)[:, self.disc.layout] / self.box_px


def _halves(table: pd.DataFrame) -> np.ndarray:
    """0 or 1 by particle: its half-set, or in turns where there are none, or one of them is too small to judge averages by."""
    if "half" in table.columns:
        halves = table["half"].to_numpy(np.int64) - 1
        if np.bincount(halves, minlength=2).min() >= FEWEST_PER_CLASS:
            return halves
    return np.arange(len(table), dtype=np.int64) % 2


def _centred(images: Tensor, table: pd.DataFrame, pixel_size: float) -> Tensor:
    origins = read_shifts(table, pixel_size)
    if not np.any(origins):
        return images
    shape = (images.shape[-2], images.shape[-1])
    phases = shift_phases(frequencies2(shape, images.device), torch.as_tensor(origins, dtype=torch.float32, device=images.device))
    return irfft2(rfft2(images) * phases, shape)


def _normalised(images: Tensor, background: Tensor) -> Tensor:
    outside = images[:, background]
    deviation, mean = torch.std_mean(outside, dim=-1)
    return (images - mean[:, None, None]) / deviation.clamp(min=1e-6)[:, None, None]


def _check(job: Job[P], table: pd.DataFrame) -> tuple[int, float]:
    where = job.input("particles", "particles.star")
    if len(table) < FEWEST_PARTICLES:
        raise InputError(f"{where}: has {len(table)} particles, but 2D classification needs at least {FEWEST_PARTICLES}")
    sizes = sorted({round(size, 4) for size in table["image_pixel_size"].astype(float)})
    if len(sizes) > 1:
        raise InputError(f"{where}: has images of pixel sizes {', '.join(f'{size:g}' for size in sizes)} Å; 2D classification needs one")
    shapes = {read_shape(stack)[0][1:] for stack in pd.unique(split_image_names(table["image"])[1])}
    if len(shapes) > 1 or any(y != x for y, x in shapes):
        raise InputError(f"{where}: has images of shapes {sorted(shapes)}; 2D classification needs square ones of one size")
    return shapes.pop()[0], sizes[0]


def _plan(job: Job[P], count: int, box_px: int, pixel_size: float) -> Plan:
    params, box = job.params, box_px * pixel_size
    classes = max(1, min(params.classes, count // FEWEST_PER_CLASS))
    if classes < params.classes:
        job.warn(f"{count} particles are too few for {params.classes} classes; {classes} are used")
    diameter = params.particle_diameter or 0.8 * box
    if diameter > box:
        job.warn(f"particle_diameter {diameter:g} Å is more than the box of {box:g} Å; the box is used")
        diameter = 0.95 * box
    widest = (box_px - 1) // 2
    finest = max(4, min(widest - MARGIN, int(box / params.max_resolution)))
    shift = 0.15 * diameter if params.shift_range is None else params.shift_range
    return Plan(
        disc=half_disc(box_px, min(finest + MARGIN, widest), job.device),
        box_px=box_px,
        finest=finest,
        classes=classes,
        iterations=params.iterations,
        final_iterations=params.final_iterations,
        batch_size=params.batch_per_class * classes,
        first_radius=min(max(3.0, box / params.first_resolution), finest, WIDEST),
        mask_radius_px=diameter / 2 / pixel_size,
        mask_edge_px=max(3.0, 0.06 * box_px),
        shift_reach_px=shift / pixel_size,
        angular_step=params.angular_step,
        least_radius=box / params.min_resolution if params.min_resolution else 0.0,
        uncertainty=params.uncertainty,
        anneal_start=params.anneal_start,
        anneal_length=min(params.anneal_length, max(1, int(0.8 * params.iterations) - params.anneal_start)),
        recentre=params.recentre,
        recentre_threshold=params.recentre_threshold,
        use_frc=params.frc_regulariser,
        force_max=params.force_max,
        pad=params.zero_pad,
        unexplained=params.unexplained,
    )


def _class_table(job: Job[P], plan: Plan, state: State, assignment: Assignment, pixel_size: float) -> tuple[np.ndarray, pd.DataFrame]:
    """(engine's numbers of the classes with particles, largest first and that of the unexplained last; their table)."""
    number = assignment.class_number.cpu().numpy()
    count = np.bincount(number, minlength=plan.classes + 1)
    order = np.append(np.argsort(-count[: plan.classes], kind="stable"), plan.classes)
    shells = np.append(resolved_shell(state.averages.frc[:, : plan.last_radius + 1]).cpu().numpy(), 0)
    means = {name: _class_means(getattr(assignment, name), number, count) for name in ("effective_classes", "gain")}
    order = order[count[order] > 0]
    columns = {
        "class_number": np.arange(1, len(order) + 1),
        "class_image": image_names(job.output_path("classes.mrcs"), len(order)),
        "class_count": count[order],
        "class_fraction": count[order] / len(number),
        "class_resolution": (plan.box_px * pixel_size / np.maximum(shells, 1))[order],
        "class_ess": means["effective_classes"][order],
        "class_gain": means["gain"][order],
        "diameter": 2 * plan.mask_radius_px * pixel_size,
    }
    return order, pd.DataFrame(columns)


def _class_means(values: Tensor, number: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.bincount(number, weights=values.cpu().numpy(), minlength=len(count)) / np.maximum(count, 1)


def _full_size(plan: Plan, state: State) -> np.ndarray:
    """Averages in the particles' grey values at the particles' box, and last the empty one of the unexplained."""
    images = state.averages.images * (plan.side**2 / plan.box_px)
    full = resize_images(images, (plan.box_px, plan.box_px)).cpu().numpy()
    return np.concatenate((full, np.zeros_like(full[:1])))


def _assigned(table: pd.DataFrame, assignment: Assignment, order: np.ndarray, pixel_size: float) -> pd.DataFrame:
    rank = np.zeros(order.max() + 1, dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    origins = read_shifts(table, 1.0) - assignment.shift.cpu().numpy() * pixel_size
    return table.assign(
        class_number=rank[assignment.class_number.cpu().numpy()],
        psi=_wrapped(assignment.angle.cpu().numpy()),
        origin_x=origins[:, 1],
        origin_y=origins[:, 0],
        class_probability=assignment.probability.cpu().numpy(),
    )


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180) % 360 - 180


def _report(job: Job[P], plan: Plan, state: State, classes: pd.DataFrame, images: np.ndarray, pixel_size: float) -> None:
    box = plan.box_px * pixel_size
    history = pd.DataFrame(state.steps)
    history = history.assign(searched=box / history["radius"], resolved=box / history["resolved_radius"].clip(lower=1))
    job.metric("particles", int(classes["class_count"].sum()))
    job.metric("best_resolution", classes["class_resolution"].min(), "Å")
    shown = images.any(axis=(-2, -1))
    told = classes[shown] if shown.any() else classes
    job.metric("classes", int(shown.sum()))
    job.metric("unexplained", int(classes.loc[~shown, "class_count"].sum()))
    job.metric("mean_resolution", np.average(told["class_resolution"], weights=told["class_count"]), "Å")
    job.metric("class_ess", np.average(classes["class_ess"], weights=classes["class_count"]))
    job.metric("changed", history["changed"].iloc[-1])
    caption = "Class averages by size: number, particles, resolution where the average's signal-to-noise ratio is one, effective classes."
    draw_mosaic(job.figure("classes", "2D classes", caption), images, classes, pixel_size)
    draw_sizes(job.figure("class_sizes", "Class sizes", "Particles per class and the classes' resolution."), classes)
    caption = (
        "Resolution used and reached, and how settled the assignments are, per iteration; from the dotted line on classes only settle."
    )
    draw_convergence(job.figure("convergence", "Convergence", caption), history)
