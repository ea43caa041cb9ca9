// What a reader has opened stays open when a part of the page is replaced: details are known again by their summary.
const words = (details) => details.querySelector("summary")?.textContent.trim();

export const unfolded = (part) => [...part.querySelectorAll("details[open]")].map(words);

export function unfold(part, opened) {
  for (const details of part.querySelectorAll("details")) if (opened.includes(words(details))) details.open = true;
}
