/* maps: a surface to turn, slices, the figures that judge the map, and how it grew from round to round */

const DALTON_PER_A3 = 0.81;  /* protein, 1.35 g/cm³ */
const KINDS_OF_MAP = { map: "map", half1: "half map 1", half2: "half map 2", mask: "mask", masked: "map, masked" };
const LEVELS = 1000, DUST = 0.02, TRIES = 5, NOTHING = { places: new Float32Array(), normals: new Float32Array(), triangles: new Uint32Array() };
let listed_maps = "", about = null, density = null, sigmas = null, wanted = 0;

const which = make("select", { "aria-label": "which map", on: { change: () => openMap(which.value) } });
const kind = make("select", { "aria-label": "which volume", on: { change: () => loadVolume() } });
const facts = make("span", { class: "sum grow" }), beside = make("div", { class: "gallery" }), growth = make("div", { class: "growth" });
const surface = make("canvas", { class: "surface", tabindex: "0", role: "img", "aria-label": "surface; drag or arrow keys turn it, wheel or + and - zoom, x, y and z look along an axis, Home goes back" });
const level = make("input", { type: "range", min: "1", max: String(LEVELS), value: "300", "aria-label": "contour level", on: { input: () => { sigmas = levelNow() / density.deviation; redrawSurface(); } } });
const levelText = make("output", { class: "quiet" });
const cutter = make("input", { type: "range", min: "0", max: "100", value: "0", "aria-label": "cut open from the front", on: { input: () => { viewer.cut = cutter.value === "0" ? 2 : 1 - Number(cutter.value) / 50; viewer.again(); } } });
const dust = make("input", { type: "checkbox", checked: "", on: { change: () => redrawSurface() } });
const sides = make("span", { class: "switch", role: "group", "aria-label": "look along" }, ...["x", "y", "z"].map(axis => make("button", { type: "button", on: { click: () => viewer.look(axis) } }, `along ${axis}`)));
const noSurface = make("p", { class: "quiet", hidden: "" }, "This browser draws no WebGL 2, so there are slices but no surface; allow hardware acceleration, or look at the jobs' own figures.");
const stage = make("section", { class: "card stage", "aria-label": "surface" }, surface, noSurface,
  make("div", { class: "knobs" }, make("label", {}, "level", level, levelText), make("label", {}, "cut", cutter), make("label", { title: "pieces smaller than a fiftieth of the largest" }, dust, "hide dust"), sides));
const cuts = new Slices();
const named = one => `${words(one.job)}${one.round ? ` · round ${Number(one.round)}` : ""}${one.part ? ` · ${words(one.part)}` : ""}${one.resolution ? ` · ${one.resolution.toFixed(2)} Å` : ""}`;
let viewer = null;

async function listMaps() {
  const found = await ask("/api/maps"), text = JSON.stringify(found);
  if (!found.length) { nothing("There are no maps in this run folder yet."); return; }
  if (text === listed_maps) return;
  listed_maps = text;
  const before = which.value || decodeURIComponent(location.hash.slice(1));
  which.replaceChildren(...found.map(one => make("option", { value: one.folder }, named(one))));
  const chosen = found.find(one => one.folder === before) || found.find(one => one.job === before) || found[0];
  which.value = chosen.folder;
  if (!page().contains(stage)) {
    page().replaceChildren(make("div", { class: "bar" }, which, kind, facts), make("div", { class: "theatre" }, stage, make("section", { class: "card", "aria-label": "slices" }, cuts.element)), growth, beside);
    viewer = new Viewer(surface);
    surface.hidden = level.disabled = cutter.disabled = dust.disabled = !viewer.gl;
    noSurface.hidden = Boolean(viewer.gl);
  }
  if (chosen.folder !== about?.folder || chosen.time !== about.time) await openMap(chosen.folder);
}

async function openMap(folder) {
  about = await ask(`/api/maps?of=${encodeURIComponent(folder)}`);
  history.replaceState(null, "", `#${encodeURIComponent(folder)}`);
  const before = kind.value;
  kind.replaceChildren(...about.kinds.map(name => make("option", { value: name }, KINDS_OF_MAP[name])));
  kind.value = about.kinds.includes(before) ? before : "map";
  const parts = [about.resolution ? `${about.resolution.toFixed(2)} Å` : null, about.particles ? `${spoken(about.particles)} particles` : null, `${about.side} px of ${spoken(about.pixel_size, 4)} Å`, new Date(1000 * about.time).toLocaleString()].filter(Boolean);
  facts.replaceChildren(make("b", {}, parts[0]), ...parts.slice(1).map(part => ` · ${part}`));
  beside.replaceChildren(...about.figures.map(figure => drawFigure({ ...figure, title: about.job === figure.job ? figure.title : `${words(figure.job)}: ${figure.title}`, picture: fileAddress(figure.file) })));
  growth.replaceChildren(...about.rounds.length > 1 ? [make("section", { class: "card" }, drawGrowth(about))] : []);
  await loadVolume();
}

/* a large map on a slow disk may take longer than the dashboard holds a connection; it goes on reading, and is asked again */
async function readVolume(address, tries) {
  try {
    return await (await send(address)).arrayBuffer();
  } catch (fault) {
    if (fault.status || tries === 1) throw fault;
    notice("The map is large and still being read.");
    return readVolume(address, tries - 1);
  }
}

async function loadVolume() {
  const asked = ++wanted, bytes = await readVolume(`/api/volume?of=${encodeURIComponent(about.folder)}&kind=${kind.value}`, TRIES).catch(fault => notice(fault.message, true));
  if (!bytes || asked !== wanted) return;
  const [peak, spacing, deviation, start] = new Float32Array(bytes, 0, 4), data = new Int16Array(bytes, 16), unit = peak / 32767;
  density = { data, n: Math.round(Math.cbrt(data.length)), spacing, deviation, unit, top: 0.9 * peak, start: kind.value === "mask" ? 0.5 * peak : start };
  cuts.show(density);
  const mine = sigmas !== null && kind.value !== "mask" ? sigmas * deviation : density.start;
  level.value = Math.round(LEVELS * Math.min(Math.max(mine / density.top, 0), 1));
  redrawSurface();
}

const levelNow = () => density.top * Number(level.value) / LEVELS;
let redrawing = 0;
function redrawSurface() {
  cancelAnimationFrame(redrawing);
  redrawing = requestAnimationFrame(() => {
    const { data, n, spacing, deviation, unit } = density, at = levelNow(), mass = countAbove(data, at / unit) * spacing ** 3 * DALTON_PER_A3 / 1000;
    const mesh = viewer.gl ? surfaceNet(data, n, at / unit) : null, ragged = viewer.gl && !mesh ? "; in the noise, too ragged to draw" : "";
    levelText.textContent = `${spoken(at)} = ${(at / deviation).toFixed(1)} σ; holds ${mass < 1000 ? `${spoken(mass)} kDa` : `${spoken(mass / 1000)} MDa`} of protein${ragged}`;
    level.setAttribute("aria-valuetext", levelText.textContent);
    if (mesh) viewer.show(dust.checked ? withoutDust(mesh, DUST) : mesh, n / 2);
    else if (viewer.gl) viewer.show(NOTHING, n / 2);
  });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll(".growth canvas").forEach(canvas => canvas.redraw()));
again(listMaps, 10);
