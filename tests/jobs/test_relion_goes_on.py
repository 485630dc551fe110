"""The real RELION goes on from an exported project, and firn from what RELION made there: ids, half-sets, poses and maps survive both ways."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from firn.formats.fsc import read_fsc
from firn.formats.mrc import read_mrc, write_volume
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import export_relion, import_relion, reconstruct, validate_fsc
from firn.kernels.fsc import fsc
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from half_maps import noisy_halves
from posed_particles import random_angles, write_particles

BOX, PIXEL, COUNT = 24, 5.0, 120
PHANTOM = random_phantom(60, 40.0, seed=5)
PROJECT = Path("results/to_relion/project")
COMMON = (
    "--i", "Import/job001/particles.star", "--ctf", "--particle_diameter", "100", "--norm", "--scale", "--flatten_solvent", "--zero_mask",
    "--pad", "1", "--random_seed", "1",
)  # fmt: skip
THREADS = {
    "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
}  # fmt: skip
"""Three processes of MPI on as few cores as there are, for whoever runs the tests."""


def needs(*programs: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(any(shutil.which(name) is None for name in programs), reason=f"needs {' and '.join(programs)}")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run folder whose particles, map, half maps and mask are exported."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _make_session()
        inputs = {"particles": ["results/my stack"], "volume": ["results/map"]}
        settings = {"particles": "stack", "volume": "map"}
        with open_job(export_relion.Params, settings, inputs, Path("results/to_relion"), "to_relion", threads=1) as job:
            export_relion.run(job)
    return folder


@pytest.fixture(autouse=True)
def _in_run_folder(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder)


def _make_session() -> None:
    table = write_particles("results/my stack", PHANTOM, random_angles(COUNT, seed=3), BOX, PIXEL, snr=2.0)
    exposures = [f"e{number % 6}" for number in range(COUNT)]
    table = table.assign(
        exposure_id=exposures, batch="0001", micrograph=[f"results/motion/batches/0001/{name}.mrc" for name in exposures],
        half=[1 + number // 3 % 2 for number in range(COUNT)], optics_name=[f"tilt {number % 3}" for number in range(COUNT)],
        beam_tilt_x=[0.1 * (number % 3) for number in range(COUNT)], beam_tilt_y=-0.05, odd_zernike="[0,0,0.5,0]", even_zernike="[0,0.25]",
        magnification_xx=1.001, magnification_xy=0.0, magnification_yx=0.0, magnification_yy=0.999, phase_shift=10.0,
        rlnHelicalTubeID=[number % 4 for number in range(COUNT)], rlnAnglePsiFlipRatio=0.5,
    )  # fmt: skip
    write_table("results/my stack/particles.star", table, "particles")
    signal = np.asarray(phantom_volume(PHANTOM, BOX, PIXEL), dtype=np.float32)
    halves = noisy_halves(signal, 1.0)
    for name, volume in zip(("half1", "half2", "map", "mask"), (*halves, sum(halves) / 2, ball(10, 4)), strict=True):
        write_volume(Path(f"results/map/{name}.mrc"), np.asarray(volume, dtype=np.float32), PIXEL)


def ball(radius: float, edge: float) -> np.ndarray:
    """A ball `(BOX, BOX, BOX)` with a raised-cosine edge that ends at the radius, in pixels."""
    distance = np.sqrt(((np.indices((BOX,) * 3) - BOX // 2) ** 2).sum(axis=0))
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip((radius - distance) / edge, 0, 1)), dtype=np.float32)


def relion(*command: str) -> None:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False, env=os.environ | THREADS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def bring_in(name: str, **settings: str) -> Path:
    home = Path("results") / name
    with open_job(import_relion.Params, {"project": str(PROJECT), **settings}, {}, home, name, threads=1) as job:
        import_relion.run(job)
    return home


def compare(found: pd.DataFrame, but: tuple[str, ...] = ()) -> None:
    """No particle, half-set, id, optics group or column is lost, and poses and shifts agree to 1e-3."""
    table = read_table("results/my stack/particles.star", "particles")
    found = found.set_index("particle_id").loc[table["particle_id"]].reset_index()
    for name in table.columns.difference(but):
        if pd.api.types.is_numeric_dtype(table[name]):
            np.testing.assert_allclose(found[name], table[name], rtol=1e-5, atol=1e-3, err_msg=name)
        else:
            assert list(found[name]) == list(table[name]), name


@pytest.fixture(scope="module")
def refined(run_folder) -> Path:
    """RELION's gold-standard refinement to its end, with the poses that it is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run_folder)
        (PROJECT / "Refine3D/job003").mkdir(parents=True)
        relion(
            "mpirun", "-n", "3", "relion_refine_mpi", *COMMON, "--ref", "Import/job002/map.mrc", "--o", "Refine3D/job003/run",
            "--auto_refine", "--split_random_halves", "--skip_align", "--ini_high", "20", "--low_resol_join_halves", "40",
        )  # fmt: skip
        return bring_in("refined", particles="Refine3D/job003", volume="Refine3D/job003")


@pytest.mark.relion
@needs("relion_refine_mpi", "mpirun")
def test_a_refinement_of_relions_keeps_every_particle_half_set_pose_and_column(refined):
    table = read_table(refined / "particles.star", "particles")
    compare(table)
    theirs = read_star(PROJECT / "Refine3D/job003/run_data.star")["particles"]
    assert set(theirs.columns) - {"rlnOpticsGroup"} <= set(read_star(refined / "particles.star")["particles"].columns)


@pytest.mark.relion
@needs("relion_refine_mpi", "mpirun")
def test_firn_reconstructs_the_half_maps_that_relion_refined(refined):
    for name, theirs in (("half1", "run_half1_class001_unfil"), ("half2", "run_half2_class001_unfil")):
        np.testing.assert_array_equal(read_mrc(refined / f"{name}.mrc")[0], read_mrc(PROJECT / f"Refine3D/job003/{theirs}.mrc")[0])
    settings = {"particles": "refined"}
    with open_job(reconstruct.Params, settings, {"particles": [str(refined)]}, Path("results/rebuilt"), "rebuilt", threads=1) as job:
        reconstruct.run(job)
    inside = torch.from_numpy(ball(10, 4))
    for half in (1, 2):
        ours, theirs = (torch.from_numpy(read_mrc(folder / f"half{half}.mrc")[0]) * inside for folder in (Path("results/rebuilt"), refined))
        assert float(fsc(ours, theirs)[1:9].min()) > 0.9


@pytest.mark.relion
@needs("relion_refine")
def test_classes_of_relions_come_back_with_their_maps_and_particles():
    (PROJECT / "Class3D/job004").mkdir(parents=True)
    relion("relion_refine", *COMMON, "--ref", "Import/job002/map.mrc", "--o", "Class3D/job004/run", "--K", "2", "--iter", "2", "--skip_align",
           "--ini_high", "20")  # fmt: skip
    home = bring_in("classes", particles="Class3D/job004", volume="Class3D/job004")
    table = read_table(home / "particles.star", "particles")
    compare(table)
    for number in (1, 2):
        theirs = read_mrc(PROJECT / f"Class3D/job004/run_it002_class00{number}.mrc")[0]
        np.testing.assert_array_equal(read_mrc(home / f"class_{number}/map.mrc")[0], theirs)
        members = read_table(home / f"class_{number}/particles.star", "particles")
        assert set(members["particle_id"]) == set(table["particle_id"][table["class_number"] == number])


@pytest.mark.relion
@needs("relion_refine")
def test_a_2d_classification_of_relions_gives_its_own_angles_to_the_same_particles():
    (PROJECT / "Class2D/job005").mkdir(parents=True)
    relion("relion_refine", *COMMON, "--o", "Class2D/job005/run", "--K", "2", "--iter", "1", "--psi_step", "30", "--offset_range", "2",
           "--offset_step", "2", "--oversampling", "0")  # fmt: skip
    table = read_table(bring_in("sorted", particles="Class2D/job005") / "particles.star", "particles")
    compare(table, but=("psi", "origin_x", "origin_y", "rot", "tilt"))
    theirs = read_star(PROJECT / "Class2D/job005/run_it001_data.star")["particles"].set_index("firnParticleId").loc[table["particle_id"]]
    np.testing.assert_allclose(table["psi"], theirs["rlnAnglePsi"], atol=1e-6)
    assert table["class_number"].tolist() == theirs["rlnClassNumber"].tolist()


@pytest.mark.relion
@needs("relion_pipeliner", "relion_postprocess")
def test_relions_pipeline_runs_its_own_job_on_the_exported_halves_and_finds_the_same_resolution():
    half, mask = "Import/job002/run_half1_class001_unfil.mrc", "Import/job002/mask.mrc"
    options = f"One of the 2 unfiltered half-maps: == {half};Solvent mask: == {mask};Calibrated pixel size (A) == {PIXEL}"
    before = read_star(PROJECT / "default_pipeline.star")["pipeline_general"]["rlnPipeLineJobCounter"].iloc[0]
    relion("relion_pipeliner", "--addJob", "PostProcess", "--addJobOptions", options)
    name = f"PostProcess/job{before:03d}"
    relion("relion_pipeliner", "--RunJobs", f"{name}/", "--sec_wait_after", "0")
    pipeline = read_star(PROJECT / "default_pipeline.star")
    edges = pipeline["pipeline_input_edges"]
    assert set(edges["rlnPipeLineEdgeFromNode"][edges["rlnPipeLineEdgeProcess"] == f"{name}/"]) == {half, mask}
    inputs = {"volume": ["results/map"], "mask": ["results/map"]}
    with open_job(validate_fsc.Params, {"volume": "map", "mask": "map"}, inputs, Path("results/final"), "final", threads=1) as job:
        validate_fsc.run(job)
    curves = [read_fsc(path)["corrected"].to_numpy() for path in ("results/final/fsc.star", PROJECT / name / "postprocess.star")]
    shells = [int(np.argmax(curve < 0.143)) for curve in curves]
    assert 3 < shells[1] < BOX // 2
    assert abs(shells[0] - shells[1]) <= 1
    brought = bring_in("sharpened", volume=name)
    np.testing.assert_array_equal(read_mrc(brought / "half2.mrc")[0], read_mrc("results/map/half2.mrc")[0])
