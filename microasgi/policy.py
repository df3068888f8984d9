"""What a route or a router says about the disconnect: checked where it is written, and shown."""

from typing import Literal

OnDisconnect = Literal["cancel", "finish"]


def check_policy(on_disconnect: object, cleanup_grace: float | None) -> None:
    """Check what a route or a router says about the disconnect; None is no opinion.

    :raises ValueError: an option is out of its range
    """
    if on_disconnect not in ("cancel", "finish", None):
        raise ValueError(f"on_disconnect is 'cancel' or 'finish', not {on_disconnect!r}")
    if cleanup_grace is not None and not cleanup_grace >= 0:
        raise ValueError(f"cleanup_grace is a number of seconds, at least 0, not {cleanup_grace!r}")


def told_policy(on_disconnect: OnDisconnect | None, cleanup_grace: float | None) -> str:
    """What a route or a router says about the disconnect, for its `repr`; nothing, if it has no opinion."""
    told = f", on_disconnect={on_disconnect!r}" if on_disconnect is not None else ""
    return told + (f", cleanup_grace={cleanup_grace!r}" if cleanup_grace is not None else "")
