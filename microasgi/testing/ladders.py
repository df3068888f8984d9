"""A call of the test client as a ladder."""

from microasgi.inspector.ladder import NARROW, WIDE, Style, ladder, sentences
from microasgi.inspector.reasons import Seen, reasons
from microasgi.inspector.summary import story, summary
from microasgi.inspector.timeline import timeline
from microasgi.testing.recording import Records


def told(records: Records, *, width: int = NARROW, colours: bool = False) -> tuple[str, str]:
    """The last call's title, and what happened in it.

    :param width: columns
    """
    assert records.kept
    record = records.kept[-1]
    which = f", the last of the test's {records.count} calls" if records.count > 1 else ""
    events, style = record.events(), Style(max(40, min(width, WIDE)), colours)
    said = [summary(events), *reasons(events, story(events), Seen())]
    lines = [ladder(timeline(events), style), *(sentences(each.replace("`", ""), style) for each in said)]
    return f"{record.title}{which}", "\n".join(lines)
