"""A fault in the config is one line before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.graph import Graph
from firn.errors import InputError
from workflow.session import ROOT, run, write_session

JOBS: dict[str, dict[str, Any]] = {
    "micrographs": {"type": "import_micrographs", "files": "*.mrc", "pixel_size": 1.5, "voltage_kv": 300, "cs_mm": 2.7},
    "ctf": {"type": "patch_ctf", "exposures": "micrographs"},
}


CATALOGUE = Catalogue(ROOT / "config" / "schema.json")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ctf": {"type": "patch_ctf", "exposures": "micrographs", "max_resolutoin": 5}}, "did you mean 'max_resolution'?"),
        (
            {"ctf": {"type": "patch_ctf", "exposures": "micrographs.picks"}},
            "config: jobs.ctf.exposures: job 'micrographs' (import_micrographs) has no output",
        ),
        ({"ctf": {"type": "curate_exposures", "exposures": "ctf"}}, "config: jobs go in a circle: ctf -> ctf"),
        ({"ctf": {"type": "patchctf", "exposures": "micrographs"}}, "config: jobs.ctf.type: there is no job type 'patchctf'"),
    ],
    ids=["typo", "wrong slot", "cycle", "unknown type"],
)
def test_a_config_fault_is_one_line_and_nothing_runs(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    write_session(tmp_path, JOBS | changes)
    code, text = run(tmp_path)
    said = [line for line in text.splitlines() if line.strip()]
    assert code != 0
    assert sentence in said[-1]
    assert not [line for line in said if "Traceback" in line or "rule" in line.lower()]
    assert not (tmp_path / "results").exists()


def test_every_fault_of_a_config_is_a_line_of_its_own_with_its_place() -> None:
    wrong: dict[str, Any] = {
        "micrographs": JOBS["micrographs"] | {"pixel_size": -1, "pixel_sise": 2},
        "ctf": {"type": "patch_ctf", "exposures": "micrographs", "max_resolution": float("inf")},
        "Map": {"type": "refine_homogeneous"},
        "pick": {"type": ["blob_picker"]},
        "blobs": {"type": "blob_picker", "exposures": "ctff", "min_diameter": 100, "max_diameter": "wide"},
    }
    with pytest.raises(InputError) as caught:
        Graph({"seed": "one", "job": 1, "jobs": wrong}, CATALOGUE)
    said = str(caught.value).split("\n")
    places = ["'job' is not", "seed:", "jobs.micrographs.pixel_sise:", "jobs.micrographs.pixel_size:"]
    places += [
        "jobs.ctf.max_resolution:",
        "jobs.Map:",
        "jobs.pick.type:",
        "jobs.blobs.max_diameter:",
        "jobs.blobs.exposures: there is no job 'ctff'",
    ]
    assert [line.removeprefix("config: ").startswith(place) for line, place in zip(said, places, strict=True)] == [True] * len(places)


@pytest.mark.parametrize("value", [10**30, -(10**400), float("inf"), float("nan"), "a\nb", "a\0b", ["*.mrc", "\x1b"]])
def test_values_that_no_parameter_can_have_are_refused_before_anything_runs(value: Any) -> None:
    for key in ("files", "pixel_size", "batch_size"):
        with pytest.raises(InputError, match=f"jobs.micrographs.{key}"):
            Graph({"jobs": {"micrographs": JOBS["micrographs"] | {key: value}}}, CATALOGUE)


def test_a_config_of_aliases_of_aliases_is_refused_before_it_is_followed() -> None:
    bomb: Any = "x"
    for _ in range(15):
        bomb = [bomb] * 10
    for config in ({"jobs": {"a": {"type": "patch_ctf", "exposures": bomb}}}, {"jobs": bomb}, {"title": bomb, "jobs": JOBS}):
        with pytest.raises(InputError, match="more than 100000 values"):
            Graph(config, CATALOGUE)


def test_a_config_that_nests_thousands_of_brackets_ends_snakemake_and_nothing_runs(tmp_path: Path) -> None:
    write_session(tmp_path, JOBS)
    (tmp_path / "session.yaml").write_text("jobs: " + "[" * 3000 + "]" * 3000 + "\n")
    code, _ = run(tmp_path)
    assert code != 0
    assert not (tmp_path / "results").exists()


def test_a_word_where_a_number_may_be_left_out_is_told_as_no_number() -> None:
    picker = {"type": "blob_picker", "exposures": "micrographs", "min_diameter": "big", "max_diameter": 100}
    with pytest.raises(InputError, match=r"^config: jobs\.blobs\.min_diameter: 'big' is not of type 'number'$"):
        Graph({"jobs": JOBS | {"blobs": picker}}, CATALOGUE)


def test_many_faults_are_counted_and_not_all_told() -> None:
    with pytest.raises(InputError) as caught:
        Graph({"jobs": {f"j{number}": {"type": "no"} for number in range(100)}}, CATALOGUE)
    assert str(caught.value).split("\n")[-1] == "config: and 80 more faults"


def test_a_long_session_of_jobs_that_meet_again_and_again_is_built_at_once() -> None:
    jobs: dict[str, Any] = {
        "micrographs": JOBS["micrographs"],
        "ctf0": JOBS["ctf"],
        **{f"ctf{number}": {"type": "patch_ctf", "exposures": f"ctf{number - 1}"} for number in range(1, 60)},
        "b0": {"type": "import_particles", "file": "b.star"},
    }
    for number in range(1, 60):
        jobs[f"a{number}"] = {"type": "subset_particles", "particles": f"b{number - 1}", "count": 10}
        jobs[f"c{number}"] = {"type": "subset_particles", "particles": f"b{number - 1}", "count": 10}
        jobs[f"b{number}"] = {"type": "particle_sets", "particles": f"a{number}", "others": [f"c{number}"]}
    graph = Graph({"jobs": jobs}, CATALOGUE)
    assert len(graph.ancestors("b59")) == 3 * 59
    assert graph.root_import("ctf59") == "micrographs"
