// "Be the client": what a browser can't do, since it can neither reset a connection nor stop reading, the inspector does for it.

import { post } from "./connection.js";
import { element, fill, named } from "./elements.js";

/** The form. `told` gets what went wrong. */
export class Launch {
  #visit = null; // the number of the one that is open, and can leave
  #ways = new Map();

  constructor(told) {
    this.told = told;
    named("launch").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    named("way").addEventListener("change", () => this.#suit());
    for (const id of ["more", "export", "routes"]) closing(named(id));
  }

  /** Offer what there is to ask for, and the ways to leave. */
  offer({ ways, paths }) {
    this.#ways = new Map(ways.map((way) => [way.name, way]));
    fill(named("way"), ...ways.map((way) => element("option", { value: way.name, title: way.help }, way.title)));
    fill(named("paths"), ...[...new Set(paths.map(([, path]) => path))].sort().map((path) => element("option", { value: path })));
    named("routes").hidden = paths.length < 2;
    named("routes-count").textContent = `${paths.length} routes`;
    fill(named("routes-choices"), ...paths.map((each) => this.#choice(each)));
    if (named("path").value === "/" && paths.length) this.#choose(paths[0]);
    this.#suit();
  }

  /** Send a request; or, if one waits for us to leave, leave. */
  async go() {
    const form = named("launch");
    if (this.#visit === null && !form.reportValidity()) return;
    try {
      if (this.#visit !== null) await post("/leave", { visit: this.#visit });
      else await post("/open", this.#asked());
    } catch (error) {
      this.told(error.message);
    }
  }

  /** A visit has changed: `state` is "open", while it can be told to leave, or "over". */
  visit({ visit, state, words }) {
    if (state === "open") this.#visit = visit;
    else if (visit === this.#visit) this.#visit = null;
    named("launched").textContent = named("launched").title = words;
    this.#suit();
  }

  /** No visit of ours is open any more. */
  reset() {
    this.#visit = null;
    this.#suit();
  }

  /** A route, to be chosen from all. */
  #choice([method, path]) {
    const chosen = () => {
      this.#choose([method, path]);
      named("routes").open = false;
      named("path").focus();
    };
    return element("button", { type: "button", onclick: chosen }, `${method} ${path}`);
  }

  #choose([method, path]) {
    named("method").value = method;
    named("path").value = path;
  }

  #asked() {
    const after = named("after").value;
    return {
      method: named("method").value,
      path: named("path").value,
      headers: named("fields").value,
      body: named("body").value,
      way: named("way").value,
      after: this.#waits() && after !== "" ? Number(after) : null,
    };
  }

  #waits() {
    return this.#ways.get(named("way").value)?.waits ?? false;
  }

  #suit() {
    named("go-text").textContent = this.#visit === null ? "Send" : "Leave now";
    named("after-field").hidden = !this.#waits();
  }
}

/** A menu that closes with Escape, and when one goes elsewhere. */
function closing(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
}
