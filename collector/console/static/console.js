// What the pages can do beyond plain HTML: charts, local time, sorting and filtering, and renewing in place.
import uPlot from "./vendor/uplot/uPlot.esm.js";

const main = document.getElementById("main");
const zone = document.getElementById("zone");
const theme = document.getElementById("theme");
const pause = document.getElementById("pause");
const remembered = (key, fallback) => { try { return localStorage.getItem(key) ?? fallback; } catch { return fallback; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* only for this page then */ } };
let isLocal = remembered("zone", "UTC") === "local";
let charts = [];

// Times

const two = (number) => String(number).padStart(2, "0");

function localText(date, hasMilliseconds) {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}${hasMilliseconds ? "." + String(date.getMilliseconds()).padStart(3, "0") : ""}`;
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const exact = element.getAttribute("datetime");
    element.textContent = isLocal ? localText(new Date(exact), exact.includes(".")) : exact.slice(0, -1).replace("T", " ");
    element.title = isLocal ? `${exact} in UTC` : "";
  }
  for (const element of root.querySelectorAll(".zone")) element.textContent = isLocal ? "local time" : "UTC";
  for (const input of root.querySelectorAll("input.moment")) {
    input.dataset.utc ??= input.value;
    if (document.activeElement !== input) {
      input.value = isLocal ? localText(new Date(input.dataset.utc + "Z")).slice(0, 16).replace(" ", "T") : input.dataset.utc;
    }
  }
}

document.addEventListener("submit", (event) => {
  // The address has UTC, whatever the fields show.
  if (!isLocal) return;
  for (const input of event.target.querySelectorAll("input.moment")) {
    const date = new Date(input.value);
    if (input.value && !Number.isNaN(date.getTime()) && !/[Zz]|[+-]\d\d:?\d\d$/.test(input.value)) {
      input.value = date.toISOString().slice(0, 19) + "Z";
    }
  }
}, true);

// Charts

const styleOf = (name) => {
  // The canvas knows no light-dark(): an element tells what the colour is now.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
};
const shown = (value) => value == null ? "n/a" : Math.abs(value) >= 100 || Number.isInteger(value) ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : value.toPrecision(3);

function zoomTo(from, until) {
  const address = new URL(location.href);
  address.searchParams.delete("last");
  for (const [name, time] of [["from", from], ["until", until]]) {
    address.searchParams.set(name, new Date(Math.round(time) * 1000).toISOString().replace(".000", ""));
  }
  for (const place of ["before", "after", "around"]) address.searchParams.delete(place);
  location.assign(address);
}

function stacked(series) {
  const sums = series.length ? new Array(series[0].values.length).fill(0) : [];
  return series.map(({ values }) => values.map((value, place) => (sums[place] += value ?? 0))).reverse();
}

const SEVERITY_COLORS = {
  fatal: "--bad", degraded: "--series-4", application: "--series-3", corrected: "--series-6", info: "--series-7",
};

function draw(element) {
  const { times, series, unit, bars, marks, zooms } = JSON.parse(element.dataset.chart);
  const [text, line] = [styleOf("--quiet"), styleOf("--line")];
  const ordered = bars ? [...series].reverse() : series;
  const color = (place) => {
    const one = bars ? series.length - 1 - place : place;
    return styleOf(SEVERITY_COLORS[series[one].severity] ?? `--series-${one % 8}`);
  };
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const markColors = Object.fromEntries(Object.entries(SEVERITY_COLORS).map(([name, variable]) => [name, styleOf(variable)]));
  const options = {
    width: Math.max(element.clientWidth, 200),
    height: element.dataset.height ? Number(element.dataset.height) : 190,
    tzDate: isLocal ? undefined : (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    padding: [null, 36, null, null],
    cursor: { sync: { key: "page" }, drag: { x: zooms, y: false } },
    scales: {
      // A column stands behind its time: the last one needs room.
      x: bars ? { range: (chart, least, most) => [least, most + (times.length > 1 ? times.at(-1) - times.at(-2) : 60)] } : {},
      y: { range: (chart, least, most) => [Math.min(0, least ?? 0), (most ?? 1) * 1.05 || 1] },
    },
    axes: [
      { ...axis, space: 80, values: [
        [86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1],
        [3600, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, null, null, null, null, 1],
        [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, null, null, null, null, 1],
        [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, null, null, null, null, 1],
      ] },
      { ...axis, size: 64, values: (chart, values) => values.map(shown) },
    ],
    series: [
      { label: "time", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
      ...ordered.map((one, place) => ({
        label: one.title,
        stroke: color(place),
        width: bars ? 0 : 1.6,
        fill: bars ? color(place) : undefined,
        paths: bars ? uPlot.paths.bars({ size: [0.9, 60], align: 1 }) : undefined,
        points: { show: bars ? false : undefined, size: 5 },
        value: (chart, value, index, at) => {
          const exact = at == null ? null : ordered[place].values[at];
          return exact == null ? "n/a" : shown(exact) + (unit ? ` ${unit}` : "");
        },
      })),
    ],
    hooks: {
      draw: [(chart) => {
        for (const mark of marks) {
          const [left, right] = [chart.valToPos(mark.time, "x", true), chart.valToPos(mark.end ?? mark.time, "x", true)];
          const { ctx, bbox } = chart;
          if (right < bbox.left || left > bbox.left + bbox.width) continue;
          ctx.save();
          ctx.beginPath();
          ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
          ctx.clip();
          ctx.fillStyle = markColors[mark.severity] ?? text;
          ctx.globalAlpha = mark.end ? 0.18 : 0.7;
          ctx.fillRect(left, bbox.top, Math.max(right - left, devicePixelRatio * 1.5), bbox.height);
          ctx.restore();
        }
      }],
      setSelect: [(chart) => {
        if (zooms && chart.select.width > 4) {
          zoomTo(chart.posToVal(chart.select.left, "x"), chart.posToVal(chart.select.left + chart.select.width, "x"));
        }
      }],
    },
  };
  element.replaceChildren();
  const values = bars ? stacked(series) : series.map((one) => one.values);
  const chart = new uPlot(options, [times, ...values], element);
  charts.push({ chart, element });
}

function drawCharts() {
  for (const { chart } of charts) chart.destroy();
  charts = [];
  for (const element of main.querySelectorAll(".plot[data-chart]")) draw(element);
}

let wide = 0;
new ResizeObserver(() => {
  if (main.clientWidth === wide) return;
  wide = main.clientWidth;
  for (const { chart, element } of charts) chart.setSize({ width: Math.max(element.clientWidth, 200), height: chart.height });
}).observe(main);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);

// Tables: a click on a title sorts, a word filters. Both outlive a renewal.

const orders = new Map();
const words = new Map();

const valueOf = (cell) => {
  const time = cell.querySelector("time[datetime]");
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  if (cell.querySelector(".unknown")) return null;
  return time ? time.getAttribute("datetime") : cell.textContent.trim();
};

function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === "") return 1;
  if (other === null || other === "") return -1;
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
}

function groupsOf(table) {
  // A row and the lines under it belong together.
  const groups = [];
  for (const row of table.tBodies[0].rows) row.matches(".detail") ? groups.at(-1).push(row) : groups.push([row]);
  return groups;
}

function sort(table, place, sign) {
  const groups = groupsOf(table).map((rows) => [valueOf(rows[0].cells[place]), rows]);
  groups.sort(([one], [other]) => (one === null || one === "" || other === null || other === "" ? compare(one, other) : sign * compare(one, other)));
  table.tBodies[0].append(...groups.flatMap(([, rows]) => rows));
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    index === place ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort");
  });
}

function filter(table, text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const rows of groupsOf(table)) {
    const has = rows.map((row) => row.textContent).join(" ").toLowerCase();
    for (const row of rows) row.hidden = !wanted.every((word) => has.includes(word));
  }
}

function equipTables() {
  for (const table of main.querySelectorAll("table[data-name]")) {
    const name = table.dataset.name;
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => {
        const [sorted, sign] = orders.get(name) ?? [];
        orders.set(name, [place, sorted === place ? -sign : head.matches(".text, .code, .state") ? 1 : -1]);
        sort(table, ...orders.get(name));
      });
      head.append(button);
    });
    if (orders.has(name)) sort(table, ...orders.get(name));
    const heading = table.closest("section")?.querySelector("h2");
    if (heading && table.tBodies[0].rows.length > 8) {
      const input = document.createElement("input");
      Object.assign(input, { type: "search", className: "filter", placeholder: "filter", value: words.get(name) ?? "" });
      input.setAttribute("aria-label", `Filter ${heading.firstChild.textContent.trim()}`);
      input.addEventListener("input", () => { words.set(name, input.value); filter(table, input.value); });
      heading.append(" ", input);
      if (input.value) filter(table, input.value);
    }
  }
}

// Renewing: the page is asked for again and its content replaced; what a person has opened, scrolled or written stays.

let isPaused = false;
let failures = 0;

const isBusy = () => {
  const active = document.activeElement;
  const writes = active && main.contains(active) && active.matches("input, select, textarea");
  return isPaused || document.hidden || writes || !getSelection().isCollapsed || main.querySelector(".u-over:active");
};

function placeOf(element) {
  return element.id || element.dataset.key || element.closest("[id]")?.id + " " + element.querySelector("summary")?.textContent;
}

async function renew() {
  if (isBusy()) return;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (response.redirected && new URL(response.url).pathname === "/login") return location.assign(response.url);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = fresh.getElementById("main");
    if (!content || isBusy()) return;
    const open = new Set([...main.querySelectorAll("details[open]")].map(placeOf));
    const scrolled = new Map([...main.querySelectorAll(".scroll")].map((element, place) => [place, [element.scrollLeft, element.scrollTop]]));
    const focused = document.activeElement?.closest?.("#main a[href], #main summary");
    const focusKey = focused && (focused.getAttribute("href") ?? focused.textContent);
    for (const details of content.querySelectorAll("details")) details.open ||= open.has(placeOf(details));
    main.replaceChildren(...content.childNodes);
    document.querySelector("footer").replaceWith(fresh.querySelector("footer"));
    document.title = fresh.title;
    equip();
    main.querySelectorAll(".scroll").forEach((element, place) => {
      const [left, top] = scrolled.get(place) ?? [0, 0];
      element.scrollTo(left, top);
    });
    if (focusKey) [...main.querySelectorAll("a[href], summary")].find((element) => (element.getAttribute("href") ?? element.textContent) === focusKey)?.focus({ preventScroll: true });
    failures = 0;
  } catch {
    failures += 1;
  }
  main.classList.toggle("stale", failures > 1);
}

function renewLater() {
  const seconds = Number(main.dataset.renew);
  if (seconds) setTimeout(async () => { await renew(); renewLater(); }, seconds * 1000);
}

// Buttons and keys

function nameButtons() {
  zone.textContent = isLocal ? "Local time" : "UTC";
  theme.textContent = { light: "Light", dark: "Dark" }[document.documentElement.dataset.theme] ?? "System theme";
  pause.textContent = isPaused ? "Paused" : "Live";
  pause.setAttribute("aria-pressed", String(isPaused));
}

function setTheme(name) {
  name ? (document.documentElement.dataset.theme = name) : delete document.documentElement.dataset.theme;
}

zone.addEventListener("click", () => {
  isLocal = !isLocal;
  remember("zone", isLocal ? "local" : "UTC");
  nameButtons();
  showTimes(document);
  drawCharts();
});
theme.addEventListener("click", () => {
  const next = { "": "dark", dark: "light", light: "" }[document.documentElement.dataset.theme ?? ""];
  remember("theme", next);
  setTheme(next);
  nameButtons();
  drawCharts();
});
pause.addEventListener("click", () => { isPaused = !isPaused; nameButtons(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.target.matches("input, textarea, select")) {
    const search = main.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) event.target.form?.requestSubmit();
});

function equip() {
  equipTables();
  showTimes(document);
  drawCharts();
}

setTheme(remembered("theme", ""));
zone.hidden = theme.hidden = false;
pause.hidden = !main.dataset.renew;
nameButtons();
equip();
renewLater();
