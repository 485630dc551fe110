"""A batch none of whose movies can be used: every later step takes it, makes nothing of it and does not stop."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firn.formats.tables import read_table, write_table
from firn.jobs import (
    blob_picker,
    ctf_at_picks,
    extract_particles,
    full_frame_motion,
    junk_detector,
    patch_ctf,
    patch_motion,
    preprocess,
)
from firn.runtime.entry import open_job

BATCH = Path("batches/0001")


def _run(module: Any, name: str, inputs: dict[str, str], **settings: Any) -> Path:
    scatter = module.Params.scatter
    home = Path("results", name) / (BATCH if scatter else "")
    folders = {slot: [str(Path("results", up) / (BATCH if scatter else ""))] for slot, up in inputs.items()}
    with open_job(module.Params, {**inputs, **settings}, folders, home, name, "0001" if scatter else None, threads=1) as job:
        module.run(job)
    return home


@pytest.fixture
def movies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tif").write_bytes(b"no movie")
    row = {"exposure_id": "e1", "batch": "0001", "movie": "m.tif", "frames": 4, "width_px": 64, "height_px": 64, "dose_per_frame": 1.0}
    optics = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "movie_pixel_size": 2.0, "micrograph_pixel_size": 2.0}
    write_table("results/movies/batches/0001/exposures.star", pd.DataFrame([row | optics]), "exposures")


@pytest.mark.parametrize("motion", [patch_motion, full_frame_motion])
def test_every_step_takes_a_batch_of_which_nothing_is_left(movies, motion):
    _run(motion, "motion", {"exposures": "movies"})
    _run(patch_ctf, "ctf", {"exposures": "motion"})
    _run(junk_detector, "junk", {"exposures": "ctf"}, diameter=100.0)
    _run(blob_picker, "picks", {"exposures": "ctf"}, min_diameter=80.0, max_diameter=100.0)
    _run(ctf_at_picks, "local", {"exposures": "ctf", "picks": "picks"})
    home = _run(extract_particles, "particles", {"exposures": "ctf", "picks": "picks"}, box_px=32)
    assert read_table(home / "particles.star", "particles").empty
    assert len(read_table("results/motion/batches/0001/failed.star", "failed")) == 1


def test_the_fused_worker_writes_the_same_empty_tables(movies):
    home = _run(preprocess, "all", {"exposures": "movies"}, blob_min_diameter=80.0, blob_max_diameter=100.0, extract_box_px=32)
    for kind in ("exposures", "picks", "particles"):
        assert read_table(home / f"{kind}.star", kind).empty
    assert len(read_table(home / "failed.star", "failed")) == 1
