"""A running session decided upon in a real browser alone: a limit, an exposure, a picker and classes, each taken up by the loop."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from browser import Visitor
from firn.dashboard.gate import Gate
from firn.formats.tables import read_table
from firn.jobs import simulate_movies
from firn.live import layout
from firn.live.round_cards import read_rounds
from firn.runtime.entry import open_job
from served_run import Site
from workflow.session import start_live, wait_until, write_session

Visit = Callable[..., Visitor]
SPECIMEN = {
    "movies": 3, "dirty": 0, "size_px": 320, "frames": 3, "pixel_size": 4.0, "dose_per_frame": 8.0, "particles_per_movie": 20, "tilt": 0.0,
    "defocus_min": 12000, "defocus_max": 20000, "phantom_radius": 70, "gain_sd": 0.0, "dead_pixels": 0, "hot_pixels": 0, "seed": 12,
}  # fmt: skip
JOBS: dict[str, dict[str, Any]] = {
    "movies": {
        "type": "import_movies", "files": "raw/*.tif", "pixel_size": 4.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 8.0, "batch_size": 3,
    },
    "pre": {
        "type": "preprocess", "exposures": "movies", "motion_max_align_resolution": 10.0, "ctf_max_resolution": 9.0,
        "ctf_min_resolution": 40.0, "ctf_tile_px": 128, "ctf_max_defocus": 25000, "thumbnail_px": 256, "blob_min_diameter": 120, "blob_max_diameter": 150, "extract_box_px": 60,
        "extract_crop_to_px": 32,
    },
    "good": {"type": "curate_exposures", "exposures": "pre", "decisions": "live/decisions.yaml"},
    "class2d": {"type": "classify_2d", "particles": "pre", "classes": 2, "iterations": 3, "max_resolution": 20.0},
    "keep": {
        "type": "select_2d", "particles": "class2d", "templates": "class2d", "min_quality": 0, "decisions": "decisions/keep.yaml",
    },
}  # fmt: skip
LIMIT_S = 1200
CONTROL = {
    "settle_s": 0.2, "poll_s": 0.3, "quiet_min": None, "alarms": {"disk_free_gb": 0}, "streams": {"first_2d": 20, "every_2d": 1000000},
}  # fmt: skip


class Night:
    """A session at work in the working directory, and its dashboard."""

    def __init__(self) -> None:
        self.log = Path("session.log").absolute()
        self.process = self.start()
        self.site = Site(Gate())

    def start(self) -> subprocess.Popen[bytes]:
        return start_live(Path.cwd(), self.log)

    def wait(self, condition: Callable[[], object]) -> None:
        wait_until(condition, self.process, self.log, LIMIT_S)

    def end(self) -> None:
        """Wait until it is over by itself."""
        assert self.process.wait(timeout=LIMIT_S) == 0, self.log.read_text()[-3000:]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self.site.close()


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """A session of three simulated movies, the classes of whose first round are selected."""
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    with open_job(simulate_movies.Params, SPECIMEN, {}, Path("results/sim"), "sim") as job:
        simulate_movies.run(job)
    run = tmp_path / "run"
    write_session(run, JOBS)
    (tmp_path / "made/results/sim/movies").rename(run / "raw")
    monkeypatch.chdir(run)
    for file, content in ((layout.CONTROL, CONTROL), (Path("decisions/keep.yaml"), {})):
        file.parent.mkdir()
        file.write_text(yaml.safe_dump(content))
    session = Night()
    try:
        session.wait(lambda: read_rounds().get("keep"))
        yield session
    finally:
        session.close()


def verdicts() -> pd.DataFrame:
    return pd.read_csv(layout.EXPOSURES).set_index("exposure_id")


def settings_of(folder: Path) -> dict[str, Any]:
    """What a job was made with, nothing while it is not there."""
    return dict(layout.read_json(folder / "job.json", {}).get("settings", {}))


def drag_limit(visitor: Visitor, column: str) -> float:
    """Drag the greatest defocus to the middle of its plot; the limit that is written."""
    grip = visitor.page.get_by_role("slider", name="greatest Defocus")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visitor.page.mouse.move(x, y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(x, y + 70, steps=4)
    visitor.shoot("running_limit_wide_light")
    visitor.page.mouse.up()
    visitor.tell("written to live/control.yaml")
    return float(yaml.safe_load(layout.CONTROL.read_text())["thresholds"][column]["max"])


def test_what_is_decided_in_the_browser_is_what_the_session_does(night: Night, visit: Visit) -> None:
    address = f"http://{night.site.host}"
    first = verdicts()
    limit = drag_limit(visit(f"{address}/"), "defocus")
    outside = set(first.index[first["defocus"] > limit])
    assert 0 < len(outside) < len(first)
    night.wait(lambda: set(verdicts().query("verdict == 'rejected'").index) == outside)

    chosen = next(name for name in first.index if name not in outside)
    visitor = visit(f"{address}/exposures")
    visitor.page.get_by_label("filter exposures").fill(chosen)
    visitor.page.locator("tbody tr:not(.filler)").click()
    visitor.page.get_by_label("the exposure").get_by_role("button", name="Reject").click()
    visitor.tell("rejected by hand")
    night.wait(lambda: verdicts()["verdict"][chosen] == "rejected")
    visitor.page.locator("tbody tr:not(.filler)", has_text="rejected by hand").wait_for()
    visitor.shoot("running_exposure_wide_light")

    visitor = visit(f"{address}/picking")
    visitor.page.locator("figure circle").first.wait_for()
    form = visitor.page.get_by_role("form", name="another picker")
    form.get_by_label("picker", exact=True).select_option("template_picker")
    for name, limit in (("least correlation", "0.12"), ("least power", "0"), ("greatest power", "9")):
        visitor.page.get_by_role("spinbutton", name=name).fill(limit)
    form.get_by_label("with the limits drawn here").check()
    form.get_by_role("button", name="Switch picker").click()
    visitor.tell("Picker written to live/control.yaml")
    night.wait(lambda: settings_of(Path("results/pre/batches/0001")).get("templates") == "live/pickers/1")
    assert settings_of(Path("results/pre/batches/0001"))["limit_min_ncc"] == 0.12
    visitor.shoot("running_picking_wide_light")

    layout.CONTROL.write_text(yaml.safe_dump(yaml.safe_load(layout.CONTROL.read_text()) | {"streams": {"enabled": False}}))
    layout.END_MARK.touch()
    night.end()
    assert chosen not in set(read_table("results/good/exposures.star", "exposures")["exposure_id"])
    visitor = visit(f"{address}/classes#results%2Fkeep")
    visitor.page.get_by_role("button", name="class 2,").click()
    visitor.shoot("running_classes_wide_light")
    visitor.page.get_by_role("button", name="Save selection").click()
    visitor.tell("written to decisions/keep.yaml")
    night.process = night.start()
    night.end()
    decided = read_table("results/keep/decisions.star", "classes").set_index("class_number")
    assert decided["kept"].to_dict() == {1: 1, 2: 0, 3: 0}, "the last class is the one without an average"
