"""Damage that fuzzing once found to end otherwise than in one sentence, or in a wrong value."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.errors import ExposureError, InputError
from firn.formats.cryosparc import read_cs
from firn.formats.decisions import read_decisions
from firn.formats.defects import read_defects
from firn.formats.gain import read_gain
from firn.formats.motion_star import read_motion
from firn.formats.movie import read_header
from firn.formats.mrc import write_image
from firn.formats.star import read_star, write_star
from firn.formats.tables import read_table, split_image_names
from firn.formats.yaml_text import read_yaml
from firn.live.control import read_control


def test_yaml_that_would_fill_memory_or_time_is_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    for text, what in ((bomb, "aliases"), ("[" * 20000, "nests more than 20"), ("- " * 3000, "nests more than 20")):
        (tmp_path / "d.yaml").write_text(text)
        with pytest.raises(InputError, match=what):
            read_yaml(tmp_path / "d.yaml", "decisions")


@pytest.mark.parametrize(
    "text", ["a: 2001-99-99", "a: 0b_", "a: 1" + "1" * 5000, "a: \x00", "!!python/object/apply:os.system [x]", "? [a]\n: b"]
)
def test_yaml_values_that_cannot_be_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(InputError, match=r"d\.yaml: ") as caught:
        read_decisions(tmp_path / "d.yaml")
    assert "\n" not in str(caught.value)


def test_yaml_larger_than_its_kind_can_be_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("a: b\n" * 100)
    with pytest.raises(InputError, match="larger than 99 bytes"):
        read_yaml(tmp_path / "d.yaml", "decisions", 99)


@pytest.mark.parametrize("blank", ["\x1c", "\x0b", "\x85", "\xa0", "\u2003", "\u3000"])
def test_only_blanks_and_tabs_separate_the_values_of_a_star_file(tmp_path: Path, blank: str) -> None:
    (tmp_path / "a.star").write_text(f"data_x\n\nloop_\n_aName #1\n_b #2\nx{blank}y 1\n", encoding="utf-8")
    assert read_star(tmp_path / "a.star")["x"].loc[0].tolist() == [f"x{blank}y", 1]


def test_names_with_any_quotes_come_back_from_a_star_file(tmp_path: Path) -> None:
    names = ['a"b.tif', 'a "b" c.tif', "it's.tif", "'x' y", '"all"', '"', "'", "''", '""', ";a", "a 'b", 'x"y z']
    write_star(tmp_path / "a.star", {"x": pd.DataFrame({"rlnMicrographName": names})})
    assert read_star(tmp_path / "a.star")["x"]["rlnMicrographName"].tolist() == names


def test_many_blocks_and_zero_bytes_are_refused(tmp_path: Path) -> None:
    for text, what in (("".join(f"data_{n}\n" for n in range(20_000)), "20000 blocks"), ("data_x\n_a \0\n", "zero bytes")):
        (tmp_path / "a.star").write_text(text)
        with pytest.raises(InputError, match=what):
            read_star(tmp_path / "a.star")


@pytest.mark.parametrize("name", ["0@a.mrcs", "²@a.mrcs", "٣@a.mrcs", "-1@a.mrcs", "1" * 5000 + "@a.mrcs", "99999999999@a.mrcs"])
def test_numbers_of_images_begin_with_one_and_are_digits(name: str) -> None:
    with pytest.raises(InputError, match="is not an image name"):
        split_image_names([name])


@pytest.mark.parametrize(
    ("optics", "voltage", "what"),
    [(["1", "1"], ["300", "200"], "optics group 1 twice"), (["1"], ["high"], "_rlnVoltage holds 'high', which is no number")],
)
def test_optics_that_cannot_be_joined_are_refused(tmp_path: Path, optics: list[str], voltage: list[str], what: str) -> None:
    rows = "".join(f"{group} {value}\n" for group, value in zip(optics, voltage, strict=True))
    text = f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n{rows}\ndata_particles\n\nloop_\n_rlnOpticsGroup #1\n1\n"
    (tmp_path / "a.star").write_text(text)
    with pytest.raises(InputError, match=what):
        read_table(tmp_path / "a.star", "particles")


def test_a_number_left_out_is_none_and_makes_no_text_of_the_others(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"micrographs": pd.DataFrame({"rlnDefocusU": ["1e4", "", None, "None"]})})
    column = read_table(tmp_path / "a.star", "exposures")["defocus_u"]
    assert column.iloc[0] == 1e4
    assert column.iloc[1:].isna().all()


def test_a_motion_star_without_its_columns_is_refused(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"general": pd.DataFrame({"x": [1]})})
    with pytest.raises(InputError, match="cannot be read as motion of a movie"):
        read_motion(tmp_path / "a.star")


@pytest.mark.parametrize(
    "header", [b"{'descr': [('a', ", b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 10**6), }\n", b"((((\n"]
)
def test_headers_of_cs_files_are_not_believed(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.cs").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"cannot be read as a \.cs file") as caught:
        read_cs(tmp_path / "a.cs")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_list_of_frames_that_goes_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(2):
            tiff.write(np.ones((8, 8), np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tiff:
        first = min(page.offset for page in tiff.pages)
        end = tiff.pages.next_page_offset
    data = bytearray(path.read_bytes())
    data[end : end + 4] = int(first).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ExposureError, match="goes in a circle"):
        read_header(path)


def test_the_inverse_of_a_vanishing_gain_is_a_defect(tmp_path: Path) -> None:
    gain = np.ones((4, 4), np.float32)
    gain[1, 2] = 1e-42
    write_image(tmp_path / "g.mrc", gain, 1.0)
    inverse = read_gain(tmp_path / "g.mrc", invert=True)
    assert inverse[1, 2] == 0
    assert np.isfinite(inverse).all()


def test_a_camera_without_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("CameraSizeX 0\nCameraSizeY 0\n")
    with pytest.raises(InputError, match="camera of 0 x 0"):
        read_defects(tmp_path / "d.txt", (8, 8))


def test_a_key_of_thousands_of_letters_is_told_in_brief(tmp_path: Path) -> None:
    (tmp_path / "control.yaml").write_text(f"thresholds:\n  ctf:\n    ? '{'1' * 5000}'\n    : 2\n")
    with pytest.raises(InputError, match="Extra inputs") as caught:
        read_control(tmp_path / "control.yaml")
    assert len(str(caught.value)) < 1000
