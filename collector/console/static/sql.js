// The SQL page: finds tables and columns, copies, and remembers the last queries in this browser.

const KEY = "queries";
const QUERIES_MAX = 20;

// Schema

const find = document.getElementById("find-column");
const tables = [...document.querySelectorAll(".table-of-schema")];
const behind = document.querySelector(".behind");
find.hidden = !tables.length;
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (element) => words.every((word) => element.textContent.toLowerCase().includes(word));
  for (const table of tables) {
    const columns = [...table.querySelectorAll("dl > div")];
    const isNamed = has(table.querySelector("summary"));
    const found = columns.filter(has);
    table.hidden = words.length > 0 && !isNamed && !found.length;
    table.open = words.length > 0 && !isNamed && found.length > 0;
    for (const column of columns) column.hidden = words.length > 0 && !isNamed && !found.includes(column);
  }
  behind.open = words.length > 0;
  behind.hidden = words.length > 0 && ![...behind.querySelectorAll(".table-of-schema")].some((table) => !table.hidden);
});

// Copying

for (const text of document.querySelectorAll(".elsewhere pre")) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
  button.setAttribute("aria-label", `Copy ${text.getAttribute("aria-label")}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
  });
  text.previousElementSibling.closest("h3, p").after(button);
}

// History: addresses of queries that ran, newest first. It leaves this browser never.

const history = document.getElementById("history");

function remembered() {
  try {
    const told = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(told) ? told.filter((one) => typeof one?.text === "string" && String(one.href).startsWith("/sql?")) : [];
  } catch {
    return [];
  }
}

const link = document.querySelector(".result-head > a.in-sql");
if (link) {
  const one = { href: link.getAttribute("href"), text: document.getElementById("q")?.value ?? document.querySelector("form[data-remember]").dataset.remember };
  const others = remembered().filter((known) => known.href !== one.href);
  try { localStorage.setItem(KEY, JSON.stringify([one, ...others].slice(0, QUERIES_MAX))); } catch { /* none is kept then */ }
}

const known = remembered();
if (known.length && !link) {
  for (const one of known) {
    const item = document.createElement("li");
    const anchor = Object.assign(document.createElement("a"), { href: one.href, textContent: one.text.replace(/\s+/g, " ").slice(0, 200) });
    item.append(anchor);
    history.querySelector("ol").append(item);
  }
  const forget = Object.assign(document.createElement("button"), { type: "button", textContent: "Forget them" });
  forget.addEventListener("click", () => {
    try { localStorage.removeItem(KEY); } catch { /* nothing was kept */ }
    history.hidden = true;
  });
  history.append(forget);
  history.hidden = false;
}
