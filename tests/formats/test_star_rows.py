"""Tables as rows: the same names and values as the tables of pandas, and the same faults in one sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.star import write_star
from firn.formats.star_rows import read_rows
from firn.formats.tables import read_table, write_table

OPTICS = {"voltage_kv": [300.0, 300.0, 200.0], "micrograph_pixel_size": [1.5, 1.5, 0.8]}
EXPOSURES = pd.DataFrame(
    {
        "exposure_id": ["e1", "e2", "e3"],
        "batch": ["0001", "0001", "0002"],
        "movie": ["raw/a b.tif", "raw/é'.tif", 'raw/"c" d.tif'],
        "frames": [4, 5, 6],
        "motion_total": [1.25, np.nan, -3e-7],
        "ctf_image": ["12", "13", "14"],
        "thumbnail": ["", "x.png", "7"],
    }
)


@pytest.mark.parametrize("optics", [{}, OPTICS])
def test_rows_are_those_of_the_table(tmp_path: Path, optics: dict[str, list[float]]) -> None:
    write_table(tmp_path / "t.star", EXPOSURES.assign(**optics), "exposures")
    table, rows = read_table(tmp_path / "t.star", "exposures"), read_rows(tmp_path / "t.star", "exposures")
    assert all(list(row) == list(table.columns) for row in rows)
    for name in table.columns:
        assert pd.Series([row[name] for row in rows]).equals(table[name].astype(float) if table[name].dtype.kind in "if" else table[name])


def test_a_table_without_rows_and_a_list_of_names_and_values_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "none.star", EXPOSURES.iloc[:0], "exposures")
    assert read_rows(tmp_path / "none.star", "exposures") == []
    (tmp_path / "one.star").write_text("data_micrographs\n\n_firnExposureId e1\n_rlnDefocusU 12000.5\n")
    assert read_rows(tmp_path / "one.star", "exposures") == [{"exposure_id": "e1", "defocus_u": 12000.5}]


BLOCK = "data_micrographs\n\nloop_\n_firnExposureId #1\n_rlnDefocusU #2\n"
OPTICS_BLOCK = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n"
GROUPED = "\ndata_micrographs\n\nloop_\n_firnExposureId #1\n_rlnOpticsGroup #2\ne1 1\n"


@pytest.mark.parametrize(
    "text",
    [
        BLOCK + "e1 1.0\ne2\n",
        BLOCK + "e1 many\n",
        BLOCK + 'e1 "1.0\n',
        BLOCK + "e1 1.0\0\n",
        BLOCK.replace("_rlnDefocusU", "_firnExposureId") + "e1 e2\n",
        "no table\n",
        OPTICS_BLOCK + "2 300\n" + GROUPED,
        OPTICS_BLOCK + "1 300\n1 200\n" + GROUPED,
        OPTICS_BLOCK + "1 300\n" + GROUPED.replace("_rlnOpticsGroup", "_rlnGroup"),
        OPTICS_BLOCK + "1 300\n\ndata_a\n\n_x 1\n\ndata_b\n\n_x 1\n",
    ],
)
def test_what_no_table_can_be_made_of_is_refused_as_by_the_other_reader(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.star"
    path.write_text(text)
    for read in (read_table, read_rows):
        with pytest.raises(InputError, match=str(path)):
            read(path, "exposures")


@pytest.mark.parametrize("left_out", ["", "None", "nan"])
def test_a_number_that_is_left_out_is_nan(tmp_path: Path, left_out: str) -> None:
    write_star(tmp_path / "t.star", {"micrographs": pd.DataFrame({"firnExposureId": ["e1", "e2"], "rlnDefocusU": [left_out, "7"]})})
    found = [row["defocus_u"] for row in read_rows(tmp_path / "t.star", "exposures")]
    assert np.isnan(found[0])
    assert found[1] == 7.0
