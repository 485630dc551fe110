"""Sort particles into 3D classes without changing their poses."""

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.families.memory_needs import classification_3d_needs
from firn.families.posed_particles import given_poses, load_posed, read_posed
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.particles import common_box
from firn.formats.tables import write_table
from firn.formats.volumes import read_volume
from firn.kernels.box import crop_or_pad
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import fast_size, resize_volumes
from firn.kernels.fsc import resolution_at
from firn.kernels.grid import FourierDisc, fourier_disc
from firn.refine.given_poses import GivenPoses, centred_spectra
from firn.refine.posed_classes import PosedClasses, Step
from firn.refine.posed_disc import DiscImages, MapPair, PosedDisc
from firn.refine.posed_support import Support, held_out_gains, supported
from firn.refine.state import on_disc
from firn.refine.validation import MASK_RESOLUTION, molecule_mask
from firn.report.ab_initio import draw_volumes
from firn.report.classes_3d import draw_class_fsc, draw_coordinates, draw_course, draw_differences, draw_support
from firn.runtime.job import Job
from firn.runtime.memory_room import expect
from firn.runtime.params import JobParams, Kind, Lane, slot

BATCH = 256
FEWEST_PER_CLASS = 50
SMALL_CLASS = 0.01


class Params(JobParams):
    """Find classes among particles in fixed poses: first along the components in which they differ most, then by expectation-maximisation.

    Classes are numbered by size. Each particle is judged by maps made from the other half-set. How many classes are there is asked of
    classes made from one half-set alone, which must predict the other half-set's images better than one map does.
    """

    revision: ClassVar[int] = 2
    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"class_*": ("volume", "particles", "mask")}
    best_group: ClassVar[str | None] = "class_1"
    particles: str = slot("particles")
    """Particles with poses."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the molecule; none = made from the map of all particles."""
    focus: str | None = slot("mask", optional=True)
    """Mask of the part in which classes may differ; none = everywhere."""
    volumes: str | list[str] | None = slot("volume", optional=True, many=True)
    """Maps to start from, one for each class; none = start from the components."""
    classes: int = Field(2, ge=2, le=50)
    """Number of classes."""
    resolution: float = Field(gt=0)
    """Å. Finest detail that classes are told apart by; the maps are made up to it."""
    initial_resolution: float = Field(20.0, gt=0)
    """Å. Detail used for the components and the first iteration."""
    iterations: int = Field(25, ge=1)
    """Largest number of iterations; fewer when hardly a particle changes its class."""
    hard: bool = False
    """Put each particle wholly into its likeliest class, instead of sharing it."""
    held_out: bool = True
    """Also sort each half-set alone, to tell how many classes predict particles that had no part in them; twice the time."""
    mask_threshold: float | None = Field(None, gt=0, lt=1)
    """Density, as a part of the largest, of the edge of a mask made here; none = just above the solvent, so that rare parts are inside."""
    mask_near: float = Field(10.0, ge=0)
    """Å from the density where a mask made here starts to fall."""
    mask_far: float = Field(20.0, gt=0)
    """Å from the density where a mask made here ends."""


def run(job: Job[Params]) -> None:
    """Read the images once, find first classes, iterate, write."""
    table = read_posed(job.input("particles", "particles.star"))
    side, pixel_size = common_box(table)
    classes, radius = _classes(job, len(table)), _radius(job, side, pixel_size)
    work = min(fast_size(2 * math.ceil(radius) + 4), side)
    first = min(radius, max(4.0, side * pixel_size / job.params.initial_resolution))
    expect(job, classification_3d_needs(len(table), radius, first, classes, work, side))
    disc = fourier_disc(side, radius, job.device)
    data = _read(job, given_poses(table, pixel_size), table, disc)
    posed = PosedDisc(data, disc, work, lambda rows, step: job.over(rows, step))
    scale = pixel_size * side / work
    engine = PosedClasses(posed, _mask_maker(job, side, work, pixel_size), _given_mask(job, "focus", side, work, pixel_size))
    steps, coordinates = _iterate(job, engine, first, scale)
    order = torch.argsort(engine.shares.sum(0), descending=True, stable=True)
    maps = engine.final_maps()
    shares = engine.shares[:, order].numpy()
    posed_table = table.assign(class_number=shares.argmax(1) + 1, class_probability=shares.max(1))
    write_table(job.folder / "particles.star", posed_table, "particles")
    chosen = [maps[int(number)] for number in order]
    for number, one in enumerate(chosen, start=1):
        write_table(job.folder / f"class_{number}" / "particles.star", posed_table[shares.argmax(1) == number - 1], "particles")
        _write_maps(job, number, one, engine.mask, side, pixel_size)
    _report(job, chosen, engine, shares, scale)
    _draw_course(job, steps, order, coordinates, shares, side * pixel_size)
    if job.params.held_out:
        _tell_support(job, _support(job, engine, first), classes)


def _classes(job: Job[Params], count: int) -> int:
    """Number of classes, for which there are particles enough."""
    classes = len(job.inputs["volumes"]) if job.has("volumes") else job.params.classes
    if count < FEWEST_PER_CLASS * classes:
        raise InputError(f"job {job.name}: {count} particles are too few for {classes} classes; each needs {FEWEST_PER_CLASS}")
    return classes


def _radius(job: Job[Params], side: int, pixel_size: float) -> float:
    """Fourier radius of the finest detail, in units of 1/side."""
    p = job.params
    if p.resolution < 2 * pixel_size:
        raise InputError(f"job {job.name}: resolution {p.resolution:g} Å is finer than two pixels ({2 * pixel_size:g} Å)")
    if p.initial_resolution < p.resolution:
        raise InputError(f"job {job.name}: initial_resolution {p.initial_resolution:g} Å is finer than resolution {p.resolution:g} Å")
    return min((side - 1) / 2, side * pixel_size / p.resolution)


def _read(job: Job[Params], poses: GivenPoses, table: pd.DataFrame, disc: FourierDisc) -> DiscImages:
    count, points = len(table), len(disc.points)
    coefficients, ctf = torch.zeros(count, points, dtype=torch.complex64), torch.zeros(count, points)
    for rows in job.over(np.array_split(np.arange(count), math.ceil(count / BATCH)), "batches of images"):
        batch = load_posed(table, poses, rows, disc, job.device)
        coefficients[rows] = on_disc(centred_spectra(batch.images, batch.shifts), disc).cpu()
        ctf[rows] = batch.ctf.cpu().float()
    return DiscImages(coefficients, ctf, poses.rotations, torch.tensor(table["half"].to_numpy(np.int64)))


def _given_mask(job: Job[Params], name: str, side: int, work: int, pixel_size: float) -> Tensor | None:
    """The mask in a slot at the working box, or None."""
    if not job.has(name):
        return None
    mask = given_mask(job, side, pixel_size, name)
    return resize_volumes(mask, work).clamp(0, 1)


def _mask_maker(job: Job[Params], side: int, work: int, pixel_size: float) -> Callable[[Tensor], Tensor]:
    given, p, scale = _given_mask(job, "mask", side, work, pixel_size), job.params, pixel_size * side / work

    def mask_of(volume: Tensor) -> Tensor:
        if given is not None:
            return given
        level = None
        if p.mask_threshold is not None:
            level = p.mask_threshold * float(low_pass_volume(volume, scale, max(MASK_RESOLUTION, 2 * scale)).max())
        return molecule_mask(volume, scale, p.mask_near, p.mask_far, threshold=level, components=None)

    return mask_of


def _start(job: Job[Params], engine: PosedClasses, radius: float, scale: float) -> np.ndarray | None:
    """First classes; returns the particles' coordinates when they come from components."""
    if not job.has("volumes"):
        return engine.start_from_components(job.params.classes, radius, job.generator("components")).numpy()
    maps = []
    for folder in job.inputs["volumes"]:
        array, own = read_volume(folder / "map.mrc")
        volume = torch.tensor(array, device=job.device)
        sized = crop_or_pad(resize_volumes(volume, round(volume.shape[0] * own / scale)), engine.mask.shape[0]) * engine.mask
        common = engine.consensus.combined * engine.mask
        maps.append(sized * float((sized * common).sum() / sized.square().sum().clamp(min=1e-30)))
    engine.start_from_maps(maps, radius)
    return None


def _iterate(job: Job[Params], engine: PosedClasses, radius: float, scale: float) -> tuple[list[Step], np.ndarray | None]:
    """All iterations, from where a run that was cut short had got to, and the particles' coordinates along components."""
    state, steps = job.checkpoint.load(), []
    if state is None:
        coordinates = _start(job, engine, radius, scale)
    else:
        coordinates = None if state["coordinates"] is None else state["coordinates"].numpy()
        engine.shares = state["shares"]
        steps = [Step(number, reached, changed, tuple(fractions)) for number, reached, changed, fractions in state["steps"]]
        job.progress.note(continued_after=len(steps))
    for step in engine.run(job.params.iterations, radius, job.params.hard, steps[-1] if steps else None):
        steps.append(step)
        job.progress.note(iteration=step.number, changed=round(step.changed, 4), fractions=[round(value, 4) for value in step.fractions])
        packed = [[one.number, one.radius, one.changed, list(one.fractions)] for one in steps]
        kept = None if coordinates is None else torch.tensor(coordinates)
        job.checkpoint.save({"shares": engine.shares, "steps": packed, "coordinates": kept})
    return steps, coordinates


def _support(job: Job[Params], engine: PosedClasses, radius: float) -> Support:
    """What classes of each half-set sorted alone, always from components, are worth to the other one."""
    gains, classes = [], engine.shares.shape[1]
    for half in (1, 2):
        chance = job.generator(f"half-set {half}")
        alone = PosedClasses(engine.disc.only(half, chance), lambda _: engine.mask, engine.focus)
        alone.start_from_components(classes, radius, chance)
        for step in alone.run(job.params.iterations, radius, job.params.hard):
            job.progress.note(half_set=half, iteration=step.number, changed=round(step.changed, 4))
        gains.append(held_out_gains(alone, engine.disc.only(3 - half, chance), classes))
    return supported(torch.cat(gains))


def _tell_support(job: Job[Params], support: Support, classes: int) -> None:
    job.metric("supported_classes", support.classes)
    job.metric("held_out_gain", support.gains[-1])
    job.metric("held_out_gain_error", support.errors[-1])
    caption = "Classes of each half-set sorted alone, judged by the images of the other one: mean gain in log-likelihood of an image over one map, with two standard errors. Classes made of noise gain nothing."
    draw_support(job.figure("support", "Number of classes", caption), support.gains, support.errors, support.classes)
    if support.classes == 1:
        job.warn(
            f"No two classes are supported: sorted from one half-set alone, classes predict the other half-set's images no better than one "
            f"map ({_gain(support, classes)}). Either the particles are alike or they are too few to show how they differ: the classes written "
            f"may be chance."
        )
    elif support.classes < classes:
        job.warn(
            f"{support.classes} of {classes} classes are supported: more of them, made from one half-set alone, predict the other half-set's "
            f"images no better. Some of the classes written are one and the same; sort again with classes: {support.classes}."
        )


def _gain(support: Support, classes: int) -> str:
    return f"gain of {classes} classes {support.gains[-1]:.4f} ± {support.errors[-1]:.4f} in the log-likelihood of an image"


def _write_maps(job: Job[Params], number: int, maps: MapPair, mask: Tensor, side: int, pixel_size: float) -> None:
    work = mask.shape[0]
    folder = job.folder / f"class_{number}"
    for name, volume in (("half1", maps.halves[0]), ("half2", maps.halves[1]), ("map", maps.combined)):
        write_volume(folder / f"{name}.mrc", (resize_volumes(volume, side) * (work / side) ** 3).cpu().numpy(), pixel_size)
    write_volume(folder / "mask.mrc", resize_volumes(mask, side).clamp(0, 1).cpu().numpy(), pixel_size)
    write_fsc(folder / "fsc.star", fsc_table({"tight": maps.curve.cpu().numpy()}, work, pixel_size * side / work))


def _report(job: Job[Params], maps: list[MapPair], engine: PosedClasses, shares: np.ndarray, scale: float) -> None:
    work, fractions = engine.mask.shape[0], shares.mean(0)
    resolutions = [resolution_at(one.curve, 0.143, scale, work) for one in maps]
    for number, (fraction, resolution) in enumerate(zip(fractions, resolutions, strict=True), start=1):
        job.metric(f"class_{number}_fraction", fraction)
        job.metric(f"class_{number}_resolution", resolution, "Å")
        if fraction < SMALL_CLASS:
            job.warn(f"Class {number} holds {fraction:.1%} of the particles: fewer classes would do.")
    job.metric("class_certainty", 100 * float(shares.max(1).mean()), "%")
    job.metric("effective_classes", float((1 / (shares**2).sum(1)).mean()))
    volumes = [(one.combined * engine.mask).cpu().numpy() for one in maps]
    caption = "Central slices and projections of the classes' maps, inside the mask, at the resolution they were told apart by."
    draw_volumes(job.figure("volumes", "Classes", caption), volumes, list(fractions), scale)
    caption = "Where each class has more (red) or less (blue) density than the map of all particles, projected along the three axes."
    mean = (engine.consensus.combined * engine.mask).cpu().numpy()
    draw_differences(job.figure("differences", "Differences from the mean", caption), volumes, mean)
    caption = "FSC of the half maps of each class under the mask, up to the resolution used. All particles of a half-set kept to it."
    frequency = np.arange(work // 2 + 1) / (work * scale)
    draw_class_fsc(job.figure("fsc", "FSC of the classes", caption), [one.curve.cpu().numpy() for one in maps], frequency, resolutions)


def _draw_course(
    job: Job[Params], steps: list[Step], order: Tensor, coordinates: np.ndarray | None, shares: np.ndarray, extent: float
) -> None:
    fractions = np.array([step.fractions for step in steps])[:, order.numpy()]
    caption = "Size of each class by iteration, and the part of the particles that still changed class. A settled classification is flat."
    figure = job.figure("course", "Course", caption)
    draw_course(figure, fractions, [step.changed for step in steps], [extent / step.radius for step in steps])
    job.metric("iterations", len(steps))
    if steps[-1].changed > 0.05:
        job.warn(f"{steps[-1].changed:.0%} of the particles still changed class at last: the classes may not be real, or need iterations.")
    if coordinates is not None:
        caption = "Particles along the components found at first, coloured by their final class. Separate clouds are separate states."
        draw_coordinates(job.figure("components", "Components", caption), coordinates, shares.argmax(1))
