"""Files of any name go to RELION and come back: those that it would not read are linked under names that it does."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.formats.linked_files import PLAIN, path_in_run
from firn.formats.mrc import read_mrc, write_image, write_stack
from firn.formats.particles import load_images
from firn.formats.relion_run import hand_over
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import export_relion, import_relion
from firn.runtime.entry import open_job

BOX, PIXEL = 16, 4.0
PROJECT = Path("results/to_relion/project")
READ = ("a b", "añ日本", "a$(touch x)", "a;b&c", "a*[1]{x}", "a\\b", "-a", "_a", "data_x", "a@b", "`a`", "~a", "l" * 200, "a,b.c")
UNREAD = ("a#b", "#a", "a:b", "a%sb", "a\tb", 'a" b', '"a"', "'a'", "it's", "a b#" + "l" * 200, "a%b", "a#B")
OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "defocus_u": 1.5e4, "defocus_v": 1.4e4, "defocus_angle": 10.0}
needs_relion = pytest.mark.skipif(shutil.which("relion_image_handler") is None, reason="needs RELION")


@pytest.fixture(autouse=True)
def _in_run_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")


def make_session(names: tuple[str, ...], stacks: str = "results/stack", micrographs: str = "results/motion/x#y") -> None:
    """Exposures and particles whose movies, micrographs and stacks have these names; every file holds another image."""
    chance, particles, exposures = np.random.default_rng(1), [], []
    for name in names:
        place = {
            "exposure_id": f"e{len(exposures)}",
            "batch": "0001",
            "micrograph": f"{micrographs}/{name}.mrc",
            "movie": f"raw/{name}.tif",
        }
        write_image(Path(place["micrograph"]), chance.normal(size=(20, 24)).astype(np.float32), PIXEL)
        write_stack(f"{stacks}/{name}.mrcs", chance.normal(size=(2, BOX, BOX)).astype(np.float32), PIXEL)
        Path("raw").mkdir(exist_ok=True)
        Path(place["movie"]).touch()
        exposures.append(place | OPTICS | {"micrograph_pixel_size": PIXEL})
        particles += [place | OPTICS | {"image": image, "image_pixel_size": PIXEL} for image in image_names(f"{stacks}/{name}.mrcs", 2)]
    posed = pd.DataFrame(particles).assign(rot=10.0, tilt=20.0, psi=30.0, origin_x=0.5, origin_y=0.0, half=1)
    posed["particle_id"] = [f"p{number}" for number in range(len(posed))]
    write_table("results/keep/particles.star", posed, "particles")
    write_table("results/ctf/exposures.star", pd.DataFrame(exposures), "exposures")


def export(**settings: object) -> list[str]:
    given = {"exposures": "ctf", "particles": "keep"}
    inputs = {name: [f"results/{job}"] for name, job in given.items()}
    with open_job(export_relion.Params, given | settings, inputs, Path("results/to_relion"), "to_relion", threads=1) as job:
        export_relion.run(job)
    return json.loads(Path("results/to_relion/job.json").read_text())["warnings"]


def bring_back() -> tuple[pd.DataFrame, pd.DataFrame]:
    with open_job(import_relion.Params, {"project": str(PROJECT)}, {}, Path("results/back"), "back", threads=1) as job:
        import_relion.run(job)
    return read_table("results/back/particles.star", "particles"), read_table("results/back/exposures.star", "exposures")


def check_that_all_came_back() -> None:
    for found, kind in zip(bring_back(), ("particles", "exposures"), strict=True):
        before = read_table(f"results/{'keep' if kind == 'particles' else 'ctf'}/{kind}.star", kind)
        pd.testing.assert_frame_equal(found[before.columns], before, check_dtype=False, atol=1e-6)


def relion(*command: str) -> None:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command, (done.stdout + done.stderr)[-800:])


@pytest.mark.parametrize("folder", ["results/stack", "results/st#ack"])
def test_every_name_and_image_comes_back_and_few_are_linked_one_by_one(folder):
    make_session(READ + UNREAD, stacks=folder, micrographs="results/motion")
    warnings = export()
    links = sorted(path.name for path in (PROJECT / PLAIN).iterdir())
    assert len(links) == 2 * len(UNREAD) + len(UNREAD if folder == "results/stack" else READ + UNREAD)
    assert f"{len(links)} files have names that RELION does not read" in warnings[0]
    before = load_images(read_table("results/keep/particles.star", "particles"))
    check_that_all_came_back()
    handed = read_table(PROJECT / "Import/job002/particles.star", "particles")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        np.testing.assert_array_equal(load_images(handed), before)


def test_copies_of_files_with_odd_names_stand_alone(tmp_path):
    make_session(UNREAD)
    before = load_images(read_table("results/keep/particles.star", "particles"))
    export(copy_files=True)
    shutil.move(PROJECT, tmp_path / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "elsewhere")
        np.testing.assert_array_equal(load_images(read_table("Import/job002/particles.star", "particles")), before)
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_symlink()]


def test_files_that_the_run_folder_only_links_to_or_knows_by_absolute_paths_keep_their_names(tmp_path):
    (tmp_path / "disk").mkdir()
    Path("raw").symlink_to(tmp_path / "disk")
    make_session(("a b", "a#b"), stacks="raw", micrographs=str(tmp_path / "disk/x#y"))
    assert any("4 files have names" in sentence for sentence in export())
    check_that_all_came_back()


def test_a_link_that_leads_back_to_itself_ends():
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    assert path_in_run("a/x.mrc") in ("a/x.mrc", "b/x.mrc")


@pytest.mark.relion
@needs_relion
def test_relion_reads_every_micrograph_and_every_stack():
    make_session(READ + UNREAD)
    export()
    for number, name in enumerate(read_table(PROJECT / "Import/job001/micrographs.star", "exposures")["micrograph"]):
        relion("relion_image_handler", "--i", name, "--o", f"{number}.mrc")
        np.testing.assert_array_equal(read_mrc(PROJECT / f"{number}.mrc")[0], read_mrc(PROJECT / name)[0])
    relion("relion_stack_create", "--i", "Import/job002/particles.star", "--o", "all")
    before = load_images(read_table("results/keep/particles.star", "particles"))
    np.testing.assert_array_equal(read_mrc(PROJECT / "all.mrcs")[0], before)


@pytest.mark.relion
@needs_relion
def test_names_come_back_from_tables_that_relion_wrote():
    make_session(READ + UNREAD)
    export()
    for table in ("Import/job001/micrographs.star", "Import/job002/particles.star"):
        relion("relion_star_handler", "--i", table, "--o", "through.star", "--select", "rlnDefocusU", "--minval", "0")
        os.replace(PROJECT / "through.star", PROJECT / table)
    check_that_all_came_back()


def test_stacks_given_to_relions_refinement_are_linked_where_it_would_not_read_their_names():
    make_session(("a b", "a#b", 'a" b'))
    table = read_table("results/keep/particles.star", "particles")
    hand_over(Path("work/particles.star"), table, BOX)
    given = read_table("work/particles.star", "particles")
    assert given["image"][0] == "000001@results/stack/a b.mrcs"
    assert given["image"].str.contains(f"@work/{PLAIN}/").sum() == 4
    np.testing.assert_array_equal(load_images(given), load_images(table))
