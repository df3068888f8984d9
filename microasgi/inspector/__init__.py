"""The inspector: one request seen whole, from the client's `close()` to the await that raises, and back.

What is told (`Event`) comes from the server and from what watches the handler; the client here adds what it does itself. All of it is
plain data, so nothing in this folder knows the server.

    told.py      what an event is, and a place to keep events
    leaving.py   the ways in which a client can leave
    client.py    a client that leaves in one of them
    answers.py   where a response ends; websocket.py, secrets.py: what else the client needs
    wording.py   an event in words
    states.py    what is known at one moment; news.py: how the news of a departure travels
    timeline.py  events in rows: what happened between, what was the same again, what was known then
    summary.py   all of it in three sentences
    reasons.py   why a handler hasn't stopped, from course.py: what became of the news, task by task; enclosing.py: what holds it off
    findings.py  what was found against the rules of ASGI
    ladder.py    rows as text
    exports.py   events for other programs: JSON lines, Perfetto; har.py HAR

`microasgi/command/trace.py` puts them together; so does, for a browser, `page/`, which `microasgi/command/inspection.py` serves.
"""
