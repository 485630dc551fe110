"""Auto-refinement by RELION: the real one where it is installed, and a stand-in for what it is told, cut short, or missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.fsc import read_fsc
from firn.formats.particles import read_particles
from firn.formats.tables import write_table
from firn.formats.volumes import read_halves, read_volume
from firn.jobs import relion_refine3d
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, Truth, write_session
from relion_stand_in import install

HOME = Path("results/map")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refine(**settings: Any) -> pd.DataFrame:
    wanted = {"type": "relion_refine3d", "particles": "keep", "volume": "start", "particle_diameter": 115} | settings
    with open_job(relion_refine3d.Params, wanted, {"particles": ["keep"], "volume": ["start"]}, HOME, "map", threads=1) as job:
        relion_refine3d.run(job)
    return read_particles(HOME / "particles.star")


def posed_session(count: int) -> tuple[Truth, pd.DataFrame]:
    """Particles with their true poses, and names as firn has them."""
    truth = write_session(Path(), count, snr=1.0)
    rot, tilt, psi = truth.angles.T
    table = read_particles("keep/particles.star").assign(
        rot=rot, tilt=tilt, psi=psi, exposure_id="e 1", particle_id=[f"p{i}" for i in range(count)]
    )
    table = table.assign(origin_x=-truth.shifts[:, 0], origin_y=-truth.shifts[:, 1])
    write_table("keep/particles.star", table, "particles")
    return truth, table


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path("bin"))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))


@pytest.mark.relion
@pytest.mark.skipif(not (shutil.which("relion_refine_mpi") and shutil.which("mpirun")), reason="needs RELION with MPI")
def test_relion_refines_and_its_maps_and_poses_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    _, given = posed_session(60)
    quick = ["--auto_ignore_angles", "--auto_resol_angles"]
    found = refine(initial_lowpass=40, healpix_order=3, local_from_order=3, pad=1, offset_range=3, arguments=quick)
    for name in ("image", "half", "particle_id", "exposure_id", "defocus_u"):
        assert found[name].tolist() == given[name].tolist()
    assert {"rot", "tilt", "psi", "origin_x", "origin_y", "class_probability"} <= set(found.columns)
    volume, pixel_size = read_volume(HOME / "map.mrc")
    assert pixel_size == pytest.approx(PIXEL)
    assert np.corrcoef(volume.ravel(), phantom_volume(PHANTOM, BOX, PIXEL).ravel())[0, 1] > 0.8
    first, second, _ = read_halves(HOME)
    assert not np.array_equal(first, second)
    assert {"unmasked", "tight", "corrected"} <= set(read_fsc(HOME / "fsc.star").columns)
    told = json.loads((HOME / "relion.json").read_text())
    assert told["version"].startswith("RELION version")
    assert told["ranks"] == "3"
    assert not list(Path("results").glob(".map*"))


def test_mpi_starts_workers_and_one_more_and_rows_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    _, given = posed_session(12)
    found = refine(workers=4, symmetry="D7", initial_lowpass=30, arguments=["--pool", "9"])
    ranks, program, *arguments = Path("mpirun.txt").read_text().split("\n")[1:]
    assert ranks == "5"
    assert program == str(Path("bin/relion_refine_mpi").absolute())
    told = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert {name: told[name] for name in ("--sym", "--ini_high", "--pool", "--j", "--particle_diameter", "--healpix_order")} == {
        "--sym": "D7", "--ini_high": "30", "--pool": "9", "--j": "1", "--particle_diameter": "115", "--healpix_order": "2",
    }  # fmt: skip
    assert {"--auto_refine", "--split_random_halves", "--dont_combine_weights_via_disc", "--firstiter_cc", "--ctf"} <= set(arguments)
    assert not {"--gpu", "--preread_images", "--no_parallel_disc_io"} & set(arguments)
    assert arguments.count("--pool") == 1
    assert found["image"].tolist() == given["image"].tolist()
    assert found["half"].tolist() == given["half"].tolist()
    assert (found["rot"] == 3).all()
    assert found["exposure_id"].tolist() == given["exposure_id"].tolist()


def test_a_run_cut_short_goes_on_from_its_last_whole_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    posed_session(6)
    monkeypatch.setenv("STOP_AT", "3")
    with pytest.raises(InputError, match="was killed by signal 9"):
        refine()
    monkeypatch.delenv("STOP_AT")
    cut = next(Path("results").glob(".map.state/*/run_it002_data.star"))
    cut.write_text(cut.read_text()[:-60])
    found = refine()
    arguments = Path("mpirun.txt").read_text().split("\n")
    assert arguments[arguments.index("--continue") + 1].endswith("run_it001_optimiser.star")
    assert "--i" not in arguments
    assert (found["rot"] == 3).all()
    notes = [json.loads(line) for line in Path("logs/map.jsonl").read_text().splitlines()]
    assert [note["done"] for note in notes if "done" in note] == [0, 1, 2, 1, 2]
    assert [note["continued_after"] for note in notes if "continued_after" in note] == [1]


def test_a_run_cut_short_in_its_first_iteration_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    posed_session(6)
    monkeypatch.setenv("STOP_AT", "1")
    with pytest.raises(InputError, match="was killed by signal 9"):
        refine()
    assert next(Path("results").glob(".map.state/*/run_it000_optimiser.star")).exists()
    monkeypatch.delenv("STOP_AT")
    assert (refine()["rot"] == 3).all()
    assert "--continue" not in Path("mpirun.txt").read_text().split("\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, "workers: 3 cannot be shared evenly by two independent halves"),
        ({"particle_diameter": 999}, "larger than the box, 160 Å"),
        ({"executable": "nowhere/relion_refine"}, "'nowhere/relion_refine_mpi' is no program"),
        ({"mpirun": "nowhere/mpirun"}, "'nowhere/mpirun' is no program"),
        ({"arguments": ["--fail"]}, "relion_refine_mpi: The stand-in was told to fail$"),
        ({"arguments": ["--auto_iter_max", "2"]}, "relion_refine ended without writing run_half1_class001_unfil.mrc"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    posed_session(6)
    with pytest.raises(InputError, match=message):
        refine(**settings)
    assert not HOME.exists()


def test_relion_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    posed_session(4)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="the program relion_refine_mpi is not on the PATH; install it, or give its path as executable"):
        refine()
