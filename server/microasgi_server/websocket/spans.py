"""Where a client's frames begin and end, before anybody reads them (RFC 6455 §5.2).

bits   1   3     4       1        7            16 or 64, or none     32     8 times length
      FIN RSV opcode   MASK   length, or how   the longer length    mask     payload
                              long that is
"""


def span(data: bytes, at: int) -> tuple[int, int] | None:
    """Of the frame that begins there: where its payload begins, behind the four bytes of the mask, and where the next frame does.

    That may be behind all that is here. None as long as it can't be known.
    """
    if len(data) < at + 2:
        return None
    length = data[at + 1]
    payload = at + 6 if length & 0x80 else at + 2
    length &= 0x7F
    if length < 126:
        return payload, payload + length
    wide = 2 if length == 126 else 8
    if len(data) < at + 2 + wide:
        return None
    return payload + wide, payload + wide + int.from_bytes(data[at + 2 : at + 2 + wide])


def unmasked(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame, as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return b"%c\x7e%b%b" % (0x80 | opcode, length.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (0x80 | opcode, length.to_bytes(8), payload)
