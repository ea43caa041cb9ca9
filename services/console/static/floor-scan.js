// Counting by scan. What was counted is kept, so that a locked phone or a reload loses nothing.
const scan = document.getElementById("scan");
const said = document.getElementById("said");
const part = () => document.getElementById("floor-part");
const key = () => `ordermill.floor.found.${part().dataset.work}`;
const shownStep = () => [...document.querySelectorAll("section.step")].find((section) => !section.hidden)?.dataset.step;

export const found = () => JSON.parse(localStorage.getItem(key()) ?? "{}");
export const forget = (work) => localStorage.removeItem(`ordermill.floor.found.${work}`);

function say(text, wrong = false) {
  said.textContent = text;
  said.classList.toggle("wrong", wrong);
  if (!wrong) return;
  navigator.vibrate?.([200, 80, 200]);
  beep();
}

function beep() {
  if (localStorage.getItem("ordermill.floor.sound") !== "on" || !("AudioContext" in window)) return;
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  tone.type = "square";
  tone.frequency.value = 220;
  tone.connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.4);
}

function toggle(id, name, change) {
  const button = document.getElementById(id);
  if (!button) return;
  const show = (on) => {
    button.setAttribute("aria-pressed", String(on));
    change(on);
  };
  show((localStorage.getItem(name) ?? button.getAttribute("aria-pressed").replace("true", "on")) === "on");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    localStorage.setItem(name, on ? "on" : "off");
    show(on);
    scan.focus();
  });
}

const rows = (selector) => [...document.querySelectorAll(`${selector} .pick`)];
const input = (row) => row.querySelector("input[type=number]");
const count = (row) => Number(input(row).value) || 0;
const open = (row) => Number(row.dataset.open);

// The refusals that every scan can meet; else the row that has room for one unit more.
function roomFor(code, all, has) {
  const mine = all.filter((row) => row.dataset.sku === code);
  if (!mine.length) {
    const gtin = /^(\d{8}|\d{12,14})$/.test(code);
    say(gtin ? `${code}: a GTIN. No table of GTINs is kept here, so scan the SKU's label or count the unit by hand.`
      : `Wrong item: ${code} is not part of this order. Put it back.`, true);
    return null;
  }
  const room = mine.find((row) => has(row) < open(row));
  const total = mine.reduce((sum, row) => sum + open(row), 0);
  if (!room) say(`Too many: all ${total} of ${code} are counted. Put this one back.`, true);
  return room;
}

function pickOne(code) {
  const row = roomFor(code, rows("#pick-form"), count);
  if (!row) return;
  input(row).value = count(row) + 1;
  say(`${code}: ${count(row)} of ${open(row)}.`);
  keepCounts();
  flash(row);
}

// A scan puts one unit into the open box: one that is in no box yet, else out of another box.
function packOne(code) {
  const box = document.querySelector("input[name=open-box]:checked")?.value ?? "1";
  const here = rows(`#pack-form [data-box="${CSS.escape(box)}"]`);
  const row = roomFor(code, here, count);
  if (!row) return;
  const others = rows("#pack-form").filter((other) => other !== row && other.dataset.line === row.dataset.line);
  const packed = count(row) + others.reduce((sum, other) => sum + count(other), 0);
  const from = others.find((other) => count(other) > 0);
  if (packed >= open(row) && from) input(from).value = count(from) - 1;
  input(row).value = count(row) + 1;
  say(`${code}: ${count(row)} in box ${box}.`);
  flash(row);
}

function flash(row) {
  document.querySelector(".pick.hit")?.classList.remove("hit");
  row.classList.add("hit");
  row.scrollIntoView({ block: "nearest" });
}

function keepCounts() {
  const counts = Object.fromEntries(rows("#pick-form").map((row) => [row.dataset.line, count(row)]));
  localStorage.setItem(key(), JSON.stringify(counts));
  paint();
}

// Write what was counted into the page, after a load or a change of the page under our hands.
export function paint() {
  const all = rows("#pick-form");
  if (!all.length) return;
  const counts = found();
  let got = 0;
  let asked = 0;
  for (const row of all) {
    if (row.dataset.line in counts) input(row).value = Math.min(counts[row.dataset.line], open(row));
    got += count(row);
    asked += open(row);
    row.classList.toggle("done", count(row) >= open(row));
  }
  document.getElementById("picked-total").textContent = `${got} of ${asked}`;
  const button = document.getElementById("all-picked");
  button.disabled = got < asked;
  button.textContent = got < asked ? `${asked - got} to go` : asked === 1 ? "Picked" : `All ${asked} picked`;
  const short = document.getElementById("short");
  short.disabled = got >= asked;
  short.textContent = got < asked ? `Report ${asked - got} as not there` : "All are counted";
}

// Without a connection the pick is only known here: pack what it found. Says whether that is anything.
export function packWhatWasFound(fields) {
  const counts = new Map(fields.filter(([name]) => name.startsWith("found:")).map(([name, value]) => [name.slice(6), value]));
  for (const row of rows("#pack-form")) {
    const units = counts.get(row.dataset.line) ?? "0";
    if (row.dataset.open === units) continue;
    row.dataset.open = units;
    row.querySelector(".of").textContent = `of ${units}`;
    input(row).max = units;
    if (count(row) > Number(units)) input(row).value = units;
    row.hidden = units === "0";
  }
  return [...counts.values()].some((units) => units !== "0");
}

function anotherBox(event) {
  const link = event.target.closest("#another-box");
  if (!link) return;
  event.preventDefault();
  const boxes = document.querySelectorAll("#pack-form .box");
  const number = boxes.length + 1;
  const made = boxes[0].cloneNode(true);
  made.dataset.box = number;
  made.querySelector("[data-number]").textContent = number;
  for (const field of made.querySelectorAll("input")) {
    if (field.id) field.id = field.id.replace(/^(w|b)-1/, `$1-${number}`);
    field.name = field.name.replace(/^box:1:/, `box:${number}:`);
    field.value = field.type === "radio" ? number : field.classList.contains("weight") ? "" : 0;
    field.required = false;
    if (field.type === "radio") field.checked = true;
  }
  for (const label of made.querySelectorAll("label[for]")) {
    label.htmlFor = label.htmlFor.replace(/^(w|b)-1/, `$1-${number}`);
    label.textContent = label.textContent.replace(/in box 1$/, `in box ${number}`);
  }
  boxes[boxes.length - 1].after(made);
  document.getElementById("scanner").hidden = false;
  say(`Box ${number} is open: scan or type what goes into it.`);
}

export function start() {
  if (!scan || !said) return;
  toggle("keys", "ordermill.floor.keys", (on) => (scan.inputMode = on ? "text" : "none"));
  toggle("sound", "ordermill.floor.sound", () => {});
  scan.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const code = scan.value.trim();
    scan.value = "";
    if (!code) return;
    if (shownStep() === "pack") packOne(code);
    else if (shownStep() === "pick") pickOne(code);
  });
  document.addEventListener("click", (event) => {
    anotherBox(event);
    const button = event.target.closest("[data-add]");
    if (!button) return;
    const row = button.closest(".pick");
    input(row).value = Math.max(0, Math.min(open(row), count(row) + Number(button.dataset.add)));
    keepCounts();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("#pick-form input[type=number]")) keepCounts();
  });
  // A scanner types wherever the focus is: what is typed beside a field goes to the field for scans.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
    const plain = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!typing && plain && !document.getElementById("scanner").hidden) scan.focus();
  }, true);
  paint();
}
