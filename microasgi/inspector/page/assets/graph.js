// The drawing beside the words: a line of life for each lane, what state it is in, and who tells whom.
//
//     client  socket  server  ASGI  handler
//        ○       │       │      │      │
//        ├──────▸○       ┃      │      ▒      bars: what a lane does meanwhile
//        ✕━━━━━━▸✕━━━━━━▸✕━━━━━▸✕━━━━━▸✕      the path of the news
//
// All looks are classes (ladder.css), so that dark, light and forced colours need nothing here.

import { drawn } from "./elements.js";
import { isEvent } from "./words.js";

const [SOCKET, SERVER, HANDLER] = [1, 2, 4];

/** Where lanes stand, for a view of this width in pixels. */
export function geometry(width) {
  const step = width < 560 ? 40 : width < 760 ? 50 : 57;
  return { lanes: [0, 1, 2, 3, 4].map((lane) => 24 + lane * step), width: 4 * step + 54, times: width < 560 ? 62 : 70 };
}

/** Draw rows, whose tops and heights are `places`, in pixels. */
export function graph(rows, places, { lanes, width }) {
  const end = places.length ? places.at(-1).top + places.at(-1).height : 0;
  const middle = (index) => places[index].top + places[index].height / 2;
  const parts = [
    ...lanes.map((x) => drawn("line", { class: "life", x1: x, x2: x, y1: 0, y2: end })),
    ...gaps(rows, places, lanes),
    ...spans(rows, middle, end, { x: lanes[SOCKET], width: 4 }, (row) => wire(row.state)),
    ...spans(rows, middle, end, { x: lanes[SERVER], width: 8 }, (row) => row.state.phase && `phase ${row.state.phase.toLowerCase()}`),
    ...spans(rows, middle, end, { x: lanes[HANDLER], width: 8 }, (row) => row.state.handler && `handler ${row.state.handler}`),
    news(rows, middle, lanes),
    ...rows.flatMap((row, index) => (isEvent(row) ? [arrow(row, middle(index), lanes), mark(row, middle(index), lanes)] : [])),
  ];
  return drawn("svg", { width, height: end, "aria-hidden": "true", focusable: "false" }, hatch(), ...parts.filter(Boolean));
}

function wire(state) {
  if (state.wire !== "open") return null;
  return state.reading === false ? "wire paused" : "wire";
}

/** The pattern of work that nobody waits for. */
function hatch() {
  const stripes = [drawn("rect", { class: "ground", width: 6, height: 6 }), drawn("rect", { class: "stripe", width: 2.4, height: 6 })];
  return drawn("defs", {}, drawn("pattern", { id: "for-nobody", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, ...stripes));
}

function gaps(rows, places, lanes) {
  return rows.flatMap((row, index) => {
    if (isEvent(row)) return [];
    const [top, bottom] = [places[index].top + 6, places[index].top + places[index].height - 6];
    return lanes.flatMap((x) => [
      drawn("rect", { class: "cut", x: x - 2, y: top, width: 4, height: bottom - top }),
      drawn("line", { class: "dots", x1: x, x2: x, y1: top, y2: bottom }),
    ]);
  });
}

/** A bar on a lane for as long as `look` gives the same classes. A gap changes nothing. */
function spans(rows, middle, end, { x, width }, look) {
  const bars = [];
  let [began, current] = [0, null];
  const close = (bottom) => {
    const shape = { x: x - width / 2, y: began, width, height: Math.max(bottom - began, 2), rx: width * 0.4 };
    if (current) bars.push(drawn("rect", { class: current, ...shape }));
  };
  rows.forEach((row, index) => {
    if (!isEvent(row)) return;
    const next = look(row) || null;
    if (next === current) return;
    close(middle(index));
    [began, current] = [middle(index), next];
  });
  close(end);
  return bars;
}

/** The way of the news, under its arrows. */
function news(rows, middle, lanes) {
  const steps = rows.flatMap((row, index) => (isEvent(row) && row.hot ? [[lanes[row.to], middle(index)]] : []));
  if (steps.length < 2) return null;
  const [[x, y], ...rest] = steps;
  return drawn("path", { class: "news", d: `M${x} ${y}${rest.map(([x, y]) => ` V${y} H${x}`).join("")}` });
}

function arrow(row, y, lanes) {
  if (row.frm === row.to) return null;
  const [from, to] = [lanes[row.frm], lanes[row.to]];
  const way = Math.sign(to - from);
  const tip = to - way * 7;
  const kind = row.hot ? "arrow hot" : "arrow";
  return drawn("g", { class: kind }, drawn("line", { x1: from + way * 4, x2: tip - way * 3, y1: y, y2: y }), drawn("path", { d: `M${tip} ${y} l${-way * 6} -3.5 v7 z` }));
}

function mark(row, y, lanes) {
  const x = lanes[row.to];
  const kind = `mark${row.hot ? " hot" : ""}`;
  if (row.glyph === "✕") {
    const cross = drawn("path", { d: `M${x - 3.8} ${y - 3.8} l7.6 7.6 m0 -7.6 l-7.6 7.6` });
    return drawn("g", { class: kind }, drawn("circle", { class: "ground", cx: x, cy: y, r: 6 }), cross);
  }
  if (row.glyph === "!") return drawn("path", { class: "mark lint", d: `M${x} ${y - 5.5} l5.5 10 h-11 z` });
  if (row.glyph === "◌") return drawn("circle", { class: `${kind} wait ${row.state.handler || ""}`, cx: x, cy: y, r: 4.6 });
  return drawn("circle", { class: kind, cx: x, cy: y, r: 4 });
}
