/* picking: limits on the picks of a run, another picker, a picker tried on one exposure */

const LIMITS = ["min_ncc", "min_power", "max_power"], KEPT = 1, LINE = 2, BELOW = 4, NONE = { min_ncc: null, min_power: null, max_power: null };
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
let about = null, shown = null, saved = { ...NONE }, draft = { ...NONE }, cards = [], drawnTests = "", opened = "", turns = 0;

const field = (label, given, input) => make("label", { class: "field", ...given }, make("span", {}, label), input);
const option = (value, label) => make("option", { value }, label);
const numeric = (label, given = {}) => make("input", { type: "number", step: "any", "aria-label": label, ...given });
const scope = label => make("select", { "aria-label": label }, option("all", "all exposures"), option("future", "future only"));
const why = label => make("input", { placeholder: "why (optional)", "aria-label": label, maxlength: "300" });

const which = make("select", { "aria-label": "which picker's picks", on: { change: () => openPicks(which.value) } });
const facts = make("span", { class: "quiet" }), count = make("p", { class: "headline" }), note = make("p", { class: "quiet" });
const plane = new Plane(limits => { draft = { ...limits }; heed(); }, saveLimits, () => { draft = { ...saved }; heed(); });
const inputs = Object.fromEntries(LIMITS.map(name => [name, numeric(BOUNDS[name][0], { placeholder: "open", on: { input: typed } })]));
const limitScope = scope("limits for"), limitWhy = why("why these limits");
const saveButton = make("button", { class: "button main" }, "Save limits");
const limitForm = make("form", { class: "card stack", "aria-label": "limits", on: { submit: event => { event.preventDefault(); saveLimits(); } } }, make("h3", {}, "Limits"), count,
  field("correlation ≥", {}, inputs.min_ncc), field("power ≥", {}, inputs.min_power), field("power ≤", {}, inputs.max_power),
  field("for", {}, limitScope), limitWhy, make("div", { class: "actions" }, saveButton, make("button", { type: "button", class: "button", on: { click: () => { draft = { ...saved }; heed(); } } }, "Undo")), note);
const exposures = make("div", { class: "shots" });

const type = make("select", { "aria-label": "picker", on: { change: showFields } }, option("", "as in the config"), option("blob_picker", "blobs"), option("template_picker", "templates"), option("topaz_picker", "Topaz"), option("auto", "templates, when classes are good"));
const smallest = numeric("smallest diameter in Å", { min: "0" }), largest = numeric("largest diameter in Å", { min: "0" }), diameter = numeric("diameter of the templates' mask in Å", { min: "0", placeholder: "largest of the blobs" });
const particle = numeric("diameter of a particle in Å", { min: "0", placeholder: "largest of the blobs" }), threshold = numeric("smallest score", { placeholder: "0" });
const templates = make("select", { "aria-label": "templates" }), models = make("select", { "aria-label": "model" }), pickerScope = scope("picker for"), pickerWhy = why("why this picker");
const withLimits = make("input", { type: "checkbox" }), exposure = make("input", { list: "exposures", "aria-label": "exposure to try on", placeholder: "exposure" }), names = make("datalist", { id: "exposures" });
const ofType = { blob_picker: [field("from, Å", {}, smallest), field("to, Å", {}, largest)], template_picker: [field("templates", {}, templates), field("mask, Å", {}, diameter)],
  topaz_picker: [field("model", {}, models), field("particle, Å", {}, particle), field("score ≥", {}, threshold)], auto: [], "": [] };
const tryButton = make("button", { type: "button", class: "button", on: { click: tryPicker } }, "Try on one exposure");
const pickerForm = make("form", { class: "card stack", "aria-label": "another picker", on: { submit: event => { event.preventDefault(); switchPicker(); } } }, make("h3", {}, "Another picker"),
  field("pick by", {}, type), ...Object.values(ofType).flat(), make("label", {}, withLimits, " with the limits drawn here"), field("for", {}, pickerScope), pickerWhy,
  make("div", { class: "actions" }, make("button", { class: "button main" }, "Switch picker")), make("hr"), field("exposure", {}, exposure), names, make("div", { class: "actions" }, tryButton), make("p", { class: "quiet" }, "A test changes nothing in the session."));
const noSession = make("p", { class: "card quiet" }, "There is no live session here: another picker is a change of the config.");
const alarm = make("ul", { class: "alarms" }), tests = make("section", {}), waiting = make("p", { class: "quiet" });

/* what was asked for before a decision is not what it says after it */
async function look() {
  const turn = turns, fresh = await ask("/api/picking");
  if (turn !== turns) return;
  about = fresh;
  if (!about.sources.length) { nothing(about.live ? "No picks are here now; they come with the next batch that is done." : "Nothing has been picked in this run folder yet."); return; }
  const jobs = about.sources.map(one => one.job);
  if (!same([...which.options].map(one => one.value), jobs)) which.replaceChildren(...about.sources.map(one => option(one.job, words(one.job))));
  if (!page().contains(plane.element)) show();
  tellState();
  const chosen = jobs.includes(opened) ? opened : jobs.find(job => job === decodeURIComponent(location.hash.slice(1))) || jobs[0];
  which.value = chosen;
  await openPicks(chosen, turn);
}

function show() {
  page().replaceChildren(alarm, make("div", { class: "bar" }, which, facts, waiting), make("div", { class: "weighing" },
    make("section", { class: "card", "aria-label": "picks" }, plane.element, make("p", { class: "quiet" }, "Drag a limit, or move it with arrow keys; Enter saves, Delete leaves it open, Esc takes it back.")), limitForm,
    about.live ? pickerForm : noSession), make("h2", {}, "Exposures", make("span", { class: "quiet" }, make("i", { class: "ring kept" }), "kept ", make("i", { class: "ring" }), "refused")), exposures, tests);
  fillPicker();
}

/* saved limits win over those of the config */
function savedLimits() {
  const source = about.sources.find(one => one.job === which.value), given = about.live ? about.picker : about.saved[source.job];
  return Object.fromEntries(LIMITS.map(name => [name, given[name] ?? source.limits[name] ?? null]));
}

async function openPicks(job, turn = turns) {
  const fresh = job !== opened, address = `/api/picks?of=${encodeURIComponent(job)}`;
  opened = job;
  const found = await (fresh ? ask(address) : read(address));
  if (job !== opened) return;
  if (turn === turns) {
    const untouched = fresh || same(draft, saved);
    saved = savedLimits();
    if (untouched) draft = { ...saved };
  }
  if (fresh) history.replaceState(null, "", `#${encodeURIComponent(job)}`);
  if (found) {
    shown = found;
    plane.show(shown.histogram, shown.found.line);
    drawExposures();
    facts.textContent = `${spoken(shown.picks)} picks of ${spoken(shown.exposures)} exposures${shown.batches[0] < shown.batches[1] ? `, from ${shown.batches[0]} of ${spoken(shown.batches[1])} batches` : ""}`;
  }
  heed();
}

/* whether limits keep a pick: as it is now where nothing moved; where one is open, by what was found in the batch of the pick */
function passes([score, power, code]) {
  if (same(draft, saved)) return Boolean(code & KEPT);
  const { min_ncc, min_power, max_power } = draft;
  if (max_power === null ? !(code & BELOW) : power > max_power) return false;
  return (min_power === null || power >= min_power) && (min_ncc === null ? Boolean(code & LINE) : score >= min_ncc);
}

function heed() {
  if (!shown) return;
  plane.set(draft);
  for (const name of LIMITS) if (document.activeElement !== inputs[name]) inputs[name].value = draft[name] === null ? "" : String(draft[name]);
  const kept = same(draft, saved) ? shown.kept : Math.round(shown.picks * shown.sample.filter(passes).length / shown.sample.length);
  const about_ = shown.sample.length < shown.picks && !same(draft, saved) ? "about " : "";
  count.replaceChildren(`${about_}${spoken(kept)}`, make("small", {}, ` kept, ${spoken(shown.picks - kept)} refused`));
  saveButton.disabled = same(draft, saved);
  for (const card of cards) judge(card);
  tellNote();
}

function tellNote() {
  const source = about.sources.find(one => one.job === opened), open = LIMITS.filter(name => draft[name] === null);
  const reason = shown.found.reasons.line || shown.found.reasons.min_ncc;
  const parts = [open.length ? `What is open is found from the picks${draft.min_ncc === null && shown.found.line ? " (dashed)" : ""}.` : null, draft.min_ncc === null && reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : null,
    about.live ? null : source.decisions ? `Saved to ${source.decisions}; it counts where inspect_picks says decisions: ${source.decisions}.` : "No inspect_picks sets limits on these picks."];
  note.textContent = parts.filter(Boolean).join(" ");
}

function typed() {
  for (const name of LIMITS) draft[name] = inputs[name].value === "" || !isFinite(inputs[name].value) ? null : Number(inputs[name].value);
  heed();
}

function drawExposures() {
  cards = shown.shown.map(one => {
    const view = drawView({ ...one, picks: one.picks.map(pick => pick.slice(0, 2)) }), told = make("span", { class: "why" });
    const button = make("button", { type: "button", class: "view", "aria-label": `${one.which}, larger`, style: `--ratio: ${one.ratio || 1}`, on: { click: () => {
      const large = make("span", { class: "view", style: `--ratio: ${one.ratio || 1}` }, ...[...button.childNodes].map(part => part.cloneNode(true)));
      openLarge(large, make("p", {}, make("b", {}, one.id), ` · ${told.textContent}`));
    } } }, ...view.childNodes);
    const element = make("figure", { class: "card" }, button, make("figcaption", {}, make("b", {}, one.which), make("span", { class: "quiet" }, ` ${one.id}`), make("br"), told));
    return { one, element, told, circles: [...button.querySelectorAll("circle")] };
  });
  exposures.replaceChildren(...cards.map(card => card.element));
}

function judge({ one, told, circles }) {
  const kept = one.picks.map(pick => passes(pick.slice(2)));
  kept.forEach((passed, place) => circles[place]?.setAttribute("class", passed ? "kept" : "refused"));
  const number = kept.filter(Boolean).length;
  told.textContent = `${spoken(number)} kept, ${spoken(kept.length - number)} refused${one.all > kept.length ? ` of the best ${kept.length}` : ""}`;
}

async function saveLimits() {
  const wanted = { ...draft };
  turns += 1;
  const done = await decide("picks", { job: opened, ...wanted, scope: limitScope.value, reason: limitWhy.value }, answer => `Limits written to ${answer.file}${ended() ? ", which counts when the session goes on" : ""}`);
  turns += 1;
  if (!done) return;
  saved = wanted;
  limitWhy.value = "";
  await look();
}
const ended = () => about.live && ["ended", "stopped"].includes(about.state);

function showFields() {
  for (const [name, fields] of Object.entries(ofType)) for (const one of fields) one.hidden = name !== type.value;
  tryButton.disabled = type.value === "auto";
}

/* the form as the control file has it; once, since a person writes in it */
function fillPicker() {
  const asked = about.picker;
  type.value = asked.type || "";
  [smallest.value, largest.value, diameter.value, particle.value, threshold.value] = ["min_diameter", "max_diameter", "diameter", "diameter", "threshold"].map(name => asked[name] ?? "");
  limitScope.value = pickerScope.value = asked.scope || "all";
  showFields();
}

function choice() {
  const number = input => input.value === "" ? null : Number(input.value);
  const own = { blob_picker: { min_diameter: number(smallest), max_diameter: number(largest) }, template_picker: { templates: templates.value, diameter: number(diameter) },
    topaz_picker: { model: models.value, diameter: number(particle), threshold: number(threshold) } }[type.value] || {};
  return { type: type.value, ...own, ...withLimits.checked && type.value !== "topaz_picker" ? draft : {} };
}

async function switchPicker() {
  const done = await decide("picker", { ...choice(), scope: pickerScope.value, reason: pickerWhy.value }, `Picker written to live/control.yaml${ended() ? ", which counts when the session goes on" : ""}`);
  if (!done) return;
  pickerWhy.value = "";
  await look();
}

async function tryPicker() {
  if (await decide("trial", { exposure: exposure.value, ...choice() }, `The picker is tried on ${exposure.value}; its picture comes below`)) await look();
}

function tellState() {
  alarm.replaceChildren(...about.fault ? [make("li", {}, make("b", {}, about.fault))] : []);
  alarm.hidden = !about.fault;
  waiting.textContent = about.waiting ? `${spoken(about.waiting)} batches are still to be picked again` : "";
  const rounds = ["latest", ...about.templates], before = templates.value || about.picker.templates;
  if (!same([...templates.options].map(one => one.value), rounds)) {
    templates.replaceChildren(...rounds.map(name => option(name, name === "latest" ? "latest" : name.replace("/", ", round "))));
    templates.value = rounds.includes(before) ? before : "latest";
  }
  const chosen = models.value || about.picker.model;
  if (!same([...models.options].map(one => one.value), about.models)) {
    models.replaceChildren(...about.models.map(name => option(name, name)));
    models.value = about.models.includes(chosen) ? chosen : about.models[0];
  }
  names.replaceChildren(...about.names.map(name => option(name, "")));
  if (!exposure.value && document.activeElement !== exposure) exposure.value = about.names.at(-1) || "";
  const text = JSON.stringify([about.tests, about.test]);
  if (text !== drawnTests) drawTests();
  drawnTests = text;
}

function drawTests() {
  const known = about.tests.map(drawTest);
  tests.replaceChildren(...known.length ? [make("h2", {}, "Tests", make("span", { class: "quiet" }, "green: kept, red: refused")), make("div", { class: "shots" }, ...known)] : []);
}

function drawTest(one) {
  const pending = one.found === undefined && !one.refused;
  const limits = Object.entries(one.limits || {}).filter(([, value]) => value !== null).map(([name, value]) => `${words(name)} ${spoken(value)}`).join(", ");
  const told = one.refused || (pending ? "is being picked …" : `${spoken(one.kept)} of ${spoken(one.found)} kept${limits ? `; ${limits}` : ""}`);
  const pictures = (one.pictures || []).map(name => drawFigure({ title: `test ${one.test}`, caption: name === "picks.png" ? "picks" : "limits", picture: fileAddress(`${one.folder}/${name}`) }));
  return make("article", { class: "card test" }, make("h3", {}, `Test ${one.test}`), make("p", { class: one.refused ? "fault" : "" }, told), make("p", { class: "quiet" }, one.exposure || ""), ...pictures);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plane.paint());
again(look, 5);
