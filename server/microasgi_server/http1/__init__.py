"""HTTP/1.1 without I/O (RFC 9112): bytes to a checked head, a head to an exchange, messages to bytes.

To read in this order: `reader` (with `targets`, `framing` and `faults`), `body`, `phases`, `exchange`, `encoder`, `protocol`.
"""
