// The floor works on when the connection is gone: pages are kept, what was done waits, the next step is shown.
import { add, dismiss, entries, me, send, state } from "./floor-queue.js";
import { forget, packWhatWasFound, paint, start } from "./floor-scan.js";
import { unfold, unfolded } from "./unfolded.js";

const KEPT = "ordermill-floor";
const MOST_KEPT = 120;
const ORDER = ["accept", "pick", "pack", "label", "hand-over"];
const AFTER = { accept: "pick", pick: "pack", pack: "label", reject: "gone", "hand-over": "gone", manifest: "gone" };
const SAYS = { accept: "accept", pick: "pick", pack: "pack", reject: "turn down", label: "ask for a label for", "hand-over": "hand over", manifest: "hand over to" };
const part = () => document.getElementById("floor-part");

document.documentElement.classList.add("scripted");

// Keep this page, what it is made of, and the work it lists.

async function keepPages() {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("/floor-worker.js", { scope: "/floor" });
  await navigator.serviceWorker.ready;
  const kept = await caches.open(KEPT);
  const parts = performance.getEntriesByType("resource").map((entry) => new URL(entry.name))
    .filter((url) => url.origin === location.origin && /^\/(static|scripts)\//.test(url.pathname)).map((url) => url.href);
  const pages = [location.href, new URL("/floor-offline", location).href, ...listed()];
  await Promise.allSettled([...new Set([...parts, ...pages])].map(async (url) => {
    if (await kept.match(url)) return;
    const answer = await fetch(url);
    if (answer.ok && !answer.redirected) await kept.put(url, answer);
  }));
  const all = (await kept.keys()).filter((request) => new URL(request.url).pathname.startsWith("/floor/"));
  await Promise.all(all.slice(0, -MOST_KEPT).map((request) => kept.delete(request)));
  document.documentElement.dataset.kept = "yes";
}

const listed = () => [...document.querySelectorAll("a[data-keep]")].slice(0, 25).map((link) => link.href);

async function showKept() {
  const list = document.getElementById("kept");
  if (!list || !("caches" in window)) return;
  const kept = await caches.open(KEPT);
  for (const request of await kept.keys()) {
    const url = new URL(request.url);
    if (!url.pathname.startsWith("/floor/")) continue;
    const title = new DOMParser().parseFromString(await (await kept.match(request)).text(), "text/html").title;
    const link = Object.assign(document.createElement("a"), { href: url.pathname + url.search, className: "place", textContent: title.replace(" · Ordermill", "") });
    const line = document.createElement("li");
    line.append(link);
    list.append(line);
  }
}

// Reports

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches(".who") && "caches" in window) caches.delete(KEPT);
  if (!form.dataset.report) return;
  event.preventDefault();
  const fields = [...new FormData(form, event.submitter).entries()]
    .filter(([name, value]) => !["csrf", "form_id", "scan", "open-box"].includes(name) && typeof value === "string");
  if (fields.some(([name, value]) => name === "do" && value === "count")) return;
  const what = `${SAYS[form.dataset.report]} ${part().dataset.name}`;
  add(what, part().dataset.at, new URL(form.action).pathname, fields);
});

const mine = () => entries().filter((entry) => entry.state === "waiting" && entry.at === part()?.dataset.at);
const doing = (entry) => entry.url.slice(entry.at.length + 1).split("/")[0];

// The step after what waits to be sent: as the page will be once it is.
function showStep() {
  if (!part()?.dataset.step) return;
  let step = part().dataset.step;
  for (const entry of mine()) {
    const done = doing(entry);
    if (!ORDER.includes(step) || (ORDER.includes(done) && ORDER.indexOf(done) < ORDER.indexOf(step))) continue;
    step = AFTER[done] ?? step;
    if (done === "pick" && !packWhatWasFound(entry.fields)) step = "gone";
  }
  for (const section of document.querySelectorAll("section.step")) section.hidden = section.dataset.step !== step;
  const scanner = document.getElementById("scanner");
  scanner.hidden = !(step === "pick" || (step === "pack" && document.querySelectorAll("#pack-form .box").length > 1));
  const reject = document.querySelector("details.reject");
  if (reject) reject.hidden = !["accept", "pick", "pack"].includes(step);
  const said = document.getElementById("said");
  if (said.dataset.step !== step) [said.textContent, said.dataset.step] = ["", step];
}

function showQueue() {
  const box = document.getElementById("unsent");
  const list = entries();
  const waiting = list.filter((entry) => entry.state === "waiting");
  box.hidden = !list.length;
  box.replaceChildren();
  if (waiting.length) {
    const head = document.createElement("strong");
    head.setAttribute("role", "status");
    head.textContent = `Waiting to be sent (${waiting.length})`;
    box.append(head, ` ${state.trouble}`);
  }
  const lines = document.createElement("ul");
  for (const entry of list) {
    const line = document.createElement("li");
    const time = new Date(entry.done_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    line.textContent = `${entry.what}, ${time}${entry.me === me() ? "" : `, ${entry.me}`} `;
    if (entry.state !== "waiting") {
      line.className = entry.state;
      line.setAttribute("role", "alert");
      line.append(`${entry.state === "same" ? "Nothing changed" : "Not done"}: ${entry.text} `);
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Understood" });
      button.addEventListener("click", () => dismiss(entry.id));
      line.append(button);
    }
    lines.append(line);
  }
  box.append(lines);
}

function notice(kind, text) {
  const line = Object.assign(document.createElement("p"), { className: `notice ${kind}` });
  line.append(Object.assign(document.createElement("strong"), { textContent: "Done." }), ` ${text}`);
  document.getElementById("notices").replaceChildren(line);
}

// The page as the server has it now; without an answer the live connection brings it.
async function refresh() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("floor-part");
  if (fresh) {
    const opened = unfolded(part());
    part().replaceWith(document.adoptNode(fresh));
    unfold(part(), opened);
  }
  paint();
  showStep();
}

document.addEventListener("floor:queue", () => {
  showQueue();
  showStep();
});
state.told = async (entry, told) => {
  if (told.kind === "done") notice("done", told.text);
  if (told.kind === "done" && /\/(pick|reject)$/.test(entry.url)) forget(entry.at.split("/").pop());
  if (!part() || part().dataset.at !== entry.at) return;
  await refresh();
};
document.addEventListener("htmx:afterSettle", () => {
  paint();
  showStep();
  keepPages();
});
document.addEventListener("htmx:sseMessage", () => {
  paint();
  showStep();
});

start();
showQueue();
showStep();
showKept();
keepPages();
send();
