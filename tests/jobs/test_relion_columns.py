"""Columns that firn has no use for (helices, tomograms, other programs' own) are carried to RELION, through its programs, and back."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.cryosparc import particles_from_cs, particles_to_cs, read_cs, write_cs
from firn.formats.star import read_star, write_star
from firn.formats.star_rows import read_rows
from firn.formats.tables import read_table, write_table
from firn.jobs import export_relion, import_relion, particle_sets
from firn.runtime.entry import open_job
from relion_folder import make_project, poses, write_particles

HOME, PROJECT = Path("results/theirs"), Path("results/out/project")
STAR = "Refine3D/job007/run_data.star"
HELIX = {
    "rlnHelicalTubeID": [1, 1, 2, 2, 1, 1], "rlnHelicalTrackLengthAngst": [0.0, 47.5, 0.0, 47.5, 0.0, 33333.25], "rlnAngleTiltPrior": 90.0,
    "rlnAnglePsiPrior": [12.125, -170.5, 0.0, 1.0, 2.0, 3.0], "rlnAnglePsiFlipRatio": 0.5, "rlnAnglePsiFlip": [0, 1, 0, 1, 0, 1],
    "rlnAngleRotPrior": -33.5, "rlnAngleRotFlipRatio": 0.25, "rlnOriginXPriorAngst": 1.5, "rlnHelicalTubePitch": 620.5,
}  # fmt: skip
TOMOGRAM = {
    "rlnTomoName": ["TS_01", "001", "TS 2", "1e5", "a#b", "it's"], "rlnTomoParticleId": [1, 2, 3, 4, 5, 6], "rlnTomoVisibleFrames": "[1,1,0]",
    "rlnTomoParticleName": [f"TS_01/{number}" for number in range(6)], "rlnTomoSubtomogramRot": [10.5, 1, 2, 3, 4, 5],
    "rlnTomoSubtomogramTilt": 90.0, "rlnTomoSubtomogramPsi": -45.25, "rlnCoordinateZ": 33.25, "rlnOriginZAngst": -1.25,
}  # fmt: skip
OWN = {"myWords": ["0001", "0010", "0100", "1e5", "7", "-01"], "myNumbers": [0.123456789012, 1e-9, 123456789.123456, 2.0, -1e300, 1 / 3]}
GROUPS = {"rlnTomoTiltSeriesPixelSize": [1.35, 1.4], "rlnTomoSubtomogramBinning": [2.0, 4.0], "myGroups": ["007", "b c"]}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """A project of RELION's whose refined particles have all these columns."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    folder = make_project(tmp_path / "theirs")
    write_particles(folder, STAR, **poses(), **HELIX, **TOMOGRAM, **OWN)
    blocks = read_star(folder / STAR)
    write_star(folder / STAR, blocks | {"optics": blocks["optics"].assign(**GROUPS)})
    return folder


def bring_in(home: Path, folder: Path, name: str) -> None:
    with open_job(import_relion.Params, {"project": str(folder), "particles": name}, {}, home, home.name, threads=1) as job:
        import_relion.run(job)


def export() -> None:
    with open_job(export_relion.Params, {"particles": "theirs"}, {"particles": [str(HOME)]}, PROJECT.parent, "out", threads=1) as job:
        export_relion.run(job)


def relion(*command: str) -> None:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-800:]


def compare(found: dict[str, pd.DataFrame], before: dict[str, pd.DataFrame], digits: int = 6) -> None:
    """Every column lies in the block that it lay in, with its values; apart from names of files."""
    for block, table in before.items():
        for label in table.columns.difference(["rlnImageName", "rlnMicrographName", "rlnMtfFileName"]):
            if pd.api.types.is_numeric_dtype(table[label]):
                np.testing.assert_allclose(found[block][label], table[label], rtol=1e-6, atol=10.0**-digits, err_msg=label)
            else:
                assert list(found[block][label]) == list(table[label]), label


def test_every_column_comes_back_to_its_block_from_relion_to_firn_to_relion_to_firn(project):
    before = read_star(project / STAR)
    assert {*HELIX, *TOMOGRAM, *OWN} <= set(before["particles"].columns)
    bring_in(HOME, project, STAR)
    export()
    bring_in(Path("results/back"), PROJECT, "Import/job001")
    for path in (HOME / "particles.star", PROJECT / "Import/job001/particles.star", Path("results/back/particles.star")):
        found = read_star(path)
        compare(found, before)
        assert found["particles"]["myNumbers"].tolist() == OWN["myNumbers"]


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="needs RELION")
def test_every_column_comes_back_through_relions_programs(project):
    bring_in(HOME, project, STAR)
    export()
    given = "Import/job001/particles.star"
    relion("relion_star_handler", "--i", given, "--o", "through.star", "--select", "rlnDefocusU", "--minval", "0")
    bring_in(Path("results/back"), PROJECT, "through.star")
    compare(read_star("results/back/particles.star"), read_star(project / STAR), digits=5)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_particle_symmetry_expand") is None, reason="needs RELION")
def test_relion_expands_the_helix_of_particles_from_here(project):
    bring_in(HOME, project, STAR)
    export()
    helix = ("--helix", "--twist", "30", "--rise", "4", "--angpix", "4", "--asu", "3", "--frac_sampling", "1")
    relion("relion_particle_symmetry_expand", "--i", "Import/job001/particles.star", "--o", "expanded.star", *helix)
    found = read_star(PROJECT / "expanded.star")["particles"]
    assert len(found) == 18
    for label in ("rlnHelicalTubeID", "rlnHelicalTrackLengthAngst", "rlnRandomSubset", "firnParticleId"):
        assert set(found[label]) == set(read_star(HOME / "particles.star")["particles"][label]), label
    turns = found.groupby("firnParticleId")["rlnAngleRot"].apply(lambda rot: sorted(np.round(np.diff(sorted(rot)), 3)))
    assert all(steps == [30.0, 30.0] for steps in turns)


def test_sets_with_and_without_the_columns_are_joined_and_none_is_lost(project):
    bring_in(HOME, project, STAR)
    bring_in(Path("results/plain"), project, "Extract/job005/particles.star")
    others = read_table("results/plain/particles.star", "particles")
    others = others.assign(particle_id=others["particle_id"] + "x", exposure_id=others["exposure_id"] + "x")
    write_table("results/plain/particles.star", others, "particles")
    settings = {"particles": "theirs", "others": ["plain"], "action": "union"}
    inputs = {"particles": [str(HOME)], "others": ["results/plain"]}
    with open_job(particle_sets.Params, settings, inputs, Path("results/all"), "all", threads=1) as job:
        particle_sets.run(job)
    both, before = read_table("results/all/particles.star", "particles"), read_table(HOME / "particles.star", "particles")
    write_cs("all.cs", particles_to_cs(both, {}))
    for found in (both, particles_from_cs(read_cs("all.cs"), "all.cs")):
        check_rows(found, before)


def check_rows(found: pd.DataFrame, before: pd.DataFrame) -> None:
    """The particles of a table are among those found, with all their columns."""
    joined = found.set_index("particle_id").loc[before["particle_id"]].reset_index()
    for name in before.columns.difference(["box_px", "dimensionality"]):
        if pd.api.types.is_numeric_dtype(before[name]):
            np.testing.assert_allclose(joined[name], before[name], rtol=1e-6, atol=1e-3, err_msg=name)
        else:
            assert list(joined[name]) == list(before[name]), name


def test_every_column_comes_back_from_cryosparcs_tables(project, tmp_path):
    bring_in(HOME, project, STAR)
    before = read_table(HOME / "particles.star", "particles")
    write_cs(tmp_path / "a.cs", particles_to_cs(before, {}))
    found = particles_from_cs(read_cs(tmp_path / "a.cs"), "a.cs")
    write_table("results/cs.star", found.assign(box_px=before["box_px"], dimensionality=2), "particles")
    compare(read_star("results/cs.star"), read_star(HOME / "particles.star"), digits=3)


def test_both_readers_of_tables_give_the_columns_the_same_names(project):
    bring_in(HOME, project, STAR)
    rows, table = read_rows(HOME / "particles.star", "particles"), read_table(HOME / "particles.star", "particles")
    assert set(rows[0]) == set(table.columns)
    assert [row["myWords"] for row in rows] == table["myWords"].tolist()


@pytest.mark.parametrize("change", ["one file each", "depth"])
def test_subtomograms_are_refused_in_one_sentence(project, change):
    blocks = read_star(project / STAR)
    if change == "depth":
        blocks["optics"]["rlnImageDimensionality"] = 3
    else:
        blocks["particles"]["rlnImageName"] = [f"Extract/job005/{number}_stack2d.mrcs" for number in range(6)]
    write_star(project / STAR, blocks)
    with pytest.raises(InputError, match="its particles are subtomograms; firn takes single images"):
        bring_in(HOME, project, STAR)
