"""A real browser, driven: Chromium without a window, by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import anyio
from anyio import to_thread
from websockets.asyncio.client import ClientConnection, connect

PATIENCE = 20.0
"""Seconds after which what a page is waited for has failed. A browser that begins on a busy machine takes its time."""

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", "--hide-scrollbars"]

LISTENING = "--remote-debugging-port=0"
"""An option: the browser can be spoken with."""

KEYS = {"ArrowDown": 40, "ArrowUp": 38, "Enter": 13, " ": 32, "Escape": 27, "Tab": 9}


class Tab:
    """One page of the browser.

    complaints: what it has said on its console, or has not been allowed to do.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._last = 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """One of the protocol's methods."""
        self._last += 1
        await self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            told = json.loads(await self._socket.recv())
            self._listen(told)
            if told.get("id") == self._last:
                assert "error" not in told, told
                return told["result"]

    async def evaluate(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression, as soon as that is true, or an element."""
        script = f"(found => found instanceof Node || found)({script})"
        give_up = time.monotonic() + PATIENCE
        while not (found := await self.evaluate(script)):
            assert time.monotonic() < give_up, f"{script} is {found!r}; the page says: {await self.evaluate('document.body.innerText')}"
            await anyio.sleep(0.02)
        return found

    async def press(self, key: str) -> None:
        """A key, as somebody presses it."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        described = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **described, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **described)

    async def resize(self, width: int, height: int) -> None:
        """In pixels."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    async def prefer(self, **features: str) -> None:
        """What the visitor's system says: `prefers_color_scheme="dark"`."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=wanted)

    async def picture(self) -> bytes:
        """A PNG of what is seen."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    def _listen(self, told: dict[str, Any]) -> None:
        match told.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(told["params"]["exceptionDetails"].get("exception", {}).get("description", "an exception"))
            case "Runtime.consoleAPICalled":
                self.complaints.append(" ".join(str(each.get("value")) for each in told["params"]["args"]))
            case "Log.entryAdded":
                entry = told["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


@asynccontextmanager
async def launched(chromium: str, folder: Path, address: str, *more: str) -> AsyncIterator[None]:
    """A browser that looks at this address as long as the block lasts; then it is ended.

    :param chromium: the program
    :param folder: for the browser's own files
    :param more: options
    """
    command = [chromium, *OPTIONS, f"--user-data-dir={folder}", *more, address]
    process = await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        await process.aclose()


@asynccontextmanager
async def browsing(chromium: str, folder: Path, address: str, width: int = 1440, height: int = 900) -> AsyncIterator[Tab]:
    """A tab that shows this address, as long as the block lasts; as `launched`."""
    async with (
        launched(chromium, folder, "about:blank", LISTENING, f"--window-size={width},{height}"),
        connect(await open_tab(folder, "about:blank"), max_size=None, proxy=None) as socket,
    ):
        tab = Tab(socket)
        for domain in ("Runtime", "Log", "Page"):
            await tab.call(f"{domain}.enable")
        await tab.resize(width, height)
        await tab.call("Page.navigate", url=address)
        yield tab


async def open_tab(folder: Path, address: str) -> str:
    """Where one can be spoken with that shows this address, in the browser that was launched with this folder, and `LISTENING`."""
    port = await _port(anyio.Path(folder) / "DevToolsActivePort")
    made: dict[str, str] = await to_thread.run_sync(_new_tab, port, address)
    return made["webSocketDebuggerUrl"]


async def _port(file: anyio.Path) -> int:
    """Where the browser listens, as soon as it does: it writes that into a file."""
    give_up = time.monotonic() + PATIENCE
    while not (await file.exists() and (lines := (await file.read_text()).splitlines())):
        assert time.monotonic() < give_up, "the browser doesn't begin to listen"
        await anyio.sleep(0.02)
    return int(lines[0])


def _new_tab(port: int, address: str) -> Any:
    direct = build_opener(ProxyHandler({}))
    with direct.open(Request(f"http://127.0.0.1:{port}/json/new?{address}", method="PUT"), timeout=PATIENCE) as answer:
        return json.load(answer)
