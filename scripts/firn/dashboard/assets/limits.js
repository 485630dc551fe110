/* limits of an attribute: dragged at the right of its plot, moved by arrow keys, or typed */

const SIDES = ["min", "max"];
const over = () => ["ended", "stopped"].includes(told.session.state);
const say = (a, value) => `${spoken(value)} ${a.unit}`.trim();

hooks.attribute = (card, canvas, a, limits) => {
  const edit = make("button", { type: "button", class: "edit", "aria-expanded": "false" }, "limits");
  const form = makeForm(a, limits, edit);
  card.querySelector(".head").append(edit);
  card.append(form);
  const grips = SIDES.map((name, side) => makeGrip(card, canvas, a, limits, side));
  const paint = canvas.redraw;
  canvas.redraw = () => {
    paint();
    grips.forEach((grip, side) => placeGrip(canvas, grip, limits[side], side));
  };
  edit.addEventListener("click", () => {
    form.hidden = !form.hidden;
    edit.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.querySelector("input").focus();
  });
};

function placeGrip(canvas, grip, limit, side) {
  grip.hidden = !canvas.places;
  if (grip.hidden) return;
  const { y, low, high, box } = canvas.places, at = limit !== null && limit > low && limit < high ? limit : side ? high : low;
  for (const [name, value] of [["valuemin", low], ["valuemax", high], ["valuenow", at]]) grip.setAttribute(`aria-${name}`, Number(value.toPrecision(4)));
  grip.className = `grip ${limit === null ? "free" : ""}`;
  grip.style.left = `${canvas.offsetLeft + box.right - 4}px`;
  grip.style.top = `${canvas.offsetTop + y(at)}px`;
}

function makeGrip(card, canvas, a, limits, side) {
  const grip = make("div", { role: "slider", tabindex: "0", "aria-label": `${side ? "greatest" : "least"} ${a.label}`, title: `${side ? "greatest" : "least"} value: drag, or arrow keys and Enter` }, side ? "▾" : "▴");
  const rule = make("div", { class: "rule" }, make("span"));
  let value = null;
  const move = to => {
    const { y, low, high, box } = canvas.places;
    value = Number(Math.min(Math.max(to, low), high).toPrecision(3));
    card.append(rule);
    rule.style.cssText = `left: ${canvas.offsetLeft + box.left}px; width: ${box.right - box.left}px; top: ${canvas.offsetTop + y(value)}px`;
    rule.firstChild.textContent = `${side ? "≤" : "≥"} ${say(a, value)}`;
    grip.style.top = rule.style.top;
    grip.setAttribute("aria-valuenow", value);
  };
  const drop = save => {
    rule.remove();
    if (save && value !== null) saveLimits(a, limits, side ? [limits[0], value] : [value, limits[1]]);
    value = null;
    canvas.redraw();
  };
  const valueAt = event => {
    const { low, high, box } = canvas.places, top = canvas.getBoundingClientRect().top;
    return low + (box.bottom - (event.clientY - top)) / (box.bottom - box.top) * (high - low);
  };
  grip.addEventListener("pointerdown", event => { grip.setPointerCapture(event.pointerId); event.preventDefault(); grip.focus(); });
  grip.addEventListener("pointermove", event => { if (grip.hasPointerCapture(event.pointerId)) move(valueAt(event)); });
  grip.addEventListener("pointerup", () => drop(true));
  grip.addEventListener("pointercancel", () => drop(false));
  grip.addEventListener("blur", () => { if (value !== null) drop(false); });
  grip.addEventListener("keydown", event => {
    const { low, high } = canvas.places, step = { ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
    if (step) move((value ?? limits[side] ?? (side ? high : low)) + step * (high - low));
    else if (event.key === "Enter") drop(true);
    else if (event.key === "Escape") drop(false);
    else return;
    event.preventDefault();
  });
  card.append(grip);
  return grip;
}

function makeForm(a, limits, edit) {
  const fields = SIDES.map((name, side) => make("input", { type: "number", step: "any", "aria-label": `${side ? "greatest" : "least"} ${a.label}`, placeholder: "none", value: limits[side] ?? "" }));
  const close = () => { form.hidden = true; edit.setAttribute("aria-expanded", "false"); edit.focus(); };
  const form = make("form", { class: "limits", hidden: "", on: { submit: event => {
    event.preventDefault();
    close();
    saveLimits(a, limits, fields.map(field => field.value === "" ? null : Number(field.value)));
  } } }, "from", fields[0], "to", fields[1], a.unit, make("button", { class: "button main" }, "Set"), make("button", { class: "button", type: "button", on: { click: close } }, "Cancel"));
  return form;
}

async function saveLimits(a, limits, wanted) {
  const [min, max] = wanted.map(value => value === null ? null : Number((value / a.factor).toPrecision(8)));
  const done = await decide("limits", { column: a.column, min, max }, `${a.label}: ${wanted.map((value, side) => value === null ? null : `${side ? "≤" : "≥"} ${say(a, value)}`).filter(Boolean).join(", ") || "no limit"}; written to live/control.yaml${over() ? ", which counts when the session goes on" : ""}`);
  if (!done) return;
  [limits[0], limits[1]] = wanted;
  [a.min, a.max] = [min, max];
  drawAll(false);
}
