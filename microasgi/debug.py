"""The page that a Router with `debug=True` answers with where something went wrong: the traceback, with the lines of code around.

It shows code and messages to whoever asks, so it is for one's own machine. Everything in it is escaped, and nothing is loaded from
elsewhere. Values of variables aren't shown: there may be passwords among them.
"""

import linecache
import traceback
from html import escape
from types import TracebackType

from microasgi.requests import Request
from microasgi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

_AROUND = 4
"""Lines of code before and behind the one that raised."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}
h1 {{ font-size: 1.4em; overflow-wrap: anywhere; white-space: pre-wrap }}
pre {{ background: #8882; border-radius: 6px; overflow-x: auto; padding: .6em }}
pre, code {{ font: 13px/1.5 ui-monospace, monospace }}
mark {{ background: #f506; color: inherit; display: inline-block; min-width: 100% }}
summary {{ cursor: pointer; overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
<p><code>{request}</code> raised this; the innermost call is last. You see it because of <code>debug=True</code>.</p>
{frames}
<h2>The whole traceback</h2>
<pre>{text}</pre>
</html>
"""


def debug_page(request: Request, error: Exception) -> Response:
    """The answer to an exception that nobody expected: HTML for who takes it, as browsers do, else JSON or text."""
    accepted = request.headers.get("accept", "")
    headers = {"Cache-Control": "no-store"}
    text = "".join(traceback.format_exception(error))
    if "text/html" in accepted:
        return HTMLResponse(_printable(_page(request, error, text)), 500, headers)
    if "application/json" in accepted:
        return JSONResponse({"detail": _printable(_title(error)), "traceback": _printable(text).splitlines()}, 500, headers)
    return PlainTextResponse(_printable(text), 500, headers)


def _title(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1 if not isinstance(error, BaseExceptionGroup) else 0].strip()


def _printable(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 doesn't have."""
    return text.encode(errors="backslashreplace").decode()


def _page(request: Request, error: Exception, text: str) -> str:
    frames = "\n".join(_frame(frame, is_last=frame.tb_next is None) for frame in _frames(error.__traceback__))
    return _PAGE.format(title=escape(_title(error)), request=escape(f"{request.method} {request.path!r}"), frames=frames, text=escape(text))


def _frames(step: TracebackType | None) -> list[TracebackType]:
    frames = []
    while step is not None:
        frames.append(step)
        step = step.tb_next
    return frames


def _frame(step: TracebackType, *, is_last: bool) -> str:
    """One call, with its code; only the last is open."""
    code, line = step.tb_frame.f_code, step.tb_lineno
    first = max(1, line - _AROUND)
    lines = []
    for number in range(first, line + _AROUND + 1):
        source = linecache.getline(code.co_filename, number, step.tb_frame.f_globals)
        if source:
            shown = escape(f"{number:5d}  {source.rstrip()}")
            lines.append(f"<mark>{shown}</mark>" if number == line else shown)
    where = f"<summary><code>{escape(code.co_filename)}</code>, line {line}, in <code>{escape(code.co_qualname)}</code></summary>"
    return f"<details{' open' if is_last else ''}>{where}<pre>{chr(10).join(lines)}</pre></details>"
