"""Find the rotation, shift and hand that lay one map on another, from nothing.

Convention: reference(r) = volume(R r + t), r xyz in Å from the origin; for the other hand the volume is mirrored in z first.
Method: both maps at about 20 Å; rotations of an even grid are ranked by the correlation of Fourier amplitudes, which know neither
shift nor hand, and by that of densities about their centres of mass; the best are tried in real space with every shift, for
both hands, and refined, last of all at high resolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from firn.simulate.resample import correlation_by_shell, grid_points, low_pass, mirror_z, resample, resolution_at, sample, turn

COARSE_BOX = 32
COARSE_RESOLUTION = 20.0
"""Å; for large boxes a twelfth of the side, if that is more."""
FINE_RESOLUTION = 6.0
GRID_STEP = 15.0
CANDIDATES = 30
REFINED = 4
POINTS = 500
REFINEMENT_STEPS = 15
SMALLEST_STEP = 2e-3
NUDGES = np.diag([0.3, 0.3, 0.3, 0.05, 0.05, 0.05])
"""Changes of three angles (deg) and three shifts (px) from which slopes are taken."""


@dataclass(frozen=True)
class Alignment:
    """rotation `(3, 3)` xyz, shift `(3,)` xyz in Å, whether mirrored, and the correlation reached; other_hand is the other's."""

    rotation: np.ndarray
    shift: np.ndarray
    mirrored: bool
    correlation: float
    other_hand: float


def align_map(volume: np.ndarray, reference: np.ndarray, pixel_size: float, both_hands: bool = True) -> Alignment:
    """Best alignment of a volume to a reference `(n, n, n)` of equal box and pixel size (Å).

    other_hand is the correlation of the hand that lost, NaN when both_hands is false.
    """
    hands = (False, True) if both_hands else (False,)
    resolution = max(COARSE_RESOLUTION, volume.shape[0] * pixel_size / 12)
    coarse = _Pair.make(volume, reference, pixel_size, resolution, COARSE_BOX, 4000)
    ranked = sorted(_coarse_candidates(coarse, hands), key=lambda found: -found[0])
    best = [max((_refine(coarse, found) for found in _best_of(ranked, hand)), key=lambda found: found[0]) for hand in hands]
    shared = _shared_resolution(volume, reference, pixel_size, max(best, key=lambda found: found[0]), coarse.pixel_size)
    fine = _Pair.make(volume, reference, pixel_size, shared, min(volume.shape[0], 80), 15000)
    finals = sorted((_refine(fine, _rescaled(found, coarse, fine)) for found in best), key=lambda found: -found[0])
    correlation, rotation, shift_px, mirrored = finals[0]
    return Alignment(rotation, shift_px * fine.pixel_size, mirrored, correlation, finals[1][0] if both_hands else float("nan"))


def apply_alignment(volume: np.ndarray, alignment: Alignment, pixel_size: float) -> np.ndarray:
    """The volume laid on the reference."""
    return turn(volume, alignment.rotation, alignment.shift / pixel_size, alignment.mirrored)


def rotation_grid(step: float) -> np.ndarray:
    """Rotations `(k, 3, 3)` about step degrees apart: directions on a spiral times turns about them."""
    count = int(np.ceil(4 * np.pi / np.deg2rad(step) ** 2))
    z = 1 - (2 * np.arange(count) + 1) / count
    azimuth = np.rad2deg(np.arange(count) * np.pi * (3 - np.sqrt(5)))
    turns = np.arange(0, 360, step)
    angles = np.stack(np.broadcast_arrays(azimuth[:, None], np.rad2deg(np.arccos(z))[:, None], turns[None, :]), axis=-1)
    return Rotation.from_euler("ZYZ", angles.reshape(-1, 3), degrees=True).as_matrix()


Found = tuple[float, np.ndarray, np.ndarray, bool]
"""Correlation, rotation, shift in px of its pair, mirrored."""


@dataclass(frozen=True)
class _Pair:
    """Both maps at one resolution on one grid, and the points at which they are compared."""

    volume: np.ndarray
    mirrored: np.ndarray
    reference: np.ndarray
    resolution: float
    pixel_size: float
    points: np.ndarray
    values: np.ndarray

    @classmethod
    def make(cls, volume: np.ndarray, reference: np.ndarray, pixel_size: float, resolution: float, box: int, most_points: int) -> "_Pair":
        spacing = volume.shape[0] * pixel_size / box
        first, second = (resample(low_pass(map_, pixel_size, resolution), pixel_size, box, spacing) for map_ in (volume, reference))
        points, values = _support(second, most_points)
        return cls(first, mirror_z(first), second, resolution, spacing, points, values)

    def hand(self, mirrored: bool) -> np.ndarray:
        return self.mirrored if mirrored else self.volume


def _support(reference: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around the dense part of the reference, at most `most`, and its values there less their mean."""
    points = grid_points(reference.shape[0])
    density = np.maximum(reference.ravel() - 0.25 * reference.max(), 0)
    centre = np.average(points, axis=0, weights=density)
    distance = np.linalg.norm(points - centre, axis=1)
    chosen = np.flatnonzero(distance < 1.15 * distance[density > 0].max() + 2)
    chosen = chosen[:: max(1, len(chosen) // most)]
    return points[chosen], _standardised(reference.ravel()[chosen])


def _coarse_candidates(pair: _Pair, hands: tuple[bool, ...]) -> Iterator[Found]:
    """The best rotations of the grid with their best shift, for each hand."""
    grid = rotation_grid(GRID_STEP)
    by_amplitude = grid[_distinct(_amplitude_scores(pair, grid), grid, CANDIDATES)]
    target = scipy.fft.rfftn(_standardised(pair.reference))
    for hand in hands:
        scores = _density_scores(pair, hand, grid)
        by_density = grid[_distinct(scores, grid, CANDIDATES // 2)]
        about = _flipped(by_amplitude) if hand else by_amplitude
        for rotation in np.concatenate((about, by_density)):
            yield _best_shift(pair.hand(hand), target, rotation, hand)


def _flipped(rotations: np.ndarray) -> np.ndarray:
    """Amplitudes of the map mirrored in z are those of the map turned half about z (they are even in frequency)."""
    return np.diag([-1.0, -1.0, 1.0]) @ rotations


def _amplitude_scores(pair: _Pair, grid: np.ndarray) -> np.ndarray:
    """Correlation of |F| of the reference up to the resolution, from a quarter of it, with |F| of the volume at the points turned."""
    n = pair.reference.shape[0]
    size = n * pair.pixel_size
    first, second = (np.abs(scipy.fft.fftshift(scipy.fft.fftn(_padded(map_)))) for map_ in (pair.volume, pair.reference))
    points = _half_ball(POINTS) * (2 * size / pair.resolution)
    points = points[np.linalg.norm(points, axis=1) > size / (2 * pair.resolution)]
    expected = _standardised(_lookup(second, points)).astype(np.float32)
    return np.concatenate([_scores(first, points, part, expected) for part in np.array_split(grid, max(1, len(grid) // 500))])


def _density_scores(pair: _Pair, hand: bool, grid: np.ndarray) -> np.ndarray:
    """Correlation of densities at random points within the reference, both maps on their centres of mass."""
    there, here = _centre(pair.hand(hand)), _centre(pair.reference)
    chosen = np.random.default_rng(0).choice(len(pair.points), size=min(POINTS, len(pair.points)), replace=False)
    points, expected = pair.points[chosen] - here, pair.values[chosen]
    volume = pair.hand(hand)
    parts = np.array_split(grid, max(1, len(grid) // 500))
    return np.concatenate([_scores(volume, points, part, expected, there) for part in parts])


def _scores(map_: np.ndarray, points: np.ndarray, grid: np.ndarray, expected: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    turned = np.einsum("gij,pj->gpi", grid, points).reshape(-1, 3) + (0 if offset is None else offset)
    found = _lookup(map_, turned).reshape(len(grid), -1)
    found = found - found.mean(axis=1, keepdims=True)
    return found @ expected / np.maximum(np.linalg.norm(found, axis=1), 1e-12)


def _distinct(scores: np.ndarray, grid: np.ndarray, count: int) -> np.ndarray:
    """Indices of the best rotations, none closer to a better one than a grid step."""
    order = np.argsort(-scores)[: 20 * count]
    kept: list[int] = []
    limit = 1 + 2 * np.cos(np.deg2rad(1.2 * GRID_STEP))
    for index in order:
        if all(np.sum(grid[index] * grid[other]) < limit for other in kept):
            kept.append(index)
        if len(kept) == count:
            break
    return np.array(kept)


def _best_shift(volume: np.ndarray, target: np.ndarray, rotation: np.ndarray, mirrored: bool) -> Found:
    """Correlation of a turned volume with the reference at the best of all whole-pixel shifts."""
    n = volume.shape[0]
    turned = _standardised(sample(volume, grid_points(n), rotation, order=1).reshape(volume.shape))
    correlation = scipy.fft.irfftn(scipy.fft.rfftn(turned).conj() * target, s=volume.shape)
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    moved = np.array([(p + n // 2) % n - n // 2 for p in peak])[::-1]
    return float(correlation.max()), rotation, -rotation @ moved, mirrored


def _shared_resolution(volume: np.ndarray, reference: np.ndarray, pixel_size: float, found: Found, unit: float) -> float:
    """Å to which two roughly aligned maps agree (correlation by shell 0.3), between FINE_RESOLUTION and COARSE_RESOLUTION."""
    n = volume.shape[0]
    laid = turn(volume, found[1], found[2] * unit / pixel_size, found[3])
    agreed = resolution_at(correlation_by_shell(laid, reference), 0.3, n, pixel_size)
    return float(np.clip(agreed, max(FINE_RESOLUTION, 2.5 * pixel_size), COARSE_RESOLUTION))


def _best_of(ranked: list[Found], hand: bool) -> list[Found]:
    return [found for found in ranked if found[3] == hand][:REFINED]


def _refine(pair: _Pair, found: Found) -> Found:
    """The alignment after damped Gauss-Newton steps over rotation (deg) and shift (px), which maximise the correlation."""
    _, rotation, shift, mirrored = found
    coefficients = spline_filter(pair.hand(mirrored), order=3, output=np.float32)

    def values(x: np.ndarray) -> np.ndarray:
        return _standardised(sample(coefficients, pair.points, _nudged(rotation, x[:3]), shift + x[3:]))

    now, damping = values(np.zeros(6)), 1e-3
    for _ in range(REFINEMENT_STEPS):
        slopes = np.stack([(values(nudge) - now) / nudge.sum() for nudge in NUDGES], axis=1)
        normal = slopes.T @ slopes
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), slopes.T @ (pair.values - now))
        then = values(step)
        if then @ pair.values <= now @ pair.values:
            damping *= 10
            continue
        rotation, shift, now, damping = _nudged(rotation, step[:3]), shift + step[3:], then, damping / 5
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return float(now @ pair.values), rotation, shift, mirrored


def _nudged(rotation: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    return rotation @ Rotation.from_rotvec(degrees, degrees=True).as_matrix()


def _rescaled(found: Found, old: _Pair, new: _Pair) -> Found:
    return found[0], found[1], found[2] * old.pixel_size / new.pixel_size, found[3]


def _standardised(values: np.ndarray) -> np.ndarray:
    """Less the mean, of unit length."""
    centred = values - values.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-12)


def _centre(volume: np.ndarray) -> np.ndarray:
    """Centre of mass xyz in px of what is denser than a quarter of the maximum."""
    return np.average(grid_points(volume.shape[0]), axis=0, weights=np.maximum(volume.ravel() - 0.25 * volume.max(), 0))


def _padded(volume: np.ndarray) -> np.ndarray:
    """Zero-padded to twice the side, the origin kept at the centre, less its mean."""
    n = volume.shape[0]
    low = n - n // 2
    return scipy.fft.ifftshift(np.pad(volume - volume.mean(), [(low, n - low)] * 3))


def _lookup(map_: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Trilinear values at points xyz in px from the origin n // 2."""
    return map_coordinates(map_, points[:, ::-1].T + map_.shape[0] // 2, order=1, prefilter=False, output=np.float32)


def _half_ball(count: int) -> np.ndarray:
    """Points `(count, 3)` spread evenly through the upper half of the unit ball."""
    index = np.arange(count) + 0.5
    z, azimuth = 1 - index / count, np.pi * (1 + np.sqrt(5)) * index
    radius = ((index * 0.7548776662) % 1) ** (1 / 3)
    ring = np.sqrt(1 - z**2)
    return radius[:, None] * np.stack((ring * np.cos(azimuth), ring * np.sin(azimuth), z), axis=-1)
