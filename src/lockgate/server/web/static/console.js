// What the console's pages do beyond HTML: focus after a swap, graphs, copying, the key "/". Everything works without.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);

// After a swap the eye and the screen reader go to what the page says, or to its heading.
function focusAfterSwap() {
  const wanted = $("#focus-on");
  const control = wanted && document.getElementById(wanted.dataset.for);
  if (control && !control.disabled) {
    control.focus();
    return;
  }
  const target = $("#main [data-focus]") || $("#main h1");
  if (target) {
    target.focus({ preventScroll: false });
    if (target.tagName === "H1") window.scrollTo(0, 0);
  }
}

function prepare(root) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  for (const moment of root.querySelectorAll("time[data-local]")) {
    moment.title = new Date(moment.dateTime).toLocaleString();
  }
  for (const holder of root.querySelectorAll("[data-graph]")) draw(holder);
}

document.addEventListener("DOMContentLoaded", () => prepare(document));

document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail?.ctx?.target;
  if (target?.id === "main" || !target?.isConnected) {
    prepare($("#main"));
    focusAfterSwap();
  } else {
    prepare(target);
  }
});

document.addEventListener("click", async (event) => {
  const copy = event.target.closest?.("[data-copy]");
  if (copy) {
    const text = document.getElementById(copy.dataset.copy).textContent;
    await navigator.clipboard.writeText(text);
    copy.lastChild.textContent = " Copied";
  }
  for (const open of document.querySelectorAll(".lg-person[open], .lg-command[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
  const found = $("#found");
  if (found && !found.contains(event.target) && event.target.id !== "search") found.replaceChildren();
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("#search")?.focus();
  }
  if (event.key === "Escape") {
    $("#found")?.replaceChildren();
    for (const open of document.querySelectorAll(".lg-person[open], .lg-command[open]")) {
      open.open = false;
      if (open.contains(document.activeElement)) $("summary", open).focus();
    }
  }
  if (event.key === "ArrowDown" && event.target.id === "search") $("#found a")?.focus();
});

// Another kind of a condition has other fields: the page asks for them.
document.addEventListener("change", (event) => {
  const button = event.target.dataset?.kind && document.getElementById(event.target.dataset.kind);
  if (button) button.click();
});

// Graphs: the table beside each holds its numbers. First column: seconds since 1970; one column for each line.
const COLOURS = { light: ["#1d4ed8", "#0e7490", "#b45309", "#6d28d9"], dark: ["#7aa2ff", "#38bdf8", "#fbbf24", "#c4a7ff"] };

// How the axis of time is written: distance of two marks in seconds, mark, then what stands below when the year, month,
// day, hour, minute changes. UTC, as everywhere on these pages.
const DATE = "\n{YYYY}-{MM}-{DD}";
const TIMES = [
  [3600 * 24 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", DATE, null, DATE, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", DATE, null, DATE, null, null, null, 1],
];

function draw(holder) {
  if (holder.firstChild || typeof uPlot === "undefined") return;
  const table = document.getElementById(holder.dataset.graph);
  const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].reverse();
  const number = (cell) => (cell.dataset.value === "" ? null : Number(cell.dataset.value));
  const scale = Number(holder.dataset.scale || 1);
  const scaled = (value, at) => (at && value !== null ? value / scale : value);
  const data = titles.map((_, at) => rows.map((row) => scaled(number(row.cells[at]), at)));
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--lg-muted").trim();
  const line = style.getPropertyValue("--lg-line").trim();
  const colours = COLOURS[document.documentElement.dataset.bsTheme === "dark" ? "dark" : "light"];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const least = Number(holder.dataset.least || 1) / scale;
  const graph = new uPlot(
    {
      width: holder.clientWidth,
      height: 180,
      legend: { live: false, markers: { width: 2 } },
      cursor: { points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, least)] } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [{ ...axis, values: TIMES }, { ...axis, size: 56 }],
      series: [
        {},
        ...titles.slice(1).map((label, at) => ({
          label,
          stroke: colours[at],
          width: 2,
          dash: at ? [6, 2 + 2 * at] : undefined,
          points: { show: rows.length < 3 },
        })),
      ],
    },
    data,
    holder,
  );
  new ResizeObserver(() => {
    if (holder.clientWidth) graph.setSize({ width: holder.clientWidth, height: 180 });
  }).observe(holder);
}
