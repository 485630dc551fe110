"""Exposure rows: micrographs are read or refused with a reason, CTF values are there or not."""

import numpy as np
import pandas as pd
import pytest

from firn.errors import ExposureError
from firn.formats.exposures import PICK_COLUMNS, ctf_values, join_tables, load_micrograph, picks_table
from firn.formats.mrc import write_image, write_stack


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.ones((8, 8)), "ZERO"),
        (np.full((8, 8), np.nan), "NONFINITE"),
        (np.random.default_rng(1).normal(size=(3, 8, 8)), "SHAPE"),
        (None, "HEADER"),
    ],
)
def test_an_unusable_micrograph_is_refused_with_its_reason(tmp_path, image, code):
    path = tmp_path / "m.mrc"
    if image is not None:
        (write_image if image.ndim == 2 else write_stack)(path, np.nan_to_num(image), 1.0)
    if code == "NONFINITE":
        path.write_bytes(path.read_bytes()[:1024] + image.astype(np.float32).tobytes())
    with pytest.raises(ExposureError, match=str(path)) as caught:
        load_micrograph({"micrograph": str(path)})
    assert caught.value.code == code


def test_ctf_values_need_a_finite_fit():
    row = {"defocus_u": 2.0, "defocus_v": 1.0, "defocus_angle": 3.0, "voltage_kv": 300.0, "cs_mm": 2.7}
    assert ctf_values(row) == (2.0, 1.0, 3.0, 300.0, 2.7, 0.0, 0.1)
    assert ctf_values(row | {"defocus_u": float("nan")}) is None
    assert ctf_values({}) is None


def test_picks_carry_identity_and_optics():
    row = {"exposure_id": "e1", "batch": "0001", "micrograph": "m.mrc", "voltage_kv": 300.0, "micrograph_pixel_size": 1.5, "gain": "g.mrc"}
    table = picks_table(row, {"x_px": np.array([1.0, 2.0]), "y_px": np.array([3.0, 4.0])})
    assert table["particle_id"].tolist() == ["e1-00001", "e1-00002"]
    assert set(table["voltage_kv"]) == {300.0}
    assert "gain" not in table.columns


def test_joining_nothing_keeps_the_columns():
    assert tuple(join_tables([], PICK_COLUMNS).columns) == PICK_COLUMNS
    assert len(join_tables([pd.DataFrame({"a": [1]}), pd.DataFrame()], ("a",))) == 1
