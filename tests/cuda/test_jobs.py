"""Small jobs on a device, from files to files, give what they give on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from ctf_images import noisy_micrograph
from false_picks import classify
from false_picks import write_particles as write_picks
from firn.formats.motion_star import read_motion
from firn.formats.mrc import read_mrc, write_image
from firn.formats.particles import read_particles
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_volume
from firn.jobs import patch_ctf, patch_motion, refine_homogeneous
from firn.kernels.fsc import fsc
from firn.kernels.rotation import euler_matrices, rotation_distance
from firn.runtime import entry
from firn.runtime.entry import open_job
from moving_specimen import FRAMES, SIDE, counted_movie
from refine_session import write_session

OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}


@pytest.fixture
def twice(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], tuple[Path, Path]]:
    """Do the work of a run folder on the CPU and on the device; the two result folders."""
    monkeypatch.chdir(tmp_path)

    def work(job: Callable[[], None]) -> tuple[Path, Path]:
        for kind in (torch.device("cpu"), device):
            monkeypatch.setattr(entry, "lease_devices", lambda lane, count=1, kind=kind: [kind] * count)
            job()
            Path("results").rename(f"results_{kind.type}")
        return Path("results_cpu"), Path(f"results_{device.type}")

    return work


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel().astype(float), second.ravel().astype(float))[0, 1])


def test_patch_motion(twice) -> None:
    with tifffile.TiffWriter("movie.tif") as tiff:
        for frame in counted_movie(3.0, 1.0):
            tiff.write(frame, compression="lzw", photometric="minisblack", contiguous=False, metadata=None)

    def correct() -> None:
        row = {"exposure_id": "e0", "batch": "0001", "movie": "movie.tif", "frames": FRAMES, "width_px": SIDE, "height_px": SIDE}
        row |= {"dose_per_frame": 2.0, "pre_exposure": 0.0, "movie_pixel_size": 3.0, "micrograph_pixel_size": 3.0, **OPTICS}
        write_table("results/in/exposures.star", pd.DataFrame([row]), "exposures")
        settings, home = {"exposures": "in", "max_align_resolution": 8.0}, Path("results/motion/batches/0001")
        with open_job(patch_motion.Params, settings, {"exposures": ["results/in"]}, home, "motion", "0001", threads=1) as job:
            patch_motion.run(job)

    tables, images, shifts = [], [], []
    for folder in twice(correct):
        tables.append(read_table(folder / "motion/batches/0001/exposures.star", "exposures"))
        Path("results").symlink_to(folder, target_is_directory=True)
        images.append(read_mrc(tables[-1]["micrograph"][0])[0])
        shifts.append(read_motion(Path(tables[-1]["motion_star"][0]))[0])
        Path("results").unlink()
    assert np.abs(np.asarray(shifts[0]) - np.asarray(shifts[1])).max() < 0.02
    assert correlation(*images) > 0.9999


def test_patch_ctf(twice) -> None:
    write_image("image.mrc", noisy_micrograph((400, 400), 1.5, 15000, 14500, 20, cs=2.7, ac=0.1, signal=2.0), 1.5)

    def fit() -> None:
        row = {"exposure_id": "e0", "batch": "0001", "micrograph": "image.mrc", "micrograph_pixel_size": 1.5, **OPTICS}
        write_table("results/in/exposures.star", pd.DataFrame([row]), "exposures")
        home = Path("results/ctf/batches/0001")
        with open_job(patch_ctf.Params, {"exposures": "in"}, {"exposures": ["results/in"]}, home, "ctf", "0001", threads=1) as job:
            patch_ctf.run(job)

    first, second = (read_table(folder / "ctf/batches/0001/exposures.star", "exposures").iloc[0] for folder in twice(fit))
    assert second["defocus_u"] == pytest.approx(first["defocus_u"], abs=5.0)
    assert second["defocus_v"] == pytest.approx(first["defocus_v"], abs=5.0)
    assert second["ctf_fit_resolution"] == pytest.approx(first["ctf_fit_resolution"], rel=0.02)


def test_classify_2d(twice) -> None:
    def sort() -> None:
        write_picks(Path("results/stack"), 60, 10)
        classify(classes=3, iterations=3)

    found = [read_table(folder / "class2d/particles.star", "particles") for folder in twice(sort)]
    same = found[0]["class_number"].to_numpy() == found[1]["class_number"].to_numpy()
    turned = np.abs((found[0]["psi"] - found[1]["psi"] + 180) % 360 - 180).to_numpy()
    assert same.mean() > 0.95
    assert np.median(turned[same]) < 1.0


def test_refine_homogeneous(twice, tmp_path: Path) -> None:
    write_session(tmp_path, count=40, snr=1.0)

    def refine() -> None:
        settings = {"particles": "keep", "volume": "start", "initial_lowpass": 40.0, "particle_diameter": 115.0, "iterations": 2}
        inputs = {"particles": ["keep"], "volume": ["start"]}
        with open_job(refine_homogeneous.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
            refine_homogeneous.run(job)

    maps, turns = [], []
    for folder in twice(refine):
        maps.append(torch.tensor(read_volume(folder / "map/map.mrc")[0]))
        turns.append(euler_matrices(torch.tensor(read_particles(folder / "map/particles.star")[["rot", "tilt", "psi"]].to_numpy(float))))
    assert float((rotation_distance(*turns) < 1.0).double().mean()) > 0.95
    assert float(fsc(*maps)[1:6].min()) > 0.99
