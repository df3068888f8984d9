"""Following a request from outside: where its handler waits, await by await, what wakes it, and how a cancellation reaches it.

    watch(app)                    on a server that is tapped, `microasgi_server.taps`, whose events these go between
    tapped_app(watch(app), tap)   on any other

middleware.py  `watch`
following.py   a coroutine that says when it waits and when it goes on; also the test client's
members.py     a request's tasks: its own, and all that they start
places.py      where a suspended coroutine is
policies.py    who has said that it finishes without its client
stages.py      how far a cancellation has come
telling.py     what a tap takes

| what | facts |
|---|---|
| wait | at, line, inner, chain, task |
| go on | task |
| thrown | error, task: raised where the task waits |
| returned, raised | task; error, at: the line that it came from; cleanup: seconds since it was first cancelled |
| child | name, task, of: a task has been started, by that one |
| detached | name, task: it is still there when the app has returned; of it nothing more is told |
| policy | on_disconnect, by, written, file: who has said that it finishes, and in which line |
| stage | old, new, means: of the delivery |
| grace is over | seconds: cleanup was cancelled once, and is cancelled for good now |
"""

from microasgi.watching.middleware import watch

__all__ = ["watch"]
