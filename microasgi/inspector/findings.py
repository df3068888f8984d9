"""What was found against the rules of ASGI, in sentences: one for each rule that somebody has broken."""

from collections.abc import Iterable

from microasgi.inspector.told import Shown


def findings(events: Iterable[Shown]) -> list[str]:
    """The sentences, in the order in which the rules were first broken."""
    broken: dict[tuple[str, str], list[Shown]] = {}
    for event in events:
        if (event["lane"], event["what"]) == ("asgi", "lint"):
            broken.setdefault((event["facts"]["rule"], event["facts"]["side"]), []).append(event)
    return [_sentence([event["facts"] for event in each]) for each in broken.values()]


def _sentence(found: list[dict[str, str]]) -> str:
    first = found[0]
    detail = " (`{}`)".format(first["detail"].replace("`", "'")) if first["detail"] else ""
    times = f", {len(found)} times" if len(found) > 1 else ""
    return f"*The {first['side']} breaks a rule*{detail}{times}. {first['says']} {first['rule']}: {first['document']}, {first['section']}."
