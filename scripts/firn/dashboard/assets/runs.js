/* the runs of a folder: state, resolution, particles, age; and what differs between two of them */

const STATE_TONES = { running: "running", paused: "paused", ending: "ending", "no sign of life": "stale", processed: "done", ended: "done" };
const rowsOfRuns = make("tbody"), answer = make("div", {});
const pair = [0, 1].map(number => make("select", { "aria-label": number ? "with the run" : "compare the run", on: { change: () => compareRuns() } }));
const contrast = make("details", { class: "card compare", on: { toggle: () => { if (contrast.open) compareRuns(); } } }, make("summary", {}, make("h3", {}, "Compare two runs")), make("div", { class: "bar" }, pair[0], "with", pair[1]), answer);
const table = make("div", { class: "card scrolls runs-table" }, make("table", {}, make("thead", {}, make("tr", {}, ...["Run", "State", "Resolution", "Particles", "Movies accepted", "Jobs done", "Last change"].map(name => make("th", { scope: "col" }, name)))), rowsOfRuns));
const runAddress = name => `/run/${encodeURIComponent(name)}/`;
let shownRuns = "", comparing = 0;

async function listRuns() {
  const runs = await ask("/api/runs");
  if (!runs.length) { nothing("There are no runs in this folder any more."); return; }
  if (!page().contains(table)) page().replaceChildren(table, contrast);
  const now = Date.now() / 1000;
  rowsOfRuns.replaceChildren(...runs.map(run => drawRun(run, now)));
  const names = runs.map(run => run.name).sort();
  contrast.hidden = names.length < 2;
  if (JSON.stringify(names) === shownRuns) return;
  shownRuns = JSON.stringify(names);
  pair.forEach((select, number) => {
    const before = select.value;
    select.replaceChildren(...names.map(name => make("option", { value: name }, name)));
    select.value = names.includes(before) ? before : names[Math.min(number, names.length - 1)];
  });
}

function drawRun(run, now) {
  const alarms = run.alarms.length ? make("span", { class: "fault", title: run.alarms.join("\n") }, ` ${run.alarms.length} alarm${run.alarms.length > 1 ? "s" : ""}`) : null;
  return make("tr", {}, make("th", { scope: "row" }, make("a", { href: `${runAddress(run.name)}${run.live ? "" : "jobs"}` }, run.name)), make("td", {}, make("span", { class: `pill ${STATE_TONES[run.state] || ""}` }, run.state), alarms),
    make("td", {}, run.resolution ? `${run.resolution.toFixed(2)} Å` : "–"), make("td", {}, spoken(run.particles)), make("td", {}, run.live ? `${spoken(run.accepted)} of ${spoken(run.found)}` : "–"), make("td", {}, spoken(run.jobs)),
    make("td", { title: new Date(1000 * run.time).toLocaleString() }, now - run.time > 48 * HOUR ? `${span((now - run.time) / HOUR)} ago` : `${ago(now - run.time)} ago`));
}

async function compareRuns() {
  const names = pair.map(select => select.value), asked = ++comparing;
  answer.replaceChildren(make("p", { class: "quiet" }, "Reading both runs."));
  try {
    const runs = await Promise.all(names.map(name => ask(`${runAddress(name)}api/jobs`)));
    if (asked !== comparing) return;
    const [one, other] = runs.map(run => new Map(run.jobs.map(job => [job.name, job]))), both = [...one.keys()].filter(name => other.has(name));
    const changed = both.map(name => [name, differences(one.get(name), other.get(name))]).filter(([, rows]) => rows.length);
    const alone = [[names[0], [...one.keys()].filter(name => !other.has(name))], [names[1], [...other.keys()].filter(name => !one.has(name))]].filter(([, only]) => only.length);
    answer.replaceChildren(make("p", { class: "quiet" }, `${changed.length} of ${both.length} jobs that both have differ.${alone.map(([name, only]) => ` Only ${name} has ${only.join(", ")}.`).join("")}`),
      ...changed.map(([name, rows]) => make("section", { class: "contrasted" }, make("h3", {}, name), drawDifferences(name, names, rows))));
  } catch (fault) {
    notice(fault.message, true);
  }
}

again(listRuns, 5);
