"""full_frame_motion from movie files to micrographs: the drift is found, and nothing but the drift."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.formats.motion_star import read_motion
from firn.formats.mrc import read_mrc
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import full_frame_motion
from firn.runtime.entry import open_job
from moving_specimen import FRAMES, SIDE, counted_movie, displacement

PIXEL = 3.0
HOME = Path("results/drift/batches/0001")


def test_the_drift_of_a_movie_is_found_and_no_field_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tifffile.TiffWriter("m.tif") as tiff:
        for frame in counted_movie(4.0, 1.0):
            tiff.write(np.ascontiguousarray(frame[::-1]), photometric="minisblack", contiguous=False, metadata=None)
    row = {"exposure_id": "e0", "batch": "0001", "movie": "m.tif", "frames": FRAMES, "width_px": SIDE, "height_px": SIDE}
    optics = {"dose_per_frame": 2.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "movie_pixel_size": PIXEL}
    write_table("results/movies/batches/0001/exposures.star", pd.DataFrame([row | optics]), "exposures")
    settings = {"exposures": "movies", "max_align_resolution": 8.0}
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(full_frame_motion.Params, settings, inputs, HOME, "drift", "0001", threads=1) as job:
        full_frame_motion.run(job)
    result = read_table(HOME / "exposures.star", "exposures").iloc[0]
    assert read_mrc(result["micrograph"])[0].shape == (SIDE, SIDE)
    shifts, field, _ = read_motion(result["motion_star"])
    assert field is None
    assert int(read_star(HOME / "motion/e0.star")["general"]["rlnMotionModelVersion"].iloc[0]) == 0
    truth = displacement(np.array([SIDE / 2]), np.array([SIDE / 2]), 4.0, 1.0)[:, 0] * PIXEL
    np.testing.assert_allclose(-shifts, truth, atol=0.3 * PIXEL)
