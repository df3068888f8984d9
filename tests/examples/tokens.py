"""A proxy in front of a language model: it checks what it is asked, passes the tokens on as they come, and stops the model when its
client leaves.

    browser ──POST /chat──► proxy ──POST /generate──► model, which has few slots
            ◄────tokens───        ◄────tokens────────

Nothing here looks for departures. The client of the proxy leaves: its handler is cancelled, and its stream of tokens is closed. With
that the client of the model leaves: its handler is cancelled, too, and the slot is free.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from microasgi import HTTPException, PlainTextResponse, Request, Router, StreamingResponse

LONGEST_PROMPT = 1000
"""Characters."""


class Model:
    """A service that takes a slot for each answer, as a machine with few GPUs does; here it repeats the prompt's words.

    slots: what it has of them.
    pace: seconds for one token.
    made: tokens so far.
    routes: its app.
    """

    def __init__(self, slots: int, pace: float) -> None:
        self.slots = anyio.CapacityLimiter(slots)
        self.pace = pace
        self.made = 0
        self.routes = Router()
        self.routes.post("/generate")(self.generate)

    async def generate(self, request: Request) -> StreamingResponse:
        """As many tokens as asked for, or without an end."""
        asked = await request.json()
        if self.slots.available_tokens < 1 and not asked.get("patient"):
            raise HTTPException(503, "all slots are taken")
        return StreamingResponse(self._tokens(asked["prompt"].split(), asked.get("tokens")), media_type="text/plain")

    async def _tokens(self, words: list[str], count: int | None) -> AsyncIterator[str]:
        async with self.slots:
            number = 0
            while count is None or number < count:
                await anyio.sleep(self.pace)
                self.made += 1
                yield words[number % len(words)] + "\n"
                number += 1


class Tokens:
    """What the model answers, as a stream that a response may send. Closing it, read to its end or not, leaves the model."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_raw()

    async def aclose(self) -> None:
        await self._answer.aclose()


def proxy(model: str, timeout: float = 5.0) -> Router:
    """The app.

    :param model: the model's URL
    :param timeout: seconds that it may be silent
    """

    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[Mapping[str, Any]]:
        async with httpx.AsyncClient(base_url=model, timeout=timeout) as client:
            yield {"model": client}

    routes = Router(lifespan=lifespan, exception_handlers={httpx.TimeoutException: silent, httpx.TransportError: broken})
    routes.post("/chat")(chat)
    return routes


async def chat(request: Request) -> StreamingResponse:
    """Pass a prompt on, and its tokens back."""
    asked = await request.json()
    prompt, tokens = (asked.get("prompt"), asked.get("tokens")) if isinstance(asked, dict) else (None, None)
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        raise HTTPException(422, f'a chat is {{"prompt": TEXT}} with at most {LONGEST_PROMPT} characters')
    if not isinstance(tokens, int | None):
        raise HTTPException(422, "tokens, if there are any, are a number")
    client: httpx.AsyncClient = request.state.model
    answer = await client.send(client.build_request("POST", "/generate", json=asked), stream=True)
    if answer.status_code != 200:
        await answer.aclose()
        raise HTTPException(502, f"the model answered with {answer.status_code}")
    return StreamingResponse(Tokens(answer), media_type="text/plain", headers={"cache-control": "no-store"})


def silent(request: Request, error: httpx.TimeoutException) -> PlainTextResponse:
    return PlainTextResponse("the model takes too long", 504)


def broken(request: Request, error: httpx.TransportError) -> PlainTextResponse:
    return PlainTextResponse("the model can't be reached", 502)
