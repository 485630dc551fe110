/* what differs between two jobs, or between the jobs of the same name of two runs */

const DROPPED = new Set(["revision", "seed"]);
const saidValue = value => value === undefined ? "–" : value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value);

/* [name, value of one, value of the other] of settings, then of numbers, that are not the same */
function differences(one, other) {
  const pick = (job, from) => job ? job[from] : {}, rows = [];
  for (const [from, said] of [["settings", saidValue], ["metrics", metric => metric === undefined ? "–" : saidMetric(metric)]]) {
    const [a, b] = [pick(one, from), pick(other, from)];
    for (const name of new Set([...Object.keys(a), ...Object.keys(b)]))
      if (!DROPPED.has(name) && said(a[name]) !== said(b[name])) rows.push([from, words(name), said(a[name]), said(b[name])]);
  }
  return rows;
}
const saidMetric = ({ value, unit }) => `${typeof value === "number" ? spoken(value, 4) : value ?? "–"} ${unit}`.trim();

function drawDifferences(title, names, rows) {
  if (!rows.length) return make("p", { class: "quiet" }, `${title}: settings and numbers are the same.`);
  const parts = [["settings", "Settings"], ["metrics", "Numbers"]].map(([from, heading]) => [heading, rows.filter(row => row[0] === from)]).filter(([, found]) => found.length);
  return make("div", { class: "differences scrolls" }, ...parts.map(([heading, found]) => make("table", {}, make("caption", {}, `${heading} that differ`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), ...names.map(name => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...found.map(([, name, a, b]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, a), make("td", {}, b)))))));
}
