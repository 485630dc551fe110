"""Bytes that particle jobs need, from the number of particles N, their box n, the number of maps or classes K, the Fourier radius and symmetry.

Images lie in memory as float32, however they are stored. A half spectrum of a volume of side n, padded to d = 2 n, has d² (d / 2 + 1) numbers;
a map in the making holds several of them, as counted in PER_NUMBER. Work that is done in batches of a fixed size is a constant.
"""

import math

from firn.kernels.rotate2d import CLASSES_AT_ONCE
from firn.kernels.spectrum import cropped_side
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.class2d_sums import PARTICLES_AT_ONCE
from firn.refine.expectation import TABLE_POINTS
from firn.refine.schedule import search_levels
from firn.refine.slice_sums import run_points
from firn.refine.state import Settings
from firn.runtime.memory_room import Part

PROGRAM = 550e6
"""Python with torch, and what it has read before it works."""
ROW = 1500
"""Of a table, per particle, while it is read, changed and written."""
ACCUMULATOR = 12
"""Of a Fourier sum, per number: complex sum and weight."""
PER_NUMBER = 92
"""Of one map in the making, per number of its padded half spectrum, besides the sums: shells and points of the layout (32), weights and their
selections (12), spectrum, its copies and the padded volume (48)."""
WAITING, SPREADING = 12, 48
"""Of a slice in a given pose, per point: value and weight while it waits, and copies with places of the run that is added up."""
ON_THE_WAY = 40
"""Of an image of a batch, per pixel: as read, spectra and phases."""
POSED_BATCH = 256
"""Images of a batch in given poses, or fewer."""
SEARCH = 400e6
"""Of a pose search: scores and projections of one batch."""
SEARCH_ON_GPU = 4e9
"""As SEARCH, where batches are larger, with the slices that wait to be spread."""
TOUCHED = 0.45
"""Part of the tables of projections and slices that a refinement comes to use; they are made for all orientations. A GPU gives the memory of all."""
HALVES = 12
"""Of the coarsest table on a GPU, per point: values and remainders in half precision, at most."""
CLASSES_2D = 230e6
"""Of 2D classification: scores and candidates of one batch."""
TURNED, TURNING = 26, 24
"""Of a class in 2D classification, per point of its turned average: the averages (8, a third of them again for the coarse search) and the sums
of two half-sets (16); and of each that is being turned or turned back: its values by rows, and their share of one corner."""
INITIAL = 700e6
"""Of ab-initio reconstruction: scores, projections and slices of one batch."""


def padded_numbers(side: int, radius: float | None = None) -> float:
    """Numbers of the half spectrum of a padded volume, as far as a Fourier radius (units of 1/side) needs it."""
    d = 2 * side if radius is None else cropped_side(radius, 2, side)
    return float(d * d * (d // 2 + 1))


def disc_points(radius: float) -> float:
    """Points of half a Fourier disc."""
    return math.pi / 2 * radius**2


def common_parts(count: int) -> list[Part]:
    """What every job holds."""
    return [Part("the program", PROGRAM, on_device=False), Part(f"a table of {count:,} rows", ROW * count, on_device=False)]


def images_part(count: int, side: int) -> Part:
    """All particle images at once."""
    return Part(f"{count:,} particles of {side} px", 4.0 * count * side**2, on_device=False)


def maps_part(side: int, sums: int, radius: float | None = None) -> Part:
    """Fourier sums of several maps up to a radius, and one map in the making at the full box."""
    size = sums * ACCUMULATOR * padded_numbers(side, radius) + PER_NUMBER * padded_numbers(side)
    return Part(f"{sums} maps of {side} px", size)


def reconstruction_needs(count: int, side: int, radius: float) -> list[Part]:
    """Two half maps from known poses; images are read in batches."""
    return [*common_parts(count), maps_part(side, 2, radius), posed_batches(count, side, radius, 2, side)]


def posed_batches(count: int, side: int, radius: float, sums: int, work: int) -> Part:
    """Images on their way, and slices that wait until one of several Fourier sums at a working box takes them: a half-set at most in each."""
    points = disc_points(radius)
    waiting = min(count / 2 * points, run_points(cropped_side(radius, 2, work)) + POSED_BATCH / 2 * points)
    return Part("batches", (sums * WAITING + SPREADING) * waiting + ON_THE_WAY * min(count, POSED_BATCH) * side**2)


def refinement_needs(count: int, side: int, settings: Settings, maps: int = 2, held: bool = True) -> list[Part]:
    """Pose search and half maps of one structure; with maps = 2 K, of K structures at once. Ranks share the images, and nothing else.

    held: all images are kept.
    """
    host = settings.device.type == "cpu"
    tables = Part("tables of projections", maps / 2 * (TOUCHED if host else 1.0) * search_tables(side, settings))
    images, batches = images_part(count, side), Part("batches", SEARCH if host else SEARCH_ON_GPU)
    parts = [*common_parts(count), *([images] if held else []), maps_part(side, maps), tables, batches]
    return [part if part is images else _in_each_rank(part, settings) for part in parts]


def _in_each_rank(part: Part, settings: Settings) -> Part:
    """What every rank holds; each GPU holds it once."""
    ranks = settings.ranks.size
    if ranks == 1 or (part.on_device and settings.device.type != "cpu"):
        return part
    return Part(f"{ranks} times {part.what}", ranks * part.size, part.on_device)


def search_tables(side: int, settings: Settings) -> float:
    """Projections by orientation that are kept for all batches, and slices added up by orientation, at the radius where they are largest."""
    operators, most = len(symmetry_matrices(settings.group)), 0.0
    first, last = settings.initial_radius, max(settings.max_radius, settings.initial_radius)
    for step in range(12):
        levels = search_levels(side, settings.diameter, first + (last - first) * step / 11, 2)
        sizes = [72 * 8**level.order / operators * disc_points(level.radius) for level in levels]
        kept = next((number for number, size in enumerate(sizes) if size > TABLE_POINTS), len(sizes))
        slices = min(sizes[-1] * 1.3, TABLE_POINTS) if kept == len(sizes) else 0.0
        halves = 0.0 if settings.device.type == "cpu" or not kept else HALVES * sizes[0]
        most = max(most, 12 * (sum(sizes[:kept]) + slices) + halves)
    return most


def classification_2d_needs(count: int, points: int, turned: int, classes: int, side: int, cache: float) -> list[Part]:
    """Spectra on a disc of so many points, kept when they are fewer bytes than the cache holds, and classes turned to so many points each."""
    spectra = Part(f"{count:,} spectra of {points} points", 8.0 * count * points if 8.0 * count * points <= cache else 0.0)
    averages = Part(f"{classes} turned classes", (TURNED * classes + TURNING * min(2 * classes, CLASSES_AT_ONCE)) * turned)
    batches = Part("batches", CLASSES_2D + ON_THE_WAY * min(count, PARTICLES_AT_ONCE) * side**2)
    return [*common_parts(count), spectra, averages, batches]


def classification_3d_needs(count: int, radius: float, first: float, classes: int, work: int, side: int) -> list[Part]:
    """Spectra and CTFs on a disc, kept, and two half maps of each class at the working box.

    Components take four copies of what is within the radius `first`, before there are classes; products of a half-set's images with all
    classes' differences and of these with each other come after them.
    """
    spectra = Part(f"{count:,} spectra of {disc_points(radius):.0f} points", 12.0 * count * disc_points(radius), on_device=False)
    beside = max(32.0 * count * disc_points(first), 6.0 * count * classes * (classes + 1))
    parts = [spectra, Part("components of them", beside, on_device=False)]
    return [*common_parts(count), *parts, maps_part(work, 2 * classes), posed_batches(count, side, radius, 2 * classes, work)]


def initial_needs(count: int, points: int, classes: int, work: int) -> list[Part]:
    """Spectra and CTFs on a disc, twice while they are joined, and the classes' maps at the working box: several keep five folds, twice."""
    spectra = Part(f"{count:,} spectra of {points} points", 24.0 * count * points)
    return [*common_parts(count), spectra, maps_part(work, (2 if classes == 1 else 12) * classes), Part("batches", INITIAL)]
