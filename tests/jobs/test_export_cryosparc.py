"""export_cryosparc as a job: the folder stands alone, and what comes back is what went."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from firn.errors import InputError
from firn.formats.cryosparc import read_cs, write_cs
from firn.formats.mrc import write_image
from firn.formats.particles import load_images
from firn.formats.tables import read_table, write_table
from firn.jobs import export_cryosparc, import_particles
from firn.runtime.entry import open_job
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import random_phantom
from posed_particles import random_angles, write_particles

PROJECT = Path("results/out/project")
FILE = PROJECT / "particles.cs"


@pytest.fixture(autouse=True)
def particles(tmp_path, monkeypatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    table = write_particles("results/stack", random_phantom(60, 40.0, seed=5), random_angles(30, seed=3), 32, 4.0)
    chance = np.random.default_rng(1)
    micrograph = [f"results/motion/m {number % 2}.mrc" for number in range(30)]
    for name in set(micrograph):
        write_image(Path(name), np.ones((200, 300), dtype=np.float32), 1.0)
    table = table.assign(
        exposure_id="e1", batch="0001", micrograph=micrograph, x_px=chance.uniform(0, 300, 30), y_px=chance.uniform(0, 200, 30)
    )
    write_table("results/stack/particles.star", table, "particles")
    return read_table("results/stack/particles.star", "particles")


def export() -> dict:
    settings = {"particles": "stack"}
    with open_job(export_cryosparc.Params, settings, {"particles": ["results/stack"]}, Path("results/out"), "out", threads=1) as job:
        export_cryosparc.run(job)
    return json.loads(Path("results/out/job.json").read_text())


def test_exposures_have_the_ids_that_their_particles_name():
    micrographs = [f"results/motion/m {number}.mrc" for number in range(2)]
    rows = {"exposure_id": ["e1", "e2"], "micrograph": micrographs, "micrograph_plain": micrographs, "defocus_u": 2e4, "defocus_v": 1.9e4}
    scope = {"defocus_angle": 45.0, "ctf_fit_resolution": 3.5, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    more = {"micrograph_pixel_size": 1.5, "dose_per_frame": 1.2, "frames": 40, "thumbnail": "x.png"}
    write_table("results/motion/exposures.star", pd.DataFrame(rows | scope | more), "exposures")
    settings, inputs = {"particles": "stack", "exposures": "motion"}, {"particles": ["results/stack"], "exposures": ["results/motion"]}
    with open_job(export_cryosparc.Params, settings, inputs, Path("results/out"), "out", threads=1) as job:
        export_cryosparc.run(job)
    fields, particles = read_cs(PROJECT / "exposures.cs"), read_cs(FILE)
    assert set(particles["location/micrograph_uid"]) == set(fields["uid"])
    assert fields["micrograph_blob/shape"].tolist() == [[200, 300]] * 2
    assert fields["mscope_params/total_dose_e_per_A2"] == pytest.approx([48.0, 48.0])
    assert fields["ctf/ctf_fit_to_A"] == pytest.approx([3.5, 3.5])
    assert list(fields["firn/thumbnail"]) == [b"x.png"] * 2
    group = yaml.safe_load((PROJECT / "exposures.csg").read_text())
    assert group["group"]["type"] == "exposure"
    assert group["results"]["micrograph_blob_non_dw"]["type"] == "exposure.micrograph_blob"
    assert (PROJECT / fields["micrograph_blob/path"][0].decode()).is_file()


def test_nothing_to_hand_on_is_refused():
    with (
        pytest.raises(InputError, match="give exposures or particles"),
        open_job(export_cryosparc.Params, {}, {}, Path("results/out"), "out"),
    ):
        pass


def test_aberrations_many_optics_groups_and_other_programs_columns_come_back_with_halves_and_poses(particles):
    chance = np.random.default_rng(2)
    aberrated = particles.assign(
        half=chance.integers(1, 3, 30), optics_name=[f"tilt {number % 20}" for number in range(30)],
        beam_tilt_x=[0.01 * (number % 20) for number in range(30)], beam_tilt_y=-0.3, odd_zernike="[0,0,0.5,0]", even_zernike="[0,0.25]",
        magnification_xx=1.001, magnification_xy=0.002, magnification_yx=0.0, magnification_yy=0.999, phase_shift=chance.uniform(0, 180, 30),
        rlnHelicalTubeID=np.arange(30) % 4, rlnAnglePsiFlipRatio=0.5, class_number=chance.integers(1, 4, 30),
    )  # fmt: skip
    write_table("results/stack/particles.star", aberrated, "particles")
    record = export()
    assert "no aberrations (beam tilt, odd polynomials, even polynomials, magnification)" in record["warnings"][0]
    assert not read_cs(FILE)["ctf/tilt_A"].any()
    found, _ = bring_back()
    for name in aberrated.columns:
        if pd.api.types.is_numeric_dtype(aberrated[name]):
            np.testing.assert_allclose(found[name], aberrated[name], rtol=1e-6, atol=1e-3, err_msg=name)
        else:
            assert list(found[name]) == list(aberrated[name]), name


def test_aberrations_of_cryosparcs_own_come_back_to_it_as_they_were(particles):
    export()
    fields = read_cs(FILE)
    told = fields | {
        "ctf/tilt_A": np.tile(np.float32([123.4, -0.07]), (30, 1)),
        "ctf/anisomag": np.tile(np.float32([0.01, 0, 0, -0.01]), (30, 1)),
    }
    write_cs(FILE, told)
    found, record = bring_back()
    assert "tells of aberrations or of shifts with them, which are kept for export_cryosparc" in record["warnings"][0]
    assert not {"beam_tilt_x", "magnification_xx"} & set(found.columns)
    write_table("results/stack/particles.star", found, "particles")
    assert not any("aberrations" in sentence for sentence in export()["warnings"])
    again = read_cs(FILE)
    for name in ("ctf/tilt_A", "ctf/anisomag", "ctf/trefoil_A"):
        np.testing.assert_array_equal(again[name], told[name])


def bring_back(**settings: object) -> tuple[pd.DataFrame, dict]:
    with open_job(import_particles.Params, {"file": str(FILE), **settings}, {}, Path("results/back"), "back", threads=1) as job:
        import_particles.run(job)
    return read_table("results/back/particles.star", "particles"), json.loads(Path("results/back/job.json").read_text())


def test_nothing_is_lost_on_the_way_to_cryosparc_and_back(particles: pd.DataFrame):
    export()
    found, record = bring_back()
    assert not record["warnings"]
    assert set(particles.columns) <= set(found.columns)
    for name in ("particle_id", "half", "micrograph", "exposure_id", "batch", "image", "optics_name"):
        assert list(found[name]) == list(particles[name]), name
    for name in ("x_px", "y_px", "origin_x", "origin_y"):
        np.testing.assert_allclose(found[name], particles[name], atol=1e-3, err_msg=name)
    turned = [euler_to_matrix(*one[["rot", "tilt", "psi"]].to_numpy().T) for one in (found, particles)]
    assert np.rad2deg(np.linalg.norm(turned[0] - turned[1], axis=(1, 2)).max() / np.sqrt(2)) < 1e-3


def test_files_of_any_name_come_back(particles: pd.DataFrame):
    names = ["a b", "it's", 'a "b"', "#a", "a@b", "a:b", ">a", ">>", "añ日本", "$(touch x)", "a\tb", "-a", "%s", "a\\b", "l" * 200]
    table = particles.iloc[: len(names)].reset_index(drop=True)
    for name in names:
        shutil.copy("results/stack/particles.mrcs", f"results/stack/{name}.mrcs")
        shutil.copy("results/motion/m 0.mrc", f"results/motion/{name}.mrc")
    images = [f"{number + 1:06d}@results/stack/{name}.mrcs" for number, name in enumerate(names)]
    table = table.assign(image=images, micrograph=[f"results/motion/{name}.mrc" for name in names], movie=[f"{name}.tif" for name in names])
    write_table("results/stack/particles.star", table, "particles")
    export()
    found, _ = bring_back()
    for name in ("image", "micrograph", "movie", "particle_id"):
        assert list(found[name]) == list(table[name]), name
    np.testing.assert_array_equal(load_images(found), load_images(table))


def test_the_group_file_names_the_table_and_what_is_in_it():
    export()
    group = yaml.safe_load((PROJECT / "particles.csg").read_text())
    assert group["group"]["type"] == "particle"
    assert set(group["results"]) == {"blob", "ctf", "location", "alignments3D"}
    assert group["results"]["alignments3D"] == {"metafile": ">particles.cs", "num_items": 30, "type": "particle.alignments3D"}


def test_images_are_found_from_the_folder(monkeypatch, particles: pd.DataFrame):
    export()
    expected = load_images(particles)
    monkeypatch.chdir(PROJECT)
    fields = read_cs("particles.cs")
    names = [f"{index + 1}@{path.decode()}" for path, index in zip(fields["blob/path"], fields["blob/idx"], strict=True)]
    np.testing.assert_array_equal(load_images(pd.DataFrame({"image": names})), expected)


def test_a_group_in_several_files_is_brought_in_whole():
    export()
    fields, group = read_cs(FILE), yaml.safe_load((PROJECT / "particles.csg").read_text())
    slots = {slot: {name: values for name, values in fields.items() if name.startswith(f"{slot}/")} for slot in ("blob", "ctf")}
    for slot, own in slots.items():
        write_cs(PROJECT / f"{slot}.cs", {"uid": fields["uid"]} | own)
    group["results"] = {slot: {"metafile": f">{slot}.cs"} for slot in slots}
    (PROJECT / "parts.csg").write_text(yaml.safe_dump(group))
    found, _ = bring_back(file=str(PROJECT / "parts.csg"))
    assert len(found) == 30
    for text in ("results: [1, 2]", "results: {}", "{", "a: b", "results: {blob: {metafile: '>gone.cs'}}"):
        (PROJECT / "parts.csg").write_text(text)
        with pytest.raises(InputError, match=r"parts\.csg|gone\.cs"):
            bring_back(file=str(PROJECT / "parts.csg"))


def test_dark_protein_becomes_white(particles: pd.DataFrame):
    export()
    fields = read_cs(FILE)
    write_cs(FILE, fields | {"blob/sign": -fields["blob/sign"]})
    found, record = bring_back()
    np.testing.assert_array_equal(load_images(found), -load_images(particles))
    assert any("dark" in sentence for sentence in record["warnings"])
    write_cs(FILE, fields | {"blob/sign": np.where(np.arange(30) % 2, 1.0, -1.0).astype(np.float32)})
    with pytest.raises(InputError, match="white in some images and dark in others"):
        bring_back()


def test_a_passthrough_file_completes_the_first():
    export()
    fields = read_cs(FILE)
    write_cs("rest.cs", {name: values for name, values in fields.items() if name == "uid" or name.startswith("ctf/")})
    write_cs(FILE, {name: values for name, values in fields.items() if not name.startswith("ctf/")})
    found, _ = bring_back(passthrough="rest.cs")
    assert len(found) == 30
    with pytest.raises(InputError, match="passthrough"):
        bring_back()
