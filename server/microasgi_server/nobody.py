"""What becomes of a message whose client has left: it is dropped, and with it, sooner or later, whoever sends.

* A subscriber that was told is still there: `send()` raises, as the ASGI spec asks, and helps it to stop.
* All who were told have stopped. What is around them, which knows nothing of us, may say what it likes.
* Nobody was told. A response that ends by itself may end, as does one whose length is known and reached. If there is more to come it is
  for us to stop the call, as natively as its subscribers would: of an error most frameworks make one of their own. On asyncio not even
  a shield is safe here, if it sends.
"""

import anyio
from anyio.lowlevel import checkpoint

from microasgi_server.asgi import Message
from microasgi_server.errors import ClientDisconnected
from microasgi_server.running import Called, RunningServer


async def send_to_nobody(message: Message, call: Called, running: RunningServer) -> None:
    """Drop it.

    :raises ClientDisconnected: a subscriber that was told has yet to stop, or the call has ended
    """
    exchange = call.exchange
    if exchange.attended or call not in running.calls:
        raise ClientDisconnected(exchange.why_gone)
    await checkpoint()  # behind which the call is a task, even if it has only just begun
    if message.get("more_body", False) and not exchange.handed_over and not exchange.told and not _is_told_elsewhere(call):
        exchange.cancelled = True
        call.cancel()
        await checkpoint()


def _is_told_elsewhere(call: Called) -> bool:
    """Whether the present task is not the call's, and another waited in `receive()` when the client left.

    Quart and Django work so. Told there they stop the task that sends; cancelled in the meantime, they would leave it behind. Only
    asyncio has such tasks: a scope reaches all.
    """
    if not call.listeners or isinstance(call.task, anyio.CancelScope):
        return False
    return anyio.get_current_task().id != id(call.task)
