"""Decisions about pickers in the graph: the settings, folders and doors of each batch, while movies come and afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.collection import batch_steps, batch_view, live_plan
from firn.dag.graph import Graph
from firn.dag.inputs import files, folders
from firn.dag.picking import as_decided, inspected_apart, picking_plan
from firn.live import layout

SCHEMA = Path(__file__).resolve().parents[2] / "config/schema.json"
JOBS: dict[str, dict[str, Any]] = {
    "movies": {"type": "import_movies", "files": "raw/*.tif", "batch_size": 4},
    "ctf": {"type": "patch_ctf", "exposures": "movies"},
    "blobs": {"type": "blob_picker", "exposures": "ctf", "min_diameter": 80, "max_diameter": 120, "edge": 0.4, "low_pass": 30.0},
    "picks": {"type": "inspect_picks", "exposures": "ctf", "picks": "blobs", "decisions": "mine.yaml"},
    "stack": {"type": "extract_particles", "exposures": "ctf", "picks": "picks", "box_px": 64},
}
TEMPLATES = {"type": "template_picker", "settings": {"diameter": 100}, "folders": {"templates": "live/pickers/1"}}
LIMITS = {"type": "inspect_picks", "settings": {"min_ncc": 0.3}, "folders": {}}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.chdir(tmp_path)
    Path("live/batches/movies").mkdir(parents=True)
    return Graph({"jobs": JOBS}, Catalogue(SCHEMA))


def decide(*decisions: tuple[str, dict[str, Any]]) -> None:
    """Decisions that count from a batch on."""
    entries = [{"number": number, "first": {"movies": first}, "jobs": jobs} for number, (first, jobs) in enumerate(decisions, start=1)]
    layout.PICKERS.write_text(json.dumps(entries))


def kinds(graph: Graph) -> list[str]:
    return [str(as_decided(graph, "blobs", batch).settings("blobs")["type"]) for batch in ("0001", "0008", "0009", "0010")]


def test_a_decision_for_batches_to_come_counts_in_them_alone(graph: Graph) -> None:
    assert kinds(graph) == ["blob_picker"] * 4
    decide(("0009", {"blobs": TEMPLATES, "picks": LIMITS}))
    assert kinds(graph) == ["blob_picker", "blob_picker", "template_picker", "template_picker"]
    assert as_decided(graph, "blobs").settings("blobs")["type"] == "template_picker"


def test_the_last_decision_that_concerns_a_batch_counts_whole(graph: Graph) -> None:
    wider = {"type": "blob_picker", "settings": {"max_diameter": 150}, "folders": {}}
    decide(("0009", {"blobs": TEMPLATES, "picks": LIMITS}), ("0001", {"blobs": wider}))
    settings = as_decided(graph, "blobs", "0010").settings("blobs")
    assert (settings["type"], settings["min_diameter"], settings["max_diameter"], settings["low_pass"]) == ("blob_picker", 80, 150, 30.0)
    assert as_decided(graph, "picks", "0010").settings("picks")["min_ncc"] is None


def test_another_picker_keeps_what_means_the_same_and_reads_the_kept_templates(graph: Graph) -> None:
    decide(("0001", {"blobs": TEMPLATES}))
    view = batch_view(graph, "blobs", "0002")
    settings = view.settings("blobs")
    defaults = graph.catalogue.types["template_picker"].defaults
    assert (settings["edge"], settings["low_pass"], settings["diameter"]) == (0.4, defaults["low_pass"], 100)
    assert set(settings) <= {"type", "revision", "seed", *graph.catalogue.types["template_picker"].schema["properties"]}
    assert folders(view, "blobs", "0002") == {"exposures": ["results/ctf/batches/0002"], "templates": ["live/pickers/1"]}
    assert files(view, "blobs", "0002") == ["results/ctf/batches/0002/job.json"]
    (step,) = [step for step in batch_steps(graph, "movies", "0002") if step["name"] == "blobs"]
    assert (step["settings"], step["inputs"]["templates"]) == (settings, ["live/pickers/1"])


def test_topaz_picks_where_blobs_were_picked_with_the_kept_model(graph: Graph) -> None:
    change = {"type": "topaz_picker", "settings": {"diameter": 110, "threshold": -2}, "folders": {"trained": "live/pickers/1"}}
    lifted = {"type": "inspect_picks", "settings": dict.fromkeys(("min_ncc", "min_power", "max_power")), "folders": {}}
    decide(("0001", {"blobs": change, "picks": lifted}))
    view = batch_view(graph, "blobs", "0002")
    settings = view.settings("blobs")
    assert (settings["type"], settings["diameter"], settings["threshold"], settings["trained"]) == (
        "topaz_picker",
        110,
        -2,
        "live/pickers/1",
    )
    assert set(settings) <= {"type", "revision", "seed", *graph.catalogue.types["topaz_picker"].schema["properties"]}
    assert folders(view, "blobs", "0002") == {"exposures": ["results/ctf/batches/0002"], "trained": ["live/pickers/1"]}
    assert [step["settings"]["type"] for step in batch_steps(graph, "movies", "0002") if step["name"] == "blobs"] == ["topaz_picker"]


def test_jobs_that_do_not_pick_are_as_they_are(graph: Graph) -> None:
    decide(("0001", {"blobs": TEMPLATES}))
    assert as_decided(graph, "stack", "0001") is graph
    assert as_decided(graph, "ctf", "0001") is graph


def test_a_session_is_told_what_decides_the_picks_of_each_part(graph: Graph) -> None:
    decide(("0009", {"blobs": TEMPLATES, "picks": LIMITS}))
    told = live_plan(graph)["movies"]["picking"]
    assert [
        (part["first"], part["number"], part["jobs"]["blobs"]["type"], part["jobs"]["picks"]["min_ncc"]) for part in told["picked"]
    ] == [
        (1, 0, "blob_picker", None),
        (9, 1, "template_picker", 0.3),
    ]
    assert told["pickers"]["blobs"]["max_diameter"] == 120


def test_of_the_fused_job_only_picks_and_limits_are_compared(graph: Graph) -> None:
    fused = {"type": "preprocess", "exposures": "movies", "blob_min_diameter": 80, "blob_max_diameter": 90, "extract_box_px": 64}
    other = Graph({"jobs": {"movies": JOBS["movies"], "pre": fused}}, Catalogue(SCHEMA))
    names = picking_plan(other, "movies", ["movies", "pre"])["picked"][0]["jobs"]["pre"]
    assert {"blob_min_diameter", "template_diameter", "limit_min_ncc", "templates"} <= set(names)
    assert not any(name.startswith(("motion_", "ctf_", "extract_")) for name in names)


def test_limits_of_batches_that_are_picked_in_several_ways_stay_apart_in_the_whole_graph(graph: Graph) -> None:
    layout.ENDED.touch()
    assert inspected_apart(graph) == []
    decide(("0001", {"blobs": TEMPLATES, "picks": LIMITS}))
    assert inspected_apart(graph) == []
    assert files(batch_view(graph, "stack", "0002"), "stack", "0002") == ["results/ctf/batches/0002/job.json", "results/picks/job.json"]
    decide(("0009", {"blobs": TEMPLATES, "picks": LIMITS}))
    assert inspected_apart(graph) == ["picks"]
    assert files(batch_view(graph, "stack", "0002"), "stack", "0002") == [
        "results/ctf/batches/0002/job.json",
        "results/picks/batches/0002/job.json",
    ]
    assert [batch_view(graph, "picks", batch).settings("picks")["min_ncc"] for batch in ("0002", "0010")] == [None, 0.3]
    decide(("0009", {"blobs": TEMPLATES, "picks": LIMITS}), ("0001", {}))
    assert inspected_apart(graph) == []


def test_hand_decisions_on_all_picks_are_not_waited_for_while_movies_come(graph: Graph) -> None:
    assert batch_view(graph, "picks", "0001").settings("picks")["decisions"] is None
    Path("mine.yaml").touch()
    assert "mine.yaml" in files(batch_view(graph, "picks", "0001"), "picks", "0001")
    Path("mine.yaml").unlink()
    layout.ENDED.touch()
    assert as_decided(graph, "picks").settings("picks")["decisions"] == "mine.yaml"
