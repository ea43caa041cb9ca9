// data-copies: puts what that field holds onto the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copies);
  field.select();
  await navigator.clipboard.writeText(field.value);
  button.textContent = "Copied";
});
// A ticked order that newer ones push off the page stays ticked: its box goes beside the buttons. Should its row come
// back, hx-preserve takes the box back into it.
let ticked = [];
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  ticked = [...event.target.querySelectorAll("input[name=order]:checked")].map((box) => ({ box, name: box.closest("tr").querySelector("th a").textContent }));
});
document.addEventListener("htmx:sseMessage", () => {
  const kept = document.getElementById("kept");
  if (!kept) return;
  for (const { box, name } of ticked) {
    if (document.getElementById(box.id)) continue;
    const label = document.createElement("label");
    label.append(box, " ", name);
    kept.appendChild(document.createElement("li")).append(label);
  }
  ticked = [];
  for (const item of kept.querySelectorAll("li")) if (!item.querySelector("input:checked")) item.remove();
  kept.parentElement.hidden = !kept.children.length;
});
