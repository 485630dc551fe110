"""Which of a config's jobs make the streams of rounds, with which parameters, and from where."""

from pathlib import Path
from typing import Any

from firn.dag.catalogue import Catalogue
from firn.dag.graph import Graph
from firn.dag.streams import stream_jobs, stream_plan

SCHEMA = Path(__file__).resolve().parents[2] / "config/schema.json"
JOBS: dict[str, dict[str, Any]] = {
    "movies": {"type": "import_movies", "files": "raw/*.tif", "batch_size": 4},
    "pre": {"type": "preprocess", "exposures": "movies", "blob_min_diameter": 80, "blob_max_diameter": 120, "extract_box_px": 64},
    "good": {"type": "curate_exposures", "exposures": "pre"},
    "class2d": {"type": "classify_2d", "particles": "pre", "classes": 30, "particle_diameter": 130},
    "keep": {"type": "select_2d", "particles": "class2d", "templates": "class2d", "min_quality": 0.4},
    "again": {"type": "classify_2d", "particles": "keep"},
    "start": {"type": "ab_initio", "particles": "keep", "symmetry": "D2", "classes": 2},
    "map": {"type": "refine_homogeneous", "particles": "start.class_1", "volume": "start.class_1", "symmetry": "D2"},
}


def plan(changes: dict[str, Any] | None = None, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    jobs = {name: job for name, job in (JOBS | (changes or {})).items() if name not in without}
    return stream_plan(Graph({"seed": 3, "jobs": jobs}, Catalogue(SCHEMA)))


def names(stream: dict[str, Any]) -> dict[str, str]:
    return {role: job["name"] for role, job in stream["jobs"].items()}


def test_a_stream_takes_the_jobs_of_the_config_that_follow_each_other() -> None:
    (stream,) = plan()
    assert stream["sources"] == {"movies": "pre"}
    assert names(stream) == {"classify": "class2d", "select": "keep", "initial": "start", "refine": "map"}


def test_rounds_have_the_parameters_of_their_jobs_and_types_that_go_on() -> None:
    (stream,) = plan()
    settings = {role: job["settings"] for role, job in stream["jobs"].items()}
    assert settings["classify"] | {"type": "stream_2d", "classes": 30, "particle_diameter": 130, "seed": 3} == settings["classify"]
    assert settings["select"] | {"type": "select_2d", "min_quality": 0.4} == settings["select"]
    assert settings["refine"] | {"type": "stream_refine", "symmetry": "D2", "initial_lowpass": 30.0} == settings["refine"]
    assert settings["refine"]["revision"] == Catalogue(SCHEMA).types["stream_refine"].declared["revision"]
    assert stream["jobs"]["refine"]["groups"]["volume"] == "class_1"


def test_classes_chosen_by_number_count_in_the_whole_graph_only() -> None:
    (stream,) = plan({"keep": JOBS["keep"] | {"decisions": "classes.yaml"}})
    assert stream["jobs"]["select"]["settings"]["decisions"] is None


def test_a_nonuniform_refinement_gives_the_parameters_that_it_shares() -> None:
    (stream,) = plan({"map": JOBS["map"] | {"type": "refine_nonuniform"}})
    refine = stream["jobs"]["refine"]["settings"]
    assert refine["type"] == "stream_refine"
    assert set(refine) <= {"type", "revision", "seed", *Catalogue(SCHEMA).types["stream_refine"].schema["properties"]}


def test_a_map_of_ones_own_is_given() -> None:
    reference = {"type": "import_volume", "map": "map.mrc"}
    (stream,) = plan({"ref": reference, "map": JOBS["map"] | {"particles": "keep", "volume": "ref"}}, without=("start",))
    assert names(stream) == {"classify": "class2d", "select": "keep", "refine": "map"}
    assert stream["jobs"]["refine"]["given"] == {"volume": ["results/ref"]}
    assert stream["jobs"]["refine"]["needs"] == ["results/ref/job.json"]


def test_two_imports_give_one_stream_where_their_particles_meet_and_two_where_not() -> None:
    second = {"movies2": JOBS["movies"] | {"files": "more/*.tif"}, "pre2": JOBS["pre"] | {"exposures": "movies2"}}
    both = {"all": {"type": "particle_sets", "particles": "pre", "others": ["pre2"]}, "class2d": JOBS["class2d"] | {"particles": "all"}}
    (stream,) = plan(second | both)
    assert stream["sources"] == {"movies": "pre", "movies2": "pre2"}
    streams = plan(second | {"class2d_2": JOBS["class2d"] | {"particles": "pre2"}})
    assert [stream["sources"] for stream in streams] == [{"movies": "pre"}, {"movies2": "pre2"}]


def test_particles_that_are_not_collected_make_no_stream() -> None:
    jobs = {"stack": {"type": "import_particles", "file": "a.star"}, "class2d": JOBS["class2d"] | {"particles": "stack"}}
    assert plan(jobs, without=("movies", "pre", "good")) == []


def test_without_classification_a_stream_starts_at_the_first_map() -> None:
    (stream,) = plan(
        {"start": JOBS["start"] | {"particles": "pre"}, "map": JOBS["map"] | {"particles": "pre"}}, without=("class2d", "keep", "again")
    )
    assert names(stream) == {"initial": "start", "refine": "map"}


def test_jobs_with_rounds_are_told_by_role() -> None:
    graph = Graph({"jobs": JOBS}, Catalogue(SCHEMA))
    assert stream_jobs(graph, "classify", "refine") == ["class2d", "map"]
    assert stream_jobs(graph) == ["class2d", "keep", "start", "map"]
