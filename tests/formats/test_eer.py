"""EER: electrons lie where an independent decoder puts them, and metadata are believed only as far as they fit."""

import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from firn.errors import ExposureError
from firn.formats.eer import eer_shape, iterate_eer
from firn.formats.eer_events import place_events, read_events
from firn.formats.tiff import iterate_tiff
from firn.simulate.write_eer import encode_events, write_eer_movie


@pytest.mark.parametrize("upsampling", [2, 4])
@pytest.mark.parametrize("density", [0.0, 0.0005, 0.02, 0.2])
def test_electrons_of_raw_frames_lie_where_the_library_puts_them(upsampling: int, density: float) -> None:
    generator = np.random.default_rng(3)
    shape = (40, 56)
    frames = [encode_events(generator.random(shape) < density, generator) for _ in range(5)]
    expected = np.zeros((shape[0] * upsampling, shape[1] * upsampling), dtype=np.uint8)
    for data in frames:
        imagecodecs.eer_decode(data, expected.shape, 7, 2, 2, superres=upsampling // 2, out=expected)
    found, scratch = np.zeros_like(expected), np.zeros(shape, dtype=np.uint8)
    place_events(found, [read_events(data, 7, scratch) for data in frames], shape, upsampling)
    np.testing.assert_array_equal(found, expected)
    assert not scratch.any()


@pytest.mark.parametrize("shape", [(24, 40), (21, 13)])
def test_a_fine_grid_holds_the_electrons_of_the_coarse_one(tmp_path: Path, shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(4).poisson(0.5, (4, *shape)).astype(np.uint8)
    write_eer_movie(tmp_path / "m.eer", counts, np.random.default_rng(5))
    coarse = np.stack(list(iterate_eer(tmp_path / "m.eer", 4, 1)))
    for upsampling in (2, 4):
        fine = np.stack(list(iterate_eer(tmp_path / "m.eer", 4, upsampling)))
        summed = fine.reshape(4, shape[0], upsampling, shape[1], upsampling).sum(axis=(2, 4))
        np.testing.assert_array_equal(summed, coarse)


def test_many_raw_frames_in_one_fraction_do_not_overflow(tmp_path: Path) -> None:
    write_eer_movie(tmp_path / "m.eer", np.full((1, 8, 8), 300), np.random.default_rng(6))
    for upsampling in (1, 2):
        (total,) = iterate_eer(tmp_path / "m.eer", 1, upsampling)
        assert (total.reshape(8, upsampling, 8, upsampling).sum(axis=(1, 3)) == 300).all()


def test_metadata_tell_the_pixel_size_and_the_number_of_raw_frames(tmp_path: Path) -> None:
    counts = np.random.default_rng(7).poisson(0.5, (3, 16, 16))
    group = write_eer_movie(tmp_path / "m.eer", counts, np.random.default_rng(8), pixel_size=0.74)
    assert eer_shape(tmp_path / "m.eer", 3, 2) == (3, 32, 32, pytest.approx(0.74), 1.0)
    data = (tmp_path / "m.eer").read_bytes()
    (tmp_path / "m.eer").write_bytes(data.replace(f">{3 * group}<".encode(), f">{3 * group + 1}<".encode()))
    with pytest.raises(ExposureError, match=f"has {3 * group} raw frames, but its metadata tell of {3 * group + 1}"):
        eer_shape(tmp_path / "m.eer", 3, 2)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_convert_to_tiff") is None, reason="RELION is not installed")
def test_fractions_are_those_that_relion_renders(tmp_path: Path) -> None:
    """RELION renders frames of 4096 x 4096 pixels only."""
    chance = np.random.default_rng(9)
    rate = np.full((4096, 4096), 0.002, dtype=np.float32)
    rate[100:140, 3000:3100] = 0.3
    raw = [chance.random(rate.shape, dtype=np.float32) < rate for _ in range(4)]
    write_eer_movie(tmp_path / "m.eer", raw, chance)
    for upsampling in (1, 2):
        command = ["relion_convert_to_tiff", "--i", "m.eer", "--o", f"out{upsampling}/", "--eer_grouping", "2", "--compression", "none"]
        subprocess.run([*command, "--eer_upsampling", str(upsampling)], cwd=tmp_path, check=True, capture_output=True)
        ours = iterate_eer(tmp_path / "m.eer", 2, upsampling)
        for mine, theirs in zip(ours, iterate_tiff(tmp_path / f"out{upsampling}/m.tif"), strict=True):
            np.testing.assert_array_equal(mine, theirs)
