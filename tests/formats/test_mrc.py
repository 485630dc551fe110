"""MRC files: headers other programs accept, modes, sections, and damage."""

import gzip
import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import check_header, read_mrc, read_sections, read_shape, to_half, write_image, write_stack, write_volume


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


@pytest.mark.parametrize("float16", [False, True])
def test_the_header_of_an_image_has_its_size_and_the_statistics_of_all_its_pixels(tmp_path, float16):
    image = 100 + np.random.default_rng(1).standard_normal((150, 37)).astype(np.float32)
    write_image(tmp_path / "i.mrc", image, 1.25, float16=float16)
    assert float16 or mrcfile.validate(tmp_path / "i.mrc")
    with mrcfile.open(tmp_path / "i.mrc") as file:
        header = file.header
        assert (int(header.nx), int(header.ny), int(header.nz), int(header.mx), int(header.my), int(header.mz)) == (37, 150, 1, 37, 150, 1)
        assert [float(header.cella[axis]) for axis in "xy"] == pytest.approx([1.25 * 37, 1.25 * 150])
        assert float(header.dmean) == pytest.approx(image.mean(dtype=np.float64), rel=1e-6)
        assert float(header.rms) == pytest.approx(image.std(dtype=np.float64), rel=1e-3 if float16 else 1e-5)
        assert float(header.dmin) == pytest.approx(image.min(), rel=1e-3)


def test_a_stack_of_one_image_is_read_as_an_image_but_its_shape_says_stack(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data[:1], 2.0)
    assert read_mrc(tmp_path / "s.mrcs")[0].shape == (5, 6)
    assert read_shape(tmp_path / "s.mrcs")[0] == (1, 5, 6)
    assert read_sections(tmp_path / "s.mrcs", np.array([0])).shape == (1, 5, 6)


def test_half_precision_is_mode_12_and_precise_to_a_thousandth(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data, 2.0, float16=True)
    assert check_header(tmp_path / "s.mrcs")[0] == 12
    assert np.allclose(read_mrc(tmp_path / "s.mrcs")[0], data, rtol=1e-3, atol=1e-3)


def test_every_half_precision_number_and_what_lies_between_is_rounded_as_the_standard_says():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32)
    between = np.sort(finite)[:-1] / 2 + np.sort(finite)[1:] / 2
    values = np.concatenate([finite, between, np.nextafter(between, np.float32(1e9)), np.nextafter(between, np.float32(-1e9))])
    normal = np.abs(values) >= 2.0**-14
    assert (to_half(values[normal]).view(np.uint16) == values[normal].astype(np.float16).view(np.uint16)).all()
    assert float(np.abs(to_half(values[~normal]).astype(np.float32) - values[~normal]).max()) <= 2.0**-25 + 2.0**-38


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


def header_only(nx: int, ny: int, nz: int, mode: int, order: str = "<") -> bytearray:
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, nx, ny, nz, mode)
    struct.pack_into(f"{order}3i3f", header, 28, nx, ny, nz, 2.0 * nx, 2.0 * ny, 2.0 * nz)
    struct.pack_into(f"{order}3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP " + (b"\x11\x11\0\0" if order == ">" else b"\x44\x44\0\0")
    return header


@pytest.mark.parametrize("nx", [6, 7])
def test_four_bit_pixels_lie_two_in_a_byte_the_left_one_low_and_rows_end_with_a_byte(tmp_path, nx):
    images = np.random.default_rng(1).integers(0, 16, (2, 3, nx)).astype(np.uint8)
    padded = np.pad(images, ((0, 0), (0, 0), (0, nx % 2)))
    (tmp_path / "a.mrc").write_bytes(bytes(header_only(nx, 3, 2, 101)) + (padded[..., 0::2] | padded[..., 1::2] << 4).tobytes())
    assert np.array_equal(read_mrc(tmp_path / "a.mrc")[0], images)
    assert np.array_equal(read_sections(tmp_path / "a.mrc", np.array([1, 1])), images[[1, 1]])


def test_serialem_packs_four_bits_into_bytes_of_half_the_width(tmp_path):
    image = np.random.default_rng(1).integers(0, 16, (3, 8)).astype(np.uint8)
    header = header_only(4, 3, 1, 0)
    header[224:260] = b"SerialEMCCD: image, 4 bits packed   "
    (tmp_path / "a.mrc").write_bytes(bytes(header) + (image[:, 0::2] | image[:, 1::2] << 4).tobytes())
    back, pixel_size = read_mrc(tmp_path / "a.mrc")
    assert np.array_equal(back, image)
    assert pixel_size == pytest.approx(1.0)


def test_bytes_are_signed_unless_the_stamp_of_imod_says_otherwise(tmp_path):
    header = header_only(2, 1, 1, 0)
    (tmp_path / "a.mrc").write_bytes(bytes(header) + b"\xff\x01")
    assert read_mrc(tmp_path / "a.mrc")[0].tolist() == [[-1, 1]]
    struct.pack_into("<2i", header, 152, 1146047817, 0)
    (tmp_path / "a.mrc").write_bytes(bytes(header) + b"\xff\x01")
    assert read_mrc(tmp_path / "a.mrc")[0].tolist() == [[255, 1]]


@pytest.mark.parametrize(("mode", "dtype"), [(1, ">i2"), (2, ">f4"), (6, ">u2"), (12, ">f2")])
def test_big_endian_files_are_read(tmp_path, mode, dtype):
    image = np.arange(20).reshape(4, 5)
    (tmp_path / "a.mrc").write_bytes(bytes(header_only(5, 4, 1, mode, ">")) + image.astype(dtype).tobytes())
    assert np.array_equal(read_mrc(tmp_path / "a.mrc")[0], image)
    assert np.array_equal(read_sections(tmp_path / "a.mrc", np.array([0]))[0], image)


def test_a_packed_stack_gives_the_sections_asked_for(tmp_path, data):
    write_stack(tmp_path / "s.mrcs", data, 2.0)
    (tmp_path / "s.mrcs.gz").write_bytes(gzip.compress((tmp_path / "s.mrcs").read_bytes()))
    assert np.array_equal(read_sections(tmp_path / "s.mrcs.gz", np.array([2, 0])), data[[2, 0]])
    assert read_shape(tmp_path / "s.mrcs.gz") == ((3, 5, 6), pytest.approx(2.0))


def test_a_packed_header_that_asks_for_more_than_its_file_can_hold_is_refused_at_once(tmp_path):
    (tmp_path / "bomb.mrc.gz").write_bytes(gzip.compress(bytes(header_only(30000, 30000, 5000, 2))))
    with pytest.raises(InputError, match="cannot be the 18000000001024"):
        read_mrc(tmp_path / "bomb.mrc.gz")


def test_transforms_are_no_images(tmp_path):
    (tmp_path / "a.mrc").write_bytes(bytes(header_only(5, 4, 1, 4)) + bytes(160))
    with pytest.raises(InputError, match="mode 4, a transform"):
        read_mrc(tmp_path / "a.mrc")
