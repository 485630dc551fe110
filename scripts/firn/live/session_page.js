const VERDICTS = ["accepted", "rejected", "failed"];
const TIME = 0, READY = 1, NAME = 2, VERDICT = 3, REASON = 4, FIRST = 5;
const HOUR = 3600;
let now = told.updated_s;
const hooks = {};
const style = getComputedStyle(document.documentElement);
const colour = name => style.getPropertyValue("--" + name).trim();
const kept = { get: name => { try { return sessionStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* a page without storage forgets */ } } };

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

function spoken(value, digits = 3) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  if (Math.abs(value) >= 1000 || Number.isInteger(value)) return Math.round(value).toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  return String(Number(value.toPrecision(digits)));
}
function span(hours) {
  if (hours === null || !isFinite(hours)) return "never at this rate";
  if (hours < 1) return `${Math.max(1, Math.round(60 * hours))} min`;
  return hours < 48 ? `${spoken(Number(hours.toFixed(1)))} h` : `${spoken(Math.round(hours / 24))} days`;
}
function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / HOUR).toFixed(1)} h`;
}
const clock = time => new Date(1000 * time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
const short = name => name.replace(/_fractions$/i, "");
const day = time => new Date(1000 * time).toLocaleDateString([], { day: "numeric", month: "short" });
const clockOrDay = wide => wide > 36 * HOUR ? day : clock;
const words = text => text.replaceAll("_", " ");
const median = values => values.length ? [...values].sort((a, b) => a - b)[values.length >> 1] : null;

/* head and headline */

function drawHead() {
  document.title = `${told.name} · firn`;
  document.getElementById("head").replaceChildren(make("span", { class: "brand" }, "firn"), make("h1", {}, told.name), make("span", { class: "pill" }),
    make("span", { class: "quiet" }, told.session.reason), make("p", { class: "times quiet" }));
  tickHead();
}

function tickHead() {
  const [state, times] = document.querySelectorAll("#head .pill, #head .times");
  const age = Date.now() / 1000 - now, over = ["ended", "stopped"].includes(told.session.state);
  const stale = age > 180 && !over;
  state.textContent = stale ? "no sign of life" : told.session.state;
  state.className = `pill ${stale ? "stale" : told.session.state}`;
  const last = 60 * told.session.minutes_since_last_file + (over ? 0 : Math.max(0, age));
  times.textContent = over ? `last written ${new Date(1000 * now).toLocaleString()}` : `last movie ${ago(last)} ago · page ${ago(age)} old`;
}

function drawAlarms() {
  const since = {};
  for (const entry of [...told.alarm_log].reverse()) since[entry.alarm] = entry.event === "raised" ? entry.time : null;
  const rows = Object.entries(told.session.alarms).map(([key, sentence]) =>
    make("li", {}, make("b", {}, sentence), make("span", { class: "quiet" }, since[key] ? `since ${clock(since[key])}` : "")));
  return rows.length ? make("ul", { class: "alarms", role: "alert" }, ...rows) : null;
}

function drawTop() {
  const n = told.session.counters, rates = told.session.rates;
  const parts = [["accepted", n.accepted, "good"], ["rejected", n.rejected, "bad"], ["failed", n.failed + n.refused, "fail"],
    ["in work", n.in_progress, "work"], ["queued", n.queued, "accent"], ["arriving", n.waiting, "wait"]];
  const flow = make("div", { class: "flow" }, ...parts.filter(part => part[1]).map(([name, count, tone]) =>
    make("i", { style: `flex: ${count} 0 0; background: var(--${tone})`, title: `${count} ${name}` })));
  const legend = make("div", { class: "legend" }, ...parts.map(([name, count, tone]) =>
    make("span", {}, make("i", { style: `background: var(--${tone})` }), make("b", {}, spoken(count)), ` ${name}`)));
  const headline = make("section", { class: "card" },
    make("p", { class: "headline" }, spoken(n.accepted), " ", make("small", {}, `accepted of ${spoken(n.found)} movies found`)), flow, legend);
  const tile = (value, unit, label) => make("div", { class: "card tile" }, make("b", {}, value, make("small", {}, unit)), make("span", {}, label));
  const map = bestMap(), per = n.ready - n.failed > 0 ? n.particles / (n.accepted || 1) : null;
  return make("div", { class: "top" }, headline, make("section", { class: "tiles" },
    map ? tile(spoken(map.resolution), "Å", `map from ${spoken(map.particles)} particles`) : null,
    tile(spoken(Math.round(rates.found_per_hour)), "/ h", "movies found"), tile(spoken(Math.round(rates.ready_per_hour)), "/ h", "movies finished"),
    tile(spoken(Math.round(rates.accepted_per_hour)), "/ h", "movies accepted"),
    tile(spoken(n.particles), "", `particles, ${spoken(Math.round(rates.particles_per_hour))} / h`),
    tile(spoken(per === null ? null : Math.round(per)), "", "particles per accepted movie"),
    tile(spoken(told.session.backlog), "", "movies in the backlog"), tile(spoken(Math.round(told.session.disk_free_gb)), "GB", "free on the disk")));
}

function bestMap() {
  const maps = told.streams.filter(stream => stream.role === "refine" && stream.rounds.length).map(stream => stream.rounds.at(-1)).filter(round => round.resolution);
  return maps.sort((a, b) => a.resolution - b.resolution)[0];
}

/* the latest exposures */

function drawStrip() {
  if (!told.latest.length) return null;
  const known = new Map(points.map(point => [point[NAME], point]));
  const shots = told.latest.map(entry => {
    const point = known.get(entry.name), verdict = point ? VERDICTS[point[VERDICT]] : "failed";
    const shot = make("button", { class: `shot ${verdict}`, type: "button", title: entry.name, on: { click: () => enlarge(entry, point) } }, drawView(entry));
    shot.append(make("p", {}, make("span", { class: "name" }, "\u200e" + short(entry.name)), make("span", { class: "why" }, summary(entry, point, verdict))));
    return shot;
  });
  return make("section", {}, make("h2", {}, "Latest exposures", make("span", { class: "quiet" }, "newest first; circles are picks")),
    make("div", { class: "strip" }, ...shots));
}

function drawView(entry) {
  const view = make("span", { class: "view", style: `--ratio: ${entry.ratio || 1}` });
  if (!entry.picture) { view.append(make("em", {}, "✕")); return view; }
  view.append(make("img", { src: entry.picture, alt: "" }));
  const circles = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  circles.setAttribute("viewBox", `0 0 1000 ${1000 * (entry.ratio || 1)}`);
  circles.setAttribute("stroke-width", Math.max(3, entry.radius / 6));
  for (const [x, y] of entry.picks) {
    const circle = document.createElementNS(circles.namespaceURI, "circle");
    for (const [name, value] of [["cx", x], ["cy", y], ["r", Math.max(entry.radius, 6)]]) circle.setAttribute(name, value);
    circles.append(circle);
  }
  view.append(circles);
  return view;
}

function summary(entry, point, verdict) {
  if (!point) return "";
  if (verdict !== "accepted") return words(point[REASON] || verdict);
  const fit = valueOf(point, "ctf_fit_resolution"), picks = valueOf(point, "picks");
  return [fit === null ? null : `CTF ${fit.toFixed(1)} Å`, picks === null ? null : `${picks} picks`].filter(Boolean).join(" · ") || verdict;
}

function valueOf(point, column) {
  const place = told.columns.indexOf(column);
  return place < 0 || point[FIRST + place] === undefined ? null : point[FIRST + place];
}

function enlarge(entry, point) {
  const lines = point ? told.attributes.map(a => [a, valueOf(point, a.column)]).filter(([, value]) => value !== null)
    .map(([a, value]) => `${a.label} ${spoken(value * a.factor)} ${a.unit}`.trim()) : [];
  openLarge(entry.picture ? drawView(entry) : null, make("p", {}, make("b", {}, entry.name)), make("p", {}, point ? point[REASON] : ""), make("p", { class: "quiet" }, lines.join(" · ")));
}
function openLarge(...content) {
  const dialog = document.getElementById("large");
  dialog.replaceChildren(...content.filter(Boolean));
  dialog.onclick = () => dialog.close();
  dialog.showModal();
}

function drawFigure(figure) {
  const image = () => make("img", { src: figure.picture, alt: figure.title });
  const shown = image();
  shown.addEventListener("click", () => openLarge(make("figure", { class: "figure" }, image())));
  return make("figure", { class: "figure" }, shown, make("figcaption", { class: "quiet" }, make("b", {}, figure.title), ` ${figure.caption}`));
}

function listed(title, note, rows) {
  return make("section", { class: "card" }, make("h3", {}, title, " ", make("span", { class: "quiet" }, note)), make("table", {}, ...rows.map(cells => make("tr", {}, ...cells.map(cell => make("td", {}, cell))))));
}

/* plots of attributes against time */

function drawPlots() {
  const shown = told.attributes.filter(a => new Set(points.map(point => valueOf(point, a.column)).filter(value => value !== null)).size > 1);
  if (!shown.length) return null;
  const cards = make("div", { class: "plots" });
  const draw = () => cards.replaceChildren(...shown.map(drawAttribute));
  const control = make("span", { class: "switch" }, ...[["all", "whole session"], ["hour", "last hour"]].map(([key, label]) =>
    make("button", { type: "button", "aria-pressed": String((kept.get("window") || "all") === key), on: { click: event => {
      kept.set("window", key);
      for (const button of control.children) button.setAttribute("aria-pressed", String(button === event.target));
      draw();
    } } }, label)));
  draw();
  return make("section", {}, make("h2", {}, "Exposures over time", control,
    make("span", { class: "quiet" }, "accepted ", make("b", { style: "color: var(--accent)" }, "●"), " rejected ", make("b", { style: "color: var(--bad)" }, "●"), " limit ┄ median ─")), cards);
}

function drawAttribute(a) {
  const place = FIRST + told.columns.indexOf(a.column), timed = points.some(point => point[TIME] !== null);
  let shown = points.map((point, number) => ({ x: timed ? point[TIME] : number + 1, y: point[place], point })).filter(one => one.y !== null && one.y !== undefined && one.x !== null);
  for (const one of shown) one.y *= a.factor;
  if (timed && kept.get("window") === "hour") shown = shown.filter(one => one.x > now - HOUR);
  shown.sort((one, other) => one.x - other.x);
  const limits = [a.min, a.max].map(limit => limit === null ? null : limit * a.factor);
  const outside = shown.filter(one => (limits[0] !== null && one.y < limits[0]) || (limits[1] !== null && one.y > limits[1])).length;
  const bounds = limits.map((limit, side) => limit === null ? null : `${side ? "≤" : "≥"} ${spoken(limit)}`).filter(Boolean).join(", ");
  const note = `${bounds ? `${bounds}, ${outside} outside · ` : ""}median ${spoken(median(shown.map(one => one.y)))}`;
  const canvas = make("canvas", { "aria-label": `${a.label}: ${note}`, role: "img" });
  const draw = () => paintPoints(canvas, shown, limits, timed);
  later(canvas, draw);
  canvas.addEventListener("pointermove", event => point(event, canvas, shown, a));
  canvas.addEventListener("pointerleave", () => { document.getElementById("tip").hidden = true; });
  const card = make("section", { class: "card plot" }, make("div", { class: "head" }, make("h3", {}, a.label, make("span", { class: "quiet" }, a.unit)), make("span", { class: "quiet" }, note)), canvas);
  hooks.attribute?.(card, canvas, a, limits);
  return card;
}

const watcher = new ResizeObserver(entries => entries.forEach(entry => entry.target.redraw()));
function later(canvas, draw) {
  canvas.redraw = draw;
  watcher.observe(canvas);
}

function paper(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  return [pen, width, height];
}

function reach(values, limits) {
  const sorted = [...values].sort((a, b) => a - b), at = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  let low = at(0.005), high = at(0.995);
  const size = high - low || Math.abs(high) || 1;
  for (const limit of limits) if (limit !== null && limit > low - size && limit < high + size) { low = Math.min(low, limit); high = Math.max(high, limit); }
  const margin = 0.08 * (high - low || size);
  return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
}

function steps(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}
function timeSteps(low, high, wanted) {
  const step = [60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600].find(size => (high - low) / size <= wanted) || 604800;
  const offset = 60 * new Date(1000 * low).getTimezoneOffset(), found = [];
  for (let time = Math.ceil((low - offset) / step) * step + offset; time <= high; time += step) found.push(time);
  return found;
}

function frame(pen, box, x, y, xSteps, ySteps, xText, yText) {
  pen.fillStyle = colour("quiet");
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  for (const value of ySteps) {
    pen.beginPath();
    pen.moveTo(box.left, y(value));
    pen.lineTo(box.right, y(value));
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(yText(value), box.left - 5, y(value));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const value of xSteps) if (x(value) > box.left + 8 && x(value) < box.right - 8) pen.fillText(xText(value), x(value), box.bottom + 5);
}

function paintPoints(canvas, shown, limits, timed) {
  const [pen, width, height] = paper(canvas), box = { left: 40, right: width - 52, top: 6, bottom: height - 20 };
  if (!shown.length) return;
  const [low, high] = reach(shown.map(one => one.y), limits), first = shown[0].x, last = Math.max(shown.at(-1).x, first + (timed ? 60 : 1));
  const x = value => box.left + (value - first) / (last - first) * (box.right - box.left - 6) + 3;
  const y = value => box.bottom - (Math.min(Math.max(value, low), high) - low) / (high - low) * (box.bottom - box.top);
  canvas.places = { x, y, low, high, box };
  frame(pen, box, x, y, timed ? timeSteps(first, last, width / 90) : steps(first, last, width / 90), steps(low, high, 4), timed ? clockOrDay(last - first) : spoken, value => spoken(value, 5));
  limits.forEach((limit, side) => {
    if (limit === null || limit <= low || limit >= high) return;
    pen.fillStyle = colour("out");
    pen.fillRect(box.left, side ? box.top : y(limit), box.right - box.left, side ? y(limit) - box.top : box.bottom - y(limit));
    line(pen, [[box.left, y(limit)], [box.right, y(limit)]], colour("bad"), 1.2, [5, 4]);
  });
  const size = shown.length > 3000 ? 2 : shown.length > 600 ? 2.6 : shown.length > 100 ? 4 : 6;
  for (const rejected of [false, true]) {
    pen.fillStyle = colour(rejected ? "bad" : "accent");
    pen.globalAlpha = shown.length > 3000 ? 0.45 : 0.75;
    for (const one of shown) if ((one.point[VERDICT] > 0) === rejected) pen.fillRect(x(one.x) - size / 2, y(one.y) - size / 2, size, size);
  }
  pen.globalAlpha = 1;
  if (shown.length > 20) line(pen, runningMedian(shown).map(([a, b]) => [x(a), y(b)]), colour("ink"), 1.3);
  paintHistogram(pen, shown, low, high, y, box, width);
}

function runningMedian(shown) {
  const half = Math.max(10, Math.round(shown.length / 120)), stride = Math.max(1, Math.floor(shown.length / 300)), found = [];
  for (let middle = half; middle < shown.length; middle += stride)
    found.push([shown[middle].x, median(shown.slice(middle - half, middle + half + 1).map(one => one.y))]);
  return found;
}

function paintHistogram(pen, shown, low, high, y, box, width) {
  const bins = 24, counts = [new Array(bins).fill(0), new Array(bins).fill(0)];
  for (const one of shown) counts[one.point[VERDICT] > 0 ? 1 : 0][Math.min(bins - 1, Math.max(0, Math.floor((one.y - low) / (high - low) * bins)))] += 1;
  const most = Math.max(...counts[0].map((count, bin) => count + counts[1][bin])), scale = (width - box.right - 10) / most;
  const tall = (box.bottom - box.top) / bins;
  for (let bin = 0; bin < bins; bin += 1) {
    const top = box.bottom - (bin + 1) * tall, good = counts[0][bin] * scale;
    pen.fillStyle = colour("accent");
    pen.fillRect(box.right + 6, top + 0.5, good, tall - 1);
    pen.fillStyle = colour("bad");
    pen.fillRect(box.right + 6 + good, top + 0.5, counts[1][bin] * scale, tall - 1);
  }
}

function line(pen, places, tone, width, dash = []) {
  pen.save();
  pen.strokeStyle = tone;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  places.forEach(([a, b], number) => number ? pen.lineTo(a, b) : pen.moveTo(a, b));
  pen.stroke();
  pen.restore();
}

function point(event, canvas, shown, a) {
  if (!canvas.places) return;
  const edge = canvas.getBoundingClientRect(), at = [event.clientX - edge.left, event.clientY - edge.top];
  const distance = one => (canvas.places.x(one.x) - at[0]) ** 2 + (canvas.places.y(one.y) - at[1]) ** 2;
  const best = shown.reduce((least, one) => { const far = distance(one); return far < least.far ? { far, one } : least; }, { far: 900, one: null }).one;
  if (!best) { showTip(event); return; }
  const time = best.point[TIME] === null ? "" : `${clock(best.point[TIME])} · `;
  showTip(event, make("b", {}, `${spoken(best.y)} ${a.unit}`), make("div", {}, `${time}${VERDICTS[best.point[VERDICT]]}${best.point[REASON] ? `: ${words(best.point[REASON])}` : ""}`), make("div", {}, best.point[NAME]));
}

/* beside the pointer; gone without content */
function showTip(event, ...content) {
  const tip = document.getElementById("tip");
  tip.hidden = !content.length;
  tip.replaceChildren(...content);
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 10)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}
