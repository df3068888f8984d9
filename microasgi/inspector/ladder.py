"""Rows as text: a column for the time, five for the lanes, one for words, and one for places in the code where there is room.

     ms client wire server ASGI handler
    0.000  ●     │     │     │     │  connect()
    2.557  ├────▸●     │     │     │  70 bytes in  GET /report/2024 HTTP/1.1
           ┊     ┊     ┊     ┊     ┊  ⋯ 1.00 s in which the handler waits
 1003.711  ✕     │     │     │     │  close()

The way of the news is red where there are colours, and has its ✕ where there are none.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from microasgi.inspector.summary import span
from microasgi.inspector.timeline import MARKS, Fold, Gap, Line, Row, Timeline
from microasgi.inspector.wording import HEADINGS, SOCKET

NARROW, WIDE = 80, 140
"""Columns: what a pipe gets, and what is enough for anybody."""
WITH_PLACES = 100
"""Columns from which on places in the code are shown."""

TIME, STEP = 9, 6
"""Columns of the time, and from one lane to the next."""

PLAIN_ASCII = str.maketrans("│┊─├┤▸◂●◌✕→…⋯", "|:-++><o.x>~:")


@dataclass(frozen=True)
class Style:
    """How a ladder is written.

    width: columns.
    colours: with escape sequences (ECMA-48).
    plain: nothing but ASCII.
    """

    width: int = NARROW
    colours: bool = False
    plain: bool = False

    @staticmethod
    def of(stream: TextIO | None, environ: Mapping[str, str] = os.environ, *, plain: bool = False) -> "Style":
        """What suits this stream: colours on a terminal only, and none where NO_COLOR is set."""
        terminal = stream is not None and stream.isatty()  # a process may have none
        columns = shutil.get_terminal_size((NARROW, 24)).columns if terminal or "COLUMNS" in environ else NARROW
        colours = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        return Style(max(40, min(columns, WIDE)), colours, plain or (stream is not None and not _writes(stream, "│▸●✕")))


def _writes(stream: TextIO, text: str) -> bool:
    """Whether its encoding has these characters."""
    try:
        text.encode(stream.encoding or sys.getdefaultencoding())
    except (UnicodeEncodeError, LookupError):
        return False
    return True


BOLDLY = "\1"
"""Where bold begins or ends, once it can't be taken for an asterisk of somebody's code."""
_MARKED = re.compile(r"`[^`]*`|\*")

RED, BOLD, DIM, AMBER = "31;1", "1", "2", "33"


def ladder(shown: Timeline, style: Style) -> str:
    """The rows as text, with a heading; no line is wider than `style.width`."""
    text = "\n".join([_heading(), *(_line(row, style) for row in shown.rows)])
    return _plain(text) if style.plain else text


def _plain(text: str) -> str:
    """In nothing but ASCII."""
    return text.translate(PLAIN_ASCII).encode("ascii", "replace").decode()


def sentences(text: str, style: Style) -> str:
    """A summary, wrapped; what stands between asterisks is bold, where that can be seen; those in code are its own."""
    lines, line = [], ""
    text = _MARKED.sub(lambda found: BOLDLY if found[0] == "*" else found[0][1:-1], text)
    for word in text.split():
        if line and len(line.replace(BOLDLY, "")) + 1 + len(word.replace(BOLDLY, "")) > style.width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    whole = "\n".join([*lines, line])
    parts = (_plain(whole) if style.plain else whole).split(BOLDLY)
    return "".join(_in(BOLD, part, style) if index % 2 else part for index, part in enumerate(parts))


def _heading() -> str:
    """Each lane's name, in the middle above it."""
    line = "     ms"
    for lane, name in enumerate(HEADINGS):
        line = line.ljust(TIME + 2 + lane * STEP - len(name) // 2) + name
    return line


def _line(row: Line, style: Style) -> str:
    if not isinstance(row, Row):
        return _between(row, style)
    time = _in(RED if row.hot else DIM, f"{row.t:{TIME}.3f}", style)
    lanes = _lanes(row)
    if row.hot:
        lanes = _in(RED, lanes, style)
    elif row.glyph in MARKS.values():
        lanes = lanes.replace(row.glyph, _in(AMBER, row.glyph, style))
    place = _place(row) if style.width >= WITH_PLACES else ""
    room = style.width - TIME - 2 - len(_lanes(row)) - 2 - (len(place) + 2 if place else 0)
    label = fitted(row.label, room)
    padding = " " * (room - len(label) + 2)
    words = _in(RED, label, style) if row.hot else label
    return f"{time}  {lanes}  {words}{padding if place else ''}{_in(DIM, place, style) if place else ''}".rstrip()


def _between(row: Gap | Fold, style: Style) -> str:
    lanes = "".join("┊".ljust(STEP) for _ in HEADINGS).rstrip().ljust(len(HEADINGS) * STEP - STEP + 1)
    if isinstance(row, Fold):
        words, colour = f"⋯ {row.fold} events like these, in {span(row.gap)}", DIM
    else:
        words, colour = f"⋯ {span(row.gap)} {row.note}".rstrip(), RED if row.late else DIM
    return f"{'':{TIME}}  {_in(DIM, lanes, style)}  {_in(colour, fitted(words, style.width - TIME - 4 - len(lanes)), style)}"


def _lanes(row: Row) -> str:
    """Lifelines with the event on them: its mark, and the way there from another lane."""
    cells = list("".join(("┊" if lane == SOCKET and not row.state.reading else "│").ljust(STEP) for lane in range(len(HEADINGS))))
    start, end = row.frm * STEP, row.to * STEP
    step = 1 if end > start else -1
    if start != end:
        cells[start] = "├" if step > 0 else "┤"
        for column in range(start + step, end, step):
            cells[column] = "─"
        cells[end - step] = "▸" if step > 0 else "◂"
    cells[end] = row.glyph
    return "".join(cells[: (len(HEADINGS) - 1) * STEP + 1])


def fitted(label: str, room: int) -> str:
    """The words in so many columns. Code in backticks, which comes last, stands without them, and apart.

    Part of it was written by others: what could command a terminal, or can't be written, is shown as a question.
    """
    text = label.replace(" `", "  ").replace("`", "")
    text = "".join(each if each.isprintable() else "?" for each in text)
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def _place(row: Row) -> str:
    if row.source is None:
        return ""
    path, _, line = row.source.rpartition(":")
    return f"{Path(path).name}:{line}"


def _in(colour: str, text: str, style: Style) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if style.colours and text else text
