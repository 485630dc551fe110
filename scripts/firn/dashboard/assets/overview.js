/* the session's page, kept up to date */

let known = { count: 0, digest: "" }, shownSession = false;
setInterval(() => { if (shownSession) tickHead(); }, 1000);

async function look() {
  const wanted = [read("/api/session"), read("/api/pictures"), ask(`/api/points?count=${known.count}&digest=${known.digest}`)];
  const [session, pictures, more] = await Promise.all(wanted).catch(fault => {
    if (fault.status !== 404) throw fault;
    nothing(fault.message);
    return [null, null, null];
  });
  if (!more) return;
  points = more.start ? [...points, ...more.fresh] : more.fresh;
  known = { count: more.count, digest: more.digest };
  told = { ...told, ...(session || {}), ...(pictures || {}) };
  if (busy()) { waiting = true; return; }
  now = told.updated_s;
  drawHead();
  drawAll(false);
  shownSession = true;
}
let waiting = false;
const busy = () => document.querySelector(".rule, .limits:not([hidden])") !== null || document.getElementById("large").open;
again(look, 4);
