"""The page of picking in a real browser: limits moved and a picker switched there are what the live loop takes up."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import landed_session
from browser import Visitor
from firn.dashboard.gate import Gate
from firn.formats.tables import read_table
from firn.live import layout
from firn.live.control import read_control
from firn.live.pickers import decided
from firn.runtime.atomic import write_json
from landed_session import land_session, turn
from served_run import Site

Visit = Callable[..., Visitor]
PICKING = {
    "pickers": {"motion": {"type": "preprocess", "blob_min_diameter": 150, "blob_max_diameter": 190, "seed": 1}},
    "inspections": {},
    "picked": [],
}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A dashboard of a session with three finished batches, in a config that picks batch by batch."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(landed_session.PLAN["movies"], "picking", PICKING)
        land_session(3)
        site = Site(Gate())
        yield site
        site.close()


def maxima() -> pd.DataFrame:
    """All picks that the page tells of."""
    return pd.concat([read_table(path, "picks") for path in Path("results/motion/batches").glob("*/maxima_0.star")])


def number(text: str | None) -> int:
    """The first number of a sentence, thousands apart."""
    return int("".join(letter for letter in (text or "").split(" kept")[0] if letter.isdigit()))


@pytest.mark.parametrize("width", ["wide", "phone"])
def test_the_page_stands_without_complaint_at_every_width_by_day_and_night(night: Site, visit: Visit, width: str) -> None:
    visitor = visit(f"http://{night.host}/picking", width)
    visitor.page.get_by_label("picker", exact=True).select_option("template_picker")
    assert visitor.complains("figure circle", f"picking_{width}") == []


def test_a_limit_that_is_dragged_and_one_that_is_typed_are_taken_up(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/picking")
    grip = visitor.page.get_by_role("slider", name="least correlation")
    visitor.page.locator("figure circle").first.wait_for()
    before = number(visitor.page.locator(".headline").text_content())
    box, plot = grip.bounding_box(), visitor.page.locator(".plane canvas").bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.page.mouse.down()
    visitor.page.mouse.move(plot["x"] + plot["width"] / 2, box["y"] + 40, steps=4)
    visitor.page.mouse.up()
    limit = float(visitor.page.get_by_role("spinbutton", name="least correlation").input_value())
    assert 0.2 < limit < 0.5
    visitor.page.get_by_role("spinbutton", name="greatest power").fill("1.5")
    picks = maxima()
    inside = (picks["pick_score"] >= limit) & (picks["pick_power"] <= 1.5)
    told = number(visitor.page.locator(".headline").text_content())
    assert told != before
    assert told == pytest.approx(inside.sum(), abs=3)
    refused = visitor.page.locator("figure").first.locator("circle.refused")
    assert refused.count() > 0
    visitor.shoot("picking_moved_wide_light")
    visitor.page.get_by_role("button", name="Save limits").click()
    visitor.tell("written to live/control.yaml")
    picker = read_control(layout.CONTROL).picker
    assert (picker.min_ncc, picker.max_power) == (pytest.approx(limit), 1.5)
    assert layout.CONTROL.read_text().startswith("# our own notes stay\n")
    turn()
    taken = decided()[-1]["jobs"]["motion"]["settings"]
    assert (taken["limit_min_ncc"], taken["limit_max_power"]) == (picker.min_ncc, 1.5)
    assert visitor.complaints == []


def test_a_limit_is_moved_and_left_open_by_keys_alone(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/picking", "phone")
    visitor.page.locator("figure circle").first.wait_for()
    grip = visitor.page.get_by_role("slider", name="least power")
    grip.focus()
    for key in ("PageUp", "ArrowUp", "Enter"):
        grip.press(key)
    visitor.tell("Limits written")
    assert (read_control(layout.CONTROL).picker.min_power or 0) > 0
    visitor.page.locator("form[aria-label=limits] .main:disabled").wait_for()
    grip.press("Delete")
    visitor.page.get_by_role("button", name="Save limits").click()
    visitor.page.locator("form[aria-label=limits] .main:disabled").wait_for()
    assert read_control(layout.CONTROL).picker.min_power is None


def test_a_picker_tried_on_one_exposure_shows_its_picture_and_is_then_switched_to(night: Site, visit: Visit) -> None:
    visitor = visit(f"http://{night.host}/picking")
    visitor.page.get_by_label("picker", exact=True).select_option("blob_picker")
    form = visitor.page.get_by_role("form", name="another picker")
    form.get_by_role("spinbutton", name="smallest diameter in Å").fill("260")
    form.get_by_role("spinbutton", name="largest diameter in Å").fill("220")
    form.get_by_role("button", name="Switch picker").click()
    visitor.tell("min_diameter (260) is larger than max_diameter (220)")
    form.get_by_role("spinbutton", name="smallest diameter in Å").fill("200")
    chosen = pd.read_csv(layout.EXPOSURES)["exposure_id"].iloc[0]
    form.get_by_label("exposure to try on").fill(chosen)
    form.get_by_role("button", name="Try on one exposure").click()
    visitor.tell("its picture comes below")
    turn()
    folder = layout.trial_folder(1)
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["exposure"], plan["picker"]["min_diameter"], plan["picker"]["max_diameter"]) == (chosen, 200, 220)
    Image.new("RGB", (300, 200), (60, 90, 60)).save(folder / "picks.png")
    write_json(
        folder / "result.json", {"exposure": chosen, "found": 120, "kept": 81, "limits": {"min_ncc": 0.31}, "pictures": ["picks.png"]}
    )
    visitor.page.get_by_text("81 of 120 kept; min ncc 0.31").wait_for()
    visitor.page.locator(".test img").wait_for()
    assert visitor.page.locator(".test img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 300
    visitor.shoot("picking_tried_wide_light")
    form.get_by_label("picker for").select_option("future")
    form.get_by_role("button", name="Switch picker").click()
    visitor.tell("Picker written to live/control.yaml")
    turn()
    wanted = decided()[-1]
    assert (wanted["wanted"]["scope"], wanted["wanted"]["type"]) == ("future", "blob_picker")
    assert wanted["jobs"]["motion"]["settings"]["blob_min_diameter"] == 200
    assert [text for text in visitor.complaints if "400" not in text] == []
