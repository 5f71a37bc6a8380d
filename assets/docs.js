// /docs without this script: everything is there, and the browser's own search finds it. The script
// filters endpoints and schemas by what is in them, and opens what an address or a link names.
const filter = document.getElementById("filter");
const found = document.getElementById("found");
const all = [...document.querySelectorAll("details.endpoint")];
const field = filter.querySelector("input");
filter.hidden = false;

const narrow = () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = (one) => words.every((word) => one.textContent.toLowerCase().includes(word));
  let count = 0;
  for (const one of all) {
    one.hidden = !wanted(one);
    count += one.hidden ? 0 : 1;
    document.querySelector(`nav li:has(> a[href="#${one.id}"])`)?.toggleAttribute("hidden", one.hidden);
  }
  for (const section of document.querySelectorAll("main section")) {
    section.hidden = !section.querySelector("details.endpoint:not([hidden])");
  }
  found.hidden = words.length === 0;
  found.textContent = count === 1 ? "1 is found" : `${count} are found`;
};

const open = () => {
  const one = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (one?.matches("details")) {
    one.hidden = false;
    one.open = true;
    one.scrollIntoView();
  }
};

field.addEventListener("input", narrow);
addEventListener("hashchange", open);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, textarea, select")) {
    event.preventDefault();
    field.focus();
  }
});
open();
