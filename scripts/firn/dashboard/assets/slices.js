/* three slices through a density; a click in one moves the others there */

const ACROSS = [["z", ["x", "y"]], ["y", ["x", "z"]], ["x", ["y", "z"]]];

class Slices {
  constructor() {
    this.volume = null;
    this.at = { x: 0, y: 0, z: 0 };
    this.panels = ACROSS.map(([axis, plane]) => this.makePanel(axis, plane));
    this.element = make("div", { class: "slices" }, ...this.panels.map(panel => panel.card));
  }

  makePanel(axis, plane) {
    const canvas = make("canvas", { role: "img", "aria-label": `slice across ${axis}; a click moves the other slices there` });
    const slider = make("input", { type: "range", min: "0", value: "0", "aria-label": `slice across ${axis}`, on: { input: () => { this.at[axis] = Number(slider.value); this.paint(); } } });
    const told = make("span", { class: "quiet" }), panel = { axis, plane, canvas, slider, told };
    canvas.addEventListener("click", event => {
      if (!this.volume) return;
      const box = canvas.getBoundingClientRect(), n = this.volume.n, inside = share => Math.min(n - 1, Math.max(0, Math.floor(n * share)));
      this.at[plane[0]] = inside((event.clientX - box.left) / box.width);
      this.at[plane[1]] = inside(1 - (event.clientY - box.top) / box.height);
      this.paint();
    });
    later(canvas, () => this.paintOne(panel));
    panel.card = make("div", { class: "slice" }, make("div", { class: "head" }, make("h3", {}, `across ${axis}`), told), canvas, slider);
    return panel;
  }

  /* volume: { data, n, spacing }, the middle first unless another of the same size was shown before */
  show(volume) {
    const n = volume.n;
    if (this.volume?.n !== n) this.at = { x: n >> 1, y: n >> 1, z: n >> 1 };
    this.volume = volume;
    const step = Math.max(1, Math.floor(volume.data.length / 40_000)), sample = [];
    for (let at = 0; at < volume.data.length; at += step) sample.push(volume.data[at]);
    sample.sort((a, b) => a - b);
    this.range = [0.003, 0.998].map(share => sample[Math.floor(share * (sample.length - 1))]);
    if (this.range[0] === this.range[1]) this.range[1] = Math.max(sample.at(-1), this.range[0] + 1);
    for (const { slider } of this.panels) slider.max = n - 1;
    this.paint();
  }

  paint() {
    for (const panel of this.panels) this.paintOne(panel);
  }

  paintOne({ axis, plane, canvas, slider, told }) {
    if (!this.volume || !canvas.clientWidth) return;
    const { n, spacing } = this.volume, sheet = document.createElement("canvas"), ratio = Math.min(devicePixelRatio || 1, 2);
    [sheet.width, sheet.height] = [n, n];
    sheet.getContext("2d").putImageData(this.pixels(axis, plane), 0, 0);
    const side = canvas.width = canvas.height = Math.round(canvas.clientWidth * ratio), pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(sheet, 0, 0, side, side);
    pen.strokeStyle = "rgba(116, 176, 240, 0.55)";
    pen.lineWidth = ratio;
    const [across, up] = plane.map(name => (this.at[name] + 0.5) / n * side);
    pen.strokeRect(across, -2, 0, side + 4);
    pen.strokeRect(-2, side - up, side + 4, 0);
    slider.value = this.at[axis];
    const offset = (this.at[axis] - (n >> 1)) * spacing;
    told.textContent = `${offset > 0 ? "+" : offset < 0 ? "−" : ""}${spoken(Math.abs(offset))} Å`;
    slider.setAttribute("aria-valuetext", `${spoken(offset)} Å from the centre`);
    canvas.dataset.at = this.at[axis];
  }

  /* grey values with the first row at the bottom */
  pixels(axis, plane) {
    const { data, n } = this.volume, strides = { x: 1, y: n, z: n * n }, image = new ImageData(n, n), [low, high] = this.range;
    for (let row = 0; row < n; row += 1) for (let column = 0; column < n; column += 1) {
      const value = data[this.at[axis] * strides[axis] + column * strides[plane[0]] + row * strides[plane[1]]], place = 4 * ((n - 1 - row) * n + column);
      image.data.fill(255 * (value - low) / (high - low), place, place + 3);
      image.data[place + 3] = 255;
    }
    return image;
  }
}
