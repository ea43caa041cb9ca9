// Small conveniences; every page works without them.
import { unfold, unfolded } from "./unfolded.js";
import { NewsWhileSeen } from "./while-seen.js";

htmx.createEventSource = (url) => new NewsWhileSeen(url);

// The server writes times on the reader's clock once it knows which that is.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && document.documentElement.dataset.zone !== zone && !document.cookie.includes("ordermill_zone=" + zone)) {
  document.cookie = `ordermill_zone=${zone};path=/;max-age=31536000;samesite=lax`;
  if (document.cookie.includes("ordermill_zone")) location.reload();
}

// data-key: a key that goes to this control, as long as nobody is typing.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const control = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!control) return;
  event.preventDefault();
  if (control.matches("a, button")) control.click();
  else control.focus();
});

// data-all: ticks every box of that name in its table.
document.addEventListener("change", (event) => {
  const name = event.target.dataset.all;
  if (!name) return;
  for (const box of event.target.closest("table").querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)) box.checked = event.target.checked;
});

// Dialogs of forms: data-opens names one; a notice that all went well closes it.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens)?.showModal();
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog")?.close();
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) event.target.closest("dialog")?.close();
});
// A form that is sent again after an answer is another wish, so it gets another id.
document.addEventListener("htmx:afterRequest", (event) => {
  const id = event.target.querySelector?.("input[name=form_id]");
  if (id && event.detail.successful) id.value = crypto.randomUUID();
});
// Refusals are answers too: show what they say.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
});
// The news of what a form did may take the form off the page before its answer comes; the notice is shown all the same.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.matches("[hx-swap=none]")) event.detail.target = document.body;
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.requestConfig?.elt.isConnected !== false) return;
  event.detail.shouldSwap = false;
  const notice = new DOMParser().parseFromString(event.detail.serverResponse, "text/html").getElementById("notices");
  if (!notice) return;
  notice.removeAttribute("hx-swap-oob");
  document.getElementById("notices").replaceWith(document.adoptNode(notice));
});
// News that comes over a page leaves open what its reader has opened.
let opened = [];
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  if (waits(event)) return;
  opened = unfolded(event.target);
});
document.addEventListener("htmx:sseMessage", (event) => unfold(event.target, opened));
// It waits while a button or a finger is down: a click on what was replaced between press and release would be lost.
let pressed = false;
let released = 0; // the timer that lets it in again
const latest = new Map(); // by connection
const waits = (event) => {
  if (!pressed) return false;
  event.preventDefault();
  latest.set(event.detail.target, event.detail);
  return true;
};
const letIn = () => {
  [pressed, released] = [false, 0];
  const messages = [...latest];
  latest.clear();
  for (const [connection, { type, data }] of messages) connection.dispatchEvent(new MessageEvent(type, { data }));
};
const release = () => {
  if (pressed) released ||= setTimeout(letIn, 50); // a finger's click comes a moment after it was lifted
};
document.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  clearTimeout(released);
  [pressed, released] = [true, 0];
}, true);
for (const end of ["pointerup", "pointercancel", "keydown"]) document.addEventListener(end, release, true);
document.addEventListener("pointermove", (event) => event.buttons || release(), true); // let go where the page is not told
