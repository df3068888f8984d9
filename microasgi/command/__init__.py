"""The command `microasgi`, and `run`, which does the same for a program: the only place where framework and server meet.

targets.py  what can be served, beside any ASGI app: a Router, a list of routes
serve.py    `run`, and `microasgi serve`
routes.py   `microasgi routes`
inspect.py  `microasgi inspect`; inspection.py what it does, inspecting.py its page's own server, comparing.py another server beside ours
trace.py    `microasgi trace`; hosting.py and hosted.py the process in which the app runs, servers.py what it can run in, blocking.py where

What a command needs that knows no Router is the server's: `microasgi_server/command/`.
"""
