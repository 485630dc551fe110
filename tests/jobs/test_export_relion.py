"""export_relion as a job: RELION reads what is handed on, and nothing is lost on the way there and back."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.linked_files import files_of, root_of
from firn.formats.mrc import read_mrc, write_image, write_stack, write_volume
from firn.formats.particles import load_images
from firn.formats.star import read_star
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import export_relion, import_particles
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from posed_particles import random_angles, write_particles

BOX, PIXEL = 32, 4.0
HOME = Path("results/to_relion")
PROJECT = HOME / "project"
needs_relion = pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="needs RELION")


@pytest.fixture(autouse=True)
def _in_run_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")


def make_particles(count: int = 40, groups: int = 2) -> pd.DataFrame:
    """Particles with poses, half-sets, two optics groups, a column of another program's, and a micrograph each."""
    phantom = random_phantom(60, 40.0, seed=5)
    table = write_particles("results/stack/batches/0001", phantom, random_angles(count, seed=3), BOX, PIXEL)
    chance = np.random.default_rng(8)
    table = table.assign(
        micrograph=[f"results/motion/batches/0001/m {number % 3}.mrc" for number in range(count)],
        movie=[f"raw/grid 1/m {number % 3}.tif" for number in range(count)],
        exposure_id=[f"e{number % 3}" for number in range(count)],
        class_probability=chance.random(count),
        rlnLogLikeliContribution=chance.normal(1e4, 10, count),
        optics_name=[f"tilt{number % groups}" for number in range(count)],
        voltage_kv=300.0,
    )
    write_table("results/stack/particles.star", table, "particles")
    for number in range(3):
        write_image(Path(f"results/motion/batches/0001/m {number}.mrc"), np.ones((8, 8), dtype=np.float32), 1.0)
        Path("raw/grid 1").mkdir(parents=True, exist_ok=True)
        Path(f"raw/grid 1/m {number}.tif").touch()
    return table


def make_map() -> np.ndarray:
    phantom = random_phantom(60, 40.0, seed=5)
    volume = np.asarray(phantom_volume(phantom, BOX, PIXEL), dtype=np.float32)
    chance = np.random.default_rng(2)
    for name in ("map", "half1", "half2"):
        noise = 0 if name == "map" else chance.normal(0, 0.3 * volume.std(), volume.shape)
        write_volume(Path(f"results/map/{name}.mrc"), (volume + noise).astype(np.float32), PIXEL)
    write_volume(Path("results/map/mask.mrc"), (volume > 0.2 * volume.max()).astype(np.float32), PIXEL)
    return volume


def export(**settings: object) -> dict:
    inputs = {name: [f"results/{value}"] for name, value in settings.items() if isinstance(value, str)}
    with open_job(export_relion.Params, settings, inputs, HOME, "to_relion", threads=1) as job:
        export_relion.run(job)
    return json.loads((HOME / "job.json").read_text())


def relion(*command: str) -> str:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_every_file_that_is_named_is_found_from_the_project_folder(monkeypatch):
    make_particles()
    export(particles="stack")
    monkeypatch.chdir(PROJECT)
    table = read_table("Import/job001/particles.star", "particles")
    assert all(Path(name).is_file() for name in files_of(table))
    assert load_images(table).shape == (40, BOX, BOX)
    links = [path for path in Path().rglob("*") if path.is_symlink()]
    assert sorted(map(str, links)) == ["raw", "results/motion", "results/stack"]
    assert not any(path.readlink().is_absolute() for path in links)


def test_the_run_folder_can_be_moved(tmp_path, monkeypatch):
    make_particles()
    make_map()
    export(particles="stack", volume="map")
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved" / PROJECT)
    assert load_images(read_table("Import/job001/particles.star", "particles")).shape == (40, BOX, BOX)
    assert read_mrc("Import/job002/run_half1_class001_unfil.mrc")[1] == pytest.approx(PIXEL)


def test_copies_need_nothing_else(tmp_path):
    table = make_particles()
    volume = make_map()
    expected = load_images(table)
    export(particles="stack", volume="map", copy_files=True)
    shutil.move(PROJECT, tmp_path / "elsewhere")
    shutil.rmtree("results")
    found = read_table(tmp_path / "elsewhere/Import/job001/particles.star", "particles")
    images = found["image"].str.replace("@", f"@{tmp_path}/elsewhere/")
    np.testing.assert_array_equal(load_images(found.assign(image=images)), expected)
    np.testing.assert_array_equal(read_mrc(tmp_path / "elsewhere/Import/job002/map.mrc")[0], volume)
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_symlink()]


def compare(found: pd.DataFrame, table: pd.DataFrame, digits: int = 6) -> None:
    """No column and no row is lost, and numbers differ by no more than the digits that are written."""
    assert set(table.columns) <= set(found.columns)
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name]):
            np.testing.assert_allclose(found[name], table[name], rtol=1e-6, atol=10.0**-digits, err_msg=name)
        else:
            assert list(found[name]) == list(table[name]), name


def test_nothing_is_lost_on_the_way_to_relion_and_back():
    table = make_particles()
    export(particles="stack")
    settings = {"file": str(PROJECT / "Import/job001/particles.star")}
    with open_job(import_particles.Params, settings, {}, Path("results/back"), "back", threads=1) as job:
        import_particles.run(job)
    compare(read_table("results/back/particles.star", "particles"), read_table("results/stack/particles.star", "particles"))
    compare(read_table("results/back/particles.star", "particles"), table.drop(columns="optics_name"))


@pytest.mark.relion
@needs_relion
def test_relion_keeps_every_column_on_its_way_through():
    make_particles()
    export(particles="stack")
    relion("relion_star_handler", "--i", "Import/job001/particles.star", "--o", "through.star", "--select", "rlnDefocusU", "--minval", "0")
    compare(read_table(PROJECT / "through.star", "particles"), read_table("results/stack/particles.star", "particles"), digits=5)


@pytest.mark.relion
@needs_relion
@pytest.mark.parametrize("half", [1, 2])
def test_relion_reconstructs_the_map_from_the_poses_of_a_half_set(half: int):
    table = make_particles(count=400)
    volume = make_map()
    export(particles="stack")
    relion("relion_reconstruct", "--i", "Import/job001/particles.star", "--o", "made.mrc", "--ctf", "--subset", str(half), "--maxres", "12")
    made = read_mrc(PROJECT / "made.mrc")[0]
    assert (table["half"] == half).sum() == 200
    assert correlation(made, volume) > 0.9


@pytest.mark.relion
@needs_relion
def test_relion_finds_the_halves_and_the_mask_of_a_map():
    make_map()
    export(volume="map")
    (PROJECT / "post").mkdir()
    text = relion("relion_image_handler", "--i", "Import/job001/mask.mrc", "--stats")
    assert "32 x 32 x 32" in text or "(x,y,z,n)= 32 x 32 x 32 x 1" in text
    relion(
        "relion_postprocess", "--i", "Import/job001/run_half1_class001_unfil.mrc", "--mask", "Import/job001/mask.mrc", "--angpix", str(PIXEL), "--o", "post/run"
    )  # fmt: skip
    assert float(read_star(PROJECT / "post/run.star")["general"]["rlnFinalResolution"].iloc[0]) < 20


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_pipeliner") is None, reason="needs RELION")
def test_relion_takes_the_imports_for_finished_jobs_of_its_own():
    make_particles()
    make_map()
    export(particles="stack", volume="map")
    before = read_star(PROJECT / "default_pipeline.star")
    relion("relion_pipeliner", "--check_job_completion")
    after = read_star(PROJECT / "default_pipeline.star")
    assert list(after["pipeline_processes"]["rlnPipeLineProcessName"]) == ["Import/job001/", "Import/job002/"]
    assert set(after["pipeline_nodes"]["rlnPipeLineNodeName"]) == set(before["pipeline_nodes"]["rlnPipeLineNodeName"])
    assert list(after["pipeline_general"]["rlnPipeLineJobCounter"]) == [3]


def test_exposures_become_micrographs_and_those_without_one_movies():
    rows = pd.DataFrame({"exposure_id": ["e1"], "movie": ["raw/a.tif"], "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1})
    write_table("results/movies/exposures.star", rows, "exposures")
    write_table("results/motion/exposures.star", rows.assign(micrograph="results/motion/a.mrc"), "exposures")
    export(exposures="motion")
    assert "micrographs" in read_star(PROJECT / "Import/job001/micrographs.star")
    export(exposures="movies")
    assert "movies" in read_star(PROJECT / "Import/job001/movies.star")
    assert not (PROJECT / "Import/job001/micrographs.star").exists()


def test_half_precision_is_told_since_old_relion_does_not_read_it():
    write_stack("results/stack/a.mrcs", np.zeros((2, 8, 8), dtype=np.float32), PIXEL, float16=True)
    optics = {"image_pixel_size": PIXEL, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    write_table("results/stack/particles.star", pd.DataFrame({"image": image_names("results/stack/a.mrcs", 2), **optics}), "particles")
    assert any("half precision" in sentence for sentence in export(particles="stack")["warnings"])


def test_a_file_that_is_gone_cannot_be_copied_and_is_told():
    make_particles()
    Path("raw/grid 1/m 2.tif").unlink()
    export(particles="stack")
    with pytest.raises(InputError, match=r"raw/grid 1/m 2\.tif: is not there, so it cannot be copied"):
        export(particles="stack", copy_files=True)


def test_relions_window_finds_every_import_among_its_inputs():
    make_particles()
    make_map()
    export(particles="stack", volume="map")
    nodes = read_star(PROJECT / "default_pipeline.star")["pipeline_nodes"]
    for name, kind in zip(nodes["rlnPipeLineNodeName"], nodes["rlnPipeLineNodeType"], strict=True):
        assert (PROJECT / ".Nodes" / str(kind) / name).is_file()
        assert (PROJECT / name).is_file()


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_pipeliner") is None, reason="needs RELION")
def test_relion_imports_the_particles_again_by_the_options_of_the_import():
    make_particles()
    export(particles="stack")
    relion("relion_pipeliner", "--addJobFromStar", "Import/job001/job.star")
    relion("relion_pipeliner", "--RunJobs", "Import/job002/", "--sec_wait_after", "0")
    again = read_table(PROJECT / "Import/job002/particles.star", "particles")
    compare(again, read_table("results/stack/particles.star", "particles"), digits=5)


def test_files_outside_the_run_folder_keep_absolute_paths_and_are_told(tmp_path):
    table = make_particles().assign(movie=str(tmp_path / "far.tif"))
    write_table("results/stack/particles.star", table, "particles")
    assert any("far.tif" in sentence for sentence in export(particles="stack")["warnings"])
    write_table("results/stack/particles.star", table.assign(movie="../far.tif"), "particles")
    with pytest.raises(InputError, match="leaves the run folder"):
        export(particles="stack")


def test_nothing_to_hand_on_is_refused():
    with pytest.raises(InputError, match="give exposures, particles, volume or mask"):
        export()


@pytest.mark.parametrize(
    ("name", "root"),
    [("results/a/batches/1/x.mrc", "results/a"), ("raw/b/c.tif", "raw"), ("gain.mrc", "gain.mrc"), ("results/x.mrc", "results")],
)
def test_links_are_as_few_as_can_be(name: str, root: str):
    assert root_of(name) == root
