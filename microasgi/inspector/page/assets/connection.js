// The page's way to the inspector. The token is in the address behind "#", which no browser sends anywhere: only `fetch` adds it here.

const token = new URLSearchParams(location.hash.slice(1)).get("t") || "";

/** What the inspector answered when it couldn't do something, in its own words. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, authorization: `Bearer ${token}` };
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" });
  if (!response.ok) throw new Refused(response.status, (await response.text()) || response.statusText);
  return response;
}

/** What is there, as JSON. */
export async function get(path) {
  return (await ask(path)).json();
}

/** Have something done. */
export async function post(path, values) {
  const response = await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values) });
  return response.json();
}

/** Hand a file over to the browser, which saves it. */
export async function save(path, name) {
  const address = URL.createObjectURL(await (await ask(path)).blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Call `told` with each line of the stream. Ends when that does. */
async function read(told) {
  const reader = (await ask("/stream")).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) told(JSON.parse(line));
  }
}

/** Follow the inspector for as long as the page is open: it may be stopped and started again. `lost` gets why it is away. */
export async function follow(told, lost) {
  for (let seconds = 0.5; ; seconds = Math.min(2 * seconds, 5)) {
    try {
      await read((news) => {
        seconds = 0.5;
        told(news);
      });
      lost("the inspector has ended");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        lost("this address lacks its token: open the one that the terminal shows");
        return;
      }
      lost(error instanceof Refused ? error.message : "the inspector doesn't answer");
    }
    await new Promise((go) => setTimeout(go, 1000 * seconds));
  }
}
