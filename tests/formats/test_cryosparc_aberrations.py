"""Aberrations of CryoSPARC's: kept to the last bit on the way there and back, and never taken for firn's, or the other way round."""

import numpy as np
import pandas as pd
import pytest

from firn.formats.cryosparc_aberrations import COLUMN, WIDTHS, aberration_fields, kept_column, measured


def fields(count: int = 6) -> dict[str, np.ndarray]:
    """Two exposure groups, each with aberrations of its own."""
    chance = np.random.default_rng(1)
    groups = {name: chance.normal(0, 1000, (2, width)).astype(np.float32) for name, width in WIDTHS.items()}
    return {"uid": np.arange(count)} | {name: values[np.arange(count) % 2] for name, values in groups.items()}


def test_every_number_comes_back_to_the_last_bit() -> None:
    given = fields()
    table = pd.DataFrame({"x": range(6)} | kept_column(given))
    assert table[COLUMN].nunique() == 2
    for name, values in aberration_fields(table).items():
        np.testing.assert_array_equal(values, given[name], err_msg=name)


def test_a_file_without_aberrations_gives_no_column_and_a_table_without_one_zeros() -> None:
    given = {name: values * 0 for name, values in fields().items()}
    assert kept_column(given) == {}
    assert kept_column({"uid": given["uid"]}) == {}
    written = aberration_fields(pd.DataFrame({"x": range(6)}))
    assert {name: values.shape for name, values in written.items()} == {name: (6, width) for name, width in WIDTHS.items()}
    assert not any(values.any() for values in written.values())


@pytest.mark.parametrize(
    ("column", "value", "kinds"),
    [
        ("beam_tilt_x", 0.4, ["beam tilt"]),
        ("beam_tilt_x", 0.0, []),
        ("odd_zernike", "[0,0,1.5]", ["odd polynomials"]),
        ("even_zernike", "[0,0,0]", []),
        ("magnification_xx", 1.01, ["magnification"]),
        ("magnification_xx", 1.0, []),
        ("magnification_xy", float("nan"), []),
    ],
)
def test_what_firn_has_measured_replaces_what_was_kept(column: str, value: float | str, kinds: list[str]) -> None:
    table = pd.DataFrame({"x": range(6)} | kept_column(fields())).assign(**{column: value})
    assert measured(table) == kinds
    assert any(values.any() for values in aberration_fields(table).values()) == (not kinds)


def test_a_list_that_is_cut_counts_as_none() -> None:
    table = pd.DataFrame({COLUMN: ["[1,2]", "", None]})
    assert not any(values.any() for values in aberration_fields(table).values())
