// One timeline: its sentence, its bar of true scale, and its rows, a listbox through which one steps in time.

import { element, fill } from "./elements.js";
import { geometry, graph } from "./graph.js";
import { duration, isEvent, LANES, marked, placeOf, plain, sentence } from "./words.js";

const HEIGHTS = { row: 25, gap: 34, late: 64 };
const MOST = 3000; // rows; a browser draws so many at once

/** A view of timelines in `root`. `chosen` is called with each row that becomes the selected one, `pointed` with a place that is clicked. */
export class Ladder {
  constructor(root, chosen = () => {}, pointed = null) {
    this.root = root;
    this.chosen = chosen;
    this.pointed = pointed;
    this.timeline = null;
    this.selected = null;
    this.byHand = false; // whether somebody has selected a row; else it is the one that matters most
  }

  /** Draw this timeline. A row that somebody has selected stays selected, if it is still there. `scale` is the bar's length in ms. */
  show(timeline, { scale = timeline.total, select = null } = {}) {
    if (this.timeline?.id !== timeline.id) this.byHand = false;
    const kept = this.byHand ? this.timeline.rows[this.selected] : null;
    const scrolled = kept ? this.root.querySelector(".ladder")?.scrollTop ?? 0 : 0;
    const focused = this.root.contains(document.activeElement);
    this.timeline = { ...timeline, rows: timeline.rows.slice(0, MOST) };
    this.root.dataset.running = timeline.running;
    fill(this.root, heading(timeline, scale, (place, code) => this.#linked(place, code)), this.#ladder());
    this.root.querySelector(".ladder").scrollTop = scrolled;
    this.select(select ?? this.#again(kept) ?? this.#first(), { focus: focused, byHand: this.byHand });
  }

  /** Say something instead of a timeline. */
  say(words) {
    this.timeline = this.selected = null;
    fill(this.root, element("p", { class: "empty" }, ...marked(words)));
  }

  /** Select a row by its index. */
  select(index, { focus = true, byHand = true } = {}) {
    if (!this.timeline || !this.#stops(this.timeline.rows[index] ?? {})) return;
    this.selected = index;
    this.byHand = byHand;
    for (const row of this.root.querySelectorAll("[role=option]")) {
      const on = row.dataset.index === String(index);
      row.setAttribute("aria-selected", String(on));
      row.tabIndex = on ? 0 : -1;
      if (on && focus) row.focus({ preventScroll: true });
      if (on) row.scrollIntoView({ block: "nearest" });
    }
    this.chosen(this.timeline.rows[index], this.timeline);
  }

  /** Go to the next row in this direction that `wanted` admits. Whether there was one. */
  move(step, wanted = () => true) {
    if (!this.timeline) return false;
    const { rows } = this.timeline;
    for (let index = this.selected + step; index >= 0 && index < rows.length; index += step) {
      if (this.#stops(rows[index]) && wanted(rows[index])) {
        this.select(index);
        return true;
      }
    }
    return false;
  }

  /** Go to the first or the last row. */
  jump(last) {
    const { rows } = this.timeline ?? { rows: [] };
    const index = last ? rows.findLastIndex(isEvent) : rows.findIndex(isEvent);
    if (index >= 0) this.select(index);
  }

  /** Where a row is that was selected in an older version of the timeline: rows may have been folded since. */
  #again(kept) {
    if (!kept) return null;
    const index = this.timeline.rows.findIndex((row) => isEvent(row) && row.t === kept.t && row.label === kept.label);
    return index < 0 ? null : index;
  }

  /** Whether one can select it: an event, or a gap of which it is known where the handler is. */
  #stops(row) {
    return isEvent(row) || (this.pointed && placeOf(row, this.timeline) !== null);
  }

  /** A place in the words, to be clicked. */
  #linked(place, code) {
    if (!this.pointed || !this.timeline.places?.[place]) return null;
    return element("button", { type: "button", class: "place", onclick: () => this.pointed(place, this.timeline) }, code);
  }

  #first() {
    const { focus, rows } = this.timeline;
    return rows[focus] && isEvent(rows[focus]) ? focus : rows.findLastIndex(isEvent);
  }

  #ladder() {
    const { rows, title, server } = this.timeline;
    const shape = geometry(this.root.clientWidth);
    const places = [];
    let top = 0;
    for (const row of rows) {
      const height = isEvent(row) ? HEIGHTS.row : row.late ? HEIGHTS.late : HEIGHTS.gap;
      places.push({ top, height });
      top += height;
    }
    const list = element("div", { class: "rows", role: "listbox", "aria-label": `Timeline of ${plain(title)} on ${server}` });
    list.append(graph(rows, places, shape), ...rows.map((row, index) => (isEvent(row) ? this.#row(row, index) : this.#gap(row, index))));
    const box = element("div", { class: "ladder" }, lanes(shape), list);
    box.style.setProperty("--times", `${shape.times}px`);
    box.style.setProperty("--graph", `${shape.width}px`);
    return box;
  }

  #row(row, index) {
    const before = this.timeline.rows[index - 1];
    const attributes = {
      class: row.hot ? "row hot" : row.glyph === "!" ? "row lint" : "row",
      role: "option",
      tabindex: -1,
      "data-index": index,
      "aria-selected": "false",
      "aria-label": sentence(row, before && !isEvent(before) ? before : null),
      onclick: () => this.select(index),
    };
    const place = row.src ? `${row.src.file}:${row.src.line}` : "";
    return element(
      "div", attributes,
      element("span", { class: "time" }, row.t.toFixed(3)),
      element("span", { class: "words" }, ...marked(row.label)),
      element("span", { class: "place" }, place),
    );
  }

  #gap(row, index) {
    const place = this.#stops(row) ? placeOf(row, this.timeline) : null;
    const words = row.fold ? [element("span", {}, ...marked(row.fold))] : [element("b", {}, duration(row.gap)), " ", ...marked(row.note || "")];
    const label = `${duration(row.gap)} ${plain(row.note || "")}, at ${place}`;
    const option = { role: "option", tabindex: -1, "data-index": index, "aria-selected": "false", "aria-label": label, onclick: () => this.select(index) };
    const kind = row.late ? "gap late" : "gap";
    const shown = place && element("code", {}, ` ${place}`);
    return element("div", { class: kind, ...(place ? option : { "aria-hidden": "true" }) }, element("span", { class: "words" }, ...words, shown));
  }
}

function lanes({ lanes }) {
  const names = LANES.map((name, lane) => {
    const made = element("span", {}, name);
    made.style.left = `${lanes[lane]}px`;
    return made;
  });
  return element("div", { class: "lanes", "aria-hidden": "true" }, element("span", { class: "names" }, ...names));
}

function heading(timeline, scale, linked) {
  return element(
    "div", { class: "heading" },
    element("h2", {}, element("code", {}, ...marked(timeline.title)), ` on ${timeline.server}`),
    element("p", { class: "sum" }, ...marked(timeline.sum)),
    ...(timeline.reasons ?? []).map((reason) => element("p", { class: timeline.meant ? "reason meant" : "reason" }, ...marked(reason, linked))),
    bar(timeline, scale),
  );
}

/** Where the time went, without folds. */
function bar({ bars, left, alt, total }, scale) {
  const share = (ms) => `${(100 * ms) / (scale || 1)}%`;
  const box = element("div", { class: "bar", role: "img", "aria-label": alt });
  for (const [from, to, kind, words] of bars) {
    const part = element("span", { class: `part ${kind}` }, words || "");
    part.style.left = share(from);
    part.style.width = `max(2px, ${share(to - from)})`;
    box.append(part);
  }
  const ends = element("div", { class: "ends", "aria-hidden": "true" }, element("span", {}, "0"), element("span", {}, duration(Math.max(scale, total))));
  if (left !== null && left !== undefined) {
    const line = element("span", { class: "left" });
    line.style.left = share(left);
    box.append(line);
    const words = element("span", { class: "departure" }, `✕ the client left at ${duration(left)}`);
    words.style.setProperty("--at", share(Math.min(left, 0.8 * scale)));
    words.classList.toggle("late", left > 0.5 * scale);
    ends.append(words);
  }
  return element("div", {}, box, ends);
}
