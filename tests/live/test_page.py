"""The page needs no other file, holds what session.json and the tables tell, and believes no text to be markup."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from firn.formats.ids import exposure_id
from firn.formats.mrc import write_image
from firn.formats.tables import write_table
from firn.live import layout, page, strip
from firn.live.batch_tables import BatchTables
from firn.live.control import Limits
from firn.live.points import FITS, LATEST, Points, as_script
from firn.live.round_cards import read_rounds, round_cards
from firn.report.thumbnails import write_thumbnail

COUNTERS = dict.fromkeys(("found", "waiting", "refused", "complete", "queued", "in_progress", "ready", "rejected", "failed", "picks"), 0)
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def summary(**changes: Any) -> dict[str, Any]:
    rates = {f"{name}_per_hour": 120.0 for name in ("found", "ready", "accepted", "particles")}
    told = {
        "updated": "", "state": "running", "reason": "", "counters": COUNTERS | {"accepted": 3, "particles": 900}, "backlog": 4, "rates": rates,
        "minutes_since_last_file": 1.0, "failures": {}, "last_refused": [], "alarms": {}, "disk_free_gb": 100.0, "imports": {}, "batches_in_work": 1,
    }  # fmt: skip
    return told | changes


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "night 12"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def some_points(*names: str) -> Points:
    return Points(
        ["ctf_fit_resolution"], [as_script([1e9 + 60 * at, 1e9 + 60 * at + 90, name, 0, "", 4.0 + at]) for at, name in enumerate(names)]
    )


def written(content: dict[str, Any], points: Points, limits: dict[str, Limits] | None = None) -> str:
    page.write_page(content, points, limits or {}, read_rounds())
    return page.PAGE.read_text(encoding="utf-8")


def told(text: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """What the page's script is given."""
    found = re.search(r"^let told = (.*);$\n^let points = (\[.*?\]);$", text, re.M | re.S)
    assert found
    return json.loads(found[1]), json.loads(found[2])


def test_the_page_loads_nothing_from_elsewhere():
    text = written(summary(), some_points("a", "b"))
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//)""", text)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_the_page_tells_what_the_session_tells():
    content = summary(alarms={"disk": "The disk is full"})
    data, points = told(written(content, some_points("a", "b"), {"ctf_fit_resolution": Limits(max=6.0)}))
    assert data["session"] == content
    assert [point[2] for point in points] == ["a", "b"]
    assert [(a["column"], a["min"], a["max"]) for a in data["attributes"]] == [("ctf_fit_resolution", None, 6.0)]
    assert data["name"] == "night 12"


def test_no_name_of_a_file_is_markup_nor_a_place_of_the_page():
    text = written(summary(alarms={"control": EVIL}, reason="/*points*/ /*script*/"), some_points(EVIL, "/*told*/"))
    assert text.count("<script") == 1
    assert text.count("</script") == 1
    assert "<img" not in text.split("<script>")[1].split("let told")[1].split("const VERDICTS")[0]
    data, points = told(text)
    assert data["session"]["alarms"]["control"] == EVIL
    assert points[1][2] == "/*told*/"


def test_a_tick_that_has_nothing_to_read_loads_nothing_slow():
    code = "import sys; import firn.live.tick; print(sorted({'pandas', 'PIL', 'scipy', 'matplotlib', 'torch'} & set(sys.modules)))"
    path = str(Path(page.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path})
    assert done.stdout.strip() == "[]"


def test_a_log_cut_short_is_read_as_far_as_it_goes():
    layout.append_line(layout.ALARM_LOG, alarm="disk", event="raised", sentence="full")
    with layout.ALARM_LOG.open("a") as stream:
        stream.write('{"time": 12')
    data, _ = told(written(summary(), Points([], [])))
    assert [entry["sentence"] for entry in data["alarm_log"]] == ["full"]


def outcome(number: int, code: str = "") -> dict[str, Any]:
    path = f"raw/{number}.tif"
    return {"exposure_id": exposure_id(path), "movie": path, "numbers": {}, "code": code, "reason": ""}


def leave_results(batch: str, numbers: list[int], thumbnails: bool) -> None:
    folder = layout.result_file("prep", batch).parent
    rows = []
    for number in numbers:
        image = np.zeros((60, 90), dtype=np.float32)
        image[:10, :20] = 100.0
        name = exposure_id(f"raw/{number}.tif")
        row = {
            "exposure_id": name,
            "micrograph": str(folder / f"{name}.mrc"),
            "width_px": 90,
            "height_px": 60,
            "micrograph_pixel_size": 2.0,
        }
        if thumbnails:
            row["thumbnail"] = str(folder / f"{name}.png")
            write_thumbnail(Path(row["thumbnail"]), image, 90)
        else:
            write_image(Path(row["micrograph"]), image, 2.0)
        rows.append(row)
    write_table(folder / "exposures.star", pd.DataFrame(rows), "exposures")
    picks = pd.DataFrame([{"exposure_id": row["exposure_id"], "x_px": 9.0, "y_px": 5.0, "diameter": 36.0} for row in rows])
    write_table(folder / "picks.star", picks, "picks")


@pytest.mark.parametrize("thumbnails", [True, False])
def test_a_pick_is_drawn_where_its_particle_is_seen(thumbnails: bool):
    leave_results("0001", [1], thumbnails)
    strip.show_batch(BatchTables.of(["prep"], "0001"), [outcome(1)])
    (entry,) = json.loads(LATEST.read_text())
    (x, y), ratio = entry["picks"][0], entry["ratio"]
    picture = seen(entry["picture"])
    height, width = picture.shape
    assert ratio == pytest.approx(height / width, abs=1e-4)
    assert picture[round(y / 1000 * width), round(x / 1000 * width)] > 200
    assert picture[5, width - 5] < 50
    assert entry["radius"] == pytest.approx(500 * 36 / 180)


def seen(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_latest_exposures_come_first_and_old_ones_go():
    for batch in range(1, 5):
        numbers = [10 * batch + place for place in range(10)]
        leave_results(f"{batch:04d}", numbers, thumbnails=True)
        strip.show_batch(BatchTables.of(["prep"], f"{batch:04d}"), [outcome(number, "DIED" if number == 41 else "") for number in numbers])
    entries = json.loads(LATEST.read_text())
    assert len(entries) == strip.KEPT
    assert [entry["name"] for entry in entries[:3]] == ["49", "48", "47"]
    assert [entry["name"] for entry in entries if not entry["picture"]] == ["41"]


def test_how_one_exposure_of_the_last_batch_was_fitted_is_shown_small():
    leave_results("0001", [1, 2], thumbnails=True)
    folder = layout.result_file("prep", "0001").parent
    (folder / "figures").mkdir()
    for name in ("motion_a", "ctf_a", "ctf_b", "picks_a"):
        Image.fromarray(np.zeros((1500, 2000, 3), dtype=np.uint8)).save(folder / f"figures/{name}.png")
    figures = [{"file": f"figures/{name}.png", "title": name, "caption": ""} for name in ("picks_a", "ctf_a", "ctf_b", "motion_a")]
    (folder / "job.json").write_text(json.dumps({"figures": figures}))
    (folder / "figures/ctf_a.png").write_bytes(b"no picture")
    strip.show_batch(BatchTables.of(["prep"], "0001"), [outcome(1), outcome(2)])
    data, _ = told(written(summary(), Points([], [])))
    assert [fit["title"] for fit in data["fits"]] == ["motion_a", "ctf_b"]
    assert seen(data["fits"][0]["picture"]).shape == (750, 1000, 3)


def leave_round(number: int, particles: int, resolution: float, figure: bool = True) -> str:
    folder = Path(f"results/map/rounds/{number:04d}")
    (folder / "figures").mkdir(parents=True)
    if figure:
        (folder / "figures/fsc.png").write_bytes(b"picture")
    (folder / "job.json").write_text(
        json.dumps({"figures": [{"file": "figures/fsc.png", "title": "FSC", "caption": "of the map"}], "metrics": {}})
    )
    return f"{1e9 + number},map,refine,{number},done,{particles},,{resolution},10,1,,{folder}\n"


def test_rounds_make_one_card_with_the_latest_figures_and_a_forecast():
    header = "finished,job,role,round,state,particles,kept,resolution,seconds,tries,sentence,folder\n"
    rounds = [leave_round(1, 1000, 8.0), leave_round(2, 2000, 7.0), leave_round(3, 4000, 6.3)]
    layout.ROUNDS.parent.mkdir()
    layout.ROUNDS.write_text(header + "".join(rounds) + "5,map,refine,4,failed,9000,,,1,3,failed 3 times,results/map/rounds/0004\n")
    (card,) = round_cards(read_rounds(), 8000, 100.0)
    assert [entry["particles"] for entry in card["rounds"]] == [1000, 2000, 4000]
    assert [figure["title"] for figure in card["figures"]] == ["FSC"]
    step = card["forecast"]["steps"][0]
    assert step["hours"] == pytest.approx(step["more_particles"] / 50, abs=0.01)


def test_a_session_without_rounds_shows_none():
    assert round_cards(read_rounds(), 0, 0.0) == []


MEASURE = (
    """<script>setTimeout(() => { document.title = `beyond ${document.documentElement.scrollWidth - innerWidth > 0}`; }, 500);</script>"""
)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_page_on_a_narrow_screen_without_a_fault(run_folder: Path):
    layout.append_line(layout.ALARM_LOG, alarm="disk", event="raised", sentence="full")
    leave_results("0001", [1, 2], thumbnails=True)
    strip.show_batch(BatchTables.of(["prep"], "0001"), [outcome(1), outcome(2)])
    FITS.write_text(json.dumps([{"title": "a_long_name_" * 20, "caption": "", "picture": ""}]))
    text = written(summary(alarms={"disk": "The disk is full"}), some_points(*(f"movie_{number}" for number in range(30))))
    page.PAGE.write_text(text + MEASURE)
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={run_folder / 'profile'}",
        "--virtual-time-budget=2000",
    ]
    url = (run_folder / page.PAGE).as_uri()
    drawn = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    assert "The disk is full" in drawn.stdout
    assert "CTF fit resolution" in drawn.stdout
    assert "Movies over time" in drawn.stdout
    assert "<title>beyond false</title>" in drawn.stdout
    assert "Uncaught" not in drawn.stderr
