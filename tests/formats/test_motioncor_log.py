"""Shifts in the forms in which versions of MotionCor tell them."""

from pathlib import Path

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.motion_star import fit_points, polynomial_terms
from firn.formats.motioncor_log import find_log, read_full_shifts, read_patch_shifts, said_full_shifts

FULL = "# Patch based alignment\n# Initial alignment based upon full frames\n\n   1      0.00      0.00\n   2     -1.25      3.50\n"
SAID = [
    "Iteration 1",
    "Full-frame alignment shift",
    "...... Frame (  1) shift:     0.000      0.000",
    "...... Frame (  2) shift:    -1.250      3.500",
]
TABLED = ["Full-frame alignment shifts:", "Frame   x Shift   y Shift", "   1      0.00      0.00", "   2     -1.25      3.50", ""]
WANTED = [[0, 0], [3.5, -1.25]]


def test_rows_are_frame_x_and_y(tmp_path: Path) -> None:
    (tmp_path / "m-Full.log").write_text(FULL)
    np.testing.assert_array_equal(read_full_shifts(tmp_path / "m-Full.log"), WANTED)


@pytest.mark.parametrize("lines", [SAID, TABLED, [*SAID, "", "Align patch 1", "...... Frame (  1) shift:  9 9"], [*TABLED, "9 9 9"]])
def test_what_is_said_is_read_from_its_heading_to_its_end(lines: list[str]) -> None:
    np.testing.assert_array_equal(said_full_shifts(lines), WANTED)


def test_nothing_said_is_nothing() -> None:
    assert said_full_shifts(["Frame (  1) shift: 0 0", "1 2 3"]) is None


def test_a_log_is_found_by_its_name_of_either_version(tmp_path: Path) -> None:
    assert find_log(tmp_path, "m", "Full") is None
    (tmp_path / "m0-Full.log").touch()
    assert find_log(tmp_path, "m", "Full") == tmp_path / "m0-Full.log"
    (tmp_path / "m-Full.log").touch()
    assert find_log(tmp_path, "m", "Full") == tmp_path / "m-Full.log"


def patches(path: Path, columns: int) -> Path:
    rows = [
        [z + 1, x, y, 0.1 * z, -0.2 * z, 1 if columns == 6 and x == 30 else 0, 0.0][:columns]
        for x in (10, 30)
        for y in (5, 15)
        for z in range(4)
    ]
    path.write_text("# Movie size: 40 20 4\n\n" + "".join("#Patch\n" * (row[0] == 1) + " ".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("columns", "count"), [(6, 8), (7, 16)])
def test_patches_have_centres_and_shifts_and_bad_ones_are_left_out(tmp_path: Path, columns: int, count: int) -> None:
    read = read_patch_shifts(patches(tmp_path / "p.log", columns))
    assert len(read.frames) == count
    np.testing.assert_array_equal(read.frames[:4], range(4))
    np.testing.assert_array_equal(read.centres[0], [5, 10])
    np.testing.assert_allclose(read.shifts, np.stack((-0.2 * read.frames, 0.1 * read.frames), axis=-1))


def test_scattered_shifts_that_are_a_polynomial_give_it_back() -> None:
    generator = np.random.default_rng(4)
    model = generator.normal(size=36)
    z, y, x = generator.integers(0, 9, 200).astype(float), *generator.uniform(-0.5, 0.5, (2, 200))
    terms = polynomial_terms(z, y, x)
    np.testing.assert_allclose(fit_points(z, y, x, np.stack((terms @ model[18:], terms @ model[:18]), axis=-1)), model, rtol=1e-6)


@pytest.mark.parametrize("text", ["", "# head\n", "1 2\n", "1 2 three\n", "1 nan 2\n", "1 2 3\n1 2\n"])
def test_a_damaged_log_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.log"
    path.write_text(text)
    for read in (read_full_shifts, read_patch_shifts):
        with pytest.raises(InputError, match=r"p\.log: "):
            read(path)
