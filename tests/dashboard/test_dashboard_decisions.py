"""Each decision lands in the file its reader reads, passes that reader's check, and leaves the rest of the file alone."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from firn.dashboard import decide
from firn.dashboard.decide import edit_keys
from firn.formats.decisions import read_decisions
from firn.formats.tables import write_table
from firn.jobs.select_2d import _read_decisions
from firn.live import layout
from firn.live.control import Limits, read_control
from firn.live.session import Session
from served_run import Site, write_classes


def test_a_limit_is_written_beside_what_a_human_wrote(site: Site) -> None:
    reply = site.post("/decide/limits", {"column": "ctf_fit_resolution", "min": None, "max": 5.5, "reason": "thick ice"})
    control = read_control(layout.CONTROL)
    assert reply.status == 200
    assert control.thresholds == {"ctf_fit_resolution": Limits(max=5.5)}
    assert control.settle_s == 3
    assert control.reason.startswith("thick ice (dashboard, 20")
    assert layout.CONTROL.read_text().startswith("# ours\nsettle_s: 3  # short\n")


def test_the_session_takes_a_decision_up_and_logs_it_with_its_reason(site: Site) -> None:
    session = Session.resume({}, 0.0)
    session.heed(1.0)
    site.post("/decide/limits", {"column": "picks", "min": 20, "max": None, "reason": "empty squares"})
    assert session.heed(2.0)
    assert session.control.thresholds == {"picks": Limits(min=20)}
    logged = json.loads(layout.DECISION_LOG.read_text().splitlines()[-1])
    assert logged["what"] == "thresholds"
    assert logged["reason"].startswith("empty squares (dashboard, ")


def test_a_file_that_someone_else_just_changed_is_not_overwritten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = iter([(1, 1, 1), (2, 1, 1)])
    monkeypatch.setattr(decide, "stamp", lambda _: next(stamps))
    before = layout.CONTROL.read_text()
    assert site.post("/decide/state", {"state": "pause"}).status == 409
    assert layout.CONTROL.read_text() == before


def test_limits_of_other_attributes_stay_and_a_limit_can_be_taken_away(site: Site) -> None:
    site.post("/decide/limits", {"column": "picks", "min": 20, "max": 900})
    site.post("/decide/limits", {"column": "defocus", "min": 5000, "max": None})
    site.post("/decide/limits", {"column": "picks", "min": None, "max": None})
    assert read_control(layout.CONTROL).thresholds == {"picks": Limits(), "defocus": Limits(min=5000)}


@pytest.mark.parametrize(
    "body",
    [{"column": "state", "max": 1}, {"column": "picks", "max": "1"}, {"column": "picks", "max": True}, {"column": "picks", "min": 3, "max": 2},
     {"column": ["picks"], "max": 1}, {"column": "picks", "max": 1, "reason": "a\nstate: end"}, {"column": "picks", "max": 1, "reason": "x" * 400},
     {"column": "picks", "max": float("inf")}, {"column": "picks", "min": float("nan")}, {}],
)  # fmt: skip
def test_what_is_no_limit_is_refused_and_nothing_is_written(site: Site, body: dict) -> None:
    before = layout.CONTROL.read_text()
    assert site.post("/decide/limits", body).status == 400
    assert layout.CONTROL.read_text() == before


def test_an_exposure_is_rejected_accepted_and_left_to_the_rules(site: Site) -> None:
    assert site.post("/decide/exposures", {"exposures": ["e001"], "verdict": "reject"}).status == 200
    assert read_control(layout.CONTROL).reject == ["e001"]
    assert site.get("/api/hand").told == {"e001": "reject"}
    site.post("/decide/exposures", {"exposures": ["e001", "e002"], "verdict": "accept"})
    control = read_control(layout.CONTROL)
    assert (control.reject, control.accept) == ([], ["e001", "e002"])
    site.post("/decide/exposures", {"exposures": ["e001"], "verdict": "none"})
    assert read_control(layout.CONTROL).accept == ["e002"]
    assert site.get("/api/exposure?id=e002").told["hand"] == "accept"


def test_a_name_that_a_human_wrote_is_the_same_exposure(site: Site) -> None:
    layout.CONTROL.write_text("reject: [shot_001, other]\n")
    assert site.get("/api/hand").told == {"e001": "reject"}
    site.post("/decide/exposures", {"exposures": ["e001"], "verdict": "accept"})
    control = read_control(layout.CONTROL)
    assert (control.reject, control.accept) == (["other"], ["e001"])


@pytest.mark.parametrize("body", [{"exposures": ["nobody"], "verdict": "reject"}, {"exposures": [], "verdict": "reject"}, {"exposures": "e001", "verdict": "reject"},
     {"exposures": ["e001"], "verdict": "delete"}, {"exposures": [["e001"]], "verdict": "reject"}, {"exposures": ["e001"] * 5000, "verdict": "reject"}])  # fmt: skip
def test_what_is_no_verdict_is_refused(site: Site, body: dict) -> None:
    before = layout.CONTROL.read_text()
    assert site.post("/decide/exposures", body).status == 400
    assert layout.CONTROL.read_text() == before


def test_without_a_session_verdicts_are_a_file_that_curation_reads(site: Site, run_folder: Path) -> None:
    layout.EXPOSURES.unlink()
    table = pd.DataFrame(
        {
            "exposure_id": ["e1", "e2"],
            "batch": ["0001", "0001"],
            "micrograph": ["a/one.mrc", "a/two.mrc"],
            "ctf_fit_resolution": [4.0, float("nan")],
            "defocus_u": [9000.0, 9000.0],
            "defocus_v": [8000.0, 8000.0],
        }
    )
    write_table(run_folder / "results" / "pre" / "exposures.star", table.assign(optics_name="o", voltage_kv=300.0), "exposures")
    assert site.post("/decide/exposures", {"exposures": ["e2"], "verdict": "reject"}).status == 200
    assert site.post("/decide/exposures", {"exposures": ["e1"], "verdict": "accept"}).status == 200
    assert read_decisions("decisions/exposures.yaml") == {"e2": "reject", "e1": "accept"}
    assert site.get("/api/hand").told == {"e1": "accept", "e2": "reject"}
    told = site.get("/api/exposures").told
    assert [column["column"] for column in told["columns"]] == ["ctf_fit_resolution", "defocus"]
    assert told["rows"] == [["e1", "one", 0, "", None, 4.0, 8500.0], ["e2", "two", 0, "", None, None, 8500.0]]
    assert "ctf_fit_resolution" not in site.get("/api/exposure?id=e2").told["row"]


def test_a_control_file_with_a_fault_is_left_as_it_is(site: Site) -> None:
    layout.CONTROL.write_text("settle_s: soon\n")
    reply = site.post("/decide/state", {"state": "pause"})
    assert reply.status == 400
    assert "settle_s" in reply.told["error"]
    assert layout.CONTROL.read_text() == "settle_s: soon\n"


def test_nothing_is_written_through_a_link_that_leads_out(site: Site, run_folder: Path) -> None:
    outside = run_folder.parent / "control.yaml"
    outside.write_text("settle_s: 3\n")
    layout.CONTROL.unlink()
    layout.CONTROL.symlink_to(outside)
    assert site.post("/decide/state", {"state": "pause"}).status == 403
    assert outside.read_text() == "settle_s: 3\n"
    (run_folder / "decisions").symlink_to(run_folder.parent)
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    assert site.post("/decide/classes", {"folder": "results/class2d", "select": [1]}).status == 400
    assert not (run_folder.parent / "class2d.yaml").exists()


def test_the_session_is_paused_and_goes_on(site: Site) -> None:
    site.post("/decide/state", {"state": "pause"})
    assert read_control(layout.CONTROL).state == "pause"
    site.post("/decide/state", {"state": "run"})
    assert read_control(layout.CONTROL).state == "run"
    assert site.post("/decide/state", {"state": "end"}).status == 400


def test_chosen_classes_are_a_file_that_select_2d_reads(site: Site, run_folder: Path) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    reply = site.post("/decide/classes", {"folder": "results/class2d", "select": [3, 1], "comment": "views: side"})
    assert reply.told == {"file": "decisions/class2d.yaml"}
    assert _read_decisions("decisions/class2d.yaml", [1, 2, 3, 4]) == {1: "select", 2: "reject", 3: "select", 4: "reject"}
    assert site.get("/api/classes?of=results/class2d").told["chosen"] == {"select": [1, 3]}
    assert yaml.safe_load(Path("decisions/class2d.yaml").read_text())["comment"].startswith("views: side (dashboard, 20")


def test_the_file_that_a_selection_names_is_the_one_that_is_written(site: Site, run_folder: Path) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    write_classes(run_folder / "results" / "keep", "select_2d", kept=[1, 2], decisions="hand/mine.yaml")
    told = site.get("/api/classes?of=results/keep").told
    assert [one["kept"] for one in told["classes"]] == [True, True, False, False]
    assert site.post("/decide/classes", {"folder": "results/keep", "select": [2]}).told == {"file": "hand/mine.yaml"}
    assert _read_decisions("hand/mine.yaml", [1, 2, 3, 4])[1] == "reject"


@pytest.mark.parametrize("given", ["/tmp/firn_elsewhere.yaml", "../elsewhere.yaml", "results/keep/job.json"])
def test_a_selection_cannot_name_a_file_elsewhere(site: Site, run_folder: Path, given: str) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    write_classes(run_folder / "results" / "keep", "select_2d", kept=[1], decisions=given)
    before = (run_folder / "results" / "keep" / "job.json").read_bytes()
    assert site.post("/decide/classes", {"folder": "results/keep", "select": [2]}).status == 400
    assert not (run_folder.parent / "elsewhere.yaml").exists()
    assert (run_folder / "results" / "keep" / "job.json").read_bytes() == before


@pytest.mark.parametrize("body", [{"folder": "results/class2d", "select": [9]}, {"folder": "results/class2d", "select": [True]}, {"folder": "results/class2d", "select": "1"},
     {"folder": "results/class2d"}, {"folder": "../results/class2d", "select": [1]}, {"folder": "results/none", "select": [1]}])  # fmt: skip
def test_what_is_no_choice_of_classes_is_refused(site: Site, run_folder: Path, body: dict) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    assert site.post("/decide/classes", body).status in (400, 404)
    assert not Path("decisions").exists()


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "state: run", "reject: [a, b]  # why\nstate: run\n", "reject:\n- a\n- b\n# about the state\nstate: pause # note\n",
     "{state: run, reject: [a]}", "thresholds:\n  picks:\n    min: 3 # few\n\n# end\n", "reject:\nstate: run\n", "reject: |\n  text\nstate: run\n"],
)  # fmt: skip
def test_an_edited_file_says_what_was_wanted_and_all_that_it_said_before(text: str) -> None:
    before = yaml.safe_load(text) or {}
    edited = edit_keys(text, {"reject": ["x: y", "é"], "reason": "it's #1"})
    assert yaml.safe_load(edited) == {**before, "reject": ["x: y", "é"], "reason": "it's #1"}


def test_comments_outlive_an_edit() -> None:
    text = "# head\nreject:\n- a # one\n# about the state\nstate: pause # note\n"
    edited = edit_keys(text, {"reject": ["b"]})
    assert [part for part in ("# head", "# about the state", "# note") if part not in edited] == []
