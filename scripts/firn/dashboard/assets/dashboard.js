"use strict";
/* what every page needs: reading, deciding, telling; names of session_page.js draw */

let told = { updated_s: 0, attributes: [], columns: [], latest: [], fits: [], streams: [], alarm_log: [], decision_log: [] };
let points = [];
const page = () => document.getElementById("page");
const tags = new Map();
const held = name => document.querySelector(`meta[name=firn-${name}]`).content;
const root = held("root");

/* what is drawn anew under a pressed pointer would never hear of its click */
let released = Promise.resolve();
addEventListener("pointerdown", () => {
  released = new Promise(done => ["pointerup", "pointercancel"].forEach(kind => addEventListener(kind, () => setTimeout(done, 50), { once: true })));
}, true);

async function send(address, given = {}) {
  let answer;
  try {
    answer = await fetch(root + address, { cache: "no-store", ...given });
  } catch {
    throw new Error("The dashboard does not answer. The run goes on without it; start it again to look.");
  }
  if (!answer.ok && answer.status !== 304) {
    const fault = await answer.json().catch(() => ({ error: `The dashboard answered ${answer.status}.` }));
    throw Object.assign(new Error(fault.error), { status: answer.status });
  }
  return answer;
}

async function ask(address, given = {}) {
  const answer = await send(address, given);
  if (answer.status === 304) return null;
  if (answer.headers.get("ETag")) tags.set(address, answer.headers.get("ETag"));
  const found = await answer.json();
  await released;
  return found;
}

/* null when it is what was read before */
const read = address => ask(address, tags.has(address) ? { headers: { "If-None-Match": tags.get(address) } } : {});

async function decide(what, content, done) {
  try {
    const answer = await ask(`/decide/${what}`, { method: "POST", body: JSON.stringify(content),
      headers: { "Content-Type": "application/json", "X-Firn-Page": held("page") } });
    notice(typeof done === "function" ? done(answer) : done);
    return answer;
  } catch (fault) {
    notice(fault.message, true);
    return null;
  }
}

let hiding = 0;
function notice(text, bad = false) {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.className = bad ? "bad" : "";
  place.hidden = !text;
  clearTimeout(hiding);
  if (text && !bad) hiding = setTimeout(() => { place.hidden = true; }, 6000);
}

/* look again every few seconds, while someone looks; a fault is told once it is there and gone when it is gone */
function again(look, seconds) {
  let fault = "";
  const turn = async () => {
    try {
      if (!document.hidden) await look();
      if (fault) notice("");
      fault = "";
    } catch (error) {
      if (fault !== error.message) notice(error.message, true);
      fault = error.message;
    }
    setTimeout(turn, 1000 * seconds);
  };
  turn();
}

const fileAddress = path => `${root}/file/` + path.split("/").map(encodeURIComponent).join("/");
const nothing = (sentence, ...more) => page().replaceChildren(make("p", { class: "card" }, sentence, " ", ...more));
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
