"""What isn't shown: the values of fields that are nobody's business, of what the inspector's own client sends and is sent.

What the server tells is cut and redacted where it is told.
"""

import re

HIDDEN = "***"

SECRET = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")

_FIELD = re.compile(rb"(?im)^((?:%s)[ \t]*:)([^\r\n]*)" % "|".join(SECRET).encode())


def redacted(data: bytes) -> bytes:
    """The same bytes with asterisks for secrets; as many, so that sizes stay."""
    return _FIELD.sub(lambda found: found[1] + b"*" * len(found[2]), data)


def told(name: str, value: str) -> str:
    """A field's value, or what stands for it."""
    return HIDDEN if name.strip().lower() in SECRET else value
