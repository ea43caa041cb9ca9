// Ticks stay where the list that they are in is swapped for a newer one.
let ticked = [];
document.addEventListener("htmx:sseBeforeMessage", () => {
  ticked = [...document.querySelectorAll("input[type=checkbox][id]:checked")].map((box) => box.id);
});
document.addEventListener("htmx:sseMessage", () => {
  for (const id of ticked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
});
