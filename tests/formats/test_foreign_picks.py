"""Coordinates of other programs become centres, whatever form they come in."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.foreign_picks import read_foreign_picks
from firn.formats.mrc import write_image
from firn.formats.star import read_star, write_star
from firn.formats.table_names import NAMES, OPTICS

CBOX = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
68.5 88.0 <NA> 63.0 64.0 <NA> 60.1 59.5 0.75 <NA> <NA>
8.0 9.0 <NA> 64.0 64.0 <NA> 60.1 59.5 0.25 <NA> <NA>

data_cryolo_include

loop_
_slice_index #1
"""
OLD_STAR = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnAutopickFigureOfMerit #3\n100 120 0.75\n40 41 0.25\n"
NEW_STAR = "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\nmics/a.mrc 100 120\nmics/b.mrc 40 41\n"
FORMS = {
    "a.box": ("68 88 64 64 -3\n8 9 64 64 -3\n", ["a.box", "a.box"], [np.nan, np.nan]),
    "b.box": ("68\t88\t64\t64\t0.75\n8\t9\t64\t64\t0.25\n", ["b.box", "b.box"], [0.75, 0.25]),
    "a.cbox": (CBOX, ["a.cbox", "a.cbox"], [0.75, 0.25]),
    "old.cbox": ("68 88 64 64 0.75 60 60\n8 9 64 64 0.25 60 60\n", ["old.cbox", "old.cbox"], [0.75, 0.25]),
    "a.star": (OLD_STAR, ["a.star", "a.star"], [0.75, 0.25]),
    "all.star": (NEW_STAR, ["mics/a.mrc", "mics/b.mrc"], [np.nan, np.nan]),
    "all.txt": ("image_name\tx_coord\ty_coord\tscore\na b\t100\t120\t0.75\nc\t40\t41\t0.25\n", ["a b", "c"], [0.75, 0.25]),
    "all.tsv": ("image_name\tx_coord\ty_coord\na\t100\t120\nc\t40\t41\n", ["a", "c"], [np.nan, np.nan]),
    "a.csv": ("\ufeffx_px, y_px\n100,120\n40,41\n", ["a.csv", "a.csv"], [np.nan, np.nan]),
    "b.csv": ("y;x;micrograph;score\n120;100;m/a.mrc;0.75\n41;40;m/b.mrc;0.25\n", ["m/a.mrc", "m/b.mrc"], [0.75, 0.25]),
    "blanks.txt": ("x y\n100 120\n40 41\n", ["blanks.txt", "blanks.txt"], [np.nan, np.nan]),
}


@pytest.mark.parametrize("file", FORMS)
def test_every_form_tells_the_same_centres(tmp_path: Path, file: str) -> None:
    text, names, scores = FORMS[file]
    (tmp_path / file).write_text(text, encoding="utf-8")
    picks = read_foreign_picks(tmp_path / file)
    assert picks["x"].tolist() == [100, 40]
    assert picks["y"].tolist() == [120, 41]
    assert picks["name"].tolist() == names
    np.testing.assert_array_equal(picks["score"], scores)


@pytest.mark.parametrize("size", [64, 65])
def test_a_corner_and_a_size_mean_the_pixel_in_the_middle_of_the_box(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.box").write_text(f"10 20 {size} {size}\n")
    x = read_foreign_picks(tmp_path / "a.box")["x"].iloc[0]
    inside = np.arange(10, 10 + size)
    assert x == inside[size // 2]


def test_a_box_that_lies_nowhere_is_read_and_left_to_be_refused_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.box").write_text("inf nan 64 64\n8 9 64 inf\n")
    assert not np.isfinite(read_foreign_picks(tmp_path / "a.box")[["x", "y"]]).all(axis=1).any()


def test_a_coordinate_that_is_nan_is_read_and_left_to_be_refused_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text(OLD_STAR.replace("100", "nan"))
    assert np.isnan(read_foreign_picks(tmp_path / "a.star")["x"]).tolist() == [True, False]


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="needs RELION")
@pytest.mark.parametrize("size", [40, 41])
def test_relion_reads_the_same_centre_out_of_a_box(tmp_path: Path, size: int) -> None:
    write_image(tmp_path / "a.mrc", np.random.default_rng(1).normal(size=(120, 150)).astype(np.float32), 1.0)
    (tmp_path / "a.box").write_text(f"50 31 {size} {size + 1} -3\n")
    optics = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": 1.0}
    table = pd.DataFrame({"micrograph": ["a.mrc"], **optics}).rename(columns=NAMES | OPTICS)
    groups = table.drop(columns="rlnMicrographName").assign(rlnOpticsGroupName="o", rlnOpticsGroup=1)
    write_star(tmp_path / "mics.star", {"optics": groups, "micrographs": table[["rlnMicrographName"]].assign(rlnOpticsGroup=1)})
    command = (
        "relion_preprocess --i mics.star --coord_dir ./ --coord_suffix .box --part_star p.star --part_dir p/ --extract --extract_size 24"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    theirs = read_star(tmp_path / "p.star")["particles"]
    ours = read_foreign_picks(tmp_path / "a.box")
    assert theirs[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy().tolist() == ours[["x", "y"]].to_numpy().tolist()


@pytest.mark.parametrize("file", ["a.box", "a.cbox"])
def test_a_program_that_found_nothing_leaves_an_empty_file(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("")
    assert read_foreign_picks(tmp_path / file).empty


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.box", "1 2 3\n", "line 1 has 3 values"),
        ("a.box", "1 2 x 4\n", "'x' stands where a number should"),
        ("a.box", "1 2 0 4\n", "without a size"),
        ("a.cbox", "data_cryolo\nloop_\n_CoordinateX\n_CoordinateY\n1 2\n", "has no table with"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n1\n", "has no table with"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginX\n1 2 -3\n", "import_particles"),
        ("a.txt", "", "is empty"),
        ("a.txt", "a\t1\t2\n", "needs columns"),
        ("a.csv", "x,y\n1,2,3\n", "row 2 has 3 values"),
        ("a.csv", 'x,y\n"1,2\n', "cannot be read as a table"),
        ("a.coord", "1 2\n", "its ending is none of"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message) as told:
        read_foreign_picks(tmp_path / file)
    assert "\n" not in str(told.value)
    assert str(tmp_path / file) in str(told.value)
