"""Gain references turn and mirror as said, and do not fit what they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from firn.errors import InputError
from firn.formats.gain import fit_gain, is_divisor, read_defects, read_gain
from firn.formats.mrc import write_image

GAIN = 1 + np.arange(12, dtype=np.float32).reshape(3, 4) / 10


@pytest.fixture
def gain_file(tmp_path: Path) -> Path:
    write_image(tmp_path / "gain.mrc", GAIN, 1.0)
    return tmp_path / "gain.mrc"


def test_a_quarter_turn_moves_the_lower_right_corner_to_the_upper_right(gain_file: Path) -> None:
    turned = read_gain(gain_file, rotate=1)
    assert turned.shape == (4, 3)
    assert turned[-1, -1] == GAIN[0, -1]
    np.testing.assert_array_equal(read_gain(gain_file, rotate=2), GAIN[::-1, ::-1])


def test_mirrors_act_after_the_turn_along_the_axis_they_name(gain_file: Path) -> None:
    np.testing.assert_array_equal(read_gain(gain_file, flip_x=True), GAIN[:, ::-1])
    np.testing.assert_array_equal(read_gain(gain_file, flip_y=True), GAIN[::-1])
    np.testing.assert_array_equal(read_gain(gain_file, flip_y=True, rotate=1), read_gain(gain_file, rotate=1)[::-1])


def test_a_tiff_gain_has_its_rows_in_the_order_of_tiff_movies(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "gain.tif", GAIN)
    np.testing.assert_array_equal(read_gain(tmp_path / "gain.tif"), GAIN[::-1])


@pytest.mark.filterwarnings("ignore:Data array contains")
def test_a_dividing_gain_is_inverted_and_unusable_pixels_become_defects(tmp_path: Path) -> None:
    gain = GAIN.copy()
    gain[0, 0], gain[1, 1], gain[2, 2] = 0, np.nan, np.inf
    write_image(tmp_path / "gain.mrc", gain, 1.0)
    inverse = read_gain(tmp_path / "gain.mrc", invert=True)
    assert inverse[0, 0] == inverse[1, 1] == inverse[2, 2] == 0
    assert inverse[0, 1] == pytest.approx(1 / 1.1)
    assert is_divisor("a.mrc", "eer")
    assert not is_divisor("a.gain", "eer")
    assert not is_divisor("a.mrc", "tiff")


def test_a_gain_of_another_shape_is_refused_with_both_shapes(gain_file: Path) -> None:
    with pytest.raises(InputError, match=r"is 4 x 3 pixels .* the movies are 8 x 8"):
        fit_gain(GAIN, (8, 8), gain_file)


def test_a_gain_of_physical_pixels_serves_upsampled_frames() -> None:
    fine = fit_gain(GAIN, (6, 8), "gain")
    np.testing.assert_array_equal(fine[::2, ::2], GAIN)
    np.testing.assert_array_equal(fine[1::2, 1::2], GAIN)


def test_defects_are_read_from_boxes_and_from_maps(tmp_path: Path) -> None:
    (tmp_path / "defects.txt").write_text("# x y w h\n1 0 2 3\n")
    boxes = read_defects(tmp_path / "defects.txt", (3, 4))
    np.testing.assert_array_equal(boxes, np.array([[0, 1, 1, 0]] * 3, dtype=bool))
    write_image(tmp_path / "map.mrc", boxes.astype(np.float32), 1.0)
    np.testing.assert_array_equal(read_defects(tmp_path / "map.mrc", (3, 4)), boxes)


def test_a_defect_outside_the_frame_and_a_foreign_list_are_refused(tmp_path: Path) -> None:
    (tmp_path / "defects.txt").write_text("3 0 2 3\n")
    with pytest.raises(InputError, match="row 1"):
        read_defects(tmp_path / "defects.txt", (3, 4))
    (tmp_path / "serial.txt").write_text("CameraSizeX 4096\n")
    with pytest.raises(InputError, match="x y width height"):
        read_defects(tmp_path / "serial.txt", (3, 4))


def test_a_missing_gain_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_gain(tmp_path / "none.mrc")
