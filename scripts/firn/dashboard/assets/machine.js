/* the machine: devices and who holds them, disks, the cache of particle images, and what the results take by kind */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
function bytes(value) {
  if (value === null || value === undefined) return "–";
  const power = Math.min(UNITS.length - 1, value >= 1000 ? Math.floor(Math.log10(value) / 3) : 0);
  return `${spoken(value / 1000 ** power)} ${UNITS[power]}`;
}

/* a bar of which a part is taken; `mark` is a limit on it */
function bar(label, used, total, text, mark = null) {
  const share = total ? Math.min(used / total, 1) : 0, tone = share > 0.95 ? "fail" : share > 0.85 ? "bad" : "work";
  const meter = make("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)), "aria-valuetext": text }, make("i", { style: `width: ${100 * share}%; background: var(--${tone})` }));
  if (mark !== null && total) meter.append(make("em", { style: `left: ${Math.min(100 * mark / total, 100)}%` }));
  return make("div", { class: "measured" }, make("div", { class: "head" }, make("span", {}, label), make("span", { class: "quiet" }, text)), meter);
}

function lanesOf(lanes, number) {
  return lanes ? Object.entries(lanes).filter(([, numbers]) => numbers.includes(number)).map(([lane]) => lane) : [];
}

function drawDevice(device, told) {
  const held = told.leases[device.number], lanes = lanesOf(told.lanes, device.number);
  const pills = make("p", { class: "legend" }, ...lanes.map(lane => make("span", { class: `pill ${held?.lane === lane ? "done" : ""}` }, lane)));
  const by = held ? `leased to ${held.host === told.host ? "" : `${held.host} `}process ${held.pid}${held.lane ? `, lane ${held.lane}` : ""}${held.run ? (held.run === told.here ? ", this run" : `, ${held.run}`) : ""}` : device.name ? "free" : "named in lanes.yaml, not seen on this machine";
  return make("article", { class: "card device" }, make("div", { class: "head" }, make("h3", {}, `GPU ${device.number}`, make("span", { class: "quiet" }, ` ${device.name || ""}`)), make("span", { class: `pill ${held ? "work" : ""}` }, held ? "leased" : device.name ? "free" : "not seen")),
    make("p", { class: "quiet" }, by), pills, device.total ? bar("computing", device.busy ?? 0, 100, device.busy === null ? "–" : `${device.busy} %`) : null, device.total ? bar("memory", device.used, device.total, `${bytes(device.used)} of ${bytes(device.total)}`) : null);
}

function drawDevices(told) {
  const known = new Set(told.devices.map(device => device.number)), named = Object.values(told.lanes || {}).flat();
  const others = [...new Set([...Object.keys(told.leases), ...named])].filter(number => !known.has(number)).sort().map(number => ({ number }));
  const devices = [...told.devices, ...others];
  const cpu = make("article", { class: "card device" }, make("div", { class: "head" }, make("h3", {}, told.host, make("span", { class: "quiet" }, ` ${told.cores} cores`))),
    make("p", { class: "quiet" }, devices.length ? "jobs without a lane compute here" : "all lanes compute here: there is no GPU on this machine"), bar("load", told.load, told.cores, `${spoken(told.load)} of ${told.cores}`), bar("memory", told.memory.total - told.memory.free, told.memory.total, `${bytes(told.memory.free)} free of ${bytes(told.memory.total)}`));
  const note = told.fault || (told.lanes ? "lanes as lanes.yaml gives them now" : "every lane may take every device; lanes.yaml in the run folder would say otherwise");
  return make("section", {}, make("h2", {}, "Devices and lanes", make("span", { class: told.fault ? "fault" : "quiet" }, note)), make("div", { class: "plots" }, ...devices.map(device => drawDevice(device, told)), cpu));
}

function drawDisks(told) {
  const cache = told.cache, disks = told.disks.map(disk => bar(disk.what, disk.total - disk.free, disk.total, `${bytes(disk.free)} free of ${bytes(disk.total)}`));
  const inCache = cache === null ? [make("p", { class: "quiet" }, "FIRN_CACHE names no folder here: particle images are read where they lie.")] : cache.fault ? [make("p", { class: "fault" }, cache.fault)] : [
    bar(cache.quota ? "of the quota" : "of what the disk can give", cache.bytes, cache.quota || Math.max(cache.bytes + cache.free - cache.reserve, cache.bytes), `${bytes(cache.bytes)} in ${spoken(cache.stacks)} stacks${cache.quota ? `, quota ${bytes(cache.quota)}` : ""}`),
    bar("its disk", cache.total - cache.free, cache.total, `${bytes(cache.free)} free of ${bytes(cache.total)}, ${bytes(cache.reserve)} stay free`, cache.total - cache.reserve),
    make("p", { class: "quiet" }, `${cache.folder}${cache.oldest ? ` · least recently used ${ago(Date.now() / 1000 - cache.oldest)} ago` : ""} · untouched copies go after ${spoken(cache.days)} days`)];
  return make("section", {}, make("h2", {}, "Disks and cache"), make("div", { class: "plots" }, make("article", { class: "card" }, make("h3", {}, "Disks"), ...disks), make("article", { class: "card" }, make("h3", {}, "Cache of particle images"), ...inCache)));
}

function drawSizes(jobs) {
  if (!jobs) return make("section", {}, make("h2", {}, "Results by kind", make("span", { class: "quiet" }, "being counted")));
  const kinds = new Map();
  for (const job of jobs) {
    const sum = kinds.get(job.type) || { bytes: 0, files: 0, names: [] };
    kinds.set(job.type, { bytes: sum.bytes + job.bytes, files: sum.files + job.files, names: [...sum.names, job.name] });
  }
  const rows = [...kinds].sort((a, b) => b[1].bytes - a[1].bytes), most = rows.length ? rows[0][1].bytes || 1 : 1, total = rows.reduce((sum, [, { bytes: one }]) => sum + one, 0);
  const bars = rows.flatMap(([kind, sum]) => [make("span", { title: sum.names.join(", ") }, words(kind)), make("i", { style: `width: ${100 * sum.bytes / most}%` }), make("span", {}, `${bytes(sum.bytes)} · ${spoken(sum.files)} file${sum.files === 1 ? "" : "s"}`)]);
  return make("section", {}, make("h2", {}, "Results by kind", make("span", { class: "quiet" }, `${bytes(total)} in all; counted anew every five minutes`)), rows.length ? make("div", { class: "card" }, make("div", { class: "bars" }, ...bars)) : make("p", { class: "quiet" }, "There are no results yet."));
}

let shownMachine = "";
async function lookAtMachine() {
  const [told, { jobs }] = await Promise.all([ask("/api/machine"), ask("/api/sizes")]), text = JSON.stringify([told, jobs]);
  if (text === shownMachine) return;
  shownMachine = text;
  page().replaceChildren(drawDevices(told), drawDisks(told), drawSizes(jobs));
}

again(lookAtMachine, 5);
