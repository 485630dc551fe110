"""What a session says of its sample is free in its names, but plain values."""

import datetime
from typing import Any

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.check import check_session
from firn.dag.graph import Graph
from firn.errors import InputError

JOBS: dict[str, dict[str, Any]] = {"map": {"type": "import_volume", "map": "a.mrc"}}


def check(about: Any) -> None:
    check_session({"about": about, "jobs": JOBS}, Catalogue("config/schema.json"))


def test_names_and_values_of_any_kind_may_be_said():
    check({"sample": "apoferritin", "magnification": 130000, "energy_filter_slit_ev": 10.0, "phase plate": False})


@pytest.mark.parametrize("about", ["apoferritin", ["a"], {"sample": {"name": "b"}}, {"grids": [1, 2]}])
def test_what_is_no_name_with_a_plain_value_is_refused(about: Any):
    with pytest.raises(InputError, match="about"):
        check(about)


def test_a_job_hears_what_the_session_says_and_its_own_word_wins():
    jobs = JOBS | {name: {"type": "export_deposition", "volume": "map"} for name in ("deposit", "plain")}
    jobs["deposit"]["about"] = {"sample": "ferritin"}
    about = {"sample": "apoferritin", "date": datetime.date(2026, 3, 1), "magnification": 130000}
    graph = Graph({"about": about, "jobs": jobs}, Catalogue("config/schema.json"))
    assert graph.settings_with_about("deposit")["about"] == {"sample": "ferritin", "date": "2026-03-01", "magnification": 130000}
    assert graph.settings_with_about("plain")["about"]["sample"] == "apoferritin"
