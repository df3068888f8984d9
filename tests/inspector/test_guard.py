"""Who may look at the inspector: each rule that `guard.py` states, on real sockets."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from microasgi import Request, Router
from microasgi.inspector import page
from tests.conftest import LOOPS
from tests.harness import Response
from tests.inspector.inspected import TOKEN, Inspected, ask, inspecting

pytestmark = pytest.mark.anyio

ASSETS = Path(page.__file__).parent / "assets"
FILES = sorted(ASSETS.iterdir())

routes = Router()


@routes.get("/")
async def home(request: Request) -> str:
    return "hello"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return LOOPS["asyncio"]


@pytest.fixture(scope="module")
async def inspected() -> AsyncIterator[Inspected]:
    async with inspecting(routes) as both:
        yield both


def fields(answer: Response) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in answer.headers}


GOOD = f"Bearer {TOKEN}"
REQUESTS = {
    "the page's own": (200, {}),
    "by the name localhost": (200, {"host": "localhost:PORT"}),
    "by its IPv6 name": (200, {"host": "[::1]:PORT"}),
    "from its own origin": (200, {"origin": "http://127.0.0.1:PORT"}),
    "by a name that is rebound": (421, {"host": "evil.example:PORT"}),
    "by a name that ends like ours": (421, {"host": "evil-127.0.0.1:PORT"}),
    "by another port": (421, {"host": "127.0.0.1:1"}),
    "without a port": (421, {"host": "127.0.0.1"}),
    "from another site": (403, {"origin": "http://evil.example"}),
    "from the app's own page": (403, {"origin": "http://127.0.0.1:APP"}),
    "from a page without an origin": (403, {"origin": "null"}),
    "over another scheme": (403, {"origin": "https://127.0.0.1:PORT"}),
    "without the token": (401, {"authorization": None}),
    "with an empty token": (401, {"authorization": "Bearer "}),
    "with the beginning of the token": (401, {"authorization": GOOD[:-1]}),
    "with more than the token": (401, {"authorization": f"{GOOD}0"}),
    "with another scheme": (401, {"authorization": f"Basic {TOKEN}"}),
    "with the token as a cookie": (401, {"authorization": None, "cookie": f"t={TOKEN}"}),
}


@pytest.mark.parametrize("path", ["/stream", "/timeline/1", "/export/1/json"])
@pytest.mark.parametrize(("status", "headers"), REQUESTS.values(), ids=REQUESTS)
async def test_only_the_page_itself_is_told(status: int, headers: Mapping[str, str | None], path: str, inspected: Inspected) -> None:
    """A foreign Host is answered with 421, a foreign Origin with 403, who lacks the token with 401: before anything is looked up."""
    ports = {"PORT": inspected.page.port, "APP": inspected.app.port}
    own = {name: value and re.sub("PORT|APP", lambda found: str(ports[found[0]]), value) for name, value in headers.items()}
    if status == 200:
        path = "/assets/main.js"
    assert (await inspected.ask(path, headers=own)).status == status


@pytest.mark.parametrize("path", ["/open", "/leave", "/compare"])
async def test_nobody_else_gives_orders(path: str, inspected: Inspected) -> None:
    """An order without the token does nothing, whatever a form or another site's script can send."""
    strangers: list[dict[str, str | None]] = [{"authorization": None}, {"origin": "http://evil.example"}, {"host": "evil.example"}]
    for headers in strangers:
        assert (await inspected.ask(path, {"method": "GET", "path": "/", "way": "fin"}, headers)).status in (401, 403, 421)
    assert inspected.session.visits.going_on == {}


async def test_the_token_in_the_address_is_nobodys(inspected: Inspected) -> None:
    """In the query, where logs and the app would see it, it counts for nothing."""
    assert (await inspected.ask(f"/stream?t={TOKEN}", headers={"authorization": None})).status == 401


async def test_what_is_said_twice_is_not_said(inspected: Inspected) -> None:
    """Who sends two tokens, or two origins, isn't asked which is meant."""
    for line in (f"authorization: {GOOD}", "origin: http://127.0.0.1:{0}\r\norigin: http://127.0.0.1:{0}"):
        async with await inspected.page.connect() as client:
            head = f"GET /timeline/1 HTTP/1.1\r\nhost: 127.0.0.1:{inspected.page.port}\r\nauthorization: {GOOD}\r\n"
            await client.send(f"{head}{line.format(inspected.page.port)}\r\n\r\n".encode())
            assert (await client.response()).status in (401, 403)


async def test_no_other_site_is_given_leave(inspected: Inspected) -> None:
    """A preflight is refused, and no response has a field of CORS's: no script elsewhere can add the token, or read an answer."""
    async with await inspected.page.connect() as client:
        lines = f"host: 127.0.0.1:{inspected.page.port}\r\norigin: http://evil.example\r\naccess-control-request-method: POST"
        await client.send(f"OPTIONS /open HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        answer = await client.response()
    assert answer.status == 403
    for each in (answer, await inspected.ask("/"), await inspected.ask("/timeline/1")):
        assert not [name for name in fields(each) if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/", "/assets/main.js", "/assets/page.css", "/timeline/1", "/nowhere"])
async def test_every_answer_says_how_little_may_be_done_with_it(path: str, inspected: Inspected) -> None:
    """No guessing at types, no Referer, no use by other origins, no frames, no caches: of files, of answers, of errors."""
    found = fields(await inspected.ask(path))
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-resource-policy"] == "same-origin"
    assert found["cache-control"] == "no-store"
    policy = found["content-security-policy"]
    for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert part in policy
    assert "unsafe" not in policy


async def test_scripts_and_styles_carry_the_nonce_of_the_visit(inspected: Inspected) -> None:
    """The page's policy lets run what has its nonce, all that the page names has it, and the next visit has another one."""
    nonces = []
    for _ in range(2):
        answer = await inspected.ask("/", headers={"authorization": None})
        policy, html = fields(answer)["content-security-policy"], answer.body.decode()
        (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
        assert re.findall(r"(script|style)-src 'nonce-", policy) == ["script", "style"]
        assert set(re.findall(r'nonce="([^"]*)"', html)) == {nonce}
        assert len(re.findall(r"<(?:script|link)\b", html)) == html.count("nonce=")
        nonces.append(nonce)
    assert nonces[0] != nonces[1]


async def test_the_token_is_handed_out_by_nobody(inspected: Inspected) -> None:
    """No answer has it, with or without it in the question: it stands in the terminal, and behind the # of the address."""
    for path in ("/", *(f"/assets/{file.name}" for file in FILES), "/timeline/1", "/nowhere"):
        for own in (GOOD, None):
            answer = await inspected.ask(path, headers={"authorization": own})
            assert TOKEN.encode() not in answer.body
            assert TOKEN not in str(answer.headers)


async def test_the_apps_port_shows_nothing(inspected: Inspected) -> None:
    """The page isn't on the app's port."""
    async with await inspected.app.connect() as client:
        answer = await ask(client, "/stream", None, {"host": "test", "authorization": GOOD})
    assert answer.status == 404


MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|ContextualFragment|srcdoc|setHTML"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_text_stays_text(file: Path) -> None:
    """Nothing in the page makes markup of text, runs text, has code or style in its markup, or fetches from elsewhere."""
    text = file.read_text()
    assert not MARKUP.findall(text)
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for
    if file.suffix == ".html":
        assert not re.findall(r"\s(?:on\w+|style)=", text)
        assert not re.findall(r"<(?:script|style)[^>]*>[^<]", text)
