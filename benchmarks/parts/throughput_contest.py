"""Who contests in `throughput`, and in what."""

from dataclasses import dataclass

from benchmarks.load import Workload
from benchmarks.stacks import ASYNCIO, EVERY, SERVERS, Stack

BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("Cookie", "session=5f2b0c9e7a1d4e6f8b3a2c1d0e9f8a7b; theme=dark; consent=necessary; locale=en-GB"),
    ("Referer", "https://www.example.com/search?q=asgi+server&page=2"),
    ("Sec-CH-UA", '"Chromium";v="142", "Not_A Brand";v="99"'),
    ("Sec-CH-UA-Mobile", "?0"),
    ("Sec-CH-UA-Platform", '"Linux"'),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Upgrade-Insecure-Requests", "1"),
)
"""What a browser sends to a page that it has been to before, in 15 headers beside Host."""

HELLO = Workload("hello")
ALONE = Workload("hello, 1 connection", connections=1)
CROWD = Workload("hello, 1,000 connections", connections=1000, opening=0.6)
HEADERS = Workload("hello, a browser's headers", headers=BROWSER)
JSON = Workload("JSON", "/json")
PARAMETERS = Workload("two path parameters", "/users/alice/items/42")
POST = Workload("POST of 10 KB", "/read", body=10_000)
UPLOAD = Workload("upload of 1 MB", "/receive", connections=8, body=2**20)
STREAM = Workload("stream of 1 MB", "/stream/1", connections=8, streamed=True)
LONG_STREAM = Workload("stream of 100 MB", "/stream/100", connections=2, streamed=True)

BODIES = [UPLOAD, STREAM, LONG_STREAM]
OF_SERVERS = [HELLO, ALONE, CROWD, HEADERS, POST, *BODIES]
OF_FRAMEWORKS = [HELLO, JSON, PARAMETERS, HEADERS, POST]


@dataclass(frozen=True)
class Duel:
    """Two stacks on one loop that take turns with a hello-world.

    at_least: ours is to answer so many times their requests a second; None if it is only of interest.
    """

    ours: Stack
    theirs: Stack
    at_least: float | None = None

    @property
    def what(self) -> str:
        """For tables."""
        return f"{'bare ASGI' if self.ours.framework == 'bare' else 'routed'}, {self.ours.loop}"

    @property
    def opponent(self) -> str:
        """For tables."""
        server = SERVERS[self.theirs.server].name
        return server if self.theirs.framework == "bare" else f"Starlette on {server}"


def _bare(server: str, loop: str, at_least: float | None = None) -> Duel:
    return Duel(Stack("bare", "microasgi", loop), Stack("bare", server, loop), at_least)


DUELS = [
    _bare("uvicorn-h11", "asyncio", 1.25),
    _bare("uvicorn-h11", "uvloop", 1.25),
    _bare("uvicorn-httptools", "uvloop"),
    _bare("granian", "uvloop"),
    _bare("hypercorn", "trio", 5),
    *(Duel(Stack("microasgi", "microasgi", loop), Stack("starlette", "uvicorn-h11", loop), 1.4) for loop in ASYNCIO),
]
"""All of one loop together: they run side by side."""

SERVERS_ALONE = [
    *(Stack("bare", "microasgi", loop) for loop in EVERY),
    *(Stack("bare", "uvicorn-h11", loop) for loop in ASYNCIO),
    Stack("bare", "hypercorn", "asyncio"),
    Stack("bare", "hypercorn", "trio"),
    *(Stack("bare", "uvicorn-httptools", loop) for loop in ASYNCIO),
    *(Stack("bare", "granian", loop) for loop in ASYNCIO),
    Stack("bare", "gunicorn", "asyncio"),
    Stack("bare", "daphne", "asyncio"),
]

FRAMEWORKS_ON_SERVERS = [
    *(Stack("microasgi", "microasgi", loop) for loop in EVERY),
    *(
        Stack(framework, "uvicorn-h11", loop)
        for framework in ("starlette", "fastapi", "litestar", "quart", "django", "blacksheep")
        for loop in ASYNCIO
    ),
    Stack("starlette", "uvicorn-httptools", "uvloop"),
    Stack("blacksheep", "uvicorn-httptools", "uvloop"),
    Stack("aiohttp", "aiohttp", "asyncio"),
    Stack("aiohttp", "aiohttp", "uvloop"),
    Stack("sanic", "sanic", "uvloop"),
    Stack("starlette", "hypercorn", "trio"),
]


def workloads(stack: Stack) -> list[Workload]:
    """What a stack is asked in its single turn. Large bodies are the server's matter: of the frameworks, only two move them."""
    if stack.framework == "bare":
        return OF_SERVERS
    return OF_FRAMEWORKS + (BODIES if stack.framework in ("microasgi", "starlette") else [])
