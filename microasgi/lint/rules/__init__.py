"""What is asked of every conversation, document by document; what only a client can ask is in `microasgi.lint.probes`."""

from microasgi.lint.rules import extensions, http, lifespan, main, responses, websocket

MODULES = (main, extensions, http, responses, websocket, lifespan)
"""In the order of the documents."""
