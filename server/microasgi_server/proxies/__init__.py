"""What proxies in front say of a request: who its client is, by which scheme and name it came. It is believed only of those in a list.

trust.py        who is believed
forwarded.py    X-Forwarded-For and its like, and Forwarded (RFC 7239): from fields to what they say
headers.py      `ProxyHeaders`, an ASGI middleware: the scope as the client's own request would have made it
hosts.py        `AllowedHosts`, another: the names that an app is asked for
preface.py      the PROXY protocol: the same news, in front of a connection's first byte
connections.py  how this server's own connections come to use them
"""
