"""Gain references turn and mirror as said, and do not fit what they do not fit."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile

from firn.errors import InputError
from firn.formats.gain import fit_gain, is_divisor, keeps_rows, read_gain
from firn.formats.mrc import write_image

GAIN = 1 + np.arange(12, dtype=np.float32).reshape(3, 4) / 10


@pytest.fixture
def gain_file(tmp_path: Path) -> Path:
    write_image(tmp_path / "gain.mrc", GAIN, 1.0)
    return tmp_path / "gain.mrc"


def test_a_tiff_gain_has_its_rows_in_the_order_of_tiff_movies(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "gain.tif", GAIN)
    np.testing.assert_array_equal(read_gain(tmp_path / "gain.tif"), GAIN[::-1])


def test_a_dividing_gain_is_inverted_and_unusable_pixels_become_defects(tmp_path: Path) -> None:
    gain = GAIN.copy()
    gain[0, 0], gain[1, 1], gain[2, 2] = 0, np.nan, np.inf
    write_image(tmp_path / "gain.mrc", gain, 1.0)
    inverse = read_gain(tmp_path / "gain.mrc", invert=True)
    assert inverse[0, 0] == inverse[1, 1] == inverse[2, 2] == 0
    good = np.isfinite(gain) & (gain > 0)
    np.testing.assert_allclose(inverse[good], gain[good].mean() / gain[good], rtol=1e-6)
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


def test_a_missing_gain_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_gain(tmp_path / "none.mrc")


def test_a_gain_of_smaller_pixels_is_averaged_and_keeps_its_defects() -> None:
    fine = np.full((6, 8), 2.0, dtype=np.float32)
    fine[0, 0], fine[2, 2] = 0, 4
    coarse = fit_gain(fine, (3, 4), "gain")
    assert coarse[0, 0] == 0
    assert coarse[1, 1] == 2.5
    assert coarse[2, 3] == 2.0


def test_the_gain_of_a_falcon_has_the_rows_of_eer_and_brings_its_defects(tmp_path: Path) -> None:
    listed = b"<defects><col>3</col><row>0</row><point>1,2</point><area>0,1,1,1</area></defects>"
    tifffile.imwrite(tmp_path / "falcon.gain", GAIN, extratags=[(65100, 7, len(listed), listed, True)])
    expected = GAIN.copy()
    expected[:, 3], expected[0], expected[2, 1], expected[1, :2] = 0, 0, 0, 0
    assert keeps_rows("falcon.gain", "eer")
    assert not keeps_rows("falcon.gain", "tiff")
    np.testing.assert_array_equal(read_gain(tmp_path / "falcon.gain", rows_as_stored=True), expected)
    np.testing.assert_array_equal(read_gain(tmp_path / "falcon.gain"), expected[::-1])


def test_a_packed_gain_is_read_and_one_of_gatan_is_named(tmp_path: Path, gain_file: Path) -> None:
    (tmp_path / "gain.mrc.gz").write_bytes(gzip.compress(gain_file.read_bytes()))
    np.testing.assert_array_equal(read_gain(tmp_path / "gain.mrc.gz"), GAIN)
    (tmp_path / "gain.dm4").write_bytes(b"dm")
    with pytest.raises(InputError, match="convert it with IMOD's dm2mrc"):
        read_gain(tmp_path / "gain.dm4")
