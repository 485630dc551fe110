"""MRC files: headers other programs accept, modes, sections, and damage."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import check_header, read_mrc, read_sections, read_shape, write_image, write_stack, write_volume


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)


def test_images_stacks_and_volumes_come_back_with_their_pixel_size(tmp_path, data):
    for write, array in ((write_image, data[0]), (write_stack, data), (write_volume, data)):
        write(tmp_path / "a.mrc", array, 1.37)
        back, pixel_size = read_mrc(tmp_path / "a.mrc")
        assert np.array_equal(back, array)
        assert pixel_size == pytest.approx(1.37, rel=1e-6)


def test_headers_are_valid_and_tell_a_stack_from_a_volume(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data, 2.0)
    write_volume(tmp_path / "v.mrc", data, 2.0)
    write_image(tmp_path / "i.mrc", data[0], 2.0)
    for name in ("s.mrcs", "v.mrc", "i.mrc"):
        assert mrcfile.validate(tmp_path / name)
    with mrcfile.open(tmp_path / "s.mrcs") as stack, mrcfile.open(tmp_path / "v.mrc") as volume:
        assert stack.is_image_stack()
        assert volume.is_volume()
        assert (int(stack.header.ispg), int(stack.header.mz), int(volume.header.ispg), int(volume.header.mz)) == (0, 1, 1, 3)


def test_a_stack_of_one_image_is_read_as_an_image_but_its_shape_says_stack(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data[:1], 2.0)
    assert read_mrc(tmp_path / "s.mrcs")[0].shape == (5, 6)
    assert read_shape(tmp_path / "s.mrcs")[0] == (1, 5, 6)
    assert read_sections(tmp_path / "s.mrcs", np.array([0])).shape == (1, 5, 6)


def test_half_precision_is_mode_12_and_precise_to_a_thousandth(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data, 2.0, float16=True)
    assert check_header(tmp_path / "s.mrcs")[0] == 12
    assert np.allclose(read_mrc(tmp_path / "s.mrcs")[0], data, rtol=1e-3, atol=1e-3)


def test_values_beyond_half_precision_are_refused_rather_than_made_infinite(tmp_path):
    with pytest.raises(InputError, match="70000"):
        write_image(tmp_path / "a.mrc", np.full((4, 4), 7e4), 1.0, float16=True)
    assert not (tmp_path / "a.mrc").exists()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32])
def test_every_common_mode_is_read_as_its_numbers(tmp_path, dtype):
    array = np.arange(20).reshape(4, 5).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(array)
    image, _ = read_mrc(tmp_path / "a.mrc")
    assert image.dtype == np.float32
    assert image.flags.writeable
    assert np.array_equal(image, array)


def test_sections_are_read_in_the_order_asked(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data, 2.0)
    assert np.array_equal(read_sections(tmp_path / "s.mrcs", np.array([2, 0, 2])), data[[2, 0, 2]])
    with pytest.raises(InputError, match="holds 3 images, but image 4"):
        read_sections(tmp_path / "s.mrcs", np.array([1, 3]))


def damaged(path: Path, offset: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (12, struct.pack("<i", 77), "MRC mode 77"),
        (0, struct.pack("<i", -5), "impossible header"),
        (4, struct.pack("<i", 2_000_000_000), "impossible header"),
        (8, struct.pack("<i", 1000), "truncated"),
        (92, struct.pack("<i", 2**30), "impossible header"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_before_memory_is_taken(tmp_path, data, offset, value, message):
    write_stack(tmp_path / "s.mrcs", data, 2.0)
    damaged(tmp_path / "s.mrcs", offset, value)
    for read in (read_mrc, read_shape, lambda path: read_sections(path, np.array([0]))):
        with pytest.raises(InputError, match=message):
            read(tmp_path / "s.mrcs")


@pytest.mark.parametrize("size", [0, 500, 1024 + 100])
def test_a_file_cut_short_is_refused(tmp_path, data, size):
    write_stack(tmp_path / "s.mrcs", data, 2.0)
    (tmp_path / "s.mrcs").write_bytes((tmp_path / "s.mrcs").read_bytes()[:size])
    with pytest.raises(InputError, match=r"s\.mrcs"):
        read_mrc(tmp_path / "s.mrcs")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.mrc: cannot be read"):
        read_mrc(tmp_path / "absent.mrc")
