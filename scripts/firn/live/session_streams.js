/* pace, stage times, rounds of the streams, lists */

function drawPace() {
  const found = points.map(point => point[TIME]).filter(Boolean).sort((a, b) => a - b);
  const ready = points.map(point => point[READY]).filter(Boolean).sort((a, b) => a - b);
  if (found.length < 2) return null;
  const canvas = make("canvas", { role: "img", "aria-label": "movies found and finished against time" });
  const good = points.filter(point => point[VERDICT] === 0).map(point => point[READY]).filter(Boolean).sort((a, b) => a - b);
  later(canvas, () => paintPace(canvas, [[found, told.session.counters.found, "wait"], [ready, ready.length, "work"], [good, good.length, "good"]]));
  const waits = points.map(point => point[READY] - point[TIME]).filter(value => value > 0);
  return make("section", { class: "card plot tall" }, make("div", { class: "head" }, make("h3", {}, "Movies over time"),
    make("span", { class: "quiet" }, `from found to finished: ${ago(median(waits.slice(-100)))} (median of the last 100)`)), canvas,
    legend([["found", "wait"], ["finished", "work"], ["accepted", "good"]]));
}

function legend(entries) {
  return make("div", { class: "legend quiet" }, ...entries.map(([name, tone]) => make("span", {}, make("i", { style: `background: var(--${tone})` }), name)));
}

function paintPace(canvas, series) {
  const [pen, width, height] = paper(canvas), box = { left: 44, right: width - 8, top: 6, bottom: height - 20 };
  const first = series[0][0][0], last = Math.max(first + 60, now), most = Math.max(...series.map(([, count]) => count)) * 1.05;
  const x = value => box.left + (value - first) / (last - first) * (box.right - box.left), y = value => box.bottom - value / most * (box.bottom - box.top);
  frame(pen, box, x, y, timeSteps(first, last, width / 90), steps(0, most, 5).filter(Number.isInteger), clockOrDay(last - first), value => spoken(value));
  for (const [times, count, tone] of series) {
    const stride = Math.max(1, Math.floor(times.length / 600)), places = [[x(first), y(0)]];
    for (let number = 0; number < times.length; number += stride) places.push([x(times[number]), y(number)], [x(times[number]), y(number + 1)]);
    if (times.length) places.push([x(times.at(-1)), y(times.length)]);
    places.push([x(last), y(count)]);
    line(pen, places, colour(tone), 2);
  }
}

function drawStages() {
  const stages = told.columns.filter(name => name.startsWith("seconds_"));
  const rows = stages.map(name => [words(name.slice(8)), median(points.slice(-200).map(point => valueOf(point, name)).filter(value => value !== null))]).filter(([, value]) => value !== null);
  if (!rows.length) return null;
  const most = Math.max(...rows.map(([, value]) => value)), sum = rows.reduce((total, [, value]) => total + value, 0);
  return make("section", { class: "card" }, make("div", { class: "head" }, make("h3", {}, "Stage times"), make("p", { class: "quiet" }, `seconds per exposure, median of the last 200; ${spoken(sum)} s in all`)),
    make("div", { class: "bars" }, ...rows.flatMap(([name, value]) => [make("span", {}, name), make("i", { style: `width: ${100 * value / most}%` }), make("span", {}, `${spoken(value)} s`)])));
}

function drawStreams() {
  const cards = told.streams.map(drawStream);
  return cards.length ? make("section", {}, make("h2", {}, "Classes and maps so far"), make("div", { class: "streams" }, ...cards)) : null;
}

function drawFits() {
  if (!told.fits.length) return null;
  return make("section", {}, make("h2", {}, "Latest motion and CTF"), make("div", { class: "plots wide" }, ...told.fits.map(fit => make("div", { class: "card" }, drawFigure(fit)))));
}

const KINDS = { classify: "2D classes", select: "Selected 2D classes", initial: "First map", refine: "Map" };
function drawStream(stream) {
  const last = stream.rounds.at(-1), better = stream.role === "refine" ? "" : " best class";
  const heading = [`round ${spoken(last.round)}`, last.particles ? `${spoken(last.particles)} particles` : null, last.kept ? `${spoken(last.kept)} selected` : null,
    last.resolution ? `${last.resolution.toFixed(2)} Å${better}` : null, last.finished ? clock(last.finished) : null];
  const card = make("article", { class: `card stream ${stream.role === "refine" ? "wide" : ""}` }, make("div", { class: "title" }, make("h3", {}, KINDS[stream.role] + (stream.name === KINDS[stream.role].toLowerCase() ? "" : ` · ${words(stream.name)}`)), make("p", { class: "quiet" }, heading.filter(Boolean).join(" · "))));
  hooks.stream?.(card.querySelector(".title"), stream);
  card.append(...stream.figures.map(drawFigure));
  if (stream.role === "refine" && stream.rounds.filter(round => round.resolution && round.particles).length > 1) card.append(drawGrowth(stream));
  if (stream.forecast) card.append(drawForecast(stream));
  return card;
}

function drawGrowth(stream) {
  const good = stream.rounds.filter(round => round.resolution && round.particles);
  const number = value => spoken(value);
  return make("div", {}, chart("Resolution against particles", "Å", good.map(round => [round.particles, round.resolution]), null, number, number),
    chart("Resolution against time", "Å", good.map(round => [round.finished, round.resolution]), null, clock, number, timeSteps));
}

function drawForecast(stream) {
  const future = stream.forecast, used = stream.rounds.filter(round => round.resolution && round.particles).map(round => [Math.log(round.particles), round.resolution ** -2]);
  const plot = chart("B-factor plot", future.b_factor ? `B = ${spoken(future.b_factor)} Å²` : "no slope", used, x => future.slope * x + future.offset,
    value => spoken(Number(Math.exp(value).toPrecision(2))), value => value > 0 ? `${spoken(value ** -0.5)} Å` : "");
  const verdicts = { collect: "Collect more", stop: "Enough particles", change: "Something else limits the map" };
  const rows = future.steps.map(step => make("tr", {}, make("td", {}, `${step.gain} Å better`), make("td", {}, step.more_particles === null ? "out of reach" : `+ ${spoken(Number(step.more_particles.toPrecision(2)))} particles`), make("td", {}, step.more_particles === null ? "" : span(step.hours))));
  plot.append(make("div", { class: `verdict ${future.verdict}` }, make("b", {}, verdicts[future.verdict]), future.reason, make("table", {}, ...rows)));
  return plot;
}

function chart(title, note, shown, fit, xText, yText, xSteps = steps) {
  const canvas = make("canvas", { role: "img", "aria-label": title });
  later(canvas, () => {
    const [pen, width, height] = paper(canvas), box = { left: 52, right: width - 12, top: 8, bottom: height - 20 };
    const xs = shown.map(one => one[0]), ys = shown.map(one => one[1]), wide = Math.max(...xs) - Math.min(...xs) || 1, tall = Math.max(...ys) - Math.min(...ys) || 1;
    const low = [Math.min(...xs) - 0.06 * wide, Math.min(...ys) - 0.15 * tall], high = [Math.max(...xs) + 0.06 * wide, Math.max(...ys) + 0.15 * tall];
    const x = value => box.left + (value - low[0]) / (high[0] - low[0]) * (box.right - box.left), y = value => box.bottom - (value - low[1]) / (high[1] - low[1]) * (box.bottom - box.top);
    frame(pen, box, x, y, xSteps(low[0], high[0], width / 90), steps(low[1], high[1], 4), xText, yText);
    const places = shown.map(([a, b]) => [x(a), y(b)]);
    line(pen, fit ? [low[0], high[0]].map(value => [x(value), y(fit(value))]) : places, colour(fit ? "bad" : "work"), 1.6, fit ? [6, 4] : []);
    pen.fillStyle = colour("accent");
    for (const [a, b] of places) { pen.beginPath(); pen.arc(a, b, 4, 0, 7); pen.fill(); }
  });
  return make("div", { class: "plot tall" }, make("div", { class: "head" }, make("h3", {}, title), make("span", { class: "quiet" }, note)), canvas);
}

function drawLists() {
  const cards = [drawFailures(), drawRejections(), drawLog("Alarms so far", told.alarm_log, entry => `${entry.event === "cleared" ? "over: " : ""}${entry.sentence}`),
    drawLog("Decisions", told.decision_log, entry => `${words(entry.what)}: ${change(entry.old, entry.new)}${entry.reason ? ` (${entry.reason})` : ""}`)];
  return make("div", { class: "lower" }, ...cards.filter(Boolean));
}

function change(before, after) {
  if (!before || !after || typeof before !== "object" || typeof after !== "object" || Array.isArray(after)) return `${plain(before)} → ${plain(after)}`;
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(key => plain(before[key]) !== plain(after[key]));
  return keys.map(key => `${words(key)} ${change(before[key], after[key])}`).join(", ");
}
function plain(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value !== "object") return String(value);
  return Object.entries(value).filter(([, one]) => one !== null).map(([key, one]) => Array.isArray(value) ? plain(one) : `${words(key)} ${plain(one)}`).join(", ") || "none";
}

function drawFailures() {
  const entry = (name, reason) => make("div", {}, make("div", { class: "quiet" }, name), reason);
  const codes = Object.entries(told.session.failures);
  if (!codes.length) return null;
  const failed = points.filter(point => point[VERDICT] === 2).slice(-8).reverse().map(point => [entry(point[NAME], point[REASON])]);
  const refused = told.session.last_refused.slice(0, 8).map(one => [entry(one.file.split("/").at(-1), one.reason.replace(`${one.file}: `, ""))]);
  return listed("Failed", codes.map(([code, count]) => `${code} ${count}`).join(" · "), [...refused, ...failed]);
}

function drawRejections() {
  const counts = {};
  for (const point of points) if (point[VERDICT] === 1) {
    const cause = words(point[REASON].replace(/ -?[\d.e+-]+ is (above|below) /, " $1 "));
    counts[cause] = (counts[cause] || 0) + 1;
  }
  const rows = Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, 10).map(([cause, count]) => [cause, spoken(count)]);
  return rows.length ? listed("Rejected", "by reason", rows) : null;
}

function drawLog(title, entries, text) {
  return entries.length ? listed(title, "newest first", entries.map(entry => [clock(entry.time), text(entry)])) : null;
}

/* each part is drawn anew only when what it shows has changed, so that nothing moves under a reader's eyes */

const judged = () => told.latest.map(entry => points.findLast(point => point[NAME] === entry.name));
const PARTS = [
  [drawAlarms, () => [told.session.alarms, told.alarm_log]],
  [drawTop, () => [told.session, told.streams.map(stream => stream.rounds)]],
  [drawStrip, () => [told.latest, judged()]],
  [drawStreams, () => told.streams],
  [drawPlots, () => [told.attributes, points.length, verdicts()]],
  [drawFits, () => told.fits],
  [drawPaceAndStages, () => [points.length, verdicts(), told.session.counters.found]],
  [drawLists, () => [verdicts(), told.session.failures, told.session.last_refused, told.alarm_log, told.decision_log]],
];
const verdicts = () => points.map(point => point[VERDICT]).join("");

function drawPaceAndStages() {
  const pace = [drawPace(), drawStages()].filter(Boolean);
  return pace.length ? make("section", {}, make("h2", {}, "Pace"), make("div", { class: "plots" }, ...pace)) : null;
}

const drawn = [];
function drawAll(anew = true, first = PARTS.length) {
  const page = document.getElementById("page");
  if (page.children.length !== PARTS.length || !drawn.length) page.replaceChildren(...PARTS.map(() => make("div", { class: "part" })));
  PARTS.slice(0, first).forEach(([draw, shown], number) => {
    const content = JSON.stringify(shown());
    if (!anew && drawn[number] === content) return;
    drawn[number] = content;
    const aside = page.children[number].querySelector(".strip")?.scrollLeft || 0;
    page.children[number].replaceChildren(...[draw()].filter(Boolean));
    if (aside) page.children[number].querySelector(".strip").scrollLeft = aside;
  });
}
