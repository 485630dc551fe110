"""Lists of defects of every origin mark the pixels they mean, and what is no such list is refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firn.errors import InputError
from firn.formats.defects import falcon_defects, read_defects
from firn.formats.mrc import write_image


def drawn(tmp_path: Path, text: str, shape: tuple[int, int]) -> np.ndarray:
    (tmp_path / "defects.txt").write_text(text)
    return read_defects(tmp_path / "defects.txt", shape)


def test_rows_of_four_are_boxes_and_rows_of_two_are_pixels(tmp_path: Path) -> None:
    expected = np.zeros((4, 6), dtype=bool)
    expected[0:3, 1:3] = expected[3, 5] = True
    np.testing.assert_array_equal(drawn(tmp_path, "# x y w h\n1 0 2 3\n\n5 3\n", (4, 6)), expected)
    np.testing.assert_array_equal(drawn(tmp_path, "1, 0, 2, 3\n5, 3 # hot\n", (4, 6)), expected)


def test_an_image_marks_defects_with_one_its_rows_in_the_order_of_movies(tmp_path: Path) -> None:
    expected = np.zeros((4, 6), dtype=bool)
    expected[1, 2] = True
    write_image(tmp_path / "map.mrc", expected.astype(np.float32), 1.0)
    tifffile.imwrite(tmp_path / "map.tif", expected.astype(np.uint8)[::-1], photometric="minisblack")
    np.testing.assert_array_equal(read_defects(tmp_path / "map.mrc", (4, 6)), expected)
    np.testing.assert_array_equal(read_defects(tmp_path / "map.tif", (4, 6)), expected)
    with pytest.raises(InputError, match="6 x 4 pixels, but the movies are 8 x 4"):
        read_defects(tmp_path / "map.mrc", (4, 8))


SERIALEM = """CameraSizeX 6
CameraSizeY 4
RotationAndFlip 0
WasScaled 0
BadPixels 0 0 5 2
BadColumns 2
PartialBadRow 3 1 4 5
PartialBadColumn 4 1 0 1
"""


def serialem_map() -> np.ndarray:
    """Rows counted from the top, then put upside down."""
    top = np.zeros((4, 6), dtype=bool)
    top[0, 0] = top[2, 5] = True
    top[:, 2] = True
    top[3, 4:6] = True
    top[0:2, 4] = True
    return top[::-1]


def test_serialem_counts_rows_from_the_upper_edge(tmp_path: Path) -> None:
    np.testing.assert_array_equal(drawn(tmp_path, SERIALEM, (4, 6)), serialem_map())
    np.testing.assert_array_equal(drawn(tmp_path, SERIALEM.replace("\n", "\r\n"), (4, 6)), serialem_map())


def test_serialem_defects_follow_super_resolution_and_binning(tmp_path: Path) -> None:
    np.testing.assert_array_equal(drawn(tmp_path, SERIALEM, (8, 12)), serialem_map().repeat(2, axis=0).repeat(2, axis=1))
    coarse = serialem_map().reshape(2, 2, 3, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(drawn(tmp_path, SERIALEM, (2, 3)), coarse)


def test_outside_the_usable_area_and_in_scaled_pixels_all_is_defect(tmp_path: Path) -> None:
    text = "CameraSizeX 8\nCameraSizeY 6\nWasScaled 1\nBadPixels 2 2\nUsableArea 1 1 4 6\n"
    top = np.ones((6, 8), dtype=bool)
    top[1:5, 1:7] = False
    top[2:4, 2:4] = True
    np.testing.assert_array_equal(drawn(tmp_path, text, (6, 8)), top[::-1])


def test_falcon_lists_name_rows_columns_areas_and_points() -> None:
    found = falcon_defects("<defects><row>1,3-4</row><col>0</col><area>5,2,6,2</area><point>7,0</point></defects>", (6, 8), "gain")
    expected = np.zeros((6, 8), dtype=bool)
    expected[[1, 3, 4]] = True
    expected[:, 0] = expected[2, 5:7] = expected[0, 7] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 0 2 3\n", r"row 1 is \[3, 0, 2, 3\], not 'x y width height' inside 4 x 3"),
        ("1 2 3\n", "row 1"),
        ("\n1 one\n", "row 2 cannot be read as a defect"),
        ("CameraSizeX 4\n", "names no CameraSizeX and CameraSizeY"),
        ("CameraSizeX 40\nCameraSizeY 30\n", "camera of 40 x 30 pixels, but the movies are 4 x 3"),
        ("CameraSizeX 4\nCameraSizeY 3\nPartialBadRow 1 2\n", "PartialBadRow followed by"),
    ],
)
def test_lists_that_do_not_fit_are_refused_with_the_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn(tmp_path, text, (3, 4))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "defects.txt").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="it is no text"):
        read_defects(tmp_path / "defects.txt", (3, 4))
    with pytest.raises(InputError, match="cannot be read"):
        read_defects(tmp_path / "none.txt", (3, 4))
    with pytest.raises(InputError, match="list of defects cannot be read"):
        falcon_defects("<defects><point>1</point></defects>", (3, 4), "gain")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(text=st.text(alphabet="0123456789 ,#-\nCameraSizeXYBadPlsRow", max_size=120))
def test_any_text_ends_in_a_map_or_in_one_sentence(tmp_path: Path, text: str) -> None:
    try:
        found = drawn(tmp_path, text, (3, 4))
    except InputError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert found.shape == (3, 4)
    assert "\n" not in sentence
