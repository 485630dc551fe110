"""Tables and maps of a result against those of the truth.

Convention: rows are joined by exposure_id or particle_id; coordinates of the truth are in movie pixels and are scaled to those of
the micrograph.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from firn.errors import InputError
from firn.formats import motion_star
from firn.formats.ids import exposure_id
from firn.formats.tables import require_columns
from firn.simulate.align_map import Alignment, align_map, apply_alignment
from firn.simulate.euler import euler_to_matrix
from firn.simulate.resample import correlation_by_shell, low_pass, resample, resolution_at
from firn.simulate.score import (
    astigmatism_vector,
    match_points,
    motion_residual,
    origin_errors,
    precision_recall,
    score_poses,
    spline_displacement,
)
from firn.simulate.truth import read_motion

RASTER = 5
MASK_RESOLUTION = 15.0
SAMPLED_PARTICLES = 5000


@dataclass(frozen=True)
class PickScore:
    """Counts and rates; offset is the mean distance of matched picks in Å; shown has the points of one exposure."""

    matched: int
    precision: float
    recall: float
    f1: float
    offset: float
    shown: dict[str, np.ndarray]


@dataclass(frozen=True)
class ParticleScore:
    """Share of particles that are true ones; pose errors in degrees and centre errors in Å, None when there are no poses."""

    true_fraction: float
    purity: float | None
    angles: np.ndarray | None
    shifts: np.ndarray | None
    mirrored: bool


@dataclass(frozen=True)
class MapScore:
    """FSC curve with the truth, resolutions in Å at 0.5 and 0.143, and both maps on one grid."""

    curve: np.ndarray
    resolution_half: float
    resolution_low: float
    alignment: Alignment
    aligned: np.ndarray
    reference: np.ndarray


def with_exposure_ids(truth: pd.DataFrame) -> pd.DataFrame:
    """The truth of movies with the exposure ids that an import gives them."""
    return truth.assign(exposure_id=[exposure_id(str(movie)) for movie in truth["movie"]]) if "movie" in truth.columns else truth


def compare_defocus(exposures: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Per exposure: true defocus, error of the mean, length of the astigmatism's error vector, in Å; good exposures only."""
    both = exposures.merge(truth[truth["exposure_kind"] == "good"], on="exposure_id", suffixes=("", "_true"))
    mean, true = ((both[f"defocus_u{end}"] + both[f"defocus_v{end}"]) / 2 for end in ("", "_true"))
    vectors = [astigmatism_vector(*(both[f"defocus_{name}{end}"].to_numpy() for name in ("u", "v", "angle"))) for end in ("", "_true")]
    error = np.linalg.norm(vectors[0] - vectors[1], axis=1)
    return pd.DataFrame({"exposure_id": both["exposure_id"], "defocus": true, "defocus_error": mean - true, "astigmatism_error": error})


def compare_motion(exposures: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Per exposure, root mean square in px over frames and points: residual of the global part and of all, and motion uncorrected."""
    both = exposures.merge(truth, on="exposure_id", suffixes=("", "_true"))
    return pd.DataFrame([_motion_row(row) for row in both.to_dict("records")])


def _motion_row(row: dict) -> dict[str, object]:
    shifts, field, pixel_size = motion_star.read_motion(row["motion_star"])
    first = motion_star.first_frame(row["motion_star"])
    used = slice(first, first + len(shifts))
    axis = np.linspace(0.1, 0.9, RASTER)
    points = np.stack([line.ravel() for line in np.meshgrid(axis, axis)], axis=-1)
    true = read_motion(row["motion_star_true"])
    expected = true.at(2 * points - 1)[used]
    rigid = -shifts[:, None, ::-1] / pixel_size
    whole = np.repeat(rigid, len(points), axis=1)
    if field is not None:
        whole = whole - spline_displacement(field.coefficients, field.times, points[:, ::-1])[..., ::-1] / pixel_size
    return {
        "exposure_id": row["exposure_id"],
        "residual_global": motion_residual(rigid, true.trajectory[used, None])[0],
        "residual": motion_residual(whole, expected)[0],
        "uncorrected": motion_residual(np.zeros_like(expected), expected)[0],
    }


def compare_picks(picks: pd.DataFrame, truth: pd.DataFrame, distance: float) -> PickScore:
    """One-to-one matches within a distance in Å, exposure by exposure."""
    matched, offsets, shown = 0, [np.zeros(0)], {"true": np.zeros((0, 2)), "found": np.zeros((0, 2)), "hit": np.zeros(0, dtype=bool)}
    for name in pd.unique(pd.concat((truth["exposure_id"], picks["exposure_id"]))):
        true, found = _points(truth, name), _points(picks, name)
        rows, columns = match_points(true, found, distance)
        matched += len(rows)
        offsets.append(np.linalg.norm(true[rows] - found[columns], axis=1))
        if len(true) > len(shown["true"]):
            shown = {"true": true, "found": found, "hit": np.isin(np.arange(len(found)), columns)}
    rates = precision_recall(matched, len(picks), len(truth))
    return PickScore(matched, *rates, offset=float(np.mean(np.concatenate(offsets))) if matched else float("nan"), shown=shown)


def compare_poses(particles: pd.DataFrame, truth: pd.DataFrame, operators: np.ndarray, distance: float, both_hands: bool) -> ParticleScore:
    """Particles joined to the truth by particle_id, or by place within a distance in Å, and their poses and classes compared."""
    rows, true_rows = _join(particles, truth, distance)
    if len(rows) == 0:
        raise InputError("score: none of the particles is near one of the truth; are both of the same simulation?")
    found, true = particles.iloc[rows].reset_index(drop=True), truth.iloc[true_rows].reset_index(drop=True)
    purity = _purity(found, true)
    fraction = len(rows) / len(particles)
    if not {"rot", "tilt", "psi"} <= set(found.columns):
        return ParticleScore(fraction, purity, None, None, False)
    chosen = np.linspace(0, len(found) - 1, min(len(found), SAMPLED_PARTICLES)).astype(int)
    found, true = found.iloc[chosen], true.iloc[chosen]
    poses, true_poses = (euler_to_matrix(*table[["rot", "tilt", "psi"]].to_numpy(dtype=np.float64).T) for table in (found, true))
    score = score_poses(poses, true_poses, operators, both_hands)
    shifts = origin_errors(_centre_offset(found), _centre_offset(true), poses)
    return ParticleScore(fraction, purity, score.errors, shifts, score.mirrored)


def compare_map(volume: np.ndarray, pixel_size: float, model: np.ndarray, model_pixel_size: float, both_hands: bool) -> MapScore:
    """The map laid on the model, and their FSC within a soft mask around the model; pixel sizes in Å."""
    n = volume.shape[0]
    reference = resample(model, model_pixel_size, n, pixel_size)
    alignment = align_map(volume, reference, pixel_size, both_hands)
    aligned = apply_alignment(volume, alignment, pixel_size)
    mask = soft_mask(reference, pixel_size)
    curve = correlation_by_shell(aligned * mask, reference * mask)
    half, low = (resolution_at(curve, threshold, n, pixel_size) for threshold in (0.5, 0.143))
    return MapScore(curve, half, low, alignment, aligned, reference)


def soft_mask(reference: np.ndarray, pixel_size: float) -> np.ndarray:
    """Soft mask `(n, n, n)` around the dense part of a noise-free map, some 10 Å wider than it."""
    smooth = low_pass(reference, pixel_size, MASK_RESOLUTION)
    solid = (smooth > 0.05 * smooth.max()).astype(np.float32)
    wide = (gaussian_filter(solid, 5 / pixel_size) > 0.1).astype(np.float32)
    return gaussian_filter(wide, 4 / pixel_size)


def _points(table: pd.DataFrame, name: str) -> np.ndarray:
    """Coordinates xy in Å of the rows of an exposure."""
    rows = table[table["exposure_id"] == name]
    return rows[["x_px", "y_px"]].to_numpy(dtype=np.float64) * rows["micrograph_pixel_size"].to_numpy(dtype=np.float64)[:, None]


def _join(particles: pd.DataFrame, truth: pd.DataFrame, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of matching rows in both tables."""
    if "particle_id" in truth.columns and "particle_id" in particles.columns:
        places = pd.Series(np.arange(len(truth)), index=truth["particle_id"]).reindex(particles["particle_id"])
        rows = np.flatnonzero(places.notna().to_numpy())
        return rows, places.to_numpy()[rows].astype(int)
    require_columns(particles, ("exposure_id", "x_px", "y_px", "micrograph_pixel_size"), "particles")
    pairs = [_join_exposure(particles, truth, name, distance) for name in pd.unique(particles["exposure_id"])]
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])


def _join_exposure(particles: pd.DataFrame, truth: pd.DataFrame, name: str, distance: float) -> tuple[np.ndarray, np.ndarray]:
    here, there = (np.flatnonzero((table["exposure_id"] == name).to_numpy()) for table in (particles, truth))
    true, found = match_points(_points(truth, name), _points(particles, name), distance)
    return here[found], there[true]


def _centre_offset(table: pd.DataFrame) -> np.ndarray:
    """Origins `(n, 2)` in Å measured from a common zero: coordinates in Å count negatively, as true centre = coordinate - origin."""
    origins = [
        table[name].to_numpy(dtype=np.float64) if name in table.columns else np.zeros(len(table)) for name in ("origin_x", "origin_y")
    ]
    pixel = table["micrograph_pixel_size"].to_numpy(dtype=np.float64)
    return np.stack(
        [origin - table[name].to_numpy(dtype=np.float64) * pixel for origin, name in zip(origins, ("x_px", "y_px"), strict=True)], axis=-1
    )


def _purity(found: pd.DataFrame, true: pd.DataFrame) -> float | None:
    """Share of particles whose true class is the commonest one of their class; None where there is only one true class."""
    if "class_number" not in found.columns or "class_number" not in true.columns or true["class_number"].nunique() < 2:
        return None
    counts = pd.crosstab(found["class_number"].to_numpy(), true["class_number"].to_numpy())
    return float(counts.max(axis=1).sum() / counts.to_numpy().sum())
