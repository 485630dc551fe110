"""Maps are cubes in the order z, y, x, whatever the file says; what is none is refused in one sentence."""

import bz2
import gzip
import itertools
import lzma
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_halves, read_like, read_volume


def cube(n: int = 6) -> np.ndarray:
    return np.arange(n**3, dtype=np.float32).reshape(n, n, n)


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_any_order_of_axes_in_the_file_gives_the_same_map(tmp_path: Path, axes: tuple[int, int, int]):
    stored = np.transpose(cube(), [3 - axis for axis in axes[::-1]])
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(np.ascontiguousarray(stored))
        mrc.voxel_size = 2.0
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = axes
    volume, pixel_size = read_volume(tmp_path / "a.mrc")
    np.testing.assert_array_equal(volume, cube())
    assert pixel_size == pytest.approx(2.0)


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_packed_map_is_read_like_the_plain_one(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]):
    write_volume(tmp_path / "a.mrc", cube(), 1.3)
    (tmp_path / f"a.map.{ending}").write_bytes(pack((tmp_path / "a.mrc").read_bytes()))
    volume, pixel_size = read_volume(tmp_path / f"a.map.{ending}")
    np.testing.assert_array_equal(volume, cube())
    assert pixel_size == pytest.approx(1.3)


def test_a_box_that_is_no_cube_is_refused(tmp_path: Path):
    write_volume(tmp_path / "a.mrc", np.ones((4, 6, 6), np.float32), 1.0)
    with pytest.raises(InputError, match="6 x 6 x 4, but a map must be a cube"):
        read_volume(tmp_path / "a.mrc")


def test_values_that_are_not_finite_are_refused(tmp_path: Path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc, pytest.warns(RuntimeWarning):
        mrc.set_data(np.full((4, 4, 4), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        read_volume(tmp_path / "a.mrc")


def test_pixels_that_are_no_cubes_are_refused(tmp_path: Path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(cube())
        mrc.voxel_size = (1.0, 1.0, 1.3)
    with pytest.raises(InputError, match=r"1 x 1 x 1\.3"):
        read_volume(tmp_path / "a.mrc")


def test_maps_that_do_not_fit_together_are_refused(tmp_path: Path):
    write_volume(tmp_path / "a.mrc", cube(), 1.0)
    with pytest.raises(InputError, match="side of 6 pixels"):
        read_like(tmp_path / "a.mrc", 8, 1.0)
    with pytest.raises(InputError, match="pixels of 1 Å"):
        read_like(tmp_path / "a.mrc", 6, 1.5)


def test_missing_half_maps_are_named(tmp_path: Path):
    write_volume(tmp_path / "half1.mrc", cube(), 1.0)
    with pytest.raises(InputError, match=r"has no half2\.mrc"):
        read_halves(tmp_path)
