"""Poses as arrays and back."""

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.ids import half_set
from firn.formats.poses import read_angles, read_shifts, with_halves, with_poses


def test_angles_and_shifts_come_back_as_they_were_put_in():
    angles, shifts = np.array([[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]]), np.array([[1.0, -2.0], [0.5, 0.0]])
    table = with_poses(pd.DataFrame({"image": ["a", "b"]}), angles, shifts, 2.0)
    np.testing.assert_array_equal(read_angles(table, "here"), angles)
    np.testing.assert_array_equal(read_shifts(table, 2.0), shifts)
    assert table["origin_x"].tolist() == [-4.0, 0.0]
    assert table["origin_y"].tolist() == [2.0, 1.0]
    np.testing.assert_array_equal(read_shifts(table.drop(columns=["origin_x", "origin_y"]), 2.0), np.zeros((2, 2)))


def test_shifts_that_are_not_there_are_zero():
    table = pd.DataFrame({"image": ["a", "b"], "origin_x": [4.0, np.nan]})
    np.testing.assert_array_equal(read_shifts(table, 2.0), [[0.0, 2.0], [0.0, 0.0]])


def test_angles_that_are_no_numbers_are_named():
    table = pd.DataFrame({"rot": [1.0, 2.0], "tilt": [1.0, np.nan], "psi": [1.0, 2.0]})
    with pytest.raises(InputError, match="here: 1 of 2 rows, the first row 2, have no number in _rlnAngleTilt; particles need poses"):
        read_angles(table, "here")


def test_missing_angles_are_named_by_their_label():
    with pytest.raises(InputError, match="here: has no column _rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi"):
        read_angles(pd.DataFrame({"image": ["a"]}), "here")


def test_halves_are_kept_or_follow_from_names():
    named = pd.DataFrame({"particle_id": ["e1-00001", "e1-00002"], "image": ["x", "y"]})
    assert with_halves(named)["half"].tolist() == [half_set("e1-00001"), half_set("e1-00002")]
    assert with_halves(named.assign(half=[2, 2]))["half"].tolist() == [2, 2]
