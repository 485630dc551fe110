/* 2D classes of a result: a click keeps or rejects one; saving writes a decisions file */

let shown = null, keeping = new Set(), touched = false;
const picker = make("select", { "aria-label": "which classes", on: { change: () => open(picker.value) } });
const sorter = make("select", { "aria-label": "order", on: { change: () => drawClasses() } }, ...[["class_count", "by size"], ["class_resolution", "by resolution"], ["class_quality", "by quality"], ["number", "by number"]].map(([value, label]) => make("option", { value }, label)));
const sum = make("span", { class: "sum" }), mosaic = make("div", { class: "mosaic" }), hint = make("p", { class: "quiet" });
const comment = make("input", { placeholder: "why (optional)", "aria-label": "why", maxlength: 300 });
const saveButton = make("button", { type: "button", class: "button main", on: { click: save } }, "Save selection");
const bulk = (label, chosen) => make("button", { type: "button", class: "button", on: { click: () => { keeping = new Set(shown.classes.filter(chosen).map(one => one.number)); touched = true; drawClasses(); } } }, label);

const label = one => `${words(one.job)}${one.round ? ` · round ${Number(one.round)}` : ""}${one.selection ? " · selection" : ""}`;

async function list() {
  const found = await ask("/api/classes");
  if (!found.length) { nothing("There are no 2D classes in this run folder yet."); return; }
  const before = picker.value || decodeURIComponent(location.hash.slice(1));
  if (JSON.stringify([...picker.options].map(option => option.value)) === JSON.stringify(found.map(one => one.folder))) return;
  picker.replaceChildren(...found.map(one => make("option", { value: one.folder }, label(one))));
  const chosen = found.find(one => one.folder === before) || found[0];
  picker.value = chosen.folder;
  if (!page().contains(mosaic)) page().replaceChildren(make("div", { class: "bar" }, picker, sorter, sum),
    make("div", { class: "bar" }, bulk("Keep all", () => true), bulk("Keep none", () => false), bulk("Turn round", one => !keeping.has(one.number)), comment, saveButton), hint, mosaic);
  if (!touched && shown?.folder !== chosen.folder) await open(chosen.folder);
}

async function open(folder) {
  shown = await ask(`/api/classes?of=${encodeURIComponent(folder)}`);
  history.replaceState(null, "", `#${encodeURIComponent(folder)}`);
  touched = false;
  const hand = shown.chosen;
  keeping = new Set(shown.classes.filter(one => hand.select ? hand.select.includes(one.number) : !(hand.reject || []).includes(one.number) && one.kept !== false).map(one => one.number));
  drawClasses();
}

function drawClasses() {
  const most = Math.max(...shown.classes.map(one => one[sorter.value] ?? 0)), upward = ["class_resolution", "number"].includes(sorter.value);
  const by = one => one[sorter.value] ?? (upward ? Infinity : -most);
  const inOrder = [...shown.classes].sort((a, b) => upward ? by(a) - by(b) : by(b) - by(a));
  mosaic.replaceChildren(...inOrder.map(drawClass));
  drawSum();
}

function drawClass(one) {
  const at = shown.classes.indexOf(one), down = Math.ceil(shown.classes.length / shown.across), across = shown.across;
  const image = make("span", { class: "tile-image" });
  image.style.backgroundImage = `url("${root}/api/tiles?of=${encodeURIComponent(shown.folder)}")`;
  image.style.backgroundSize = `${100 * across}% ${100 * down}%`;
  image.style.backgroundPosition = `${100 * (at % across) / (across - 1)}% ${down > 1 ? 100 * Math.floor(at / across) / (down - 1) : 0}%`;
  const text = [one.class_resolution ? `${one.class_resolution.toFixed(1)} Å` : null, one.class_ess ? `ESS ${one.class_ess.toFixed(2)}` : null].filter(Boolean).join(" · ") || "no average: unexplained";
  return make("button", { type: "button", class: "class", "aria-pressed": String(keeping.has(one.number)), title: one.reason || "", "aria-label": `class ${one.number}, ${one.class_count ?? ""} particles, ${text}`, on: { click: event => {
    if (!keeping.delete(one.number)) keeping.add(one.number);
    event.currentTarget.setAttribute("aria-pressed", String(keeping.has(one.number)));
    touched = true;
    drawSum();
  } } }, image, make("span", { class: "text" }, make("b", {}, String(one.number)), `${spoken(one.class_count ?? null)} particles`, make("br"), text));
}

function drawSum() {
  const all = shown.classes.reduce((total, one) => total + (one.class_count || 0), 0), mine = shown.classes.reduce((total, one) => total + (keeping.has(one.number) ? one.class_count || 0 : 0), 0);
  sum.replaceChildren(make("b", {}, `${keeping.size} of ${shown.classes.length} classes`), `, ${spoken(mine)} of ${spoken(all)} particles (${all ? Math.round(100 * mine / all) : 0} %)`);
  saveButton.disabled = !touched;
  hint.textContent = shown.round ? `A round's classes are selected by rule; your choice is kept in ${shown.file} for the record, and final classes are numbered anew.`
    : `Saved to ${shown.file}; it counts where a select_2d job of the config says decisions: ${shown.file}.`;
}

async function save() {
  const answer = await decide("classes", { folder: shown.folder, select: [...keeping], comment: comment.value }, answer => `${keeping.size} classes kept; written to ${answer.file}`);
  if (!answer) return;
  touched = false;
  drawSum();
}

again(list, 10);
