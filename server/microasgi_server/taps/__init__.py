"""The same server, told aloud: what happens to a connection, from the byte to the app and back, as one sequence of events.

    serve(app, config, connection_class=tapped(Connection, tap))      `tap` is called with every `Event`
    tapped_app(app, tap)                                              on any other server: what it says, and what the app tells

events.py       what is told, and to whom
redaction.py    what is left out of it: secrets, and all but the beginning of what is long
streams.py      the same of bytes on the wire, which come in pieces
told.py         attributes that tell when they change
apps.py         an app's calls and messages
exchanges.py    subclasses of the core's classes, sessions.py of a WebSocket's, which may be missing
connections.py  those of the shell's, and a transport's double
ring.py         keeps the newest

Subclasses, as in `observers.py`: nothing here decides anything, and a server that nobody watches never meets these classes.

| lane | what happens there |
|---|---|
| wire | open, in, FIN, out, congested, drained, pause, resume, shut, close, abort, lost |
| core | head, phase, input, hang_up, left, refused, waits for |
| asgi | call, subscribe, told, receive?, receive, send, send raised, end |
| handler | what `microasgi.watching` tells, which finds its voice in `scope["extensions"]["microasgi.tap"]["tell"]` |

`pause` and `resume` are what the connection asks for: a transport that closes resumes by itself.
"""

from microasgi_server.taps.apps import tapped_app
from microasgi_server.taps.connections import tapped
from microasgi_server.taps.events import Event, Tap, Teller
from microasgi_server.taps.redaction import Redaction
from microasgi_server.taps.ring import Ring

__all__ = ["Event", "Redaction", "Ring", "Tap", "Teller", "tapped", "tapped_app"]
