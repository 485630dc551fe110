"""STAR files: round trips, judged by another reader, and damage."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from firn.errors import InputError
from firn.formats.star import read_star, write_star

TEXT = st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\x00', exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, NUMBERS, st.integers(-(2**60), 2**60)), min_size=1, max_size=5))
def test_any_text_and_number_survives_a_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("star") / "a.star"
    table = pd.DataFrame(rows, columns=["rlnImageName", "rlnDefocusU", "rlnClassNumber"])
    write_star(path, {"particles": table})
    back = read_star(path)["particles"]
    assert back["rlnImageName"].tolist() == table["rlnImageName"].tolist()
    assert np.allclose(back["rlnDefocusU"], table["rlnDefocusU"], rtol=1e-5, atol=0)
    assert back["rlnClassNumber"].tolist() == table["rlnClassNumber"].tolist()


def test_several_blocks_keep_their_names_order_and_columns(tmp_path):
    blocks = {"optics": pd.DataFrame({"rlnVoltage": [300.0]}), "particles": pd.DataFrame({"rlnImageName": ["1@a", "2@a"], "x": [1, 2]})}
    write_star(tmp_path / "a.star", blocks)
    back = read_star(tmp_path / "a.star")
    assert list(back) == ["optics", "particles"]
    pd.testing.assert_frame_equal(back["particles"], blocks["particles"], check_dtype=False)


def test_starfile_reads_what_firn_writes_and_the_other_way_round(tmp_path):
    table = pd.DataFrame(
        {"rlnImageName": ["000001@a b.mrcs", "000002@c.mrcs"], "rlnDefocusU": [12345.678, 0.0001234], "rlnClassNumber": [1, 20]}
    )
    write_star(tmp_path / "ours.star", {"particles": table})
    theirs = starfile.read(tmp_path / "ours.star")
    assert theirs["rlnImageName"].tolist() == table["rlnImageName"].tolist()
    assert np.allclose(theirs["rlnDefocusU"], table["rlnDefocusU"], rtol=1e-6)
    starfile.write({"particles": table.assign(rlnImageName=["1@a", "2@b"])}, tmp_path / "theirs.star")
    back = read_star(tmp_path / "theirs.star")["particles"]
    assert back["rlnImageName"].tolist() == ["1@a", "2@b"]
    assert np.allclose(back["rlnDefocusU"], table["rlnDefocusU"], atol=1e-6)


def test_name_value_lists_comments_tabs_and_carriage_returns_are_read(tmp_path):
    text = '# version 30001\r\n\r\ndata_job\r\n\r\n_rlnJobTypeLabel "relion import"\r\n_rlnJobIsTomo\t0\r\n\r\n# note\r\ndata_x\r\n\r\nloop_\r\n_a #1\r\n_bName #2\r\n1\t2\r\n3 4\r\n'
    (tmp_path / "a.star").write_bytes(text.encode())
    blocks = read_star(tmp_path / "a.star")
    assert blocks["job"].iloc[0].tolist() == ["relion import", 0]
    assert blocks["x"]["a"].tolist() == [1, 3]
    assert blocks["x"]["bName"].tolist() == ["2", "4"]


def test_numbers_that_name_things_stay_text_and_nan_stays_a_number(tmp_path):
    table = pd.DataFrame({"firnBatch": ["0001"], "firnExposureId": ["12345"], "value": [float("nan")], "rlnMicrographName": [None]})
    write_star(tmp_path / "a.star", {"x": table})
    back = read_star(tmp_path / "a.star")["x"]
    assert back.loc[0, ["firnBatch", "firnExposureId", "rlnMicrographName"]].tolist() == ["0001", "12345", ""]
    assert np.isnan(back.loc[0, "value"])


def test_a_value_that_looks_like_a_block_does_not_start_one(tmp_path):
    write_star(tmp_path / "a.star", {"x": pd.DataFrame({"rlnMicrographName": ["data_1.mrc", "loop_", "_x", "#y"]})})
    assert read_star(tmp_path / "a.star")["x"]["rlnMicrographName"].tolist() == ["data_1.mrc", "loop_", "_x", "#y"]


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_star(tmp_path / "a.star", {"x": pd.DataFrame({"a": [], "bName": []})})
    table = read_star(tmp_path / "a.star")["x"]
    assert list(table.columns) == ["a", "bName"]
    assert table.empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_x\n\nloop_\n_a #1\n_b #2\n1 2\n3\n", "row 2 has 1 values, but the table has 2"),
        ('data_x\n\nloop_\n_a #1\n_b #2\n1 "2\n3 4\n', "row 1"),
        ("data_x\n\nloop_\n_a #1\n_a #2\n1 2\n", "_a twice"),
        ("data_x\n\n_a\n", "expected a loop_"),
        ("hello\n", "no data_ block"),
        ("", "no data_ block"),
    ],
)
def test_damage_is_named_in_one_sentence_with_its_place(tmp_path, text, message):
    (tmp_path / "bad.star").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_star(tmp_path / "bad.star")
    assert "bad.star" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00data_", None])
def test_what_is_not_text_or_not_there_is_an_input_error(tmp_path, content):
    if content is not None:
        (tmp_path / "bad.star").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.star"):
        read_star(tmp_path / "bad.star")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_star(tmp_path / "a.star", {"x": pd.DataFrame({"a": [1]})})

    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        write_star(tmp_path / "a.star", {"x": pd.DataFrame({"a": [Unprintable()]})})
    assert read_star(tmp_path / "a.star")["x"]["a"].tolist() == [1]


def test_a_hundred_thousand_rows_are_written_and_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(-1e4, 1e4, (100_000, 8)), columns=[f"c{i}" for i in range(8)])
    table["rlnImageName"] = [f"{i:06d}@stack.mrcs" for i in range(len(table))]
    start = time.process_time()
    write_star(tmp_path / "a.star", {"particles": table})
    back = read_star(tmp_path / "a.star")["particles"]
    assert time.process_time() - start < 10
    assert np.allclose(back["c0"], table["c0"], atol=1e-5)
    assert back["rlnImageName"].iloc[-1] == table["rlnImageName"].iloc[-1]


def test_the_partial_file_is_gone_after_a_write(tmp_path):
    write_star(tmp_path / "a.star", {"x": pd.DataFrame({"a": [1]})})
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a.star"]
