"""TIFF: every way of storing a page gives the same pixels, and a small file cannot claim a large one."""

import itertools
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from firn.errors import ExposureError
from firn.formats.tiff import iterate_tiff, tiff_shape

TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.float32)


@pytest.mark.parametrize(("order", "compression", "tiled"), list(itertools.product("<>", (None, "lzw", "zlib", "zstd"), (False, True))))
def test_pixels_do_not_depend_on_byte_order_compression_tiles_or_type(
    tmp_path: Path, order: str, compression: str | None, tiled: bool
) -> None:
    path = tmp_path / "a.tif"
    for kind, predictor in itertools.product(TYPES, (None, True) if compression else (None,)):
        image = np.random.default_rng(1).integers(0 if kind in (np.uint8, np.uint16) else -90, 120, (50, 61)).astype(kind)
        with tifffile.TiffWriter(path, byteorder=order) as tiff:
            layout = {"tile": (16, 32)} if tiled else {"rowsperstrip": 7}
            tiff.write(image, compression=compression, predictor=predictor, photometric="minisblack", metadata=None, **layout)
        (read,) = iterate_tiff(path)
        np.testing.assert_array_equal(read[::-1], image)
        assert read.dtype == kind


@pytest.mark.parametrize("width", [32, 33])
def test_four_bit_pages_are_unpacked(tmp_path: Path, width: int) -> None:
    image = np.random.default_rng(2).integers(0, 16, (10, width)).astype(np.uint8)
    rows = b"".join(imagecodecs.packints_encode(row, 4) for row in image)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((10, -(-width // 2)), np.uint8), photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tags = tiff.pages[0].tags
        places = {code: tags[code].valueoffset for code in (256, 258)}
        start = tiff.pages[0].dataoffsets[0]
    data[places[256] : places[256] + 2] = width.to_bytes(2, "little")
    data[places[258] : places[258] + 2] = (4).to_bytes(2, "little")
    data[start : start + len(rows)] = rows
    (tmp_path / "a.tif").write_bytes(data)
    (read,) = iterate_tiff(tmp_path / "a.tif")
    np.testing.assert_array_equal(read[::-1], image)


def test_the_pixel_size_is_told_by_the_resolution_unless_it_is_that_of_a_printed_page(tmp_path: Path) -> None:
    image = np.zeros((4, 5), np.uint8)
    for resolution, unit, expected in ((1e8 / 0.83, 3, 0.83), (2.54e8 / 1.2, 2, 1.2), (72, 2, None)):
        tifffile.imwrite(tmp_path / "a.tif", image, resolution=(resolution, resolution), resolutionunit=unit, photometric="minisblack")
        found = tiff_shape(tmp_path / "a.tif")[3]
        assert found == (pytest.approx(expected, rel=1e-4) if expected else None)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    assert tiff_shape(tmp_path / "a.tif")[3] is None


def test_a_page_that_claims_more_than_its_bytes_can_hold_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), compression="zlib", photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        places = [tiff.pages[0].tags[code].valueoffset for code in (256, 257)]
    for place in places:
        data[place : place + 2] = (32000).to_bytes(2, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ExposureError, match="cannot be the 1024000000 of its pixels"):
        tiff_shape(tmp_path / "a.tif")
