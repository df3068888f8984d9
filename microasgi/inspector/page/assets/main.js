// The page: what comes from the inspector, what the keys do, and which request is looked at.
//
//     connection.js ──lines──► main.js ──► requests.js   the list
//                                     ├──► ladder.js ──► graph.js   one timeline, and its drawing
//                                     ├──► detail.js     the selected moment
//                                     └──► launch.js     "be the client"

import { follow, get, post, save } from "./connection.js";
import { describe, describePlace } from "./detail.js";
import { element, fill, named } from "./elements.js";
import { Ladder } from "./ladder.js";
import { Launch } from "./launch.js";
import { Requests } from "./requests.js";
import { duration, plain } from "./words.js";

const A_NOTICE_STAYS = 12000; // ms
const A_TURN = 100; // ms

let hello = { phases: null, stages: null };
let comparing = null; // the id of the request that is compared
let said = ""; // the last sentence that was read aloud
let pinned = false; // whether somebody has chosen a request, which others then don't push aside

const view = new Ladder(
  named("view"),
  (row, timeline) => describe(named("detail"), row, timeline, hello),
  (place, timeline) => {
    view.byHand = true; // who reads its code isn't pushed aside
    describePlace(named("detail"), place, timeline);
    named("detail").focus();
  },
);
const other = new Ladder(named("other"));
const requests = new Requests((id) => {
  pinned = true;
  open(id);
});
const launch = new Launch(notice);

// What the inspector tells.

const TOLD = {
  hello(news) {
    hello = news;
    requests.clear();
    launch.reset();
    launch.offer(news);
    named("target").textContent = news.target;
    named("terms").textContent = news.terms;
    document.title = `microasgi inspect · ${news.target}`;
    live("live", `live · ${news.loop} · ${news.address}`);
    view.say("Send a request from above, or with anything else, and look at it here.");
  },
  request(news) {
    const isNew = requests.put(news);
    if ((isNew && follows(news)) || news.id === requests.current) open(news.id);
  },
  forgotten({ before }) {
    requests.drop(before);
  },
  visit(news) {
    launch.visit(news);
  },
  loop({ blocked, at, stack }) {
    const banner = named("blocked");
    banner.hidden = !blocked;
    if (!blocked) return;
    fill(
      banner,
      element("strong", {}, "The event loop is blocked."),
      ` It has not turned for ${duration(1000 * blocked)}, so nobody can be served, and nobody told to stop. It stands in `,
      element("code", {}, at),
      ". What takes long there belongs into a thread (a plain ",
      element("code", {}, "def"),
      " handler runs in one) or must await.",
      stack.length > 1 && element("span", { class: "stack" }, "Called from ", element("code", {}, stack.slice(0, -1).reverse().join(" ‹ "))),
    );
  },
  left_out({ events }) {
    notice(`${events.toLocaleString("en")} events left out: this page did not keep up.`);
  },
};

function live(state, words) {
  named("live").dataset.state = state;
  named("live-text").textContent = words;
}

/** Whether the page should turn to a new request: not while it compares, nor away from one that somebody studies; but to our own. */
function follows(news) {
  if (news.ours) pinned = view.byHand = false;
  return comparing === null && !pinned && !view.byHand;
}

let noticed = 0;

function notice(words) {
  named("notice").textContent = words;
  named("notice").hidden = false;
  clearTimeout(noticed);
  noticed = setTimeout(() => (named("notice").hidden = true), A_NOTICE_STAYS);
}

// The request that is looked at. A timeline that is being fetched while its request changes is fetched once more.

let fetching = false;
let wanted = null;

async function open(id) {
  wanted = id;
  requests.mark(id);
  if (fetching) return;
  fetching = true;
  try {
    while (wanted !== null) {
      const asked = wanted;
      wanted = null;
      const timeline = await get(`/timeline/${asked}`);
      if (requests.current === asked && comparing === null) show(timeline);
      if (wanted === asked) await new Promise((go) => setTimeout(go, A_TURN)); // it changes faster than one can look
    }
  } catch (error) {
    notice(error.message);
  } finally {
    fetching = false;
  }
}

function show(timeline) {
  view.show(timeline);
  named("compare").disabled = !hello.compares;
  const told = timeline.left === null ? "" : `${plain(timeline.title)}: ${plain(timeline.sum)}`;
  if (told && told !== said && !timeline.running) named("say").textContent = said = told;
}

// Beside another server.

async function compare() {
  const id = requests.current;
  if (comparing !== null || id === null) return compared(null);
  compared(id);
  other.say(`The same app gets the same request on ${hello.compares}. That takes as long as its handler works.`);
  try {
    const [ours, theirs] = await Promise.all([get(`/timeline/${id}`), post("/compare", { id })]);
    if (comparing !== id) return;
    const scale = Math.max(ours.total, theirs.total);
    view.show(ours, { scale });
    other.show(theirs, { scale });
    named("say").textContent = `${plain(ours.sum)} On ${theirs.server}: ${plain(theirs.sum)}`;
  } catch (error) {
    other.say(error.message);
  }
}

function compared(id) {
  comparing = id;
  named("compare").setAttribute("aria-pressed", String(id !== null));
  named("main").classList.toggle("compares", id !== null);
  named("other").hidden = id === null;
  if (id === null && requests.current !== null) open(requests.current);
}

// Keys and buttons.

const KEYS = {
  ArrowDown: () => view.move(1),
  j: () => view.move(1),
  ArrowUp: () => view.move(-1),
  k: () => view.move(-1),
  PageDown: () => repeat(10, () => view.move(1)),
  PageUp: () => repeat(10, () => view.move(-1)),
  Home: () => view.jump(false),
  End: () => view.jump(true),
  h: () => view.move(1, (row) => row.hot) || view.jump(false) || view.move(1, (row) => row.hot),
  n: () => requests.move(-1),
  p: () => requests.move(1),
  c: () => named("compare").click(),
  " ": () => launch.go(),
};

function repeat(times, act) {
  for (let left = times; left; left--) act();
}

/** Whether an element needs this key for itself. */
function uses(target, key) {
  if (target.closest("input, select, textarea")) return true;
  return (key === " " && target.closest("button, summary, a")) || (key.length > 1 && target.closest(".detail, .menu, .list"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key] || uses(event.target, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

named("compare").addEventListener("click", compare);

named("export").addEventListener("click", async (event) => {
  const { format } = event.target.dataset;
  if (!format) return;
  named("export").open = false;
  if (requests.current === null) return notice("There is no request yet to export.");
  const suffix = { text: "txt", json: "json", perfetto: "perfetto.json", har: "har" }[format];
  await save(`/export/${requests.current}/${format}`, `request-${requests.current}.${suffix}`).catch((error) => notice(error.message));
});

// Light and dark: the system's choice, until somebody makes one here.

const dark = matchMedia("(prefers-color-scheme: dark)");

function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  named("theme").textContent = chosen === "dark" ? "Light" : "Dark";
}

theme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
named("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => [view, other].forEach((ladder) => ladder.timeline && ladder.show(ladder.timeline, { select: ladder.selected })), 100);
});

view.say("Connecting.");
follow((news) => TOLD[news.kind]?.(news), (why) => live("lost", why));
