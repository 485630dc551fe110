"""Score picks, motion, CTF, poses and maps against the truth of a simulation."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.star import write_star
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.report.simulate import draw_defocus_score, draw_map_score, draw_pick_score, draw_pose_score
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot
from firn.simulate.compare import (
    MapScore,
    compare_defocus,
    compare_map,
    compare_motion,
    compare_picks,
    compare_poses,
    with_exposure_ids,
)
from firn.simulate.symmetry import symmetry_operators


class Params(JobParams):
    """Compare results with the truth of simulated movies or particles: whatever is given is scored."""

    stage: ClassVar[str] = "simulate"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ()

    truth: str = slot("truth")
    """Simulation whose truth to compare with."""
    exposures: str | None = slot("exposures", optional=True)
    """Exposures whose motion and CTF to score; recall of picks is then counted on these exposures."""
    picks: str | None = slot("picks", optional=True)
    """Picks to score."""
    particles: str | None = slot("particles", optional=True)
    """Particles whose poses and classes to score."""
    volume: str | None = slot("volume", optional=True)
    """Map to score."""
    match_distance: float | None = Field(None, gt=0)
    """Å. Farthest a pick may lie from the truth; default 0.3 of the picks' diameter, or 40 Å where they have none."""
    symmetry: str = "C1"
    """Point group of the true model, for the poses: Cn, Dn, T, O, I."""
    both_hands: bool = True
    """Also try the mirror image of poses and map, and say which hand was found."""


def run(job: Job[Params]) -> None:
    """Write scores.star, one figure and the metrics of each comparison."""
    if not any(job.has(name) for name in ("exposures", "picks", "particles", "volume")):
        raise InputError(f"job {job.name}: nothing to score: fill one of exposures, picks, particles, volume")
    truth_folder = job.input("truth", "truth")
    truth = with_exposure_ids(read_table(truth_folder / "particles.star", "particles"))
    exposures = read_table(job.input("exposures", "exposures.star"), "exposures") if job.has("exposures") else None
    if exposures is not None:
        _score_exposures(job, truth_folder, exposures)
    if job.has("picks"):
        _score_picks(job, truth, exposures)
    if job.has("particles"):
        _score_particles(job, truth)
    if job.has("volume"):
        _score_volume(job, truth_folder)
    rows = [{"firnScore": name, "firnValue": entry["value"], "firnUnit": entry["unit"] or "-"} for name, entry in job.metrics.items()]
    write_star(job.folder / "scores.star", {"scores": pd.DataFrame(rows).astype(str)})


def _score_exposures(job: Job[Params], truth_folder: Path, exposures: pd.DataFrame) -> None:
    truth = with_exposure_ids(read_table(truth_folder / "exposures.star", "exposures"))
    if not exposures["exposure_id"].isin(truth["exposure_id"]).any():
        raise InputError(
            f"job {job.name}: none of the {len(exposures)} exposures is a movie of this simulation; its files may have other names"
        )
    kinds = truth.set_index("exposure_id")["exposure_kind"].reindex(exposures["exposure_id"])
    job.metric("exposures_bad_kept", int((~kinds.isin(["good"])).sum()))
    job.metric("exposures_good_lost", int((truth["exposure_kind"] == "good").sum() - (kinds == "good").sum()))
    if "defocus_u" in exposures.columns:
        table = compare_defocus(exposures, truth)
        job.metric("defocus_error", float(table["defocus_error"].abs().median()), "Å")
        job.metric("defocus_error_worst", float(table["defocus_error"].abs().max()), "Å")
        job.metric("astigmatism_error", float(table["astigmatism_error"].median()), "Å")
        caption = "Error of the mean defocus of each exposure, against its true defocus."
        draw_defocus_score(job.figure("defocus", "Defocus against the truth", caption), table)
    if "motion_star" in exposures.columns:
        motion = compare_motion(exposures, truth)
        job.metric("motion_residual_global", float(motion["residual_global"].median()), "px")
        job.metric("motion_residual", float(motion["residual"].median()), "px")
        job.metric("motion_uncorrected", float(motion["uncorrected"].median()), "px")


def _score_picks(job: Job[Params], truth: pd.DataFrame, exposures: pd.DataFrame | None) -> None:
    picks = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px", "micrograph_pixel_size"))
    distance = _match_distance(job.params, picks)
    seen = set(exposures["exposure_id"]) if exposures is not None else set(picks["exposure_id"])
    score = compare_picks(picks, truth[truth["exposure_id"].isin(seen)], distance)
    for name in ("precision", "recall", "f1"):
        job.metric(f"pick_{name}", getattr(score, name))
    job.metric("pick_recall_all", score.matched / max(len(truth), 1))
    job.metric("pick_offset", score.offset, "Å")
    caption = f"True positions (circles) and picks on the exposure with most particles; matched within {distance:.0f} Å."
    draw_pick_score(job.figure("picks", "Picks against the truth", caption), score.shown)


def _match_distance(params: Params, picks: pd.DataFrame) -> float:
    if params.match_distance is not None:
        return params.match_distance
    has_diameter = "diameter" in picks.columns and picks["diameter"].notna().any()
    return 0.3 * float(picks["diameter"].median()) if has_diameter else 40.0


def _score_particles(job: Job[Params], truth: pd.DataFrame) -> None:
    particles = read_table(job.input("particles", "particles.star"), "particles")
    score = compare_poses(
        particles, truth, symmetry_operators(job.params.symmetry), job.params.match_distance or 40.0, job.params.both_hands
    )
    job.metric("particles_true", score.true_fraction)
    if score.purity is not None:
        job.metric("class_purity", score.purity)
    if score.angles is None or score.shifts is None:
        return
    job.metric("pose_error_median", float(np.median(score.angles)), "degrees")
    job.metric("pose_within_10_degrees", float(np.mean(score.angles < 10)))
    job.metric("shift_error_median", float(np.median(score.shifts)), "Å")
    job.metric("pose_mirrored", float(score.mirrored))
    caption = "Errors of the orientations, after the best common rotation, symmetry and hand, and of the centres."
    draw_pose_score(job.figure("poses", "Poses against the truth", caption), score.angles, score.shifts)


def _score_volume(job: Job[Params], truth_folder: Path) -> None:
    volume, pixel_size = read_volume(job.input("volume", "map.mrc"))
    model, model_pixel_size = read_volume(truth_folder / "model.mrc")
    score: MapScore = compare_map(volume, pixel_size, model, model_pixel_size, job.params.both_hands)
    write_fsc(job.folder / "fsc.star", fsc_table({"model": score.curve}, volume.shape[0], pixel_size))
    write_volume(job.folder / "aligned.mrc", score.aligned, pixel_size)
    job.metric("map_resolution_half", score.resolution_half, "Å")
    job.metric("map_resolution_0.143", score.resolution_low, "Å")
    job.metric("map_correlation", score.alignment.correlation)
    job.metric("map_correlation_other_hand", score.alignment.other_hand)
    job.metric("map_mirrored", float(score.alignment.mirrored))
    caption = f"FSC of the aligned, masked map with the true model (0.5 at {score.resolution_half:.1f} Å), and slices of both."
    draw_map_score(job.figure("map", "Map against the truth", caption), score.curve, score.aligned, score.reference, pixel_size)
