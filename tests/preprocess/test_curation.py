"""Rules of curation: what adaptive limits must and must not reject."""

import numpy as np
import pandas as pd
import pytest

from firn.preprocess.curation import find_limits, judge, with_derived


def session(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ctf_fit_resolution": rng.normal(4.0, 0.15, count),
            "ctf_score": rng.normal(0.2, 0.02, count),
            "motion_total": rng.gamma(4, 2, count),
            "astigmatism": rng.gamma(3, 80, count),
            "ice_ring_score": rng.normal(1.02, 0.02, count),
            "defocus_u": rng.uniform(8000, 25000, count),
            "defocus_v": rng.uniform(7900, 24900, count),
        }
    )


def verdicts(table: pd.DataFrame, **given) -> pd.DataFrame:
    derived = with_derived(table)
    return judge(derived, find_limits(derived, {(name, True): value for name, value in given.items()}, adaptive=True))


@pytest.mark.parametrize("count", [1, 2, 5, 20, 3000])
def test_a_homogeneous_set_of_any_size_loses_nothing(count):
    assert (verdicts(session(count))["rule_verdict"] == "accept").all()


@pytest.mark.parametrize("count", [5, 20, 3000])
@pytest.mark.parametrize(
    ("column", "value"), [("ctf_fit_resolution", 14.0), ("ctf_score", 0.02), ("motion_total", 150.0), ("ice_ring_score", 2.5)]
)
def test_one_bad_exposure_is_rejected_alone_with_its_reason(count, column, value):
    table = session(count)
    table.loc[2, column] = value
    judged = verdicts(table)
    assert np.flatnonzero(judged["rule_verdict"] == "reject").tolist() == [2]
    assert "limit" in judged["reason"][2]


def test_an_exposure_without_rings_is_rejected_even_among_two():
    table = session(2)
    table.loc[1, "ctf_fit_resolution"] = 25.0
    assert verdicts(table)["rule_verdict"].tolist() == ["accept", "reject"]


def test_a_given_limit_is_taken_as_it_is():
    table = session(50)
    judged = verdicts(table, ctf_fit_resolution=4.0)
    assert ((judged["rule_verdict"] == "reject") == (table["ctf_fit_resolution"] > 4.0)).all()


def test_defocus_is_judged_only_when_asked():
    table = session(20)
    table.loc[3, ["defocus_u", "defocus_v"]] = 39000.0
    assert (verdicts(table)["rule_verdict"] == "accept").all()
    assert verdicts(table, defocus=30000.0)["rule_verdict"][3] == "reject"


def test_a_value_that_is_not_known_rejects_nothing():
    table = session(10)
    table.loc[4, "ice_ring_score"] = np.nan
    assert (verdicts(table)["rule_verdict"] == "accept").all()


def test_the_tilt_follows_from_the_slopes_and_the_size_of_the_field():
    """Defocus that rises by 1000 Å from the centre to the edge of a field 2000 Å wide lies at 45 degrees."""
    row = {"defocus_slope_x": 1000.0, "defocus_slope_y": 0.0, "width_px": 1000, "height_px": 500, "micrograph_pixel_size": 2.0}
    assert with_derived(pd.DataFrame([row]))["tilt_angle"][0] == pytest.approx(45.0)
