"""The page of picking: what is told of picks, and decisions about limits and pickers that their readers take."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from firn.dashboard.picks import BELOW, KEPT, LINE, MOST_BATCHES, histogram, stride
from firn.formats.tables import write_table
from firn.jobs.inspect_picks import _read_decisions
from firn.live import layout
from firn.live.control import read_control
from firn.live.pickers import changes_of
from firn.runtime.atomic import write_json
from served_run import Site

PICKING: dict[str, Any] = {
    "pickers": {"blobs": {"type": "blob_picker", "min_diameter": 90, "max_diameter": 120}},
    "inspections": {"good": {}},
    "picked": [],
}


def write_picks(exposures: int = 3, batches: int = 1, **settings: object) -> pd.DataFrame:
    """Maxima of a blob picker, exposure i having i + 1 particles at correlation 0.6 and ten maxima of noise at 0.1; an inspection keeps the former."""
    tables = []
    for number in range(1, batches + 1):
        batch = f"{number:04d}"
        rows = [
            {
                "exposure_id": f"b{number}e{at}",
                "batch": batch,
                "x_px": 10.0 * place,
                "y_px": 20.0,
                "pick_score": score,
                "pick_power": 2.0 + at,
            }
            for at in range(exposures)
            for place, score in enumerate([0.6] * (at + 1) + [0.1] * 10)
        ]
        table = pd.DataFrame(rows).assign(micrograph="m.mrc", diameter=100.0, optics_name="o", micrograph_pixel_size=1.0)
        kept = table[table["pick_score"] > 0.5].assign(pick_power_calibrated=lambda one: 10 * one["pick_power"])
        for job, picks in (("blobs", table), ("good", kept)):
            write_table(Path(f"results/{job}/batches/{batch}/picks.star"), picks, "picks")
            own = {"type": "blob_picker"} if job == "blobs" else {"type": "inspect_picks", "picks": "blobs"} | settings
            write_json(Path(f"results/{job}/batches/{batch}/job.json"), {"job": job, "type": own["type"], "settings": own})
        tables.append(table)
    return pd.concat(tables)


def test_picks_are_told_with_who_is_kept_now_and_powers_as_limits_see_them(site: Site) -> None:
    picks = write_picks()
    told = site.get("/api/picks?of=blobs").told
    assert (told["picks"], told["kept"], told["exposures"]) == (len(picks), 1 + 2 + 3, 3)
    assert sum(told["histogram"]["counts"]) == len(picks)
    assert {(score, code & KEPT) for score, _, code in told["sample"]} == {(0.6, KEPT), (0.1, 0)}
    assert {power for _, power, _ in told["sample"]} == {20.0, 30.0, 40.0}
    assert [(one["which"], one["id"]) for one in told["shown"]] == [("most picks", "b1e2"), ("median", "b1e1"), ("fewest picks", "b1e0")]


def test_each_pick_is_told_what_the_limits_found_in_its_own_batch_say_of_it(site: Site) -> None:
    write_picks(batches=2)
    for batch, most, least in (("0001", 25.0, 0.5), ("0002", 35.0, 0.05)):
        rule = {
            "min_ncc": None,
            "max_power": most,
            "line": {"ncc": 1.0, "log_power": 0.0, "least": least},
            "reasons": {"max_power": "five sd"},
        }
        Path(f"results/good/batches/{batch}/decisions.yaml").write_text(yaml.safe_dump(rule))
    told = site.get("/api/picks?of=blobs").told
    found = {(score, power, code & LINE > 0, code & BELOW > 0) for score, power, code in told["sample"]}
    first = {(score, power, score > 0.5, power <= 25) for score in (0.1, 0.6) for power in (20.0, 30.0, 40.0)}
    second = {(score, power, True, power <= 35) for score in (0.1, 0.6) for power in (20.0, 30.0, 40.0)}
    assert found == first | second
    assert told["found"]["line"]["least"] == 0.05


def test_a_histogram_holds_every_pick_once_also_where_all_are_alike_or_far_out() -> None:
    chance = np.random.default_rng(5)
    wild = pd.DataFrame({"pick_score": chance.normal(0.3, 0.1, 5000), "pick_power": chance.lognormal(0, 4, 5000)})
    for picks in (wild, wild.assign(pick_power=1.0, pick_score=0.5), wild.assign(pick_power=0.0)):
        told = histogram(picks)
        assert sum(told["counts"]) == 5000
        assert told["power"][0] < told["power"][1]
        assert told["score"][0] < told["score"][1]


@pytest.mark.parametrize("count", [1, MOST_BATCHES, MOST_BATCHES + 1, 1250, 9999])
def test_batches_that_are_read_are_few_and_stay_as_more_come(count: int) -> None:
    read = set(range(0, count, stride(count)))
    assert 0 < len(read) <= MOST_BATCHES
    assert len(read) >= min(count, MOST_BATCHES) / 2
    assert set(range(0, 2 * count, stride(2 * count))) >= {place for place in read if place % (2 * stride(count)) == 0}


def test_a_run_without_picks_says_so(site: Site) -> None:
    assert site.get("/api/picking").told["sources"] == []
    assert site.get("/api/picks?of=blobs").status == 404
    assert site.get("/api/picks?of=../results/blobs").status == 404


def test_limits_reach_the_session_beside_what_was_asked_for_before(site: Site) -> None:
    write_picks()
    layout.CONTROL.write_text("# ours\npicker: {type: blob_picker, min_diameter: 80, max_diameter: 130, max_power: 9}\nsettle_s: 3\n")
    reply = site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3, "min_power": None, "max_power": None, "reason": "carbon"})
    assert reply.told == {"file": "live/control.yaml"}
    control = read_control(layout.CONTROL)
    assert control.picker.model_dump(exclude_none=True, exclude_unset=True) == {
        "type": "blob_picker", "min_diameter": 80, "max_diameter": 130, "min_ncc": 0.3,
    }  # fmt: skip
    assert control.reason.startswith("carbon (dashboard, 20")
    assert layout.CONTROL.read_text().startswith("# ours\n")
    assert changes_of(control.picker, PICKING, "")["good"]["settings"] == {"min_ncc": 0.3}


def test_other_limits_keep_the_templates_that_were_latest_when_they_were_chosen(site: Site) -> None:
    layout.CONTROL.write_text("picker: {type: template_picker, templates: latest, diameter: 120}\n")
    change = {"type": "template_picker", "settings": {}, "folders": {"templates": "live/pickers/1"}}
    write_json(layout.PICKERS, [{"number": 1, "wanted": {"templates": "latest"}, "jobs": {"blobs": change}}])
    site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3})
    assert read_control(layout.CONTROL).picker.templates == "live/pickers/1"


def test_a_picker_is_switched_with_its_own_keys_and_what_both_pickers_have(site: Site) -> None:
    layout.CONTROL.write_text("picker: {type: template_picker, diameter: 150, templates: latest, low_pass: 15, min_ncc: 0.4}\n")
    assert site.post("/decide/picker", {"type": "blob_picker", "min_diameter": 80, "max_diameter": 130, "scope": "future"}).status == 200
    picker = read_control(layout.CONTROL).picker
    assert picker.model_dump(exclude_none=True, exclude_unset=True) == {
        "scope": "future", "type": "blob_picker", "low_pass": 15, "min_diameter": 80, "max_diameter": 130,
    }  # fmt: skip
    assert changes_of(picker, PICKING, "")["blobs"]["settings"]["max_diameter"] == 130
    assert site.post("/decide/picker", {"type": "", "scope": "all"}).status == 200
    assert yaml.safe_load(layout.CONTROL.read_text())["picker"] == {}


def test_rounds_of_selections_are_templates_and_no_others_are_taken(site: Site) -> None:
    for job, kind, number in (("keep", "select_2d", 2), ("keep", "select_2d", 11), ("class2d", "stream_2d", 3)):
        folder = Path(f"results/{job}/rounds/{number:04d}")
        write_json(folder / "job.json", {"job": job, "type": kind, "settings": {}})
        (folder / "classes.star").write_text("data_\n")
    assert site.get("/api/picking").told["templates"] == ["keep/11", "keep/2"]
    assert site.post("/decide/picker", {"type": "template_picker", "templates": "keep/2", "diameter": 150}).status == 200
    assert read_control(layout.CONTROL).picker.templates == "keep/2"
    assert site.post("/decide/picker", {"type": "template_picker", "templates": "keep/3"}).status == 400
    assert site.post("/decide/picker", {"type": "template_picker", "templates": "/etc"}).status == 400


def test_topaz_is_switched_to_with_a_model_of_the_run_and_what_the_form_does_not_ask_for_stays(site: Site) -> None:
    for file in ("model.json", "model.sav"):
        Path("results/mine").mkdir(parents=True, exist_ok=True)
        Path("results/mine", file).touch()
    layout.CONTROL.write_text("picker: {type: topaz_picker, executable: /opt/topaz, model: resnet8, threshold: 3, diameter: 100}\n")
    assert site.get("/api/picking").told["models"][0] == "mine"
    body = {"type": "topaz_picker", "model": "mine", "diameter": 150, "threshold": -1.5, "executable": "/bin/evil"}
    assert site.post("/decide/picker", body).status == 200
    asked = read_control(layout.CONTROL).picker.model_dump(exclude_none=True, exclude_unset=True)
    assert asked == {"type": "topaz_picker", "executable": "/opt/topaz", "model": "mine", "diameter": 150, "threshold": -1.5}
    assert site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3}).status == 400
    for wrong in ({"model": "/etc/passwd"}, {"model": "mine", "threshold": "high"}, {"model": ["mine"]}):
        assert site.post("/decide/picker", {"type": "topaz_picker"} | wrong).status == 400
    assert site.post("/decide/picker", {"type": "blob_picker", "min_diameter": 80, "max_diameter": 130}).status == 200
    assert read_control(layout.CONTROL).picker.executable is None


def test_a_picker_is_tried_on_one_exposure_and_its_result_told(site: Site) -> None:
    body = {"exposure": "e001", "type": "blob_picker", "min_diameter": 80, "max_diameter": 130, "min_ncc": 0.3}
    assert site.post("/decide/trial", body).status == 200
    test = read_control(layout.CONTROL).test
    assert test is not None
    assert test.model_dump(exclude_none=True) == body
    again = site.post("/decide/trial", body)
    assert (again.status, "tried last" in again.told["error"]) == (400, True)
    write_json(layout.trial_folder(1) / "plan.json", {})
    assert [(one["test"], "found" in one) for one in site.get("/api/picking").told["tests"]] == [(1, False)]
    write_json(layout.trial_folder(1) / "result.json", {"exposure": "e001", "found": 90, "kept": 40, "pictures": ["picks.png"]})
    (told,) = site.get("/api/picking").told["tests"]
    assert (told["found"], told["kept"], told["folder"]) == (90, 40, "live/tests/1")


@pytest.mark.parametrize(
    ("address", "body", "sentence"),
    [("picks", {"min_ncc": 1.5}, "min_ncc: Input should be less than or equal to 1"),
     ("picks", {"min_power": 3, "max_power": 2}, "min_power (3) is larger than max_power (2)"),
     ("picks", {"min_ncc": "0.3"}, "is a number"), ("picks", {"min_ncc": True}, "is a number"),
     ("picks", {"min_ncc": float("nan")}, ""), ("picks", {"min_ncc": 0.3, "scope": "some"}, "all or future"),
     ("picks", {"min_ncc": 0.3, "reason": "a\nstate: end"}, "one line"),
     ("picker", {"type": "neural"}, "type: Input should be"), ("picker", {"type": "blob_picker", "min_diameter": -3}, "min_diameter"),
     ("picker", {"type": "blob_picker", "min_diameter": 200, "max_diameter": 150}, "min_diameter (200) is larger than max_diameter (150)"),
     ("trial", {"exposure": "nobody", "type": "blob_picker"}, "no exposure of that name"), ("trial", {}, "no exposure of that name"),
     ("trial", {"exposure": "e001", "type": "auto"}, "type")],
)  # fmt: skip
def test_what_the_control_file_refuses_is_refused_with_its_sentence(site: Site, address: str, body: dict, sentence: str) -> None:
    write_picks()
    before = layout.CONTROL.read_text()
    reply = site.post(f"/decide/{address}", {"job": "blobs"} | body)
    assert reply.status == 400
    assert sentence in reply.told["error"]
    assert layout.CONTROL.read_text() == before


def test_what_the_session_says_of_a_picker_that_cannot_do_is_told(site: Site) -> None:
    write_json(layout.SESSION, {"alarms": {"control": "live/control.yaml: picker.diameter: is missing"}, "state": "running"})
    assert site.get("/api/picking").told["fault"] == "live/control.yaml: picker.diameter: is missing"
    layout.CONTROL.write_text("settle_s: soon\n")
    assert "settle_s" in site.get("/api/picking").told["fault"]


def test_without_a_session_limits_are_the_file_that_the_inspection_reads(site: Site) -> None:
    layout.EXPOSURES.unlink()
    write_picks(decisions="hand/picks.yaml")
    Path("hand").mkdir()
    Path("hand/picks.yaml").write_text("# mine\nreject: [b1e0]\nmax_power: 9\n")
    assert site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3, "max_power": 8.0}).told == {"file": "hand/picks.yaml"}
    content = _read_decisions("hand/picks.yaml")
    assert {name: content[name] for name in ("min_ncc", "max_power", "reject")} == {"min_ncc": 0.3, "max_power": 8.0, "reject": ["b1e0"]}
    assert "(dashboard, 20" in content["reasons"]["min_ncc"]
    assert Path("hand/picks.yaml").read_text().startswith("# mine\n")
    assert site.get("/api/picking").told["saved"]["blobs"]["min_ncc"] == 0.3
    site.post("/decide/picks", {"job": "blobs", "min_power": 1.0})
    content = _read_decisions("hand/picks.yaml")
    assert ({"min_ncc", "max_power"} & set(content), content["min_power"], content["reject"]) == (set(), 1.0, ["b1e0"])
    assert set(content["reasons"]) == {"min_power"}
    assert site.post("/decide/picker", {"type": "blob_picker"}).status == 400


def test_decisions_that_would_fill_the_memory_are_refused_before_anything_is_built_from_them(site: Site) -> None:
    layout.EXPOSURES.unlink()
    write_picks(decisions="hand/picks.yaml")
    Path("hand").mkdir()
    text = "a: &a [1, 1]\n" + "".join(f"{name}: &{name} [*{before}, *{before}]\n" for before, name in itertools.pairwise("abcdefghi"))
    Path("hand/picks.yaml").write_text(text)
    assert "must not use YAML aliases" in site.get("/api/picking").told["error"]
    assert "must not use YAML aliases" in site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3}).told["error"]
    assert Path("hand/picks.yaml").read_text() == text


@pytest.mark.parametrize("given", ["/tmp/firn_elsewhere.yaml", "../elsewhere.yaml", "results/good/batches/0001/job.json"])
def test_an_inspection_cannot_name_a_file_elsewhere(site: Site, run_folder: Path, given: str) -> None:
    layout.EXPOSURES.unlink()
    write_picks(decisions=given)
    before = json.loads(Path("results/good/batches/0001/job.json").read_text())
    assert site.post("/decide/picks", {"job": "blobs", "min_ncc": 0.3}).status == 400
    assert not (run_folder.parent / "elsewhere.yaml").exists()
    assert json.loads(Path("results/good/batches/0001/job.json").read_text()) == before


def test_picks_of_a_job_that_picks_and_judges_by_itself_are_its_maxima(site: Site) -> None:
    picks = write_picks()
    folder = Path("results/fused/batches/0001")
    write_table(folder / "maxima_1a.star", picks, "picks")
    write_table(folder / "picks.star", picks[picks["pick_score"] > 0.5], "picks")
    write_json(folder / "job.json", {"job": "fused", "type": "preprocess", "settings": {"limit_max_power": 5.0}})
    told = site.get("/api/picks?of=fused").told
    assert (told["picks"], told["kept"]) == (len(picks), 6)
    (source,) = [one for one in site.get("/api/picking").told["sources"] if one["job"] == "fused"]
    assert source["limits"] == {"max_power": 5.0}


def test_a_batch_that_lies_elsewhere_is_not_read(site: Site, run_folder: Path) -> None:
    write_picks(batches=2)
    outside = run_folder.parent / "elsewhere"
    Path("results/blobs/batches/0001").rename(outside)
    Path("results/blobs/batches/0001").symlink_to(outside)
    assert {one["id"][:2] for one in site.get("/api/picks?of=blobs").told["shown"]} == {"b2"}
