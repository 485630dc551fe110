"""Whatever bytes a header is made of, reading it ends with frames or with one sentence, soon and in little memory."""

import gzip
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firn.errors import ExposureError
from firn.formats.movie import iterate_frames, read_header
from firn.simulate.write_eer import write_eer_movie

COUNTS = np.random.default_rng(1).poisson(2.0, (3, 20, 32)).astype(np.uint8)
LARGEST_MEMORY = 100e6

edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x01", b"\x80"])),
    min_size=1,
    max_size=4,
)


def write_tiff(path: Path, compression: str | None) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for frame in COUNTS:
            tiff.write(frame, compression=compression, rowsperstrip=7, photometric="minisblack", contiguous=False, metadata=None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a sound movie of each format, by the ending it goes by."""
    folder = tmp_path_factory.mktemp("sound")
    write_tiff(folder / "lzw.tif", "lzw")
    write_tiff(folder / "zip.tif", "zlib")
    with mrcfile.new(folder / "m.mrc") as mrc:
        mrc.set_data(COUNTS.astype(np.int16))
    write_eer_movie(folder / "m.eer", COUNTS, np.random.default_rng(2), pixel_size=1.0)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sentence_of(path: Path) -> str | None:
    """What is said about the file; None when it can be read to its end."""
    try:
        read_header(path, eer_fractions=3)
        for _ in iterate_frames(path, eer_fractions=3):
            pass
    except ExposureError as error:
        return str(error)
    return None


def survive(path: Path) -> None:
    tracemalloc.start()
    try:
        sentence = sentence_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LARGEST_MEMORY
    if sentence is not None:
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        assert len(sentence) < 300 + len(str(path))


def edited(data: bytes, edits: list[tuple[float, bytes]], reach: int) -> bytes:
    content = bytearray(data)
    for place, value in edits:
        start = int(place * min(reach, len(content)))
        content[start : start + len(value)] = value[: len(content) - start]
    return bytes(content)


@pytest.mark.parametrize("name", ["lzw.tif", "zip.tif", "m.mrc", "m.eer"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(edits=edits, end=st.floats(0.1, 1))
def test_damaged_bytes_end_in_frames_or_in_one_sentence(
    tmp_path: Path, files: dict[str, bytes], name: str, edits: list[tuple[float, bytes]], end: float
) -> None:
    data = files[name]
    data = edited(data, edits, 1024 if name == "m.mrc" else len(data))
    (tmp_path / name).write_bytes(data[: int(len(data) * end)] if end < 0.3 else data)
    survive(tmp_path / name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(edits=edits, flip=st.integers(0, 2000))
def test_damaged_packed_bytes_end_in_frames_or_in_one_sentence(
    tmp_path: Path, files: dict[str, bytes], edits: list[tuple[float, bytes]], flip: int
) -> None:
    data = bytearray(gzip.compress(edited(files["m.mrc"], edits, 256), 1, mtime=0))
    if flip < len(data):
        data[flip] ^= 1
    (tmp_path / "m.mrc.gz").write_bytes(data)
    survive(tmp_path / "m.mrc.gz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.binary(max_size=2000), name=st.sampled_from(["a.tif", "a.mrc", "a.eer", "a.mrc.gz", "a.mrc.bz2", "a.mrc.xz"]))
def test_bytes_of_any_kind_end_in_one_sentence(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    survive(tmp_path / name)
