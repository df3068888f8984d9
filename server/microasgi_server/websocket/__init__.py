"""WebSockets (RFC 6455): a request that asks for the upgrade, and what comes of it instead of a response.

    protocol.py   HTTP/1.1 that goes over to a session behind such a request
    handshake.py  what the request must say, and what the answer does
    session.py    the conversation, as the app sees it: another kind of `Exchange`, with its states in states.py
    messages.py   what the messages are that it sends
    farewells.py  who wants to know in which way the client has left
    frames.py     bytes to messages and back; the one file that knows the package `websockets`, an extra
    spans.py      where frames begin and end
    closing.py    the codes that a conversation ends with

A client can leave in two ways. A goodbye is a close frame: what was said before is not lost, and who still works on it may finish. A
disappearance is everything else: a closed or broken socket, no answer to a ping, a broken rule.
"""
