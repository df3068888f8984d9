"""What is known of a request once its head has been checked."""

from microasgi_server.http1.fields import Fields


class Head:
    """A request's head, checked.

    method, target, version: the request line as it came.
    fields: in order, names in lower case; Host as the target's authority has it, if it has one.
    raw_path, query: what the target asks for.
    length: bytes of the body; 0 if there is none, None if it comes in chunks.
    closes: whether the connection ends behind this request, as HTTP/1.0's do (RFC 9112 §9.3).
    expects: whether the client holds its body back until it is told to go ahead (RFC 9110 §10.1.1).
    upgrades: whether it asks for another protocol, as far as `Connection` tells (RFC 9110 §7.8).
    """

    length: int | None = 0
    closes = False
    expects = False
    upgrades = False

    def __init__(self, method: bytes, target: bytes, version: bytes, fields: Fields, raw_path: bytes, query: bytes) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.raw_path = raw_path
        self.query = query

    def __repr__(self) -> str:
        return f"<Head {self.line}, {len(self.fields)} fields>"

    @property
    def line(self) -> str:
        """The request line as a log shows it. The target stays percent-encoded: the reader lets nothing but visible ASCII pass."""
        return f"{self.method.decode('ascii')} {self.target.decode('ascii')} HTTP/{self.version.decode('ascii')}"
