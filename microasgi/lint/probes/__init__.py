"""What only a client can find out about a server: it runs, serves an app of ours, and we are its client.

app.py         the app: it does what a probe's request asks for
notes.py       how the app tells us what it saw, from whatever process it runs in
server.py      any server, started by its command
peer.py        the client: bare sockets, because libraries behave
frames.py      the same for WebSockets
http.py, websocket.py, lifespan.py    the probes
probing.py     all of them
"""
