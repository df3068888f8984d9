"""Test an ASGI app in process, with a client that can leave.

    async with Client(app) as client:
        response = await client.get("/hello")
        assert response.status_code == 200

        async with client.open("POST", "/pay", json={"amount": 5}) as call:
            await call.hang_up()                     # the handler waits somewhere: the client leaves now

        async for departure in client.hang_up_everywhere("/pay", "POST"):
            assert await books_are_balanced(), departure

        async with client.websocket("/chat/lobby") as ws:
            await ws.send_text("hello")
            assert await ws.receive_text() == "hello"
            await ws.hang_up(goodbye=True)           # as a page that is closed; or as a connection that breaks

The departures run the request again and again. The client leaves at the handler's first await, then at its second, and so on until
the handler comes to its end: an invariant that holds after each run holds wherever a client can leave.

A handler that swallows its cancellation is found by that, too; and so is, by any request, a response that no client would get.

With pytest nothing has to be configured (plugin.py): there are the fixtures `client` and `sync_client`, and `async def` tests need no
mark. A test that is a plain function has `SyncClient`.

It works on asyncio and trio, for a Router and for any other ASGI app; wrap the latter in `CancelOnDisconnect`, if its handlers are to be
stopped. There is no server and no socket in between: what a client sends is there at once, and what it is sent costs no time.
"""

from microasgi.testing.answer import MessageError
from microasgi.testing.call import Call, Response, SwallowedCancellation
from microasgi.testing.client import Client, Departure, Departures
from microasgi.testing.conversation import Conversation
from microasgi.testing.sync import SyncCall, SyncClient, SyncConversation

__all__ = [
    "Call",
    "Client",
    "Conversation",
    "Departure",
    "Departures",
    "MessageError",
    "Response",
    "SwallowedCancellation",
    "SyncCall",
    "SyncClient",
    "SyncConversation",
]
