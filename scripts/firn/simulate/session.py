"""A session of exposures: what each shows, how it moves, and its expected frames.

Every exposure draws from its own generator, so that one of them can be made without the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from firn.simulate.ctf import Optics
from firn.simulate.dirt import carbon_edge, ice_crystals
from firn.simulate.euler import matrix_to_euler, random_matrices
from firn.simulate.micrograph import Canvas, Scene, ice_contrast, local_defocus, place_particles, protein_contrast
from firn.simulate.motion import TERMS, Motion, normalised, random_motion
from firn.simulate.movie import Exposure, expected_frames
from firn.simulate.specimen import Specimen

RUINOUS_DRIFT = 8.0
"""How many times farther a drifted exposure moves."""
BURYING_SHADE = -0.1
"""Contrast of dirt below which a particle counts as hidden by it."""


@dataclass(frozen=True)
class Plan:
    """All that the exposures of a session share. Lengths in Å unless the name says px; tilt and angles in degrees."""

    optics: Optics
    exposure: Exposure
    height: int
    width: int
    particles: int
    spacing: float
    resolution: float
    defocus: tuple[float, float]
    astigmatism: float
    tilt: float
    ice_thickness: float
    ice_noise: float
    drift_px: float
    local_px: float
    least_tilt: float = 0.0


@dataclass(frozen=True)
class Shot:
    """One exposure with its truth: kind is good, empty, dirty, drifted or truncated; dirt is drawn from its own seed."""

    kind: str
    scene: Scene
    motion: Motion
    tilt: float
    tilt_axis: float
    dirt_seed: int


def shot_kinds(count: int, empty: int, dirty: int, drifted: int, truncated: int, generator: np.random.Generator) -> list[str]:
    """Kind of each of count exposures, the bad ones spread by chance."""
    bad = ["empty"] * empty + ["dirty"] * dirty + ["drifted"] * drifted + ["truncated"] * truncated
    return list(generator.permutation(np.array(bad + ["good"] * (count - len(bad)), dtype=object)))


def plan_shot(plan: Plan, kind: str, specimens: list[Specimen], fractions: list[float], generator: np.random.Generator) -> Shot:
    """Draw the scene and the motion of one exposure; fractions say how often each specimen occurs."""
    tilt, axis = generator.uniform(plan.least_tilt, plan.tilt), generator.uniform(-180, 180)
    scene = _draw_scene(plan, kind, specimens, fractions, _slope(plan, tilt, axis), generator)
    factor = RUINOUS_DRIFT if kind == "drifted" else 1.0
    exposure = plan.exposure
    motion = random_motion(exposure.frames, exposure.dose_per_frame, factor * plan.drift_px, plan.local_px, generator)
    shot = Shot(kind, scene, motion, tilt, axis, int(generator.integers(2**31)))
    return replace(shot, scene=_without_buried(plan, shot)) if kind == "dirty" else shot


def shoot(plan: Plan, shot: Shot, specimens: list[Specimen], generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Expected counts `(height, width)` of the frames of one exposure."""
    return expected_frames(*_contrasts(plan, shot, specimens, generator), shot.motion, plan.exposure)


def unmoved(plan: Plan, shot: Shot, specimens: list[Specimen], generator: np.random.Generator) -> np.ndarray:
    """Expected counts `(height, width)` of a whole exposure, had nothing moved; a generator in the state that shoot got gives the same scene."""
    still = Motion(np.zeros((1, 2)), np.zeros((1, TERMS, 2)))
    whole = replace(plan.exposure, frames=1, dose_per_frame=plan.exposure.frames * plan.exposure.dose_per_frame)
    return next(expected_frames(*_contrasts(plan, shot, specimens, generator), still, whole))


def _contrasts(
    plan: Plan, shot: Shot, specimens: list[Specimen], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Canvas]:
    """Contrast of protein and of what the beam leaves alone, relative intensity, and the canvas of them."""
    canvas = _canvas(plan, shot)
    protein = protein_contrast(shot.scene, specimens, canvas, plan.optics, plan.resolution)
    still = ice_contrast(shot.scene, canvas, plan.optics, plan.ice_thickness, plan.ice_noise, generator)
    if shot.kind == "dirty":
        still = still + _dirt(canvas, plan, shot)
    return protein, still, _background(plan.height, plan.width, generator), canvas


def _canvas(plan: Plan, shot: Shot) -> Canvas:
    reach = np.abs(shot.motion.trajectory).max() + 1.5 * plan.local_px
    return Canvas(plan.height, plan.width, margin=8 + int(np.ceil(reach)))


def _without_buried(plan: Plan, shot: Shot) -> Scene:
    """The scene less the particles that lie under dirt."""
    canvas, scene = _canvas(plan, shot), shot.scene
    shade = gaussian_filter(_dirt(canvas, plan, shot), 10)
    columns, rows = np.round(scene.centres.T).astype(int) + canvas.margin
    free = shade[rows, columns] > BURYING_SHADE
    return replace(
        scene, centres=scene.centres[free], angles=scene.angles[free], defocus=scene.defocus[free], class_numbers=scene.class_numbers[free]
    )


def _draw_scene(
    plan: Plan, kind: str, specimens: list[Specimen], fractions: list[float], slope: tuple[float, float], generator: np.random.Generator
) -> Scene:
    largest = max(specimen.radius for specimen in specimens) / plan.optics.pixel_size
    count = 0 if kind == "empty" else plan.particles
    centres = place_particles(count, plan.height, plan.width, plan.spacing / plan.optics.pixel_size, largest, generator)
    angles = matrix_to_euler(random_matrices(len(centres), generator))
    shares = np.array(fractions) / np.sum(fractions)
    numbers = 1 + generator.choice(len(specimens), size=len(centres), p=shares)
    mean, half = generator.uniform(*plan.defocus), 0.5 * abs(generator.normal(0, plan.astigmatism))
    mean_defocus = (mean + half, mean - half, generator.uniform(-90, 90))
    height = generator.uniform(-0.5, 0.5, len(centres)) * plan.ice_thickness * 0.3
    offset = local_defocus(slope, normalised(centres, (plan.height, plan.width))) + height
    defocus = np.stack((mean_defocus[0] + offset, mean_defocus[1] + offset, np.full(len(centres), mean_defocus[2])), axis=-1)
    return Scene(centres, angles, defocus, numbers, mean_defocus, slope)


def _slope(plan: Plan, tilt: float, axis: float) -> tuple[float, float]:
    """Defocus gained from the centre to the right and to the upper edge of a specimen tilted about an axis at an angle from x."""
    rise = np.tan(np.deg2rad(tilt)) * plan.optics.pixel_size / 2
    return -rise * (plan.width - 1) * np.sin(np.deg2rad(axis)), rise * (plan.height - 1) * np.cos(np.deg2rad(axis))


def _dirt(canvas: Canvas, plan: Plan, shot: Shot) -> np.ndarray:
    generator = np.random.default_rng(shot.dirt_seed)
    if generator.uniform() < 0.5:
        return carbon_edge(canvas, plan.optics, shot.scene.mean_defocus, generator)
    return ice_crystals(canvas, plan.optics, int(generator.integers(3, 6)), generator)


def _background(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Smooth relative intensity of ice that is thicker in places, float32."""
    v, u = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    a, b, c, d = (0.03 * generator.normal(size=4)).astype(np.float32)
    return np.clip(1 + a * u + b * v + c * (u * u - 1 / 3) + d * (v * v - 1 / 3), 0.6, 1.4)
