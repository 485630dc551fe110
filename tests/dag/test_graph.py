"""The session's graph: what it refuses in one line, and what its rules are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.graph import Graph
from firn.dag.inputs import batch_files, files, folders, pattern
from firn.errors import InputError


def job_type(properties: dict[str, Any], required: list[str], **declared: Any) -> dict[str, Any]:
    empty = {"stage": "x", "lane": "cpu", "scatter": False, "revision": 1, "offers": [], "groups": {}, "best_group": None}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, "x-firn": empty | declared}


def slot(kind: str) -> dict[str, Any]:
    return {"slot": kind, "many": False, "optional": False, "type": "string", "description": f"The {kind}."}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    types = {
        "import_movies": job_type({"files": {"type": "string", "description": "Which."}}, ["files"], offers=["exposures"]),
        "patch_ctf": job_type(
            {"exposures": slot("exposures"), "tile_px": {"type": "integer", "minimum": 1, "default": 512}}, ["exposures"], offers=["exposures"], scatter=True
        ),
        "curate_exposures": job_type(
            {"exposures": slot("exposures"), "decisions": {"type": ["string", "null"], "default": None}},
            ["exposures"], offers=["exposures"], groups={"rejected": ["exposures"]}),
        "extract_particles": job_type({"exposures": slot("exposures")}, ["exposures"], offers=["particles"], scatter=True),
        "ab_initio": job_type({"particles": slot("particles")}, ["particles"], groups={"class_*": ["volume", "particles"]}, best_group="class_1"),
        "refine_homogeneous": job_type(
            {"particles": slot("particles"), "volume": slot("volume")}, ["particles", "volume"], offers=["volume", "particles"]
        ),
    }  # fmt: skip
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"$defs": types}))
    return Catalogue(path)


def session(**changes: Any) -> dict[str, Any]:
    jobs = {
        "movies": {"type": "import_movies", "files": "*.tif"},
        "ctf": {"type": "patch_ctf", "exposures": "movies"},
        "good": {"type": "curate_exposures", "exposures": "ctf"},
        "stack": {"type": "extract_particles", "exposures": "good"},
        "start": {"type": "ab_initio", "particles": "stack"},
        "map": {"type": "refine_homogeneous", "particles": "start.class_2", "volume": "start"},
    }
    return {"seed": 3, "jobs": jobs | changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ctf": {"type": "patch_ctf", "exposures": "movies", "tile": 3}}, "jobs.ctf.tile: patch_ctf has no parameter 'tile'; did you mean 'tile_px'?"),
        ({"ctf": {"type": "patch_ctff", "exposures": "movies"}}, "there is no job type 'patch_ctff'; did you mean 'patch_ctf'?"),
        ({"ctf": {"type": "patch_ctf", "exposures": "movies", "tile_px": 0}}, "jobs.ctf.tile_px: 0 is less than the minimum of 1"),
        ({"ctf": {"type": "patch_ctf"}}, "jobs.ctf.exposures: is missing; The exposures."),
        ({"map": {"type": "refine_homogeneous", "particles": "stack", "volume": "stack"}}, "job 'stack' (extract_particles) has no volume; it offers particles"),
        ({"map": {"type": "refine_homogeneous", "particles": "stak", "volume": "start"}}, "there is no job 'stak'"),
        ({"ctf": {"type": "patch_ctf", "exposures": "good"}}, "jobs go in a circle: ctf -> good -> ctf"),
        ({"Bad Name": {"type": "patch_ctf", "exposures": "movies"}}, "a job's name is a small letter"),
        ({"map": {"type": "refine_homogeneous", "particles": "start.rejected", "volume": "start"}}, "has no output 'rejected' of kind particles"),
    ],
)  # fmt: skip
def test_a_fault_in_the_config_is_one_line(catalogue: Catalogue, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Graph(session(**changes), catalogue)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [{}, {"jobs": {}}, {"jobs": []}, {"job": {}}, {"seed": "a", "jobs": {"a": {}}}, {"jobs": {"a": 3}}])
def test_what_is_no_session_is_refused(catalogue: Catalogue, config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^config: "):
        Graph(config, catalogue)


def test_a_slot_finds_the_folder_of_its_kind(catalogue: Catalogue) -> None:
    graph = Graph(session(), catalogue)
    assert folders(graph, "map") == {"particles": ["results/start/class_2"], "volume": ["results/start/class_1"]}
    assert files(graph, "map") == ["results/start/job.json"]


def test_batches_flow_without_waiting_for_each_other(catalogue: Catalogue) -> None:
    jobs = session()["jobs"] | {"stack": {"type": "extract_particles", "exposures": "ctf"}}
    graph = Graph({"jobs": jobs}, catalogue)
    assert files(graph, "stack", "0002") == ["results/ctf/batches/0002/job.json"]
    assert folders(graph, "stack", "0002") == {"exposures": ["results/ctf/batches/0002"]}


def test_a_batch_waits_for_the_whole_of_a_job_that_looks_at_all_exposures(catalogue: Catalogue) -> None:
    graph = Graph(session(), catalogue)
    assert files(graph, "stack", "0001") == ["results/good/job.json"]
    assert folders(graph, "stack", "0001") == {"exposures": ["results/good/batches/0001"]}


def test_batches_come_from_the_import_at_the_root(catalogue: Catalogue, tmp_path: Path) -> None:
    graph = Graph(session(), catalogue)
    record = tmp_path / "job.json"
    record.write_text(json.dumps({"batches": ["0001", "0002"]}))
    assert graph.root_import("stack") == "movies"
    assert batch_files("stack", str(record)) == ["results/stack/batches/0001/job.json", "results/stack/batches/0002/job.json"]


def test_settings_hold_defaults_and_the_seed_so_that_a_changed_default_reruns(catalogue: Catalogue) -> None:
    graph = Graph(session(), catalogue)
    assert graph.settings("ctf") == {"revision": 1, "seed": 3, "tile_px": 512, "type": "patch_ctf", "exposures": "movies"}


def test_jobs_are_ordered_so_that_inputs_come_first(catalogue: Catalogue) -> None:
    reverse = {"seed": 1, "jobs": dict(reversed(session()["jobs"].items()))}
    assert Graph(reverse, catalogue).order == ["movies", "ctf", "good", "stack", "start", "map"]


def test_a_pattern_of_no_names_matches_nothing() -> None:
    import re

    assert re.fullmatch(pattern([]), "") is None
    assert re.fullmatch(pattern(["a", "ab"]), "ab")
    assert not re.fullmatch(pattern(["a.b"]), "axb")


def test_a_humans_decisions_are_an_input_so_that_an_edit_reruns_the_job(catalogue: Catalogue) -> None:
    graph = Graph(session(good={"type": "curate_exposures", "exposures": "ctf", "decisions": "mine.yaml"}), catalogue)
    assert files(graph, "good") == ["mine.yaml", "results/ctf/job.json"]
