"""One call of the app: everything that waits between the socket and the app."""

import math

import anyio
from anyio.lowlevel import checkpoint

from microasgi_server import logs
from microasgi_server.asgi import Message
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Exchange
from microasgi_server.nobody import send_to_nobody
from microasgi_server.running import Connected, Event
from microasgi_server.transports import Cancellable


class Call:
    """One call of the app: the task of one request, and the `receive` and `send` it is given.

    app: what is called.
    task: what the transport runs this call in, once it is started; kept here because asyncio itself holds its tasks only weakly.
    began: when the request did, by the server's clock.
    listeners: how many wait in `receive()`; when the client has left, how many did then.
    begun: whether `run` has begun. A task that is cancelled before never will.
    """

    __slots__ = ("_connection", "_ends", "_waiters", "app", "began", "begun", "exchange", "listeners", "scope", "task")

    def __init__(self, connection: Connected, exchange: Exchange) -> None:
        self.exchange = exchange
        self._connection = connection
        self._waiters: list[Event] = []
        self.listeners, self._ends, self.begun = 0, 0, False
        running, transport = connection.running, connection.transport
        self.began, self.app = running.clock(), running.app
        self.scope = exchange.scope(transport.client, transport.server, running.config.root_path, running.state.copy())

    def start(self, *, at_once: bool) -> None:
        """Begin, in this turn of the loop if that can be. Raises what the loop raises if it makes no task; then nothing has begun."""
        self.task: Cancellable = self._connection.transport.spawn(self.run, at_once=at_once)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.exchange!r}{'' if self.begun else ', not begun'}>"

    async def run(self) -> None:
        """Call the app, and answer for it if it doesn't."""
        running = self._connection.running
        exchange = self.exchange
        self.begun = True
        try:
            if not exchange.gone:  # else the client has left before there was a turn for it
                await self.app(self.scope, self.receive, self.send)
        except BaseException as error:
            cancelled = self._cancelled(error)
            if not cancelled and not ((exchange.gone or exchange.stopping) and logs.is_disconnect(error)):
                logs.app_failed(exchange, error)
            self._give_up()
            if cancelled:
                raise
        else:
            if not exchange.ends():
                logs.app_unfinished(exchange, self.scope)
            if not exchange.complete:
                self._give_up()
        finally:
            running.calls.discard(self)
            if exchange.gone:
                running.journal.left(self._connection.transport.client, exchange, self.began)
            if not exchange.complete:  # else it is another's turn already
                self._connection.ended(self)
            if running.stopping:
                running.changed.notify()

    async def receive(self) -> Message:
        """The app's `receive()` (ASGI HTTP spec). A message that is ready comes without a checkpoint."""
        exchange = self.exchange
        while True:
            try:
                message = exchange.take()
            except Refusal as refusal:
                self._connection.refuse(refusal)
                continue
            if message is not None:
                if self._connection.transport.paused:
                    self._connection.regulate()
                self._ends += exchange.gone or exchange.complete or exchange.stopping
                if self._ends > 15:  # an app that goes on to ask behind the end, for ever, would hold the loop
                    await checkpoint()
                return message
            if data := exchange.asked():
                self._connection.transport.write(data)  # which may find that the client has left
            else:
                self.listeners += 1
                try:
                    await self._wait()
                finally:
                    if not exchange.gone:
                        self.listeners -= 1

    async def send(self, message: Message) -> None:
        """The app's `send()` (ASGI HTTP spec). What becomes of a message whose client has left, `nobody.py` tells.

        :raises ClientDisconnected: the client has left, and a subscriber that was told has yet to stop; an OSError
        :raises AppError: the message is malformed, or out of order
        """
        exchange = self.exchange
        data = exchange.send(message)
        if not data and not exchange.complete:
            if exchange.gone:
                await send_to_nobody(message, self, self._connection.running)
            return
        transport = self._connection.transport
        if data:  # else the socket may be closed: who has all may leave
            transport.write(data)
        if exchange.complete:
            self._connection.completed(self)
            return
        if exchange.handed_over:
            return
        if exchange.stopping:  # `receive()` has news for who streams
            self.wake()
        exchange.sending = True
        try:
            if exchange.yields():  # an app that only ever sends would otherwise never let the loop look at the socket
                await checkpoint()
            while transport.congested and not exchange.gone:
                await self._wait()
        finally:
            exchange.sending = False
        if exchange.gone and not exchange.parted:
            await send_to_nobody(message, self, self._connection.running)

    def shut_down(self) -> None:
        """The server stops: who has subscribed to that learns it now, and so does who waits in `receive()`."""
        for fault in self.exchange.shut_down():
            logs.app_failed(self.exchange, fault)
        if not self.exchange.complete:
            self._connection.reply(self)

    def cancel(self) -> None:
        """Stop it, wherever it is."""
        self.task.cancel()
        if not self.begun:
            self._connection.running.calls.discard(self)

    def wake(self) -> None:
        """Something has changed: the body, the phase, the congestion. Who waits looks again."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.set()

    async def _wait(self) -> None:
        waiter = self._connection.running.event()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _cancelled(self, error: BaseException) -> bool:
        """Whether `error` has to pass: the server cancels this call, or Python ends. Everything else is the app's, and ends here.

        Also a cancellation can be: a task that the app awaits and that somebody cancelled raises asyncio's error in the app.
        """
        if isinstance(error, BaseExceptionGroup):
            return all(self._cancelled(inner) for inner in error.exceptions)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return self.exchange.cancelled or self._connection.running.stopping or anyio.current_effective_deadline() == -math.inf
        return isinstance(error, KeyboardInterrupt)

    def _give_up(self) -> None:
        exchange = self.exchange
        if exchange.complete or exchange.gone:
            return
        if (data := exchange.fail()) is None:
            self._connection.break_off("the app failed in the middle of its response")
        else:
            if data:
                self._connection.transport.write(data)
            self._connection.completed(self)
