"""Maps in a real browser: the surface is where the density says, it is turned and brought nearer by hand and by key, and slices follow."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import Visitor
from firn.dashboard.gate import Gate
from firn.live import layout
from served_run import Site, blob, write_job, write_map

Visit = Callable[..., Visitor]
DRAWN = "canvas.surface[data-triangles]"
CLOSED = """([n, radius]) => {
  const data = new Float32Array(n ** 3), middle = n >> 1;
  for (let z = 0; z < n; z += 1) for (let y = 0; y < n; y += 1) for (let x = 0; x < n; x += 1) data[x + n * (y + n * z)] = -Math.hypot(x - middle, y - middle, z - middle);
  const { places, normals, triangles } = surfaceNet(data, n, -radius), edges = new Map(), at = vertex => places.subarray(3 * vertex, 3 * vertex + 3);
  let volume = 0;
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = [0, 1, 2].map(corner => at(triangles[t + corner]));
    volume += (a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])) / 6;
    for (const [one, other] of [[0, 1], [1, 2], [2, 0]]) { const key = [triangles[t + one], triangles[t + other]].sort((p, q) => p - q).join(" "); edges.set(key, (edges.get(key) || 0) + 1); }
  }
  const radii = [], slants = [];
  for (let v = 0; v < places.length; v += 3) {
    radii.push(Math.hypot(places[v], places[v + 1], places[v + 2]));
    slants.push((places[v] * normals[v] + places[v + 1] * normals[v + 1] + places[v + 2] * normals[v + 2]) / radii.at(-1));
  }
  return { euler: places.length / 3 - edges.size + triangles.length / 3, seams: [...edges.values()].filter(count => count !== 2).length, volume, least: Math.min(...radii), most: Math.max(...radii), slant: Math.min(...slants) };
}"""
"""What a surface net makes of a ball: vertices less edges plus triangles, edges without two triangles, volume by Gauss's theorem, radii, normals."""
NOISE = """n => {
  const data = new Float32Array(n ** 3), edges = new Map();
  let state = 12345;
  for (let z = 1; z < n - 2; z += 1) for (let y = 1; y < n - 2; y += 1) for (let x = 1; x < n - 2; x += 1) { state = (1103515245 * state + 12345) % 2147483648; data[x + n * (y + n * z)] = state / 2147483648; }
  const { places, triangles } = surfaceNet(data, n, 0.6);
  for (let t = 0; t < triangles.length; t += 3) for (const [one, other] of [[0, 1], [1, 2], [2, 0]]) {
    const key = [triangles[t + one], triangles[t + other]], sign = key[0] < key[1] ? 1 : -1, name = key.sort((p, q) => p - q).join(" ");
    edges.set(name, (edges.get(name) || 0) + sign);
  }
  return [Math.max(...[...edges.values()].map(Math.abs)), triangles.length > 30000, new Set(triangles).size === places.length / 3];
}"""
"""Of noise within an empty rim: how often an edge is passed more in one direction than in the other, and whether every vertex is used."""
PIECES = """() => {
  const n = 40, data = new Float32Array(n ** 3);
  for (const [cx, cy, cz, radius] of [[14, 20, 20, 9], [33, 20, 20, 2]]) for (let z = 0; z < n; z += 1) for (let y = 0; y < n; y += 1) for (let x = 0; x < n; x += 1)
    data[x + n * (y + n * z)] = Math.max(data[x + n * (y + n * z)], 10 + radius - Math.hypot(x - cx, y - cy, z - cz));
  const mesh = surfaceNet(data, n, 10), clean = withoutDust(mesh, 0.1), reach = triangles => Math.max(...Array.from(triangles, vertex => mesh.places[3 * vertex]));
  return [reach(mesh.triangles), reach(clean.triangles), withoutDust(mesh, 0).triangles.length === mesh.triangles.length];
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run with a map in rounds, a sharpened one, and jobs in several states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("lab"))
        density = (
            blob(48, (6, 0, -6), 5) + blob(48, (-6, 5, 4), 4) + 0.02 * np.random.default_rng(3).normal(size=(48, 48, 48)).astype(np.float32)
        )
        layout.LIVE.mkdir()
        rounds = ["role,job,round,state,finished,particles,kept,resolution,folder"]
        for number in (1, 2, 3):
            write_map(Path(f"results/stream/rounds/{number:04d}"), density)
            rounds.append(
                f"refine,stream,{number},done,{1.7e9 + 600 * number},{5000 * number},,{6 - number},results/stream/rounds/{number:04d}"
            )
        layout.ROUNDS.write_text("\n".join(rounds) + "\n")
        write_job(Path("results/keep"), "select_2d", (), {"particles": 900.0}, particles="class2d")
        write_map(Path("results/final"), density, "refine_nonuniform", particles="keep", symmetry="D7")
        write_map(Path("results/other"), density, "refine_nonuniform", particles="keep", symmetry="C1")
        write_job(Path("results/views"), "orientation_diagnostics", ("conical_fsc",), volume="final")
        write_map(Path("results/sharp"), density, "sharpen", volume="final")
        Path("results/late").mkdir()
        Path("logs").mkdir()
        Path("logs/late.log").write_text("began")
        site = Site(Gate())
        yield site
        site.close()


@pytest.mark.parametrize("width", ["wide", "phone"])
@pytest.mark.parametrize(("page", "there"), [("maps", DRAWN), ("jobs", ".node"), ("machine", ".bars")])
def test_a_page_stands_without_complaint_at_every_width_by_day_and_night(
    lab: Site, visit: Visit, page: str, there: str, width: str
) -> None:
    assert visit(f"http://{lab.host}/{page}", width).complains(there, f"{page}_{width}") == []


@pytest.mark.parametrize(("n", "radius"), [(32, 9.3), (41, 15.0)])
def test_the_surface_of_a_ball_is_closed_and_where_it_should_be(lab: Site, visit: Visit, n: int, radius: float) -> None:
    visitor = visit(f"http://{lab.host}/maps")
    found = visitor.page.evaluate(CLOSED, [n, radius])
    assert (found["euler"], found["seams"]) == (2, 0)
    assert radius - 0.15 < found["least"] <= found["most"] < radius + 0.15
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    assert found["slant"] > 0.99


def test_the_surface_of_noise_is_closed_and_has_two_sides(lab: Site, visit: Visit) -> None:
    unbalanced, ragged, used = visit(f"http://{lab.host}/maps").page.evaluate(NOISE, 24)
    assert (unbalanced, ragged, used) == (0, True, True)


@pytest.fixture
def noise(lab: Site) -> Iterator[Path]:
    """A map of noise alone, gone after the test."""
    folder = Path("results/noise")
    write_map(folder, np.random.default_rng(5).normal(size=(96, 96, 96)).astype(np.float32))
    yield folder
    shutil.rmtree(folder)


def test_a_level_in_the_noise_is_said_to_be_one(lab: Site, noise: Path, visit: Visit) -> None:
    visitor = visit(f"http://{lab.host}/maps#{noise}")
    level = visitor.page.get_by_role("slider", name="contour level")
    visitor.page.locator(DRAWN).wait_for()
    level.press("Home")
    visitor.page.get_by_text("too ragged to draw").wait_for()
    visitor.page.locator("canvas.surface[data-triangles='0']").wait_for()
    level.press("End")
    visitor.page.locator("canvas.surface:not([data-triangles='0'])").wait_for()
    assert visitor.complaints == []


def test_dust_is_hidden_and_the_large_piece_stays(lab: Site, visit: Visit) -> None:
    with_dust, without, all_kept = visit(f"http://{lab.host}/maps").page.evaluate(PIECES)
    assert with_dust == pytest.approx(15, abs=0.5)
    assert without == pytest.approx(3, abs=0.2)
    assert all_kept


def test_the_surface_is_turned_zoomed_and_redrawn_at_another_level(lab: Site, visit: Visit) -> None:
    visitor = visit(f"http://{lab.host}/maps#{'results/sharp'}")
    surface = visitor.page.locator(DRAWN)
    surface.wait_for()

    def changed(act: Callable[[], None], name: str = "view") -> str:
        before = surface.get_attribute(f"data-{name}")
        act()
        visitor.page.wait_for_function(
            "([name, before]) => document.querySelector('canvas.surface').dataset[name] !== before", arg=[name, before]
        )
        return str(surface.get_attribute(f"data-{name}"))

    box = surface.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def drag() -> None:
        visitor.page.mouse.move(*middle)
        visitor.page.mouse.down()
        visitor.page.mouse.move(middle[0] + 90, middle[1] + 30, steps=3)
        visitor.page.mouse.up()

    changed(drag)
    zoom = float(str(surface.get_attribute("data-view")).split()[-1])
    assert float(changed(lambda: visitor.page.mouse.wheel(0, -300)).split()[-1]) > zoom
    surface.focus()
    changed(lambda: visitor.page.keyboard.press("ArrowLeft"))
    changed(lambda: visitor.page.keyboard.press("-"))
    assert changed(lambda: visitor.page.keyboard.press("Home")).split()[:9] == [f"{one:.3f}" for one in (1, 0, 0, 0, 1, 0, 0, 0, 1)]
    level = visitor.page.get_by_role("slider", name="contour level")
    count = float(str(surface.get_attribute("data-triangles")))
    assert float(changed(lambda: level.press("End"), "triangles")) < count
    visitor.page.get_by_text("holds").wait_for()
    assert visitor.complaints == []


def test_the_turn_along_an_axis_shows_that_axis_towards_the_viewer(lab: Site, visit: Visit) -> None:
    page = visit(f"http://{lab.host}/maps").page
    page.locator(DRAWN).wait_for()
    for axis, right, up in (("z", "x", "y"), ("y", "x", "z"), ("x", "y", "z")):
        seen = page.evaluate("axis => [0, 1, 2].map(row => ['x', 'y', 'z'].map((_, column) => ALONG[axis][3 * column + row]))", axis)
        place = {"x": 0, "y": 1, "z": 2}
        assert (np.abs(seen[0]).argmax(), np.abs(seen[1]).argmax(), np.abs(seen[2]).argmax()) == (place[right], place[up], place[axis])
        assert (seen[0][place[right]], seen[1][place[up]]) == (1, 1)


def test_a_slice_is_moved_by_its_slider_and_by_a_click_in_another(lab: Site, visit: Visit) -> None:
    visitor = visit(f"http://{lab.host}/maps", "phone")
    visitor.page.locator(DRAWN).wait_for()
    slices = visitor.page.get_by_role("img", name="slice across")
    assert [slices.nth(number).get_attribute("data-at") for number in range(3)] == ["24", "24", "24"]
    slider = visitor.page.get_by_role("slider", name="slice across z")
    slider.focus()
    slider.press("ArrowRight")
    assert slices.nth(0).get_attribute("data-at") == "25"
    box = slices.nth(0).bounding_box()
    slices.nth(0).click(position={"x": box["width"] * 0.26, "y": box["height"] * 0.26})
    assert [slices.nth(number).get_attribute("data-at") for number in (1, 2)] == ["35", "12"]


def test_slices_remain_where_there_is_no_webgl(lab: Site, visit: Visit) -> None:
    visitor = visit("about:blank")
    visitor.page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = function (kind, ...more) { return kind === 'webgl2' ? null : get.call(this, kind, ...more); };"
    )
    visitor.page.goto(f"http://{lab.host}/maps")
    visitor.page.get_by_text("draws no WebGL 2").wait_for()
    visitor.page.locator(".slice canvas[data-at='24']").first.wait_for()
    assert visitor.complaints == []


def test_rounds_of_a_map_are_plotted_and_others_can_be_opened(lab: Site, visit: Visit) -> None:
    visitor = visit(f"http://{lab.host}/maps")
    visitor.page.get_by_label("which map").select_option("results/stream/rounds/0002")
    visitor.page.get_by_role("img", name="Resolution against particles").wait_for()
    visitor.page.get_by_role("img", name="Resolution against time").wait_for()
    visitor.page.get_by_label("which volume").select_option("mask")
    visitor.page.get_by_text("round 2").first.wait_for(state="attached")
    visitor.shoot("rounds_wide_light")
    assert visitor.complaints == []


def test_a_job_clicked_in_the_graph_shows_its_settings_and_two_are_compared(lab: Site, visit: Visit) -> None:
    visitor = visit(f"http://{lab.host}/jobs")
    visitor.page.get_by_role("button", name="final, refine_nonuniform, done, made from keep").click()
    opened = visitor.page.locator("details.job[open]")
    opened.get_by_role("row", name="symmetry D7").wait_for()
    assert visitor.page.locator(".edge.chosen").count() == 3
    visitor.page.get_by_role("button", name="late, job, not finished").click()
    visitor.page.locator("pre.log", has_text="began").wait_for()
    visitor.page.locator("details.job[open]", has_text="late").locator("summary").click()
    opened.get_by_role("button", name="Compare").click()
    rows = visitor.page.locator(".differences tbody tr")
    rows.first.wait_for()
    assert rows.all_inner_texts() == ["symmetry\tD7\tC1"]
    visitor.shoot("compared_wide_light")
    assert visitor.complaints == []
