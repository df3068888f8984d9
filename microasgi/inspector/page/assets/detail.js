// The selected moment: what it means, what the handler does, and the state of everything.

import { element, fill } from "./elements.js";
import { culprits, duration, HANDLER, hidden, isEvent, LANES, marked, placeOf } from "./words.js";

const SHOWN_BYTES = 96;
const A_ROW_OF_BYTES = 8;

/** Describe a row of a timeline in `root`. `tables` are the server's own: its phases, and the stages of a cancellation. */
export function describe(root, row, timeline, tables) {
  if (!isEvent(row)) return describeGap(root, row, timeline);
  const lanes = row.frm === row.to ? LANES[row.to] : `${LANES[row.frm]} → ${LANES[row.to]}`;
  fill(
    root,
    element("p", { class: "when" }, `${row.t.toFixed(3)} ms · ${lanes}`),
    element("h2", { class: row.hot ? "hot" : null }, ...marked(row.label)),
    row.why && element("p", {}, ...marked(row.why)),
    row === timeline.rows[timeline.focus] && named(timeline),
    handler(row, timeline),
    phases(row.state, tables.phases),
    stages(row.state, tables.stages),
    bytes(row.bytes),
    rests(row.spec),
    where(row),
  );
}

/** Show the code of a place that is named elsewhere. */
export function describePlace(root, place, timeline) {
  fill(root, element("p", { class: "when" }, "named above"), element("h2", {}, element("code", {}, place)), sources([place], timeline));
}

function describeGap(root, row, timeline) {
  const when = `${row.t.toFixed(3)} ms, for ${duration(row.gap)}`;
  const place = placeOf(row, timeline);
  fill(root, element("p", { class: "when" }, when), element("h2", {}, `${duration(row.gap)} ${row.note ?? ""}`), sources([place], timeline));
}

/** The code of what the reasons name. */
function named(timeline) {
  const places = culprits(timeline);
  return places.length ? section("What the reason names", null, ...sources(places, timeline)) : null;
}

/** The code around these places; those that are near each other are shown in one. */
function sources(places, { places: known }) {
  const shown = [];
  for (const { path, line, code: lines } of places.map((place) => known[place])) {
    const near = shown.find((each) => each.path === path && each.lines.some(([number]) => number === line));
    if (near) {
      const more = lines.filter(([number]) => !near.lines.some(([other]) => other === number));
      near.lines = [...near.lines, ...more].sort(([one], [other]) => one - other);
      near.meant.push(line);
    } else shown.push({ path, lines, meant: [line] });
  }
  return shown.flatMap(({ path, lines, meant }) => [element("p", { class: "path" }, element("code", {}, path)), code(lines, meant, "meant")]);
}

function section(title, aside, ...content) {
  return element("section", {}, element("h3", {}, title, aside && element("span", { class: "aside" }, aside)), ...content);
}

/** Lines of code, as pairs of a number and a text. Some of them are those that are meant. */
function code(lines, meant, kind) {
  const those = [meant].flat();
  const margin = Math.min(...lines.filter(([, text]) => text.trim()).map(([, text]) => text.length - text.trimStart().length));
  const made = lines.map(([number, text]) =>
    element("div", { class: those.includes(number) ? kind : null }, element("span", { class: "number" }, String(number)), text.slice(margin) || " "),
  );
  return element("div", { class: "code", tabindex: 0, role: "group", "aria-label": `code around line ${those.join(" and ")}` }, ...made);
}

function handler({ state }, timeline) {
  if (!state.at) return null;
  const [place] = state.at.split(" ");
  const source = timeline.rows.find((row) => row.src && `${row.src.file}:${row.src.line}` === place)?.src;
  const pill = element("span", { class: `pill ${state.handler}` }, HANDLER[state.handler] ?? state.handler);
  const chain = (state.chain ?? []).length > 1 ? element("p", { class: "chain" }, "awaits ", ...between(state.chain.map((step) => element("code", {}, step)), " › ")) : null;
  const shown = source ? code(source.code, source.line, state.handler || "meant") : element("p", {}, element("code", {}, state.at));
  return section("Your handler", pill, shown, chain);
}

function between(parts, separator) {
  return parts.flatMap((part, index) => (index ? [separator, part] : [part]));
}

/** The server's table, with the cell that was taken. Columns and rows that few responses meet are shown if this one met them. */
function phases(state, table) {
  if (!state.phase || !table) return null;
  const [from, to, taken] = state.last ?? [state.phase, null, null];
  const column = taken ?? (to === "GONE" ? table.leaves : table.columns.find((name) => table.rows[from]?.[name] === to));
  const columns = table.columns.filter((name) => table.usual.includes(name) || name === column);
  const rows = Object.keys(table.rows).filter((phase) => !table.unusual.includes(phase) || [from, to, state.phase].includes(phase));
  const head = element("tr", {}, element("td"), ...columns.map((name) => element("th", { scope: "col" }, table.words[name] ?? name)));
  const body = rows.map((phase) => {
    const cells = columns.map((name) => {
      const on = state.last && phase === from && name === column;
      const kind = on ? (name === table.leaves ? "on hot" : "on") : null;
      return element("td", { class: kind }, table.rows[phase][name] ?? "");
    });
    return element("tr", { class: phase === state.phase ? "now" : null }, element("th", { scope: "row" }, phase), ...cells);
  });
  const words = state.last ? `${from} → ${to}` : state.phase;
  return section("The response", element("code", {}, words), element("table", { class: "phases" }, element("thead", {}, head), element("tbody", {}, ...body)));
}

function stages(state, known) {
  if (!state.stage || !known) return null;
  const at = known.findIndex(([name]) => name === state.stage);
  const steps = known.map(([name, means], index) => {
    const kind = index === at ? (index > 0 && index < known.length - 1 ? "on hot" : "on") : index < at ? "was" : null;
    return element("li", { class: kind, title: means, "aria-current": index === at ? "step" : null }, name);
  });
  return section("Delivery of the cancellation", null, element("ol", { class: "stages" }, ...steps), element("p", {}, state.means || (known[at]?.[1] ?? "")));
}

function bytes(data) {
  if (!data || !data.bytes && !data.hex) return null;
  const values = ((data.bytes ?? data.hex).match(/../g) ?? []).map((pair) => parseInt(pair, 16)).slice(0, SHOWN_BYTES);
  const lines = [];
  for (let at = 0; at < values.length; at += A_ROW_OF_BYTES) lines.push(...line(values.slice(at, at + A_ROW_OF_BYTES), at), "\n");
  const size = `${data.size.toLocaleString("en")}${data.size > values.length ? `, the first ${values.length}` : ""}`;
  return section("Bytes", size, element("pre", { class: "bytes", tabindex: 0 }, ...lines));
}

function line(values, at) {
  const pairs = values.map((value) => (value ? value.toString(16).padStart(2, "0") : "\0\0"));
  const letters = values.map((value) => (value === 13 ? "␍" : value === 10 ? "␊" : value === 0 || (value > 31 && value < 127) ? String.fromCharCode(value) : "·"));
  const space = "   ".repeat(A_ROW_OF_BYTES - values.length);
  return [`${at.toString(16).padStart(3, "0")}  `, ...hidden(pairs.join(" ")), `${space}  `, element("b", {}, ...hidden(letters.join("")))];
}

function rests(spec) {
  if (!spec) return null;
  const [document, part, words] = spec;
  return section("What it rests on", null, element("blockquote", {}, words && element("p", {}, ...marked(words)), element("cite", {}, `${document}, ${part}`)));
}

function where({ src, state }) {
  if (!src || !(src.code ?? []).length) return null;
  const shown = state.at && state.at.split(" ")[0] === `${src.file}:${src.line}`; // by "Your handler" already
  return shown ? null : section("Where it happens", element("code", {}, src.path), code(src.code, src.line, "meant"));
}
