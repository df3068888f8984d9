// How the page says things.

import { element } from "./elements.js";

export const LANES = ["client", "socket", "server", "ASGI", "handler"];

/** What the handler does, by its state. */
export const HANDLER = {
  running: "runs",
  waiting: "waits",
  cancelled: "is cancelled",
  cleanup: "cleans up",
  over: "is over",
  nobody: "works for nobody",
};

/** Milliseconds, as people read them. */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(3)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}

const MARKS = /(`[^`]*`|\*[^*]+\*)/;
const HIDDEN = /(\0+)/;

const PLACE = /^([\w.-]+\.py:\d+)/;

/**
 * Text with `code` and *news* in it, as nodes. What was redacted is a run of NULs, and shows as a bar of that length.
 * Code that begins with a place, as shop.py:30, is what `linked` makes of both, if it makes anything.
 */
export function marked(text, linked = () => null) {
  return String(text).split(MARKS).filter(Boolean).map((piece) => {
    if (/^`[^`]*`$/.test(piece)) {
      const code = element("code", {}, ...hidden(piece.slice(1, -1)));
      return linked(PLACE.exec(piece.slice(1))?.[1], code) ?? code;
    }
    if (/^\*[^*]+\*$/.test(piece)) return element("strong", { class: "news" }, ...marked(piece.slice(1, -1), linked));
    return hidden(piece);
  }).flat();
}

/** Text in which what was redacted is a bar. */
export function hidden(text) {
  return String(text).split(HIDDEN).filter(Boolean).map((piece) => (piece[0] === "\0" ? bar(piece.length) : piece));
}

function bar(length) {
  return element("span", { class: "redacted", title: "hidden" }, "x".repeat(length));
}

/** The same text without marks, for a label that is read aloud. */
export function plain(text) {
  return String(text).replace(/`|\*(?=\S[^*]*\*)|\*(?=\W|$)/g, "").replace(/\0+/g, "(hidden)");
}

/** What a row says when it is read aloud: when, who, what, and whether it belongs to the news. */
export function sentence(row, before) {
  const between = row.frm === row.to ? LANES[row.to] : `${LANES[row.frm]} to ${LANES[row.to]}`;
  const gap = before ? `After ${before.fold ? plain(before.fold) : `${duration(before.gap)} ${plain(before.note || "")}`.trim()}: ` : "";
  return `${gap}${row.t.toFixed(3)} milliseconds, ${between}: ${plain(row.label)}.${row.hot ? " This is the news of the departure." : ""}`;
}

/** The place that a gap between two events has, as shop.py:30, if its code can be shown. */
export function placeOf(row, timeline) {
  const [place] = (row.at ?? "").split(/[ :](?!\d)/);
  return timeline.places?.[place] ? place : null;
}

/** The places that the reasons name, and whose code can be shown. */
export function culprits({ reasons, places }) {
  const named = (reasons ?? []).flatMap((reason) => reason.match(/[\w.-]+\.py:\d+/g) ?? []);
  return [...new Set(named)].filter((place) => places?.[place]);
}

/** Whether this line of a timeline is an event, and no gap or fold between two. */
export function isEvent(row) {
  return row.state !== undefined;
}
