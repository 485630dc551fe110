"""import_relion as a job: what RELION's jobs made comes in whole, with the paths, ids, half-sets and classes that it had."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.linked_files import path_in_run
from firn.formats.mrc import read_mrc, write_volume
from firn.formats.particles import load_images
from firn.formats.relion_jobs import find_maps, find_output
from firn.formats.star import read_star, write_star
from firn.formats.tables import read_table
from firn.jobs import export_relion, extract_particles, import_relion, select_2d
from firn.runtime.entry import open_job
from relion_folder import BOX, CTF, MICROGRAPHS, OPTICS, PIXEL, ball, make_project, poses, write_classes, write_particles

HOME = Path("results/relion")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    return make_project(tmp_path / "theirs")


def bring_in(home: Path = HOME, **settings: object) -> dict:
    settings = {"project": "../theirs", **settings}
    with open_job(import_relion.Params, settings, {}, home, "relion", threads=1) as job:
        import_relion.run(job)
    return json.loads((home / "job.json").read_text())


def table_of(kind: str, folder: str = "") -> pd.DataFrame:
    return read_table(HOME / folder / f"{kind}.star", kind)


def test_micrographs_come_with_their_ctf_optics_sizes_and_places(project):
    record = bring_in(micrographs="CtfFind/job003", batch_size=2)
    table = table_of("exposures")
    assert table["defocus_u"].tolist() == CTF["rlnDefocusU"]
    assert table.loc[0, ["voltage_kv", "cs_mm", "amplitude_contrast", "micrograph_pixel_size"]].tolist() == [300.0, 2.7, 0.1, PIXEL]
    assert table.loc[0, ["width_px", "height_px"]].tolist() == [128, 96]
    assert table["micrograph"].tolist() == [str(project / name) for name in MICROGRAPHS]
    assert table["ctf_image"][0] == str(project / "CtfFind/job003/Movies/grid 1/m0.ctf:mrc")
    assert table["batch"].tolist() == ["0001", "0001", "0002"]
    assert len(read_table(HOME / "batches/0002/exposures.star", "exposures")) == 1
    assert record["batches"] == ["0001", "0002"]


def test_a_micrograph_that_is_missing_is_set_aside_and_told(project):
    (project / MICROGRAPHS[1]).unlink()
    record = bring_in(micrographs="CtfFind/job003")
    assert len(table_of("exposures")) == 2
    assert read_table(HOME / "failed.star", "failed")["micrograph"].tolist() == [str(project / MICROGRAPHS[1])]
    assert "1 of 3 micrographs" in record["warnings"][0]
    for name in MICROGRAPHS:
        (project / name).write_text("no image")
    with pytest.raises(InputError, match="none of 3 micrographs can be used"):
        bring_in(micrographs="CtfFind/job003")


@pytest.mark.parametrize("version", [3, 4])
def test_picks_of_both_layouts_lie_where_they_did(tmp_path, version):
    shutil.rmtree(tmp_path / "theirs")
    make_project(tmp_path / "theirs", version)
    record = bring_in(micrographs="CtfFind/job003", picks="AutoPick/job004")
    picks = table_of("picks")
    expected = [[30, 40, 0.5, 12.5], [60.5, 50, 0.25, 12.5], [30, 40, 0.5, 12.5], [60.5, 50, 1.25, 12.5]]
    assert picks[["x_px", "y_px", "pick_score", "psi"]].to_numpy().tolist() == expected
    assert picks["micrograph"].tolist() == table_of("exposures")["micrograph"].iloc[[0, 0, 1, 1]].tolist()
    assert any("1 of 3 micrographs have no picks" in sentence for sentence in record["warnings"])


def test_particles_can_be_cut_again_at_the_picks_and_at_the_refined_centres():
    bring_in(micrographs="CtfFind/job003", picks="AutoPick/job004", particles="Refine3D/job007")
    folder, exposures = Path("results/again"), {"exposures": [f"{HOME}/batches/0001"]}
    for slot, inputs, count in (("picks", f"{HOME}/batches/0001", 4), ("particles", str(HOME), 6)):
        settings = {"exposures": "relion", slot: "relion", "box_px": BOX}
        with open_job(extract_particles.Params, settings, exposures | {slot: [inputs]}, folder, "again", "0001", threads=1) as job:
            extract_particles.run(job)
        assert len(read_table(folder / "particles.star", "particles")) == count
    again = read_table(folder / "particles.star", "particles")
    assert again["half"].tolist() == poses()["rlnRandomSubset"]
    assert again["rot"].tolist() == poses()["rlnAngleRot"]


def test_particles_keep_poses_halves_optics_groups_and_every_column(project):
    record = bring_in(particles="Refine3D/job007")
    table, theirs = table_of("particles"), read_star(project / "Refine3D/job007/run_data.star")
    for label in theirs["particles"].columns.difference(["rlnImageName", "rlnMicrographName", "rlnOpticsGroup"]):
        found = read_star(HOME / "particles.star")["particles"][label]
        np.testing.assert_allclose(found, theirs["particles"][label], atol=1e-6, err_msg=label)
    optics = read_star(HOME / "particles.star")["optics"]
    for label in theirs["optics"].columns.difference(["rlnMtfFileName"]):
        assert optics[label].tolist() == theirs["optics"][label].tolist(), label
    assert optics["rlnMtfFileName"].tolist() == [str(project / "mtf.star")] * 2
    assert record["metrics"]["half_1"]["value"] == 3
    assert load_images(table).shape == (6, BOX, BOX)


def test_particles_and_exposures_have_the_same_ids_and_batches():
    bring_in(micrographs="CtfFind/job003", particles="Extract/job005", batch_size=1)
    exposures, particles = table_of("exposures"), table_of("particles")
    assert particles["exposure_id"].tolist() == np.repeat(exposures["exposure_id"], 2).tolist()
    assert particles["batch"].tolist() == ["0001", "0001", "0002", "0002", "0003", "0003"]
    assert particles["micrograph"].tolist() == np.repeat(exposures["micrograph"], 2).tolist()


def test_a_project_inside_the_run_folder_is_named_by_relative_paths():
    make_project(Path("relion"))
    bring_in(project="relion", micrographs="CtfFind/job003", particles="Refine3D/job007")
    assert table_of("exposures")["micrograph"][0] == f"relion/{MICROGRAPHS[0]}"
    assert table_of("particles").loc[0, ["image", "mtf"]].tolist() == [
        "000001@relion/Extract/job005/Movies/grid 1/m0.mrcs",
        "relion/mtf.star",
    ]


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["run_it001_data.star", "run_it012_data.star", "run_it002_data.star"], "run_it012_data.star"),
        (["run_it012_data.star", "run_data.star"], "run_data.star"),
        (["run_data.star", "run_ct12_data.star"], "run_ct12_data.star"),
        (["run_it012_data.star", "run_ct12_it013_data.star"], "run_ct12_it013_data.star"),
        (["particles.star", "class_averages.star"], "particles.star"),
        (["shiny.star", "logfile.star"], "shiny.star"),
    ],
)
def test_the_last_iteration_counts_and_the_end_of_a_run_before_it(tmp_path, names, best):
    for name in names:
        write_particles(tmp_path, f"Any/job001/{name}")
    assert find_output(tmp_path, "Any/job001", "particles").name == best


def test_a_refined_map_comes_with_its_unfiltered_halves(project):
    record = bring_in(volume="Refine3D/job007", mask="MaskCreate/job008")
    for name, theirs in (("map", "run_class001"), ("half1", "run_half1_class001_unfil"), ("half2", "run_half2_class001_unfil")):
        np.testing.assert_array_equal(read_mrc(HOME / f"{name}.mrc")[0], read_mrc(project / f"Refine3D/job007/{theirs}.mrc")[0])
    np.testing.assert_array_equal(read_mrc(HOME / "mask.mrc")[0], ball(5.0))
    assert not record["warnings"]


def test_halves_of_an_iteration_are_taken_with_a_warning(project):
    shutil.rmtree(project / "Refine3D/job007")
    for half, radius in ((1, 3.0), (2, 4.0)):
        for iteration in (2, 3):
            write_volume(project / f"Refine3D/job007/run_it{iteration:03d}_half{half}_class001.mrc", ball(radius), PIXEL)
    record = bring_in(volume="Refine3D/job007")
    assert "which RELION filters" in record["warnings"][0]
    np.testing.assert_allclose(read_mrc(HOME / "map.mrc")[0], (ball(3.0) + ball(4.0)) / 2, atol=1e-6)


def test_a_sharpened_map_comes_with_the_halves_and_mask_it_was_made_from(project):
    bring_in(volume="PostProcess/job009")
    np.testing.assert_array_equal(read_mrc(HOME / "map.mrc")[0], read_mrc(project / "PostProcess/job009/postprocess.mrc")[0])
    np.testing.assert_array_equal(read_mrc(HOME / "half2.mrc")[0], read_mrc(project / "Refine3D/job007/run_half2_class001_unfil.mrc")[0])
    np.testing.assert_array_equal(read_mrc(HOME / "mask.mrc")[0], ball(5.0))


def test_classes_become_starts_of_a_sorting_with_their_particles():
    record = bring_in(particles="Class3D/job006", volume="Class3D/job006")
    assert record["metrics"]["classes"]["value"] == 3
    for number, radius in ((1, 3.0), (2, 4.0), (3, 5.0)):
        np.testing.assert_array_equal(read_mrc(HOME / f"class_{number}/map.mrc")[0], ball(radius))
        assert len(table_of("particles", f"class_{number}")) == poses()["rlnClassNumber"].count(number)
    np.testing.assert_array_equal(read_mrc(HOME / "map.mrc")[0], ball(4.0), err_msg="the largest class is the map")


def test_2d_classes_can_be_selected_with_their_particles(project):
    bring_in(particles="Class2D/job002", templates="Class2D/job002")
    classes = read_table(HOME / "classes.star", "classes")
    assert classes["class_number"].tolist() == [1, 2, 3]
    assert classes["class_count"].tolist() == [2, 4, 0]
    assert classes["class_fraction"].tolist() == [0.3, 0.7, 0.0]
    np.testing.assert_array_equal(read_mrc(HOME / "classes.mrcs")[0], read_mrc(project / "Class2D/job002/run_it025_classes.mrcs")[0])
    Path("decisions.yaml").write_text("select: [1]\n")
    settings = {"particles": "relion", "templates": "relion", "decisions": "decisions.yaml"}
    inputs = {"particles": [str(HOME)], "templates": [str(HOME)]}
    with open_job(select_2d.Params, settings, inputs, Path("results/keep"), "keep", threads=1) as job:
        select_2d.run(job)
    kept = read_table("results/keep/particles.star", "particles")
    assert kept["particle_id"].tolist() == table_of("particles")["particle_id"].iloc[[0, 3]].tolist()


def test_micrographs_of_relion_3_0_have_their_pixel_size_from_the_magnification(project):
    old = {**OPTICS, **CTF, "rlnMagnification": 50000.0, "rlnDetectorPixelSize": 7.0}
    write_star(project / "CtfFind/job003/micrographs_ctf.star", {"": pd.DataFrame({"rlnMicrographName": MICROGRAPHS, **old})})
    bring_in(micrographs="CtfFind/job003")
    assert table_of("exposures")["micrograph_pixel_size"].tolist() == pytest.approx([1.4] * 3)


def test_an_earlier_iteration_or_one_map_of_it_can_be_named(project):
    write_classes(project)
    names = [path.name for path in find_maps(project, "Class3D/job006/run_it002_model.star").classes]
    assert names == ["run_it002_class001.mrc", "run_it002_class002.mrc", "run_it002_class003.mrc"]
    assert [path.name for path in find_maps(project, "Class3D/job006/run_it002_class003.mrc").classes] == ["run_it002_class003.mrc"]


@pytest.mark.parametrize("version", [3, 4])
def test_without_names_the_last_finished_job_of_each_kind_is_taken(tmp_path, version):
    shutil.rmtree(tmp_path / "theirs")
    make_project(tmp_path / "theirs", version)
    (sentence, *_) = bring_in()["warnings"]
    for name in ("CtfFind/job003", "AutoPick/job004", "particles Refine3D/job007", "volume PostProcess/job009", "mask MaskCreate/job008"):
        assert name in sentence
    assert "job010" not in sentence
    assert all((HOME / name).exists() for name in ("exposures.star", "picks.star", "particles.star", "map.mrc", "mask.mrc"))


def test_jobs_go_by_alias_or_number_too(project):
    (project / "Refine3D/best one").symlink_to("job007")
    for name in ("job007", "Refine3D/best one", "Refine3D/job007/run_data.star", "Refine3D/job007/"):
        assert find_output(project, name, "particles").resolve() == (project / "Refine3D/job007/run_data.star").resolve()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"project": "../none"}, "is no folder"),
        ({"project": "."}, r"has no default_pipeline\.star, so it is no RELION project"),
        ({"particles": "Refine3D/job019"}, r"has no job or file 'Refine3D/job019'; its jobs are AutoPick/job004"),
        ({"particles": "MaskCreate/job008"}, r"has no particles of single particles; it holds mask\.mrc"),
        ({"picks": "AutoPick/job004"}, "picks need the micrographs"),
        ({"volume": "Class3D/job006/run_it002_data.star"}, "has no block data_model_classes"),
        ({"micrographs": "CtfFind/job003", "picks": "CtfFind/job003/micrographs_ctf.star"}, "has no block data_coordinate_files"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        bring_in(**settings)


def test_a_stack_that_is_missing_is_told(project):
    (project / "Extract/job005/Movies/grid 1/m1.mrcs").unlink()
    with pytest.raises(InputError, match=r"1 of 3 stacks are not there, the first is Extract/job005/Movies/grid 1/m1\.mrcs"):
        bring_in(particles="Extract/job005")


def test_images_multiplied_by_their_ctf_are_refused(project):
    blocks = read_star(project / "Extract/job005/particles.star")
    write_star(project / "Extract/job005/particles.star", blocks | {"optics": blocks["optics"].assign(rlnCtfDataAreCtfPremultiplied=1)})
    with pytest.raises(InputError, match="multiplied by their CTF"):
        bring_in(particles="Extract/job005")


def test_nothing_is_lost_from_relion_to_firn_to_relion_to_firn():
    bring_in(micrographs="CtfFind/job003", particles="Refine3D/job007", volume="Refine3D/job007")
    before = {kind: table_of(kind) for kind in ("exposures", "particles")}
    inputs = {name: [str(HOME)] for name in ("exposures", "particles", "volume")}
    with open_job(export_relion.Params, dict.fromkeys(inputs, "relion"), inputs, Path("results/out"), "out", threads=1) as job:
        export_relion.run(job)
    back = Path("results/back")
    bring_in(back, project="results/out/project")
    for kind, table in before.items():
        found = read_table(back / f"{kind}.star", kind)
        pd.testing.assert_frame_equal(found[table.columns], table, check_dtype=False, atol=1e-6)
    for name in ("map", "half1", "half2"):
        np.testing.assert_array_equal(read_mrc(back / f"{name}.mrc")[0], read_mrc(HOME / f"{name}.mrc")[0])


def test_hundreds_of_optics_groups_keep_their_names_and_values(project):
    blocks = read_star(project / "Refine3D/job007/run_data.star")
    count = 300
    optics = pd.concat([blocks["optics"].iloc[:1]] * count, ignore_index=True).assign(
        rlnOpticsGroup=np.arange(7, 7 + count), rlnOpticsGroupName=[f"tilt {number}" for number in range(count)], rlnBeamTiltX=np.arange(count) * 1e-3
    )  # fmt: skip
    rows = pd.concat([blocks["particles"]] * 100, ignore_index=True).assign(rlnOpticsGroup=np.arange(600) % count + 7)
    images = [f"{number % 2 + 1:06d}@Extract/job005/Movies/grid 1/m{number // 2 % 3}.mrcs" for number in range(600)]
    write_star(project / "Refine3D/job007/run_data.star", {"optics": optics, "particles": rows.assign(rlnImageName=images)})
    bring_in(particles="Refine3D/job007")
    table = table_of("particles")
    assert table["optics_name"].tolist() == [f"tilt {number % count}" for number in range(600)]
    np.testing.assert_allclose(table["beam_tilt_x"], np.arange(600) % count * 1e-3, atol=1e-9)


def test_files_are_known_to_the_run_folder_by_the_paths_that_it_has(tmp_path):
    Path("results/a").mkdir(parents=True)
    Path("results/a/x.mrc").touch()
    Path("link").symlink_to("results/a")
    (tmp_path / "theirs/y.mrc").touch()
    Path("far").symlink_to(tmp_path / "theirs")
    assert path_in_run("link/x.mrc") == "results/a/x.mrc"
    assert path_in_run("far/y.mrc") == "far/y.mrc"
    assert path_in_run("../theirs/y.mrc") == str(tmp_path / "theirs/y.mrc")
