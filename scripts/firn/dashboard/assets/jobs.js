/* every job of the run: the graph, and of each its state, settings, numbers, figures and logs; what differs between two of them */

const STATE_CLASSES = { done: "done", "at work": "work", "in parts": "parts", "not finished": "not" };
const cards = new Map();
let all = [], drawnJobs = "", chosenJob = decodeURIComponent(location.hash.slice(1));

const toolbar = make("div", { class: "bar" }), sheetHome = make("section", { class: "card graph-card", "aria-label": "graph" }), list = make("div", {});
const compared = [0, 1].map(number => make("select", { "aria-label": number ? "with the job" : "compare the job", on: { change: compare } }));
const outcome = make("div", {});
const comparison = make("details", { class: "card compare" }, make("summary", {}, make("h3", {}, "Compare two jobs")), make("div", { class: "bar" }, compared[0], "with", compared[1]), outcome);

async function listJobs() {
  const found = await read("/api/jobs");
  if (!found) return;
  all = found.jobs;
  if (!all.length) { nothing("There are no results in this run folder yet."); return; }
  if (!page().contains(list)) page().replaceChildren(toolbar, make("div", { class: "plan" }, sheetHome, make("div", {}, comparison, list)));
  const counts = Object.keys(STATE_CLASSES).map(state => [state, all.filter(job => job.state === state).length]).filter(([, count]) => count);
  toolbar.replaceChildren(make("span", { class: "legend grow" }, ...counts.map(([state, count]) => make("span", { class: `pill ${STATE_CLASSES[state]}` }, `${count} ${state}`))),
    ...found.report ? [make("a", { class: "button", href: fileAddress(found.report), target: "_blank", rel: "noopener" }, "Report of the run")] : []);
  const graph = JSON.stringify(all.map(job => [job.name, job.state, job.upstream, job.warnings.length]));
  if (graph !== drawnJobs) { drawnJobs = graph; redrawGraph(); }
  fillComparison();
  const wanted = all.map(cardOf);
  if (list.children.length !== wanted.length || wanted.some((card, place) => card !== list.children[place])) list.replaceChildren(...wanted);
  if (chosenJob && !listJobs.opened) { listJobs.opened = true; if (cards.has(chosenJob)) choose(chosenJob); }
}

function redrawGraph() {
  const before = sheetHome.querySelector(".graph"), aside = [before?.scrollLeft || 0, before?.scrollTop || 0];
  sheetHome.replaceChildren(drawGraph(all, chosenJob, choose));
  [sheetHome.firstChild.scrollLeft, sheetHome.firstChild.scrollTop] = aside;
}

function choose(name) {
  chosenJob = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  redrawGraph();
  const { card } = cards.get(name);
  card.open = true;
  card.scrollIntoView({ block: "start" });
  card.querySelector("summary").focus({ preventScroll: true });
}

function cardOf(job) {
  const text = JSON.stringify(job), before = cards.get(job.name);
  if (before?.text === text) return before.card;
  const card = drawJob(job);
  card.open = before ? before.card.open : false;
  if (card.open) card.append(drawBody(job));
  cards.set(job.name, { text, card });
  return card;
}

function drawJob(job) {
  const parts = [job.progress || null, job.batches ? `${spoken(job.batches)} batch${job.batches > 1 ? "es" : ""}` : null, job.rounds ? `${job.rounds} round${job.rounds > 1 ? "s" : ""}` : null, job.failed ? `${job.failed} failed` : null,
    job.seconds === null ? null : job.seconds < 90 ? `${spoken(job.seconds)} s` : span(job.seconds / 3600), job.time ? new Date(1000 * job.time).toLocaleString() : null];
  const card = make("details", { class: "card job" }, make("summary", {}, make("h3", {}, job.name), make("span", { class: "quiet" }, job.type), make("span", { class: `pill ${STATE_CLASSES[job.state]}` }, job.state), make("span", { class: "quiet" }, parts.filter(Boolean).join(" · "))));
  card.addEventListener("toggle", () => { if (card.open && !card.querySelector(".body")) card.append(drawBody(job)); });
  return card;
}

function drawBody(job) {
  const metrics = Object.entries(job.metrics).map(([name, metric]) => [words(name), saidMetric(metric)]);
  const settings = Object.entries(job.settings).map(([name, value]) => [words(name), saidValue(value)]);
  const links = job.logs.map(path => make("a", { href: fileAddress(path), target: "_blank", rel: "noopener" }, path));
  const log = make("pre", { class: "log", tabindex: "0", "aria-label": `log of ${job.name}` });
  const logCard = make("section", { class: "card wide", hidden: "" }, make("h3", {}, "Log ", make("span", { class: "quiet" }, "its end")), log);
  ask(`/api/log?of=${encodeURIComponent(job.name)}`).then(({ tail }) => {
    log.textContent = tail;
    logCard.hidden = !tail;
    log.scrollTop = log.scrollHeight;
  }).catch(fault => notice(fault.message, true));
  const others = all.filter(other => other.name !== job.name && other.type === job.type);
  const compareWith = others.length ? make("button", { type: "button", class: "button", on: { click: () => startComparison(job.name, others.at(-1).name) } }, "Compare") : null;
  return make("div", { class: "body" },
    job.warnings.length ? listed("Warnings", "", job.warnings.map(text => [text])) : null, metrics.length ? listed("Numbers", "", metrics) : null, settings.length ? listed("Settings", "", settings) : null,
    listed("Files", "", [[job.folder], ...links.map(link => [link]), ...compareWith ? [[compareWith]] : []]), logCard,
    make("div", { class: "gallery" }, ...job.figures.map(figure => drawFigure({ ...figure, picture: fileAddress(figure.file) }))));
}

function fillComparison() {
  const names = all.map(job => job.name);
  comparison.hidden = names.length < 2;
  if (JSON.stringify([...compared[0].options].map(option => option.value)) === JSON.stringify(names)) return;
  const before = compared.map(select => select.value);
  compared.forEach((select, number) => {
    select.replaceChildren(...all.map(job => make("option", { value: job.name }, `${job.name} (${words(job.type)})`)));
    select.value = names.includes(before[number]) ? before[number] : names[number];
  });
  compare();
}

function startComparison(one, other) {
  [compared[0].value, compared[1].value] = [one, other];
  comparison.open = true;
  compare();
  comparison.scrollIntoView({ block: "start" });
}

function compare() {
  const chosen = compared.map(select => all.find(job => job.name === select.value));
  outcome.replaceChildren(drawDifferences(chosen.map(job => job.name).join(" and "), chosen.map(job => job.name), differences(...chosen)));
}

again(listJobs, 8);
