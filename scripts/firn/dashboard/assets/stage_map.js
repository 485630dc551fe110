/* exposures where the stage stood, coloured by a number; those of one place stand around it */

const SAME_UM = 0.1, DOT_PX = 5, REACH_PX = 12, EDGE_PX = 34, CLOSEST = 60, WIDEST_ENDS = [0.02, 0.98];
const TURN = Math.PI * (3 - Math.sqrt(5));
const RAMP = [[104, 66, 166], [64, 96, 158], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const TONES = ["good", "bad", "fail"];

const tint = share => {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), from = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[from].map((value, part) => Math.round(value + (at - from) * (RAMP[from + 1][part] - value))).join(", ")})`;
};

class StageMap {
  /* opened(place): the exposure of that row is wanted */
  constructor(opened) {
    Object.assign(this, { opened, dots: [], columns: [], chosen: -1, view: null, fitted: true });
    this.canvas = make("canvas", { role: "img", "aria-label": "exposures where the stage stood" });
    this.by = make("select", { "aria-label": "coloured by", on: { change: () => this.paint() } });
    this.legend = make("span", { class: "ramp quiet" });
    const button = (label, text, act) => make("button", { type: "button", class: "button", "aria-label": label, title: label, on: { click: act } }, text);
    this.element = make("section", { class: "card stage-map", hidden: "", "aria-label": "map of stage positions" },
      make("div", { class: "bar" }, make("label", {}, "coloured by ", this.by), this.legend, make("span", { class: "zoom" }, button("nearer", "+", () => this.zoom(1.5)), button("farther", "−", () => this.zoom(1 / 1.5)), button("show all", "all", () => this.fit()))), this.canvas);
    later(this.canvas, () => this.paint());
    this.listen();
  }

  listen() {
    let from = null, moved = false;
    const at = event => { const edge = this.canvas.getBoundingClientRect(); return [event.clientX - edge.left, event.clientY - edge.top]; };
    this.canvas.addEventListener("wheel", event => { event.preventDefault(); this.zoom(2 ** (-event.deltaY / 400), at(event)); }, { passive: false });
    this.canvas.addEventListener("pointerdown", event => { from = at(event); moved = false; this.canvas.setPointerCapture(event.pointerId); });
    this.canvas.addEventListener("pointermove", event => {
      const to = at(event), best = from ? null : this.nearest(to);
      showTip(event, ...(best ? this.told(best) : []));
      if (!from || !this.view || (!moved && Math.hypot(to[0] - from[0], to[1] - from[1]) < 4)) return;
      this.view.x -= (to[0] - from[0]) / this.view.scale;
      this.view.y += (to[1] - from[1]) / this.view.scale;
      [moved, this.fitted, from] = [true, false, to];
      this.paint();
    });
    this.canvas.addEventListener("pointerup", event => {
      const best = from && !moved ? this.nearest(at(event)) : null;
      from = null;
      if (best) this.opened(best.place);
    });
    for (const kind of ["pointercancel", "pointerleave"]) this.canvas.addEventListener(kind, event => { from = null; showTip(event); });
  }

  /* exposures: {place: of the row, at: [x, y] in µm, name, verdict, values: by column} */
  show(exposures, columns, chosen) {
    const groups = new Map(), cell = value => Math.round(value / SAME_UM);
    const known = ([x, y]) => [-1, 0, 1].flatMap(right => [-1, 0, 1].map(up => groups.get(`${cell(x) + right} ${cell(y) + up}`))).find(one => one && Math.hypot(one.at[0] - x, one.at[1] - y) <= SAME_UM);
    this.dots = exposures.map(one => {
      let group = known(one.at);
      if (!group) groups.set(`${cell(one.at[0])} ${cell(one.at[1])}`, group = { at: one.at, count: 0 });
      const far = 2.3 * DOT_PX * Math.sqrt(group.count), turn = TURN * group.count++;
      return { ...one, at: group.at, shift: [far * Math.cos(turn), far * Math.sin(turn)] };
    });
    this.chosen = chosen;
    if (columns.map(column => column.column).join() !== this.columns.map(column => column.column).join()) {
      const before = this.by.value;
      this.by.replaceChildren(...columns.map(column => make("option", { value: column.column }, column.label)), make("option", { value: "" }, "verdict"));
      if (columns.some(column => column.column === before)) this.by.value = before;
    }
    this.columns = columns;
    this.paint();
  }

  fit() {
    this.fitted = true;
    this.paint();
  }

  frame(width, height) {
    const [xs, ys] = [0, 1].map(axis => this.dots.map(one => one.at[axis]).reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]));
    const scale = Math.min((width - 2 * EDGE_PX) / Math.max(xs[1] - xs[0], 1), (height - 2 * EDGE_PX) / Math.max(ys[1] - ys[0], 1));
    this.view = { x: (xs[0] + xs[1]) / 2, y: (ys[0] + ys[1]) / 2, scale: Math.min(scale, CLOSEST) };
  }

  zoom(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    if (!this.view) return;
    const right = at[0] - this.canvas.clientWidth / 2, down = at[1] - this.canvas.clientHeight / 2, scale = Math.min(Math.max(this.view.scale * factor, 1e-3), CLOSEST);
    this.view = { x: this.view.x + right / this.view.scale - right / scale, y: this.view.y - down / this.view.scale + down / scale, scale };
    this.fitted = false;
    this.paint();
  }

  on(one) {
    const { x, y, scale } = this.view;
    return [this.canvas.clientWidth / 2 + (one.at[0] - x) * scale + one.shift[0], this.canvas.clientHeight / 2 - (one.at[1] - y) * scale + one.shift[1]];
  }

  nearest(at) {
    let best = null, least = REACH_PX;
    for (const one of this.view ? this.dots : []) {
      const [x, y] = this.on(one), far = Math.hypot(x - at[0], y - at[1]);
      if (far < least) [best, least] = [one, far];
    }
    return best;
  }

  column() { return this.columns.find(one => one.column === this.by.value); }
  told(one) {
    const column = this.column(), value = column ? one.values[this.columns.indexOf(column)] : null;
    return [make("b", {}, one.name), make("div", {}, column ? `${column.label} ${spoken(value === null ? null : value * column.factor)} ${column.unit}` : VERDICTS[one.verdict]), make("div", {}, `${spoken(one.at[0])}, ${spoken(one.at[1])} µm`)];
  }

  paint() {
    if (!this.dots.length || !this.canvas.clientWidth) { if (this.canvas.clientWidth) paper(this.canvas); return; }
    const [pen, width, height] = paper(this.canvas), column = this.column(), place = this.columns.indexOf(column);
    if (this.fitted) this.frame(width, height);
    const values = column ? this.dots.map(one => one.values[place]).filter(value => value !== null).sort((a, b) => a - b) : [];
    const [low, high] = WIDEST_ENDS.map(share => values[Math.round(share * (values.length - 1))]);
    const tone = one => column ? one.values[place] === null ? colour("wait") : tint(high > low ? (one.values[place] - low) / (high - low) : 0.5) : colour(TONES[one.verdict]);
    for (const one of this.dots) this.paintDot(pen, one, tone(one));
    this.paintBar(pen, height);
    this.canvas.dataset.places = new Set(this.dots.map(one => one.at.join())).size;
    this.legend.replaceChildren(...(column ? values.length ? [spoken(low * column.factor), make("i", { style: `background: linear-gradient(to right, ${RAMP.map((_, part) => tint(part / (RAMP.length - 1))).join(", ")})` }), `${spoken(high * column.factor)} ${column.unit}`, " · rings are rejected"] : ["not known"]
      : TONES.flatMap((name, at) => [make("b", { style: `background: var(--${name})` }), `${VERDICTS[at]} `])));
  }

  paintDot(pen, one, tone) {
    const [x, y] = this.on(one), taken = one.place === this.chosen;
    pen.beginPath();
    pen.arc(x, y, taken ? DOT_PX + 2 : one.verdict ? DOT_PX - 1 : DOT_PX, 0, 2 * Math.PI);
    pen.fillStyle = pen.strokeStyle = tone;
    pen.lineWidth = 2;
    if (one.verdict && this.column()) pen.stroke();
    else pen.fill();
    if (!taken) return;
    pen.beginPath();
    pen.arc(x, y, DOT_PX + 4, 0, 2 * Math.PI);
    pen.strokeStyle = colour("ink");
    pen.stroke();
  }

  /* a bar of a round length, so that distances can be read */
  paintBar(pen, height) {
    const wanted = 90 / this.view.scale, power = 10 ** Math.floor(Math.log10(wanted)), long = [5, 2, 1].map(digit => digit * power).find(length => length <= wanted);
    line(pen, [[EDGE_PX / 2, height - 14], [EDGE_PX / 2 + long * this.view.scale, height - 14]], colour("ink"), 3);
    pen.fillStyle = colour("ink");
    pen.textAlign = "left";
    pen.textBaseline = "bottom";
    pen.fillText(long >= 1000 ? `${spoken(long / 1000)} mm` : `${spoken(long)} µm`, EDGE_PX / 2, height - 18);
  }
}
