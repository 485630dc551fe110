/* the session's page, kept up to date */

let known = { count: 0, digest: "" }, shownSession = false;
setInterval(() => { if (shownSession) tickHead(); }, 1000);

async function look() {
  try {
    await lookAtSession();
  } catch (fault) {
    if (fault.status !== 404) throw fault;
    nothing(fault.message, make("a", { href: `${root}/jobs` }, "Go to its jobs"));
  }
}

async function lookAtSession() {
  const first = read("/api/session"), others = [read("/api/pictures"), ask(`/api/points?count=${known.count}&digest=${known.digest}`)];
  for (const other of others) other.catch(() => {});
  told = { ...told, ...await first };
  if (!shownSession) show(2);
  const [pictures, more] = await Promise.all(others);
  points = more.start ? [...points, ...more.fresh] : more.fresh;
  known = { count: more.count, digest: more.digest };
  told = { ...told, ...pictures };
  if (!busy()) show();
}

/* the headline needs no points; the rest comes with them */
function show(parts) {
  now = told.updated_s;
  drawHead();
  drawPause();
  drawAll(false, parts);
  shownSession = true;
}
function drawPause() {
  const [state, label] = { running: ["pause", "Pause"], paused: ["run", "Go on"] }[told.session.state] || [];
  if (!state) return;
  const focused = document.activeElement?.id === "pause";
  const button = make("button", { type: "button", class: "button", id: "pause", on: { click: async () => {
    button.disabled = Boolean(await decide("state", { state }, state === "run" ? "The session goes on" : "The session finishes what is cut and cuts nothing until it goes on"));
  } } }, label);
  document.querySelector("#head .pill").after(button);
  if (focused) button.focus();
}

hooks.stream = (title, stream) => {
  if (["refine", "initial"].includes(stream.role)) title.append(make("a", { href: `${root}/maps#${encodeURIComponent(stream.name)}` }, "turn it, cut it"));
};

const busy = () => document.querySelector(".rule, .limits:not([hidden])") !== null || document.getElementById("large").open;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (shownSession) drawAll(); });
again(look, 4);
