"""The inspector's page in a real browser: what it shows, its keys, its colours, and that text stays text."""

import json
from collections.abc import AsyncIterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from microasgi_server.taps import Redaction

from microasgi.command.comparing import comparing
from microasgi.command.hosted import Task
from tests.browser import Tab, browsing
from tests.conftest import LOOPS
from tests.harness import eventually
from tests.inspector import stubborn
from tests.inspector import test_inspect_command as command
from tests.inspector.inspected import Inspected, inspecting
from tests.needs import needs_package, path_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return LOOPS["asyncio"]


@pytest.fixture(scope="module")
def chromium() -> str:
    return path_of("chromium")


@pytest.fixture(scope="module")
async def inspected() -> AsyncIterator[Inspected]:
    host = partial(Task, "tests.inspector.stubborn:routes", False, ".", "uvicorn", "asyncio", False)
    async with inspecting(stubborn.routes, compare=comparing(host, Redaction())) as both:
        yield both


@pytest.fixture(scope="module")
async def browser(chromium: str, inspected: Inspected, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    async with browsing(chromium, tmp_path_factory.mktemp("chromium"), inspected.address) as tab:
        yield tab


@pytest.fixture
async def tab(browser: Tab, inspected: Inspected) -> AsyncIterator[Tab]:
    """The page, opened anew. At the end it must not have complained of anything."""
    inspected.session.recording.entries.clear()
    await browser.resize(1440, 900)
    await browser.prefer()
    await browser.call("Page.navigate", url="about:blank")
    await browser.call("Page.navigate", url=inspected.address)
    await browser.until("document.readyState == 'complete' && document.querySelector('#live[data-state=live]')")
    browser.complaints.clear()
    yield browser
    await browser.evaluate("1")
    assert browser.complaints == []


OVER = "document.querySelector('#requests .status')?.textContent == '499' && document.querySelector('#view .row.hot')"
SELECTED = "document.querySelector('#view [aria-selected=true] .words').textContent"


async def left(tab: Tab, path: str = "/report/2024") -> None:
    """A request that was sent with the page's form, and left."""
    await tab.evaluate(f"document.getElementById('path').value = {path!r}; document.getElementById('after').value = '0.15'")
    await tab.evaluate("document.getElementById('go').click()")
    await tab.until(OVER)


async def test_a_request_is_sent_left_and_explained(tab: Tab) -> None:
    """The form's client leaves; the page shows when the handler was told, in which line it was, and reads that aloud."""
    await tab.until("document.getElementById('path').value == '/report/1'")  # the first of the app's routes
    await left(tab)
    await tab.until("document.querySelector('#view .sum').textContent.includes('the handler was told at stubborn.py:')")
    await tab.until("document.getElementById('say').textContent.includes('The client left at')")
    shown = await tab.evaluate("document.getElementById('detail').textContent")
    assert "Delivery of the cancellation" in shown
    meant = "document.querySelector('#detail .code .waiting, #detail .code .cancelled, #detail .code .cleanup').textContent"
    assert "await anyio.sleep(10)" in await tab.evaluate(meant)
    assert await tab.evaluate("document.querySelectorAll('#view svg path.news').length") == 1


async def test_space_sends_and_space_leaves(tab: Tab) -> None:
    """Without a time, the same key that sends leaves."""
    await tab.evaluate(
        "document.getElementById('after').value = ''; document.getElementById('path').value = '/report/7'; document.activeElement.blur()"
    )
    await tab.press(" ")
    await tab.until("document.getElementById('go-text').textContent == 'Leave now'")
    await tab.until("document.querySelector('#view .sum')?.textContent.includes('waits at stubborn.py')")
    await tab.press(" ")
    await tab.until(OVER)
    await tab.until("document.getElementById('go-text').textContent == 'Send'")


async def test_keys_step_through_time(tab: Tab) -> None:
    """Arrows go from event to event, over gaps; h along the news; focus goes with the selection, and one row is in the tab order."""
    await left(tab)
    await tab.press("Home")
    assert await tab.evaluate(SELECTED) == "connect()"
    await tab.press("ArrowDown")
    assert (await tab.evaluate(SELECTED)).startswith(("send ", "connection made"))
    await tab.press("k")
    await tab.press("h")
    assert await tab.evaluate(SELECTED) == "close()"
    news = []
    for _ in range(4):
        await tab.press("h")
        news.append(await tab.evaluate(SELECTED))
    assert [words.split(":")[0].split("(")[0] for words in news] == ["FIN", "hang_up", "phase WAITING → GONE", "Visit.leave"]
    assert await tab.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert await tab.evaluate("document.querySelectorAll('#view [role=option][tabindex=\"0\"]').length") == 1
    label = await tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "milliseconds, server to ASGI: Visit.leave() is called. This is the news of the departure." in label
    await tab.press("End")
    assert "returned" in await tab.evaluate(SELECTED) or "socket" in await tab.evaluate(SELECTED)


async def test_code_is_shown_of_what_the_reason_names(tab: Tab, inspected: Inspected, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and when its place is clicked; a gap in which the handler waits is a step of the arrows, with the code it waits in."""
    monkeypatch.setattr(stubborn, "SECONDS", 0.6)
    await left(tab, "/shielded")
    code = "[...document.querySelectorAll('#detail .code .meant')].map(line => line.textContent).join('|')"
    await tab.until("document.querySelectorAll('#view .reason button.place').length == 2")
    await tab.until("document.getElementById('detail').textContent.includes('What the reason names')")
    assert "with anyio.CancelScope(shield=True):" in await tab.evaluate(code)
    await tab.evaluate("[...document.querySelectorAll('#view .reason button.place')].at(-1).click()")
    assert "with anyio.CancelScope(shield=True):" in await tab.evaluate(code)
    assert await tab.evaluate("document.activeElement.id") == "detail"
    gap = "document.querySelector('#view .gap.late[role=option]')"
    assert "of work for nobody, at stubborn.py:" in await tab.evaluate(f"{gap}.getAttribute('aria-label')")
    await tab.evaluate(f"{gap}.click()")
    assert await tab.evaluate(f"{gap}.getAttribute('aria-selected')") == "true"
    assert "await anyio.sleep(SECONDS)" in await tab.evaluate(code)
    await tab.press("ArrowUp")
    await tab.press("ArrowDown")
    assert await tab.evaluate(f"document.activeElement == {gap}")
    assert "`" not in await tab.evaluate("document.querySelector('#view .heading').textContent")


async def test_routes_are_a_list_to_choose_from(tab: Tab) -> None:
    """All that the app has, with their methods, before anything is typed."""
    await tab.until("document.getElementById('routes-count').textContent == '6 routes'")
    assert "POST /finishing" in await tab.evaluate("document.getElementById('routes-choices').textContent")
    chosen = "[...document.querySelectorAll('#routes-choices button')].find(each => each.textContent == 'POST /finishing').click()"
    await tab.evaluate(chosen)
    assert await tab.evaluate("document.getElementById('method').value + document.getElementById('path').value") == "POST/finishing"


async def test_what_clients_write_stays_text(tab: Tab, inspected: Inspected) -> None:
    """Markup in a path, a field and a body shows as what it is: no element is made of it, and nothing of it runs."""
    attack = b"<img/src=x/onerror=document.title='owned'>"
    async with await inspected.app.connect() as client:
        await client.send(
            b"POST /" + attack + b"?q=<script>1</script> HTTP/1.1\r\nhost: test\r\nx-mine: " + attack + b"\r\ncontent-length: 42\r\n\r\n"
        )
        await client.send(attack)
        await client.response()
    await tab.until("document.querySelector('#view h2')?.textContent.includes('<img/src=x')")
    for _ in range(8):
        await tab.press("ArrowDown")
    assert "<img/src=x/onerror" in await tab.evaluate("document.body.textContent")
    assert await tab.evaluate("document.querySelectorAll('img, script:not([nonce])').length") == 0
    assert (await tab.evaluate("document.title")).startswith("microasgi inspect")


async def test_the_policy_holds_without_our_care(tab: Tab) -> None:
    """Should markup get in some day, its scripts and styles still wouldn't run: the browser refuses what has no nonce."""
    await tab.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\"><div id=probe style=\"color: red\">')"
    )
    await tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.owned = 2'}))")
    await tab.until("true")
    assert await tab.evaluate("window.owned") is None
    assert await tab.evaluate("getComputedStyle(document.getElementById('probe')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


@needs_package("uvicorn")
async def test_two_servers_stand_side_by_side(tab: Tab) -> None:
    """c runs the same request on the other server, and shows both with bars of one scale; c again goes back."""
    await left(tab)
    await tab.press("c")
    await tab.until("document.querySelector('#other .row')")
    assert " on uvicorn 0." in await tab.evaluate("document.querySelector('#other h2').textContent")
    ends = await tab.evaluate("[...document.querySelectorAll('.ends > span:nth-child(2)')].map(end => end.textContent)")
    assert len(ends) == 2
    assert ends[0] == ends[1]
    await tab.press("c")
    await tab.until("document.getElementById('other').hidden")


async def test_what_cannot_be_done_is_said(tab: Tab) -> None:
    """An order that the inspector refuses shows its sentence."""
    await tab.evaluate("document.getElementById('path').value = 'nowhere'; document.getElementById('go').click()")
    await tab.until("document.getElementById('notice').textContent.includes('the path starts with a slash')")
    tab.complaints.clear()  # the browser names the 422


async def test_a_request_is_saved_as_a_file(tab: Tab, tmp_path: Path) -> None:
    """Each format of the menu comes as a download."""
    await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await left(tab)
    for number, kind in enumerate(["text", "json", "perfetto", "har"], 1):
        await tab.evaluate(f"document.querySelector('[data-format={kind}]').click()")
        await eventually(lambda number=number: len(saved(tmp_path)) == number, 10)  # type: ignore[misc]
    found = saved(tmp_path)
    assert sorted(name.partition(".")[2] for name in found) == ["har", "json", "perfetto.json", "txt"]
    for name, text in found.items():
        assert "anyio.sleep(10)" in text
        if not name.endswith(".txt"):
            json.loads(text)


def saved(folder: Path) -> dict[str, str]:
    """What has been downloaded, as far as it is complete."""
    return {file.name: file.read_text() for file in folder.iterdir() if file.suffix in (".txt", ".json", ".har")}


async def test_light_dark_and_forced_colours(tab: Tab) -> None:
    """The system's choice is followed, the button overrides it, and where colours are the system's the news have their ✕."""
    await left(tab)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await tab.evaluate(paper)
    await tab.prefer(prefers_color_scheme="dark")
    await tab.until(f"{paper} != {light!r}")
    await tab.evaluate("document.getElementById('theme').click()")
    await tab.until(f"{paper} == {light!r}")
    await tab.prefer(forced_colors="active")
    assert await tab.evaluate("getComputedStyle(document.querySelector('.row.hot .words'), '::before').content") == '"✕ "'
    styles = "[...document.querySelectorAll('*')].map(each => getComputedStyle(each))"
    moves = f"{styles}.filter(style => parseFloat(style.transitionDuration) || style.animationName != 'none').length"
    assert await tab.evaluate(moves) == 0  # so there is nothing to reduce


@needs_package("axe_playwright_python")
async def test_axe_finds_nothing(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    """axe-core's rules for WCAG 2.2 AA and its best practices hold: contrast, names, roles, what can be reached by keyboard."""
    await left(tab)
    await tab.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    await check(tab, "light")
    await tab.prefer(prefers_color_scheme="dark")
    await check(tab, "dark")
    for width in (1000, 700):
        await tab.resize(width, 900)
        await check(tab, f"{width} px")
    monkeypatch.setattr(stubborn, "SECONDS", 0.6)
    await left(tab, "/shielded")
    await tab.until("document.querySelector('#view .gap.late[role=option]')")
    await check(tab, "a reason, dark")
    await tab.prefer(prefers_color_scheme="light")
    await tab.evaluate("document.querySelector('#view .gap.late').click()")
    await check(tab, "a gap, light")


async def check(tab: Tab, look: str) -> None:
    told = "found.violations.map(each => [each.id, each.nodes.map(node => node.html + node.failureSummary)])"
    assert await tab.evaluate(f"axe.run().then(found => {told})") == [], look


async def test_the_blocked_loop_is_on_top_of_the_page(chromium: str, tmp_path: Path) -> None:
    """While the app's loop stands, the banner names file and line; an inspector that has ended is said to be away."""
    with command.inspecting() as (_, page, token, process):
        async with browsing(chromium, tmp_path, f"{page}/#t={token}") as tab:
            await tab.until("document.querySelector('#live[data-state=live]')")
            await tab.evaluate("document.getElementById('path').value = '/blocking'; document.getElementById('go').click()")
            told = await tab.until("!document.getElementById('blocked').hidden && document.getElementById('blocked').textContent")
            assert "It stands in stubborn.py:" in told
            assert "in blocking: time.sleep(SECONDS)" in told
            await tab.until("document.getElementById('blocked').hidden")
            await tab.until("document.querySelector('#view .reason')?.textContent.startsWith('It blocks the event loop')")
            await to_thread.run_sync(process.terminate)
            await tab.until("document.querySelector('#live[data-state=lost]')")


async def test_an_address_without_its_token_says_so(chromium: str, inspected: Inspected, tmp_path: Path) -> None:
    """It doesn't ask again and again, and tells what to open."""
    async with browsing(chromium, tmp_path, inspected.page.address) as tab:
        await tab.until("document.getElementById('live-text')?.textContent.includes('open the one that the terminal shows')")
