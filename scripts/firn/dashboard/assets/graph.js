/* the graph of jobs: time runs downwards, a job below all that it was made from, lines from there */

const BOX = { wide: 158, tall: 44, gapX: 30, gapY: 26, margin: 4 };
const leftOf = job => BOX.margin + job.column * (BOX.wide + BOX.gapX), topOf = job => BOX.margin + job.row * (BOX.tall + BOX.gapY);

function drawGraph(jobs, chosen, choose) {
  const placed = new Map(jobs.map(job => [job.name, job])), taken = new Map(jobs.map(job => [`${job.row} ${job.column}`, job]));
  const wide = Math.max(...jobs.map(leftOf)) + BOX.wide + BOX.gapX, tall = Math.max(...jobs.map(topOf)) + BOX.tall + BOX.margin;
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["width", wide], ["height", tall], ["viewBox", `0 0 ${wide} ${tall}`], ["aria-hidden", "true"]]) lines.setAttribute(name, value);
  for (const job of jobs) for (const up of job.upstream) {
    const path = document.createElementNS(lines.namespaceURI, "path");
    path.setAttribute("d", curve(placed.get(up), job, taken));
    path.setAttribute("class", [up, job.name].includes(chosen) ? "edge chosen" : "edge");
    lines.append(path);
  }
  const nodes = jobs.map(job => {
    const node = make("button", { type: "button", class: `node ${STATE_CLASSES[job.state]}`, "aria-pressed": String(job.name === chosen), "aria-label": `${job.name}, ${job.type || "job"}, ${job.state}${job.upstream.length ? `, made from ${job.upstream.join(", ")}` : ""}`,
      title: `${job.name} · ${job.type} · ${job.state}`, on: { click: () => choose(job.name) } }, make("b", {}, job.name), make("span", {}, words(job.type)), job.warnings.length ? make("i", { class: "warned", title: `${job.warnings.length} warnings` }) : null);
    node.style.cssText = `left: ${leftOf(job)}px; top: ${topOf(job)}px; width: ${BOX.wide}px; height: ${BOX.tall}px`;
    return node;
  });
  const sheet = make("div", { class: "sheet" }, lines, ...nodes);
  sheet.style.cssText = `width: ${wide}px; height: ${tall}px`;
  return make("div", { class: "graph scrolls", tabindex: "0", role: "group", "aria-label": "graph of the jobs" }, sheet);
}

/* straight down where nothing is in the way; else through the gap at the right of where it starts */
function curve(start, end, taken) {
  const [x2, y2] = [leftOf(end) + BOX.wide / 2, topOf(end)], y1 = topOf(start) + BOX.tall;
  const blocked = start.column === end.column ? Array.from({ length: Math.max(0, end.row - start.row - 1) }, (_, step) => taken.has(`${start.row + 1 + step} ${start.column}`)).some(Boolean) : end.row - start.row > 1;
  if (!blocked) {
    const x1 = leftOf(start) + BOX.wide / 2, middle = (y1 + y2) / 2;
    return `M${x1} ${y1} C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
  }
  const side = leftOf(start) + BOX.wide, bend = side + Math.min(BOX.gapX - 6, 8 + 3 * (end.row - start.row)), out = `M${side} ${y1 - 18} C${bend} ${y1 - 18} ${bend} ${y1 - 18} ${bend} ${y1 - 4}`;
  if (start.column === end.column) return `${out} V${y2 + 6} C${bend} ${y2 + 18} ${bend} ${y2 + 18} ${side} ${y2 + 18}`;
  return `${out} V${y2 - 20} C${bend} ${y2 - 6} ${x2} ${y2 - 20} ${x2} ${y2}`;
}
