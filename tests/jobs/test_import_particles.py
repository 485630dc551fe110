"""import_particles as a job: both RELION forms, identities, and what is missing."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.ids import half_set
from firn.formats.mrc import write_stack
from firn.formats.particles import load_images, read_particles
from firn.formats.star import write_star
from firn.formats.tables import read_table
from firn.jobs import import_particles
from firn.runtime.entry import open_job

CTF = {"rlnDefocusU": 15000.0, "rlnDefocusV": 14000.0, "rlnDefocusAngle": 30.0}
OPTICS = {
    "rlnOpticsGroupName": "og1",
    "rlnOpticsGroup": 1,
    "rlnVoltage": 300.0,
    "rlnSphericalAberration": 2.7,
    "rlnAmplitudeContrast": 0.1,
    "rlnImagePixelSize": 1.5,
}


@pytest.fixture(autouse=True)
def _in_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_stack(path: str, count: int, box: int = 16, seed: int = 0) -> None:
    write_stack(path, np.random.default_rng(seed).standard_normal((count, box, box)), 1.5)


def rows(**columns) -> pd.DataFrame:
    images = [f"{i:06d}@Extract/a.mrcs" for i in (1, 2, 3)] + ["000002@Extract/b.mrcs"]
    names = ["mic/a.mrc"] * 3 + ["mic/b.mrc"]
    return pd.DataFrame({"rlnImageName": images, "rlnMicrographName": names, **CTF, **columns})


def write_new(**columns) -> None:
    write_star("relion/run_data.star", {"optics": pd.DataFrame([OPTICS]), "particles": rows(rlnOpticsGroup=1, **columns)})


def import_all(**settings) -> dict:
    home = Path("results/stack")
    with open_job(import_particles.Params, {"file": "relion/run_data.star", **settings}, {}, home, "stack", threads=1) as job:
        import_particles.run(job)
    return json.loads((home / "job.json").read_text())


def stacks(folder: str = "") -> None:
    make_stack(f"{folder}Extract/a.mrcs", 3, seed=1)
    make_stack(f"{folder}Extract/b.mrcs", 2, seed=2)


def test_a_relion_3_1_file_comes_in_with_its_poses_halves_and_pixels():
    stacks()
    write_new(
        rlnAngleRot=[10.0, 20, 30, 40],
        rlnOriginXAngst=[1.5, 0, 0, -3],
        rlnOriginYAngst=0.5,
        rlnRandomSubset=[2, 1, 2, 1],
        ownThing=[1, 2, 3, 4],
    )
    record = import_all()
    table = read_particles("results/stack/particles.star")
    assert table["half"].tolist() == [2, 1, 2, 1]
    assert table["rot"].tolist() == [10, 20, 30, 40]
    assert table["origin_x"].tolist() == [1.5, 0, 0, -3]
    assert table["ownThing"].tolist() == [1, 2, 3, 4]
    assert table["box_px"].tolist() == [16] * 4
    assert load_images(table).shape == (4, 16, 16)
    assert record["metrics"]["particles"]["value"] == 4
    assert record["metrics"]["exposures"]["value"] == 2


def test_a_relion_3_0_file_gets_its_pixel_size_and_its_shifts_in_angstroms():
    stacks()
    old = {
        "rlnVoltage": 300.0,
        "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1,
        "rlnDetectorPixelSize": 7.0,
        "rlnMagnification": 50000.0,
    }
    write_star("relion/run_data.star", {"images": rows(rlnOriginX=[2.0, 0, 0, 0], rlnOriginY=-1.0, **old)})
    import_all()
    table = read_particles("results/stack/particles.star")
    assert table["image_pixel_size"].tolist() == pytest.approx([1.4] * 4)
    assert table["origin_x"][0] == pytest.approx(2.8)
    assert table["origin_y"][0] == pytest.approx(-1.4)
    assert "rlnOriginX" not in table.columns


def test_ids_are_unique_the_same_each_time_and_decide_missing_halves():
    stacks()
    write_new()
    import_all()
    first = read_table("results/stack/particles.star", "particles")
    import_all()
    second = read_table("results/stack/particles.star", "particles")
    assert first["particle_id"].is_unique
    assert first["particle_id"].tolist() == second["particle_id"].tolist()
    assert first["half"].tolist() == [half_set(name) for name in first["particle_id"]]
    assert first["exposure_id"].nunique() == 2


def test_overrides_win_and_poses_can_be_forgotten():
    stacks()
    write_new(rlnAngleRot=10.0, rlnAngleTilt=10.0, rlnAnglePsi=10.0, rlnOriginXAngst=5.0, rlnOriginYAngst=5.0, rlnClassNumber=3)
    record = import_all(pixel_size=2.0, voltage_kv=200.0, cs_mm=1.0, amplitude_contrast=0.07, ignore_poses=True)
    table = read_table("results/stack/particles.star", "particles")
    assert table.loc[0, ["image_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast"]].tolist() == [2.0, 200.0, 1.0, 0.07]
    assert not {"rot", "tilt", "psi", "class_number"} & set(table.columns)
    assert (table[["origin_x", "origin_y"]] == 0).all(axis=None)
    assert any("header" in warning for warning in record["warnings"])


@pytest.mark.parametrize(("place", "folder"), [("relion/", None), ("", None), ("elsewhere/", "elsewhere")])
def test_stacks_are_found_beside_the_file_in_the_run_folder_or_where_told(place, folder):
    stacks(place)
    write_new()
    import_all(**({"folder": folder} if folder else {}))
    table = read_table("results/stack/particles.star", "particles")
    assert table["image"][0] == f"000001@{place}Extract/a.mrcs"


def test_a_missing_stack_is_named():
    make_stack("Extract/a.mrcs", 3)
    write_new()
    with pytest.raises(InputError, match=r"1 of 2 stacks are not there, the first is Extract/b\.mrcs"):
        import_all()


def test_an_image_beyond_the_end_of_its_stack_is_named():
    stacks()
    make_stack("Extract/a.mrcs", 2)
    write_new()
    with pytest.raises(InputError, match=r"image 3 of Extract/a\.mrcs, which holds 2"):
        import_all()


def test_stacks_of_different_boxes_are_refused():
    stacks()
    make_stack("Extract/b.mrcs", 2, box=20)
    write_new()
    with pytest.raises(InputError, match="different boxes"):
        import_all()


@pytest.mark.parametrize(("label", "sentence"), [("rlnDefocusU", "_rlnDefocusU"), ("rlnImageName", "_rlnImageName")])
def test_a_missing_column_is_named_by_its_relion_label(label, sentence):
    stacks()
    table = rows(rlnOpticsGroup=1).drop(columns=label)
    write_star("relion/run_data.star", {"optics": pd.DataFrame([OPTICS]), "particles": table})
    with pytest.raises(InputError, match=sentence):
        import_all()


def test_missing_optics_are_asked_for_by_parameter():
    stacks()
    write_star("relion/run_data.star", {"particles": rows()})
    with pytest.raises(InputError, match="_rlnVoltage, and voltage_kv is not given"):
        import_all(pixel_size=1.5)
    import_all(pixel_size=1.5, voltage_kv=300, cs_mm=2.7, amplitude_contrast=0.1)
    assert len(read_table("results/stack/particles.star", "particles")) == 4


def test_an_unfit_name_of_an_image_is_shown():
    stacks()
    write_star(
        "relion/run_data.star",
        {"optics": pd.DataFrame([OPTICS]), "particles": rows(rlnOpticsGroup=1).assign(rlnImageName="Extract/a.mrcs")},
    )
    with pytest.raises(InputError, match=r"'Extract/a\.mrcs' is not an image name"):
        import_all()


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_stack_create") is None, reason="RELION is not installed")
def test_relion_reads_the_table_and_its_stacks():
    stacks()
    write_new(rlnRandomSubset=[2, 1, 2, 1])
    import_all()
    subprocess.run(
        ["relion_stack_create", "--i", "results/stack/particles.star", "--o", "again"], check=True, capture_output=True, timeout=60
    )
    again = load_images(pd.DataFrame({"image": [f"00000{i}@again.mrcs" for i in (1, 2, 3, 4)]}))
    assert np.allclose(again, load_images(read_table("results/stack/particles.star", "particles")), atol=1e-5)
