// What was done on this device and is not yet taken by the server: kept in the browser, sent in order, each under an
// id of its own that the server takes once.
const KEY = "ordermill.floor.queue";
const AGAIN_MS = 3000;
const ANSWER_MS = 15000;

export const entries = () => JSON.parse(localStorage.getItem(KEY) ?? "[]");

function keep(list) {
  localStorage.setItem(KEY, JSON.stringify(list));
  document.dispatchEvent(new Event("floor:queue"));
}

function change(id, made) {
  keep(entries().flatMap((entry) => (entry.id === id ? made(entry) : [entry])));
}

export const me = () => document.querySelector(".floor").dataset.me;

// `fields` without csrf and form_id. The same thing to the same place is kept once while it waits.
export function add(what, at, url, fields) {
  const list = entries();
  const same = list.some((entry) => entry.state === "waiting" && entry.url === url && JSON.stringify(entry.fields) === JSON.stringify(fields));
  if (same) return;
  const id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  keep([...list, { id, what, at, url, fields, me: me(), done_at: new Date().toISOString(), state: "waiting" }]);
  send();
}

export const dismiss = (id) => change(id, () => []);

// `told(entry, answer)` runs before an entry that was judged leaves the queue.
export const state = { trouble: "", told: async () => {} };

function trouble(text) {
  state.trouble = text;
  document.dispatchEvent(new Event("floor:queue"));
}

let timer = 0;
let sending = false;

export async function send() {
  if (sending) return;
  sending = true;
  clearTimeout(timer);
  try {
    if (navigator.locks) await navigator.locks.request("ordermill-floor", sendAll);
    else await sendAll();
    trouble("");
  } catch (error) {
    trouble(error instanceof NotNow ? error.message : "No connection.");
    timer = setTimeout(send, AGAIN_MS);
  } finally {
    sending = false;
  }
}

class NotNow extends Error {}

async function sendAll() {
  if (!entries().some((entry) => entry.state === "waiting")) return;
  const session = await who();
  for (;;) {
    const next = entries().find((entry) => entry.state === "waiting" && entry.me === session.name);
    if (!next) break;
    const told = await report(next, session.csrf);
    await state.told(next, told);
    change(next.id, (entry) => (told.kind === "done" ? [] : [{ ...entry, state: told.kind, text: told.text }]));
  }
  const others = entries().find((entry) => entry.state === "waiting");
  if (others) throw new NotNow(`Kept for ${others.me}: log in under that name to send it.`);
}

async function who() {
  const answer = await fetch("/floor-session", { headers: { Accept: "application/json", "HX-Request": "true" }, signal: AbortSignal.timeout(ANSWER_MS) });
  if (answer.status === 401) throw new NotNow("You are logged out: log in, and what waits is sent.");
  if (!answer.ok) throw new NotNow("The console can't answer just now.");
  return answer.json();
}

// Only an answer that judges the report ends its waiting; all else may be a proxy, a restart, a session that ended.
async function report(entry, csrf) {
  // How long it has waited, not when it was done: this device's clock may be wrong.
  const waited = Math.max(0, Math.round((Date.now() - Date.parse(entry.done_at)) / 1000));
  const body = new URLSearchParams([...entry.fields, ["csrf", csrf], ["form_id", entry.id], ["waited_s", waited]]);
  const answer = await fetch(entry.url, { method: "POST", body, headers: { Accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_MS) });
  const told = await answer.json().catch(() => ({}));
  if (told.kind) return told;
  if ([400, 404, 413, 422].includes(answer.status)) return { kind: "refused", text: told.detail ?? `Not understood (${answer.status}).` };
  throw new NotNow("The console can't take it just now.");
}

addEventListener("online", send);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && send());
addEventListener("storage", (event) => event.key === KEY && document.dispatchEvent(new Event("floor:queue")));
