"""The shortest way through everything: one request."""

import pytest

from microasgi import Request, Router
from tests.harness import GET, serving

pytestmark = pytest.mark.anyio


async def test_a_request_is_answered() -> None:
    """A GET reaches its handler, and the answer comes back whole."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        return "hello"

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        response = await client.response()
    assert (response.status, response.body, response.complete) == (200, b"hello", True)
