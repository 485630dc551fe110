"""Movies: frames come out as they were written, and every kind of damage is told in one sentence with a stable code."""

import bz2
import errno
import gzip
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from firn.errors import ExposureError
from firn.formats.movie import iterate_frames, read_header
from firn.simulate.write_eer import write_eer_movie


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(5).poisson(2.0, (6, 20, 33)).astype(np.uint8)


def write_tiff(path: Path, frames: np.ndarray, compression: str | None = "lzw") -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(frame, compression=compression, photometric="minisblack", contiguous=False, metadata=None, rowsperstrip=4)
    return path


def write_mrc(path: Path, frames: np.ndarray) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(frames)
        mrc.voxel_size = 0.83
    return path


def code_of(path: Path) -> str:
    with pytest.raises(ExposureError) as caught:
        list(iterate_frames(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", None])
def test_row_zero_of_an_image_is_the_last_row_of_its_tiff_page(tmp_path: Path, counts: np.ndarray, compression: str | None) -> None:
    path = write_tiff(tmp_path / "m.tif", counts, compression)
    header = read_header(path)
    assert (header.frames, header.height, header.width) == (6, 20, 33)
    np.testing.assert_array_equal(np.stack(list(iterate_frames(path))), counts[:, ::-1])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_mrc_movies_of_every_mode_keep_rows_and_values(tmp_path: Path, counts: np.ndarray, dtype: type) -> None:
    path = write_mrc(tmp_path / "m.mrc", counts.astype(dtype))
    assert read_header(path).pixel_size == pytest.approx(0.83)
    np.testing.assert_array_equal(np.stack(list(iterate_frames(path))), counts.astype(dtype))


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("gz", gzip.compress), ("xz", lzma.compress)])
def test_a_packed_mrc_movie_is_read_like_the_plain_one(
    tmp_path: Path, counts: np.ndarray, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    plain = write_mrc(tmp_path / "m.mrc", counts.astype(np.int16))
    packed = tmp_path / f"m.mrc.{ending}"
    packed.write_bytes(pack(plain.read_bytes()))
    assert read_header(packed).frames == 6
    assert read_header(packed).pixel_size == pytest.approx(0.83)
    np.testing.assert_array_equal(np.stack(list(iterate_frames(packed))), counts)
    packed.write_bytes(packed.read_bytes()[:-100])
    assert code_of(packed) in ("TRUNCATED", "CODEC")


def test_threads_change_neither_the_frames_nor_their_order(tmp_path: Path, counts: np.ndarray) -> None:
    tiff, eer = write_tiff(tmp_path / "m.tif", counts), tmp_path / "m.eer"
    write_eer_movie(eer, counts[..., :32], np.random.default_rng(1))
    packed = tmp_path / "m.mrc.bz2"
    packed.write_bytes(bz2.compress(write_mrc(tmp_path / "m.mrc", counts.astype(np.int16)).read_bytes()))
    for path in (tiff, eer, packed):
        one, three = (list(iterate_frames(path, 6, 2, threads)) for threads in (1, 3))
        np.testing.assert_array_equal(np.stack(one), np.stack(three))


def test_an_mrc_movie_with_more_frames_than_its_header_tells_is_refused(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_mrc(tmp_path / "m.mrc", counts.astype(np.int16))
    data = bytearray(path.read_bytes())
    data[8:12] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    assert code_of(path) == "FRAMES"
    with pytest.raises(ExposureError, match="tells of 1 frames, but the file holds 6"):
        read_header(path)


def test_an_mrc_movie_in_another_mode_than_its_header_tells_is_refused(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_mrc(tmp_path / "m.mrc", counts.astype(np.int16))
    data = bytearray(path.read_bytes())
    data[12:16] = (2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ExposureError, match=r"says MRC mode 2, but its .* bytes are those of mode 1 or 6 or 12"):
        read_header(path)


def test_fractions_of_an_eer_movie_hold_the_counts_of_their_raw_frames(tmp_path: Path, counts: np.ndarray) -> None:
    path = tmp_path / "m.eer"
    counts = counts[..., :32]
    write_eer_movie(path, counts, np.random.default_rng(1))
    fractions = list(iterate_frames(path, eer_fractions=6, eer_upsampling=1))
    np.testing.assert_array_equal(np.stack(fractions), counts)
    fine = next(iterate_frames(path, eer_fractions=6, eer_upsampling=2))
    np.testing.assert_array_equal(fine.reshape(20, 2, 32, 2).sum(axis=(1, 3)), counts[0])


def test_raw_frames_that_cannot_be_shared_out_equally_are_dropped(tmp_path: Path, counts: np.ndarray) -> None:
    path = tmp_path / "m.eer"
    group = write_eer_movie(path, counts, np.random.default_rng(1))
    header = read_header(path, eer_fractions=4, eer_upsampling=1)
    assert header.frames == 4
    assert header.used == pytest.approx(6 * group // 4 * 4 / (6 * group))
    with pytest.raises(ExposureError, match=f"has {6 * group} raw frames, too few for {7 * group} fractions"):
        read_header(path, eer_fractions=7 * group)


@pytest.mark.parametrize("compression", ["lzw", "zlib", None])
def test_a_tiff_cut_anywhere_is_noticed(tmp_path: Path, counts: np.ndarray, compression: str | None) -> None:
    whole = write_tiff(tmp_path / "whole.tif", counts, compression).read_bytes()
    for share in np.linspace(0.02, 0.99, 25):
        cut = tmp_path / "cut.tif"
        cut.write_bytes(whole[: int(share * len(whole))])
        assert code_of(cut) in ("TRUNCATED", "HEADER")


def test_a_movie_cut_at_two_thirds_is_called_truncated(tmp_path: Path, counts: np.ndarray) -> None:
    for path in (write_tiff(tmp_path / "m.tif", counts), write_mrc(tmp_path / "m.mrc", counts.astype(np.int16))):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        assert code_of(path) == "TRUNCATED"


def test_an_eer_movie_cut_anywhere_is_noticed(tmp_path: Path, counts: np.ndarray) -> None:
    write_eer_movie(tmp_path / "whole.eer", counts, np.random.default_rng(1), pixel_size=1.0)
    whole = (tmp_path / "whole.eer").read_bytes()
    for share in np.linspace(0.01, 0.995, 25):
        (tmp_path / "cut.eer").write_bytes(whole[: int(share * len(whole))])
        assert code_of(tmp_path / "cut.eer") in ("TRUNCATED", "HEADER", "FRAMES")


def test_an_eer_strip_cut_in_half_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.eer"
    write_eer_movie(path, np.random.default_rng(2).poisson(2.0, (6, 64, 64)), np.random.default_rng(1))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[2]
        tag, count = page.tags["StripByteCounts"], page.databytecounts[0]
        position, size = tag.valueoffset, tag.valuebytecount
    data = bytearray(path.read_bytes())
    data[position : position + size] = (count // 2).to_bytes(size, "little")
    path.write_bytes(data)
    with pytest.raises(ExposureError) as caught:
        list(iterate_frames(path, eer_fractions=6, eer_upsampling=1))
    assert caught.value.code == "CODEC"


@pytest.mark.filterwarnings("ignore:Data array contains")
def test_values_that_are_no_image_are_refused_with_the_frame_that_has_them(tmp_path: Path, counts: np.ndarray) -> None:
    zero, hole, bright = counts.copy(), counts.astype(np.float32), counts.copy()
    zero[3], hole[2, 4, 4], bright[1, :10] = 0, np.nan, 255
    assert code_of(write_tiff(tmp_path / "zero.tif", zero)) == "ZERO"
    assert code_of(write_mrc(tmp_path / "nan.mrc", hole)) == "NONFINITE"
    assert code_of(write_tiff(tmp_path / "bright.tif", bright)) == "SATURATED"
    assert code_of(write_tiff(tmp_path / "full.tif", np.full((3, 700, 24), 255, np.uint8))) == "ZERO"
    assert code_of(write_mrc(tmp_path / "flat.mrc", np.full((3, 20, 30), 0.1, np.float32))) == "ZERO"
    with pytest.raises(ExposureError, match="frame 4 is all zero"):
        list(iterate_frames(tmp_path / "zero.tif"))


def test_a_frame_with_half_its_counts_lost_is_noticed(tmp_path: Path, counts: np.ndarray) -> None:
    counts[4, 6:] = 0
    assert code_of(write_tiff(tmp_path / "m.tif", counts)) == "CODEC"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_the_system_does_not_hand_out_is_unreadable_whatever_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: np.ndarray, number: int
) -> None:
    path = write_tiff(tmp_path / "m.tif", counts)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(tifffile, "TiffFile", refuse)
    with pytest.raises(ExposureError, match=re.escape(f"m.tif: cannot be read ({os.strerror(number)})")) as caught:
        read_header(path)
    assert caught.value.code == "UNREADABLE"


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("this is not a movie")
    (tmp_path / "movie.dm4").write_text("unknown")
    assert code_of(tmp_path / "none.tif") == "UNREADABLE"
    assert code_of(tmp_path / "empty.tif") == "EMPTY"
    assert code_of(tmp_path / "text.tif") == "HEADER"
    assert code_of(tmp_path / "movie.dm4") == "NAME"


def test_a_frame_of_another_size_is_refused(tmp_path: Path, counts: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif") as tiff:
        for frame in (counts[0], counts[1, :-2]):
            tiff.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    assert code_of(tmp_path / "m.tif") == "SHAPE"


def test_a_lying_mrc_header_is_refused_before_anything_is_allocated(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_mrc(tmp_path / "m.mrc", counts.astype(np.int16))
    data = bytearray(path.read_bytes())
    data[0:4] = (2_000_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    assert code_of(path) == "HEADER"
