// The requests that the inspector remembers, the newest first.

import { element, fill, named } from "./elements.js";
import { marked } from "./words.js";

/** The list. `open` is called with the id of the one that is chosen. */
export class Requests {
  #known = new Map();
  #buttons = new Map();

  constructor(open) {
    this.open = open;
    this.current = null;
  }

  /** Begin again. */
  clear() {
    this.#known.clear();
    this.#buttons.clear();
    this.current = null;
    fill(named("requests"));
    named("none").hidden = false;
  }

  /** A request is new, or has changed. Whether it is new, or is known only now to be our own. */
  put(summary) {
    const isNew = !this.#known.has(summary.id);
    const isOurs = summary.ours && !this.#known.get(summary.id)?.ours;
    this.#known.set(summary.id, summary);
    named("none").hidden = true;
    const button = this.#drawn(summary);
    if (isNew) named("requests").prepend(button);
    else this.#buttons.get(summary.id).replaceWith(button);
    if (this.#buttons.get(summary.id)?.contains(document.activeElement)) button.focus();
    this.#buttons.set(summary.id, button);
    return isNew || isOurs;
  }

  /** The inspector has forgotten all before this one. */
  drop(before) {
    for (const id of [...this.#known.keys()].filter((id) => id < before)) {
      this.#known.delete(id);
      this.#buttons.get(id)?.remove();
      this.#buttons.delete(id);
    }
  }

  /** What is known of the current one. */
  get summary() {
    return this.#known.get(this.current);
  }

  /** Mark one as the current one. */
  mark(id) {
    this.current = id;
    for (const [own, button] of this.#buttons) button.setAttribute("aria-current", String(own === id));
    this.#buttons.get(id)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Go to the next older (1) or newer (-1) one. */
  move(step) {
    const ids = [...this.#known.keys()].reverse();
    const next = ids[ids.indexOf(this.current) + step];
    if (next !== undefined) this.open(next);
  }

  #drawn(summary) {
    const { id, short, status, how, bars, total, running } = summary;
    const mini = element("span", { class: "mini", "aria-hidden": "true" }, ...bars.map(([from, to, kind]) => part(kind, (to - from) / (total || 1))));
    const shown = running ? "…" : status ? String(status) : "–";
    const left = status === 499 || summary.left !== null;
    return element(
      "button",
      { type: "button", class: "request", "aria-current": String(id === this.current), onclick: () => this.open(id) },
      element("span", { class: "top" }, element("span", { class: "short" }, ...marked(short)), element("span", { class: left ? "status hot" : "status" }, shown)),
      element("span", { class: "how" }, ...marked(how)),
      mini,
    );
  }
}

function part(kind, share) {
  const made = element("span", { class: `part ${kind}` });
  made.style.width = `${100 * share}%`;
  return made;
}
