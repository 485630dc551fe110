"""Every job lies below what it reads, and no two jobs in one place."""

from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from firn.report.job_graph import draw_graph, place_jobs
from firn.report.records import JobRecord


def record(name: str, *upstream: str, warnings: tuple[str, ...] = ()) -> JobRecord:
    return JobRecord(name, "some_type", Path(name), {"warnings": list(warnings), "metrics": {}, "figures": [], "seconds": 1.0}, upstream)


@st.composite
def graphs(draw: st.DrawFn) -> list[JobRecord]:
    names = [f"job{number}" for number in range(draw(st.integers(1, 12)))]
    return [
        record(name, *draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3) if number else st.just([])))
        for number, name in enumerate(names)
    ]


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_jobs_lie_below_their_inputs_and_apart(records: list[JobRecord]):
    places = place_jobs(records)
    assert len(set(places.values())) == len(records)
    assert all(places[up].row < places[one.name].row for one in records for up in one.upstream)


def test_branches_that_share_nothing_share_no_column():
    places = place_jobs([record("a"), record("x"), record("b", "a"), record("y", "x"), record("c", "a")])
    first, second = ({places[name].column for name in names} for names in (("a", "b", "c"), ("x", "y")))
    assert not first & second


def test_the_drawing_is_xml_with_a_link_per_job_and_a_dot_per_warned_job():
    records = [record("a"), record("b", "a", warnings=("hm",)), record("a_very_long_name_of_a_job", "a", "b")]
    root = ElementTree.fromstring(draw_graph(records, [records[2]]))
    assert [link.attrib["href"] for link in root.iter("a")] == ["#job-a", "#job-b", "#job-a_very_long_name_of_a_job"]
    assert len(list(root.iter("circle"))) == 1
    assert len(list(root.iter("path"))) == 3


def test_a_session_without_jobs_draws_nothing_and_does_not_fail():
    assert draw_graph([], []).startswith("<svg")
