"""A small run folder such as a session leaves: movies to a map, with a rejected and a failed exposure, for tests of reports and exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_image, write_volume
from firn.formats.tables import read_table, write_table
from firn.report.thumbnails import write_thumbnail

EXPOSURES = 7
PIXEL = 1.5
SIDE = 16
RESOLUTIONS = {"resolution_corrected": 4.12, "resolution_tight": 4.05, "resolution_unmasked": 5.5}
VERSIONS = {"firn": "0.1.0", "python": "3.11.7", "torch": "2.13.0"}


def write_record(name: str, job_type: str, metrics: dict[str, tuple[float, str]], figures: tuple[str, ...], **settings: Any) -> Path:
    """Write a job.json, and its figures as empty pictures of different sizes."""
    folder = Path("results") / name
    for number, figure in enumerate(figures):
        write_thumbnail(folder / f"figures/{figure}.png", np.indices((90, 120 + 10 * number)).sum(0), 999)
    record = {
        "job": name, "type": job_type, "batch": None, "settings": {"type": job_type, "revision": 1, "seed": 7, **settings}, "inputs": [],
        "versions": VERSIONS, "seed": 7, "device": "cpu", "threads": 1, "seconds": 12.0, "peak_memory_mb": 300.0,
        "metrics": {key: {"value": value, "unit": unit} for key, (value, unit) in metrics.items()},
        "figures": [{"file": f"figures/{figure}.png", "title": figure.title(), "caption": f"What {figure} shows."} for figure in figures],
        "warnings": [], "batches": [],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    return folder / "job.json"


def exposure_table() -> pd.DataFrame:
    """Rows of EXPOSURES movies with their optics."""
    numbers = np.arange(1, EXPOSURES + 1)
    return pd.DataFrame({
        "exposure_id": [f"e{number:012x}" for number in numbers], "batch": "0001", "movie": [f"raw/hole_{number}.tif" for number in numbers],
        "frames": 40, "width_px": 64, "height_px": 48, "dose_per_frame": 1.25, "optics_name": "opticsGroup1", "voltage_kv": 300.0, "cs_mm": 2.7,
        "amplitude_contrast": 0.1, "movie_pixel_size": PIXEL, "micrograph_pixel_size": PIXEL,
    })  # fmt: skip


def write_run() -> list[Path]:
    """Fill `results/` of the working folder; the records in graph order."""
    records = [
        write_record("movies", "import_movies", {"movies_accepted": (EXPOSURES, "")}, ("import",), files="raw/*.tif", dose_per_frame=1.25)
    ]
    table = exposure_table()
    write_table("results/movies/exposures.star", table, "exposures")
    failed = pd.DataFrame({"exposure_id": ["ef"], "movie": ["raw/broken.tif"], "reason_code": ["TRUNCATED"], "reason": ["is cut off"]})
    write_table("results/movies/failed.star", failed, "failed")
    records.append(_write_preprocessed(table))
    records.append(_write_curated())
    records.append(_write_picks())
    records.append(write_record("stack", "extract_particles", {"particles": (60, "")}, (), exposures="good", picks="picks", box_px=32))
    records.append(
        write_record("class2d", "classify_2d", {"classes": (4, ""), "particles": (60, "")}, ("classes",), particles="stack", classes=4)
    )
    write_table("results/class2d/classes.star", pd.DataFrame({"class_number": [1, 2], "class_count": [40, 20]}), "classes")
    kept = {"classes_kept": (1.0, ""), "particles_kept": (40.0, ""), "particles_excluded": (20.0, "")}
    records.append(write_record("keep", "select_2d", kept, ("selection",), particles="class2d", templates="class2d"))
    records.append(write_record("start", "ab_initio", {"particles": (40, "")}, ("volumes",), particles="keep", symmetry="C1", classes=1))
    records.append(_write_map())
    return records


def _write_preprocessed(table: pd.DataFrame) -> Path:
    rng = np.random.default_rng(5)
    numbers = np.arange(len(table))
    names = [f"results/pre/batches/0001/micrographs/m{number}.mrc" for number in numbers]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_image(name, rng.normal(size=(48, 64)).astype(np.float32), PIXEL)
    measured = table.assign(
        micrograph=names, motion_total=5.0 + numbers, defocus_u=12000.0 + 1000 * numbers, defocus_v=11000.0 + 1000 * numbers,
        ctf_fit_resolution=3.0 + 0.5 * numbers, astigmatism=1000.0,
    )  # fmt: skip
    write_table("results/pre/exposures.star", measured, "exposures")
    return write_record(
        "pre", "preprocess", {"exposures": (len(table), "")}, ("motion", "ctf_resolution"), exposures="movies", extract_box_px=32
    )


def _write_curated() -> Path:
    table = read_table("results/pre/exposures.star", "exposures")
    write_table("results/good/exposures.star", table.iloc[:-1].assign(reason="within all limits"), "exposures")
    Path("results/good/rejected").mkdir()
    rejected = table.iloc[-1:].assign(reason="CTF fit 6.0 Å is above the limit 5.9 Å")
    write_table("results/good/rejected/exposures.star", rejected, "exposures")
    limits = {"accepted": (6.0, ""), "rejected": (1.0, ""), "limit_max_ctf_fit_resolution": (5.9, "Å")}
    return write_record("good", "curate_exposures", limits, ("attributes",), exposures="pre")


def _write_picks() -> Path:
    table = exposure_table().iloc[:-1].loc[lambda rows: rows.index.repeat(10)].reset_index(drop=True)
    picks = table.assign(x_px=20.0, y_px=30.0, pick_score=0.5, pick_power=3.0, diameter=15.0)
    (Path("results") / "picks").mkdir(parents=True, exist_ok=True)
    write_table("results/picks/picks.star", picks, "picks")
    return write_record(
        "picks", "blob_picker", {"picks": (len(picks), "")}, ("pick_scores",), exposures="good", min_diameter=12, max_diameter=18
    )


def _write_map() -> Path:
    folder = Path("results/map")
    folder.mkdir(parents=True, exist_ok=True)
    z, y, x = np.indices((SIDE, SIDE, SIDE)) - SIDE // 2
    ball = np.exp(-(z**2 + y**2 + x**2) / 18).astype(np.float32)
    for name in ("map", "half1", "half2"):
        write_volume(folder / f"{name}.mrc", ball, PIXEL)
    write_volume(folder / "mask.mrc", (ball > 0.3).astype(np.float32), PIXEL)
    curve = np.linspace(1.0, -0.05, SIDE // 2 + 1)
    write_fsc(folder / "fsc.star", fsc_table({"corrected": curve, "tight": curve + 0.01, "unmasked": curve**3}, SIDE, PIXEL))
    particles = pd.DataFrame(
        {"image": [f"{number:06d}@s.mrcs" for number in range(1, 41)], "half": [1, 2] * 20, "image_pixel_size": PIXEL, "box_px": SIDE}
    )
    write_table(folder / "particles.star", particles, "particles")
    metrics = {name: (value, "Å") for name, value in RESOLUTIONS.items()}
    figures = ("fsc", "slices", "surface", "directions")
    return write_record("map", "refine_homogeneous", metrics, figures, particles="keep", volume="start", symmetry="D7", iterations=12)
