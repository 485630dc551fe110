/* every job of the run: state, settings, numbers, figures, logs */

const cards = new Map();
const told_of = { done: "done", "in parts": "parts", "not finished": "not" };

async function listJobs() {
  const { jobs, report } = await ask("/api/jobs");
  if (!jobs.length) { nothing("There are no results in this run folder yet."); return; }
  const top = make("div", { class: "bar" }, make("span", { class: "quiet grow" }, `${jobs.filter(job => job.state === "done").length} of ${jobs.length} jobs are done`),
    report ? make("a", { class: "button", href: fileAddress(report), target: "_blank", rel: "noopener" }, "Report of the run") : null);
  const wanted = jobs.map(job => {
    const text = JSON.stringify(job), before = cards.get(job.name);
    if (before?.text === text) return before.card;
    const card = drawJob(job);
    card.open = before ? before.card.open : false;
    cards.set(job.name, { text, card });
    return card;
  });
  const present = [...page().children].slice(1);
  if (present.length === wanted.length && present.every((card, place) => card === wanted[place]) && !report === !page().querySelector("a.button")) return;
  page().replaceChildren(top, ...wanted);
}

function drawJob(job) {
  const parts = [job.batches ? `${spoken(job.batches)} batch${job.batches > 1 ? "es" : ""}` : null, job.rounds ? `${job.rounds} round${job.rounds > 1 ? "s" : ""}` : null, job.failed ? `${job.failed} failed` : null,
    job.seconds === null ? null : job.seconds < 90 ? `${spoken(job.seconds)} s` : span(job.seconds / 3600), job.time ? new Date(1000 * job.time).toLocaleString() : null];
  const card = make("details", { class: "card job" }, make("summary", {}, make("h3", {}, job.name), make("span", { class: "quiet" }, job.type), make("span", { class: `pill ${told_of[job.state]}` }, job.state), make("span", { class: "quiet" }, parts.filter(Boolean).join(" · "))));
  card.addEventListener("toggle", () => { if (card.open && !card.querySelector(".body")) card.append(drawBody(job)); });
  return card;
}

function drawBody(job) {
  const metrics = Object.entries(job.metrics).map(([name, { value, unit }]) => [words(name), `${typeof value === "number" ? spoken(value, 4) : value ?? "–"} ${unit}`.trim()]);
  const settings = Object.entries(job.settings).map(([name, value]) => [words(name), typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "–")]);
  const links = job.logs.map(path => make("a", { href: fileAddress(path), target: "_blank", rel: "noopener" }, path));
  return make("div", { class: "body" },
    job.warnings.length ? listed("Warnings", "", job.warnings.map(text => [text])) : null, metrics.length ? listed("Numbers", "", metrics) : null, settings.length ? listed("Settings", "", settings) : null,
    listed("Files", "", [[job.folder], ...links.map(link => [link])]),
    make("div", { class: "gallery" }, ...job.figures.map(figure => drawFigure({ ...figure, picture: fileAddress(figure.file) }))));
}

again(listJobs, 8);
