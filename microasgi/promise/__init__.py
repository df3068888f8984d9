"""The promise: a request handler stops when its client goes away.

visit.py        one client's presence during one request: the block, who reports the departure, and what a route may say of it
delivery.py     how a cancellation reaches the call: once, then a grace, then for good; stages.py: how far it has come
telling.py      who is told on asyncio, and when; unknown.py: what is left of that where a private name is missing
on_trio.py      what is otherwise on Trio; foreign.py: what another framework's app gets
anyio_scopes.py asyncio_tasks.py trio_scope.py    what is read of each library's private state; nothing else knows a private name
pump.py         on other servers: `receive()` all the time
"""
