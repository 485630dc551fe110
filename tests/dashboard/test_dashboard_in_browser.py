"""The dashboard in a real browser: what is decided there is what the live loop reads, and every page can be used by everybody."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from browser import Visitor
from firn.dashboard.gate import Gate
from firn.formats.decisions import read_decisions
from firn.jobs.select_2d import _read_decisions
from firn.live import layout
from firn.live.control import read_control
from landed_session import land_session, turn
from served_run import Site, write_classes

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A dashboard of a session with three finished batches, one in work, and 2D classes."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        land_session(3)
        write_classes(Path("results/class2d"), "classify_2d")
        site = Site(Gate())
        yield site
        site.close()


def verdicts() -> pd.Series:
    return pd.read_csv(layout.EXPOSURES).set_index("exposure_id")["verdict"]


@pytest.mark.parametrize("width", ["wide", "phone"])
@pytest.mark.parametrize(
    ("page", "there"), [("", ".plot canvas"), ("exposures", "tbody tr:not(.filler)"), ("classes", ".class"), ("jobs", ".job")]
)
def test_a_page_stands_without_complaint_at_every_width_by_day_and_night(
    night: Site, visit: Visit, page: str, there: str, width: str
) -> None:
    assert visit(f"http://{night.host}/{page}", width).complains(there, f"{page or 'overview'}_{width}") == []


def test_a_limit_that_is_dragged_is_one_that_the_loop_judges_by(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/")
    grip = visitor.page.get_by_role("slider", name="greatest CTF fit resolution")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 70, steps=4)
    assert visitor.page.locator(".rule").is_visible()
    visitor.page.mouse.up()
    visitor.tell("written to live/control.yaml")
    limit = read_control(layout.CONTROL).thresholds["ctf_fit_resolution"].max
    assert limit is not None
    assert layout.CONTROL.read_text().startswith("# our own notes stay\n")
    turn()
    table = pd.read_csv(layout.EXPOSURES)
    outside = table["ctf_fit_resolution"] > limit
    assert 0 < outside.sum() < len(table)
    assert ((table["verdict"] == "rejected") == outside).all()
    visitor.page.get_by_text(f"≤ {limit:.3g}, {outside.sum()} outside").first.wait_for()
    assert visitor.complaints == []


def test_a_limit_is_moved_by_keys_alone(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/", "phone")
    grip = visitor.page.get_by_role("slider", name="least Defocus")
    grip.focus()
    for key in ("PageUp", "ArrowUp", "Enter"):
        grip.press(key)
    visitor.tell("Defocus: ≥")
    assert read_control(layout.CONTROL).thresholds["defocus"].min is not None
    edit = visitor.page.locator(".plot", has=visitor.page.get_by_role("heading", name="Defocus")).get_by_role("button", name="limits")
    edit.focus()
    edit.press("Enter")
    visitor.page.get_by_role("spinbutton", name="least Defocus").fill("")
    visitor.page.keyboard.press("Enter")
    visitor.tell("Defocus: no limit")
    assert read_control(layout.CONTROL).thresholds["defocus"].min is None


def test_an_exposure_rejected_in_the_browser_is_rejected_by_the_loop(night: Site, visit: Visit) -> None:
    chosen = pd.read_csv(layout.EXPOSURES).set_index("exposure_id")["ctf_fit_resolution"].idxmin()
    visitor = visit(f"http://{night.host}/exposures")
    visitor.page.get_by_label("filter exposures").fill(chosen)
    visitor.page.locator("tbody tr:not(.filler)").click()
    visitor.page.get_by_role("button", name="Reject").wait_for()
    visitor.page.locator(".one svg circle").first.wait_for()
    visitor.shoot("exposure_wide_light")
    visitor.page.keyboard.press("r")
    visitor.tell("rejected by hand")
    assert read_control(layout.CONTROL).reject == [chosen]
    turn()
    assert verdicts()[chosen] == "rejected"
    assert read_decisions(layout.DECISIONS) == {chosen: "reject"}
    visitor.page.locator("tbody tr:not(.filler)", has_text="reject by hand").or_(
        visitor.page.locator("tbody tr:not(.filler)", has_text="rejected by hand")
    ).first.wait_for()
    visitor.page.keyboard.press("u")
    visitor.tell("left to the rules")
    turn()
    assert (verdicts()[chosen], read_decisions(layout.DECISIONS)) == ("accepted", {})
    assert visitor.complaints == []


@pytest.mark.parametrize("width", ["wide", "phone"])
def test_exposures_are_looked_up_where_the_stage_stood(night: Site, visit: Visit, width: str) -> None:
    visitor = visit(f"http://{night.host}/exposures", width)
    visitor.page.get_by_role("button", name="map", exact=True).click()
    table = pd.read_csv(layout.EXPOSURES)
    assert visitor.complains(f"canvas[data-places='{len(table.groupby(['stage_x', 'stage_y']))}']", f"stage_map_{width}") == []
    visitor.page.get_by_label("coloured by").select_option("Defocus")
    visitor.page.get_by_role("button", name="nearer").click()
    visitor.page.get_by_role("button", name="show all").click()
    middle = visitor.page.evaluate("map.dots.findIndex(one => one.at === map.dots[0].at && one.shift.some(Boolean))")
    x, y = visitor.page.evaluate("number => map.on(map.dots[number])", middle)
    visitor.page.get_by_role("img", name="where the stage stood").click(position={"x": x, "y": y})
    visitor.page.get_by_label("the exposure").get_by_role(
        "heading", name=visitor.page.evaluate("number => map.dots[number].name", middle)
    ).wait_for()
    visitor.shoot(f"stage_map_opened_{width}_light")
    assert visitor.complaints == []


def test_classes_clicked_and_saved_are_what_a_selection_reads(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/classes")
    for number in (2, 4):
        visitor.page.get_by_role("button", name=f"class {number},").click()
    visitor.page.get_by_label("why").fill("ice")
    visitor.page.get_by_role("button", name="Save selection").click()
    visitor.tell("written to decisions/class2d.yaml")
    assert _read_decisions("decisions/class2d.yaml", [1, 2, 3, 4]) == {1: "select", 2: "reject", 3: "select", 4: "reject"}
    assert "ice (dashboard, " in Path("decisions/class2d.yaml").read_text()
    assert visitor.complaints == []


def test_a_session_is_paused_from_the_browser_and_goes_on(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/")
    visitor.page.get_by_role("button", name="Pause").click()
    visitor.tell("cuts nothing until it goes on")
    assert read_control(layout.CONTROL).state == "pause"
    layout.CONTROL.write_text(layout.CONTROL.read_text().replace("state: pause", "state: run"))
