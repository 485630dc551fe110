/* all exposures: sorted, filtered, only the rows in sight are drawn; or as a map of stage positions where these are known */

const ROW_PX = 30, HEAD_PX = 34, AHEAD = 12, FIXED = ["id", "name", "verdict", "reason", "found"];
const [ID, ROW_NAME, ROW_VERDICT, ROW_REASON, ROW_FOUND, ROW_FIRST] = [0, 1, 2, 3, 4, 5];
let stage = null, times = [], rows = [], columns = [], order = [], hand = {}, sort = { at: -1, down: true }, chosen = "", only = -1;

const search = make("input", { type: "search", class: "grow", placeholder: "filter: words, or picks<50 ctf>5", "aria-label": "filter exposures", on: { input: () => arrange(true) } });
const verdictSwitch = make("span", { class: "switch", role: "group", "aria-label": "verdict" });
const count = make("span", { class: "quiet", "aria-live": "polite" });
const body = make("tbody"), head = make("thead");
const scroller = make("div", { class: "card scroller", tabindex: "0", "aria-label": "exposures; arrow keys move, A accepts, R rejects, U takes back", on: { scroll: () => requestAnimationFrame(drawRows), keydown: pressed } }, make("table", {}, head, body));
const one = make("aside", { class: "card one", hidden: "", "aria-label": "the exposure" });
const map = new StageMap(choose), views = make("span", { class: "switch", role: "group", "aria-label": "view", hidden: "" });
const browse = make("div", { class: "browse alone" }, scroller, map.element, one);

const timed = () => times.length > 0;
const when = time => time === null ? "" : times.at(-1) - times[0] > 20 * HOUR ? `${day(time)} ${clock(time)}` : clock(time);
const number = (row, column) => row[ROW_FIRST + column];
const shownNumber = (row, column) => { const value = number(row, column); return value === null ? "" : spoken(value * columns[column].factor); };
function key(row) {
  if (sort.at === -1) return row[ROW_FOUND];
  if (sort.at === -2) return row[ROW_NAME];
  if (sort.at === -3) return `${row[ROW_VERDICT]} ${row[ROW_REASON]}`;
  return number(row, sort.at);
}

function makeTests() {
  return search.value.toLowerCase().split(/\s+/).filter(Boolean).map(word => {
    const found = /^([^<>]+)(<=|>=|<|>)(-?[\d.]+)$/.exec(word), column = found ? findColumn(found[1]) : -1;
    if (column < 0) return row => row[ROW_NAME].toLowerCase().includes(word) || row[ROW_REASON].toLowerCase().includes(word) || row[ID] === word;
    const limit = Number(found[3]) / columns[column].factor;
    const test = { "<": value => value < limit, ">": value => value > limit, "<=": value => value <= limit, ">=": value => value >= limit }[found[2]];
    return row => number(row, column) !== null && test(number(row, column));
  });
}
const findColumn = word => columns.findIndex(column => column.column === word) >= 0 ? columns.findIndex(column => column.column === word)
  : columns.findIndex(column => column.column.startsWith(word) || column.label.toLowerCase().startsWith(word));

function arrange(top = false) {
  const tests = makeTests();
  order = [];
  rows.forEach((row, place) => { if ((only < 0 || row[ROW_VERDICT] === only) && tests.every(test => test(row))) order.push(place); });
  const keys = rows.map(key), sign = sort.down ? -1 : 1;
  const compare = (a, b) => keys[a] === keys[b] ? a - b : keys[a] === null ? 1 : keys[b] === null ? -1 : sign * (keys[a] < keys[b] ? -1 : 1);
  order.sort(compare);
  count.textContent = order.length === rows.length ? `${spoken(rows.length)} exposures` : `${spoken(order.length)} of ${spoken(rows.length)}`;
  if (top) scroller.scrollTop = 0;
  drawHeading();
  drawRows();
}

function drawHeading() {
  const cell = (label, unit, at) => make("th", { scope: "col", "aria-sort": sort.at === at ? sort.down ? "descending" : "ascending" : "none" },
    make("button", { type: "button", on: { click: () => { sort = { at, down: sort.at === at ? !sort.down : at >= 0 }; arrange(true); } } }, label, unit ? make("span", { class: "quiet" }, ` ${unit}`) : "", sort.at === at ? sort.down ? " ↓" : " ↑" : ""));
  const focused = document.activeElement?.closest?.("th"), place = focused ? [...focused.parentNode.children].indexOf(focused) : -1;
  head.replaceChildren(make("tr", {}, cell("Exposure", "", -2), ...(timed() ? [cell("Found", "", -1)] : []), cell("Verdict", "", -3), ...columns.map((column, at) => cell(column.label, column.unit, at))));
  if (place >= 0) head.firstChild.children[place].firstChild.focus();
}

const mapped = () => Boolean(stage) && kept.get("view") === "map";
function drawViews() {
  views.hidden = !stage;
  views.replaceChildren(...["list", "map"].map(name => make("button", { type: "button", "aria-pressed": String(mapped() === (name === "map")), on: { click: () => { kept.set("view", name); drawViews(); drawRows(); } } }, name)));
  scroller.hidden = mapped();
  map.element.hidden = !mapped();
}

function drawMap() {
  const seen = order.filter(place => stage[place]).map(place => ({ place, at: stage[place], name: short(rows[place][ROW_NAME]), verdict: rows[place][ROW_VERDICT], values: rows[place].slice(ROW_FIRST) }));
  map.show(seen, columns, rows.findIndex(row => row[ID] && row[ID] === chosen));
}

function drawRows() {
  if (mapped()) { drawMap(); return; }
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_PX) - AHEAD), last = Math.min(order.length, first + Math.ceil(scroller.clientHeight / ROW_PX) + 2 * AHEAD);
  const filler = (height) => make("tr", { class: "filler", "aria-hidden": "true" }, make("td", { colspan: columns.length + 3, style: `height: ${height}px` }));
  body.replaceChildren(filler(first * ROW_PX), ...order.slice(first, last).map(drawRow), filler((order.length - last) * ROW_PX));
}

function drawRow(place) {
  const row = rows[place], verdict = VERDICTS[row[ROW_VERDICT]], by = hand[row[ID]];
  return make("tr", { "aria-selected": String(Boolean(row[ID]) && row[ID] === chosen), on: { click: () => choose(place) } },
    make("td", { title: row[ROW_NAME] }, "\u200e" + short(row[ROW_NAME])), timed() ? make("td", {}, when(row[ROW_FOUND])) : null, drawVerdict(row, verdict, by),
    ...columns.map((_, at) => make("td", {}, shownNumber(row, at))));
}

function drawVerdict(row, verdict, by) {
  const coming = by && row[ROW_REASON] !== `${by}ed by hand` ? `will be ${by}ed` : "";
  return make("td", { title: row[ROW_REASON] }, make("i", { class: `dot ${verdict}` }), make("span", { class: by ? "hand" : "" }, coming || words(row[ROW_REASON] || verdict)));
}

async function choose(place) {
  const row = rows[place];
  chosen = row[ID];
  one.hidden = false;
  browse.classList.remove("alone");
  drawRows();
  if (!row[ID]) { one.replaceChildren(make("h3", {}, row[ROW_NAME]), make("p", {}, row[ROW_REASON])); return; }
  await new Promise(done => setTimeout(done, 120));
  if (chosen !== row[ID]) return;
  const found = await ask(`/api/exposure?id=${encodeURIComponent(row[ID])}`).catch(fault => notice(fault.message, true));
  if (found && chosen === row[ID]) drawOne(row, found);
}

function drawOne(row, found) {
  const verdict = VERDICTS[row[ROW_VERDICT]];
  const button = (name, letter, wanted, tone) => make("button", { type: "button", class: `button ${tone}`, "aria-pressed": String(found.hand === wanted), on: { click: () => judge(wanted) } }, name, " ", make("kbd", {}, letter));
  const picture = found.picture.picture ? make("button", { type: "button", class: "view", "aria-label": "larger", style: `--ratio: ${found.picture.ratio}`, on: { click: () => openLarge(drawView(found.picture)) } }, ...drawView(found.picture).childNodes) : make("p", { class: "quiet" }, "There is no picture of it (any more).");
  const figures = found.figures.map(figure => drawFigure({ ...figure, picture: fileAddress(figure.file) }));
  const numbers = Object.entries(found.row).filter(([name]) => !["verdict", "reason", "exposure_id", "import", "batch"].includes(name)).map(([name, value]) => make("tr", {}, make("td", {}, words(name)), make("td", {}, name.startsWith("time_") ? new Date(1000 * value).toLocaleString() : value)));
  one.replaceChildren(make("div", { class: "head" }, make("h3", {}, row[ROW_NAME])),
    make("p", { class: "quiet" }, make("i", { class: `dot ${verdict}` }), words(row[ROW_REASON] || verdict), ` · ${found.row.exposure_id} · batch ${found.row.batch || "–"}`),
    make("div", { class: "actions" }, button("Accept", "A", "accept", "good"), button("Reject", "R", "reject", "bad"), button("By rule", "U", "none", ""), make("button", { type: "button", class: "button", on: { click: shut } }, "Close ", make("kbd", {}, "Esc"))),
    picture, ...figures, make("table", {}, ...numbers));
}

function shut() {
  chosen = "";
  one.hidden = true;
  browse.classList.add("alone");
  drawRows();
  scroller.focus();
}

async function judge(verdict) {
  const id = chosen, said = { accept: "accepted by hand", reject: "rejected by hand", none: "left to the rules" }[verdict];
  if (!id || !await decide("exposures", { exposures: [id], verdict }, `${rows.find(row => row[ID] === id)[ROW_NAME]}: ${said}`)) return;
  hand = await ask("/api/hand");
  const place = rows.findIndex(row => row[ID] === id);
  if (chosen === id) choose(place);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key], verdict = { a: "accept", r: "reject", u: "none" }[event.key.toLowerCase()];
  if (step) {
    const at = order.findIndex(place => rows[place][ID] === chosen), next = Math.min(Math.max(at + step, 0), order.length - 1);
    if (next < 0) return;
    const top = next * ROW_PX;
    if (top < scroller.scrollTop || top > scroller.scrollTop + scroller.clientHeight - HEAD_PX - 2 * ROW_PX) scroller.scrollTop = top - scroller.clientHeight / 2;
    choose(order[next]);
  } else if (verdict && chosen) judge(verdict);
  else if (event.key === "Escape" && chosen) shut();
  else if (event.key === "/") search.focus();
  else return;
  event.preventDefault();
}

async function lookAtAll() {
  const [table, decided] = await Promise.all([read("/api/exposures"), ask("/api/hand")]);
  const changed = JSON.stringify(decided) !== JSON.stringify(hand);
  hand = decided;
  if (table) {
    ({ rows, columns, stage = null } = table);
    times = rows.map(row => row[ROW_FOUND]).filter(time => time !== null).sort((a, b) => a - b);
    scroller.classList.toggle("untimed", !timed());
    drawVerdicts();
    drawViews();
    arrange();
    const place = rows.findIndex(row => row[ID] && row[ID] === chosen);
    if (place >= 0) choose(place);
  } else if (changed) drawRows();
}

function drawVerdicts() {
  const entries = [[-1, "all"], ...VERDICTS.map((name, at) => [at, `${name} ${spoken(rows.filter(row => row[ROW_VERDICT] === at).length)}`])];
  verdictSwitch.replaceChildren(...entries.map(([at, label]) => make("button", { type: "button", "aria-pressed": String(only === at), on: { click: () => { only = at; drawVerdicts(); arrange(true); } } }, label)));
}

page().replaceChildren(make("div", { class: "bar" }, search, views, verdictSwitch, count), browse);
document.addEventListener("keydown", event => { if (!scroller.contains(event.target)) pressed(event); });
addEventListener("resize", drawRows);
again(lookAtAll, 5);
