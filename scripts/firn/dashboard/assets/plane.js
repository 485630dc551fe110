/* correlation against local power of picks, with limits that are dragged, moved by arrow keys, or dropped by Delete */

const BOUNDS = { min_ncc: ["least correlation", "▸"], min_power: ["least power", "▴"], max_power: ["greatest power", "▾"] };
const SMALL = 0.01, LARGE = 0.1;
const KEYS = { ArrowUp: SMALL, ArrowRight: SMALL, ArrowDown: -SMALL, ArrowLeft: -SMALL, PageUp: LARGE, PageDown: -LARGE };

class Plane {
  /* moved(limits): while a limit moves; saved(), dropped(): Enter and Escape */
  constructor(moved, saved, dropped) {
    Object.assign(this, { moved, saved, dropped, limits: { min_ncc: null, min_power: null, max_power: null }, histogram: null, line: null });
    this.canvas = make("canvas", { role: "img", "aria-label": "picks by correlation and local power" });
    this.grips = Object.fromEntries(Object.keys(BOUNDS).map(name => [name, this.makeGrip(name)]));
    this.element = make("div", { class: "plane" }, this.canvas, ...Object.values(this.grips));
    later(this.canvas, () => this.paint());
  }

  show(histogram, line) {
    Object.assign(this, { histogram, line });
    this.paint();
  }

  set(limits) {
    this.limits = { ...limits };
    this.paint();
  }

  /* along an axis, 0 to 1 from its low end */
  share(name, value) {
    const [low, high] = this.ends(name);
    return name === "min_ncc" ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
  }
  value(name, share) {
    const [low, high] = this.ends(name), at = Math.min(Math.max(share, 0), 1);
    return Number((name === "min_ncc" ? low + at * (high - low) : low * (high / low) ** at).toPrecision(3));
  }
  ends(name) { return name === "min_ncc" ? this.histogram.score : this.histogram.power; }
  at(name) { return this.limits[name] === null ? Number(name === "max_power") : Math.min(Math.max(this.share(name, this.limits[name]), 0), 1); }

  makeGrip(name) {
    const [label, mark] = BOUNDS[name], grip = make("div", { role: "slider", tabindex: "0", class: "grip", "aria-label": label, "aria-orientation": name === "min_ncc" ? "horizontal" : "vertical",
      title: `${label}: drag, or arrow keys and Enter; Delete leaves it open` }, mark);
    const move = share => { this.limits[name] = share === null ? null : this.inOrder(name, this.value(name, share)); this.paint(); this.moved(this.limits); };
    grip.addEventListener("pointerdown", event => { grip.setPointerCapture(event.pointerId); event.preventDefault(); grip.focus(); });
    grip.addEventListener("pointermove", event => {
      if (!grip.hasPointerCapture(event.pointerId)) return;
      const area = this.canvas.getBoundingClientRect(), { left, right, top, bottom } = this.box;
      move(name === "min_ncc" ? (event.clientX - area.left - left) / (right - left) : (bottom - event.clientY + area.top) / (bottom - top));
    });
    grip.addEventListener("keydown", event => {
      if (KEYS[event.key]) move(this.at(name) + KEYS[event.key]);
      else if (event.key === "Delete" || event.key === "Backspace") move(null);
      else if (event.key === "Enter") this.saved();
      else if (event.key === "Escape") this.dropped();
      else return;
      event.preventDefault();
    });
    return grip;
  }

  /* the two limits of power do not pass each other */
  inOrder(name, value) {
    const { min_power: low, max_power: high } = this.limits;
    if (name === "min_power" && high !== null) return Math.min(value, high);
    return name === "max_power" && low !== null ? Math.max(value, low) : value;
  }

  paint() {
    if (!this.histogram || !this.canvas.clientWidth) return;
    const [pen, width, height] = paper(this.canvas), box = { left: 44, right: width - 30, top: 36, bottom: height - 38 };
    this.box = box;
    const x = share => box.left + share * (box.right - box.left), y = share => box.bottom - share * (box.bottom - box.top);
    this.paintCounts(pen, x, y);
    this.paintAxes(pen, x, y, width, height);
    this.paintLimits(pen, x, y);
    for (const [name, grip] of Object.entries(this.grips)) this.placeGrip(name, grip, x, y);
  }

  paintCounts(pen, x, y) {
    const { across, down, counts } = this.histogram, most = Math.max(...counts, 1);
    const wide = (x(1) - x(0)) / across, high = (y(0) - y(1)) / down;
    pen.fillStyle = colour("accent");
    counts.forEach((count, place) => {
      if (!count) return;
      pen.globalAlpha = 0.1 + 0.9 * Math.sqrt(count / most);
      pen.fillRect(x(place % across / across), y((Math.floor(place / across) + 1) / down), wide + 0.4, high + 0.4);
    });
    pen.globalAlpha = 1;
  }

  paintAxes(pen, x, y, width, height) {
    const { score, power } = this.histogram, narrow = width < 420;
    const decades = [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5].flatMap(decade => [1, 2, 5].map(digit => Math.log10(digit) + decade)).filter(level => level > Math.log10(power[0]) && level < Math.log10(power[1]));
    frame(pen, this.box, value => x(this.share("min_ncc", value)), value => y((value - Math.log10(power[0])) / Math.log10(power[1] / power[0])),
      steps(...score, narrow ? 4 : 8), decades, value => spoken(value, 2), value => spoken(Number((10 ** value).toPrecision(1))));
    pen.textAlign = "center";
    pen.fillText("correlation", x(0.5), height - 14);
    pen.textAlign = "left";
    pen.fillText("local power", 2, 2);
  }

  paintLimits(pen, x, y) {
    const left = x(this.at("min_ncc")), low = y(this.at("min_power")), high = y(this.at("max_power"));
    pen.fillStyle = colour("out");
    pen.fillRect(x(0), y(1), left - x(0), y(0) - y(1));
    pen.fillRect(left, low, x(1) - left, y(0) - low);
    pen.fillRect(left, y(1), x(1) - left, high - y(1));
    const tone = colour("bad");
    if (this.limits.min_ncc !== null) line(pen, [[left, y(0)], [left, y(1)]], tone, 2);
    if (this.limits.min_power !== null) line(pen, [[x(0), low], [x(1), low]], tone, 2);
    if (this.limits.max_power !== null) line(pen, [[x(0), high], [x(1), high]], tone, 2);
    if (this.limits.min_ncc === null && this.line && Math.abs(this.line.ncc) > 1e-6) this.paintLine(pen, x, y, tone);
  }

  paintLine(pen, x, y, tone) {
    const { ncc, log_power: slope, least } = this.line, places = [];
    for (let part = 0; part <= 1; part += 0.02) {
      const at = this.share("min_ncc", (least - slope * Math.log(this.value("min_power", part))) / ncc);
      if (at >= 0 && at <= 1) places.push([x(at), y(part)]);
    }
    line(pen, places, tone, 2, [6, 5]);
  }

  placeGrip(name, grip, x, y) {
    const at = this.at(name), [low, high] = this.ends(name), limit = this.limits[name];
    const now = limit ?? (name === "max_power" ? high : low);
    for (const [key, value] of [["valuemin", low], ["valuemax", high], ["valuenow", Math.min(Math.max(now, low), high)]]) grip.setAttribute(`aria-${key}`, Number(value.toPrecision(4)));
    grip.setAttribute("aria-valuetext", limit === null ? "open" : spoken(limit));
    grip.className = `grip ${name} ${limit === null ? "free" : ""}`;
    grip.style.left = `${name === "min_ncc" ? x(at) : x(1) + 2}px`;
    grip.style.top = `${name === "min_ncc" ? y(1) : y(at)}px`;
  }
}
