"""The graph while movies still come: what runs on batches, what is stepped over, and what changes at the end."""

from pathlib import Path
from typing import Any

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.collection import (
    as_collected,
    batch_steps,
    collected_batches,
    import_inputs,
    live_imports,
    live_jobs,
    live_plan,
    whole_imports,
)
from firn.dag.graph import Graph
from firn.dag.inputs import files, folders

SCHEMA = Path(__file__).resolve().parents[2] / "config/schema.json"
JOBS: dict[str, dict[str, Any]] = {
    "movies": {"type": "import_movies", "files": "raw/*.tif", "batch_size": 4},
    "motion": {"type": "patch_motion", "exposures": "movies"},
    "ctf": {"type": "patch_ctf", "exposures": "motion"},
    "good": {"type": "curate_exposures", "exposures": "ctf", "max_ctf_fit": 6},
    "blobs": {"type": "blob_picker", "exposures": "good", "min_diameter": 80, "max_diameter": 120},
    "picks": {"type": "inspect_picks", "exposures": "good", "picks": "blobs"},
    "stack": {"type": "extract_particles", "exposures": "good", "picks": "picks", "box_px": 64},
    "class2d": {"type": "classify_2d", "particles": "stack"},
    "again": {"type": "template_picker", "exposures": "good", "templates": "class2d", "diameter": 100},
    "map": {"type": "import_volume", "map": "map.mrc"},
    "views": {"type": "create_templates", "volume": "map"},
    "ready": {"type": "template_picker", "exposures": "good", "templates": "views", "diameter": 100},
}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.chdir(tmp_path)
    return Graph({"jobs": JOBS}, Catalogue(SCHEMA))


def cut(*batches: str) -> None:
    for batch in batches:
        path = Path("live/batches/movies") / f"{batch}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"files": [{"path": "raw/a[1].tif"}]}')


def test_a_batch_runs_all_jobs_that_need_nothing_made_of_all_exposures(graph: Graph) -> None:
    assert live_jobs(graph, "movies") == {
        "movies": [],
        "motion": ["movies"],
        "ctf": ["motion"],
        "blobs": ["ctf"],
        "picks": ["ctf", "blobs"],
        "stack": ["ctf", "picks"],
        "ready": ["ctf"],
    }


def test_imports_of_files_are_watched_and_those_of_simulations_are_not(graph: Graph) -> None:
    simulated = {"sim": {"type": "simulate_movies"}, "movies": {"type": "import_movies", "source": "sim"}}
    assert live_imports(graph) == ["movies"]
    assert live_imports(Graph({"jobs": simulated}, Catalogue(SCHEMA))) == []


def test_the_plan_holds_what_a_tick_needs(graph: Graph) -> None:
    plan = live_plan(graph)["movies"]
    assert (plan["files"], plan["batch_size"], plan["eer_fractions"]) == (["raw/*.tif"], 4, 40)
    assert [settings["max_ctf_fit"] for settings in plan["curation"]] == [6]


def test_without_a_live_session_nothing_is_different(graph: Graph) -> None:
    assert as_collected(graph) is graph
    assert collected_batches(graph, "motion") is None
    assert whole_imports(graph) == ["movies"]


def test_while_movies_come_jobs_over_all_exposures_are_stepped_over(graph: Graph) -> None:
    cut("0001")
    view = as_collected(graph)
    assert folders(view, "stack", "0001") == {"exposures": ["results/ctf/batches/0001"], "picks": ["results/picks/batches/0001"]}
    assert folders(view, "picks", "0001") == {"exposures": ["results/ctf/batches/0001"], "picks": ["results/blobs/batches/0001"]}
    assert files(view, "stack", "0001") == ["results/ctf/batches/0001/job.json", "results/picks/batches/0001/job.json"]
    assert files(view, "motion", "0001") == ["results/movies/batches/0001/job.json"]


def test_after_the_end_the_graph_is_the_ordinary_one_over_the_batches_that_were_cut(graph: Graph) -> None:
    cut("0001", "0002", "0000")
    Path("live/ended").touch()
    view = as_collected(graph)
    assert files(view, "stack", "0001") == ["results/good/job.json", "results/picks/job.json"]
    assert files(view, "motion", "0002") == ["results/movies/batches/0002/job.json"]
    assert collected_batches(graph, "motion") == ["results/motion/batches/0001/job.json", "results/motion/batches/0002/job.json"]
    assert collected_batches(graph, "movies") == [f"results/movies/batches/{batch}/job.json" for batch in ("0001", "0002", "0000")]
    assert whole_imports(graph) == []


def test_every_batch_but_the_first_waits_for_the_gain_that_the_first_settles() -> None:
    assert import_inputs("movies", "0001") == ["live/batches/movies/0001.json"]
    assert import_inputs("movies", "0002") == ["live/batches/movies/0002.json", "results/movies/batches/0001/job.json"]


def test_steps_of_a_batch_name_its_own_files_whatever_letters_are_in_them(graph: Graph) -> None:
    cut("0002")
    steps = batch_steps(graph, "movies", "0002")
    assert [step["name"] for step in steps] == list(live_jobs(graph, "movies"))
    assert steps[0]["settings"]["files"] == ["raw/a[[]1].tif"]
    assert steps[1]["inputs"] == {"exposures": ["results/movies/batches/0002"]}
