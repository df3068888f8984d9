"""The picture of the inspector's page in the README: the post's experiment, as `microasgi inspect` shows it.

`python -m tests.screenshot` makes it anew, in some ten seconds; it wants Chromium, and port 8000.
"""

import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
from PIL import Image

from tests.browser import browsing
from tests.ladders import APPS
from tests.needs import ROOT, path_of

PICTURE = ROOT / "benchmarks" / "results" / "inspector.png"
"""Beside the README's other pictures."""

LARGEST = 150_000
"""Bytes that it may have."""

WIDTH, HEIGHT, COLOURS = 1360, 820, 256

VISITS = [("/hello", "after", "0"), ("/report/2023", "rst", "0.3"), ("/report/2024", "fin", "1")]
"""Path, way to leave, and when; the last one is looked at."""

COMMAND = [sys.executable, "-m", "microasgi", "inspect", "shop:routes", "--loop", "asyncio"]


@contextmanager
def inspected() -> Iterator[str]:
    """The app and the page, each in its process; gives the page's address."""
    with subprocess.Popen(COMMAND, cwd=APPS, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"look at (\S+)", process.stdout.readline())
            assert found, "the inspector hasn't begun: is port 8000 taken?"
            yield found[1]
        finally:
            process.terminate()


async def shot(address: str, folder: Path) -> bytes:
    """A client has left after a second, and the moment at which its handler was told is selected."""
    async with browsing(path_of("chromium"), folder, address, WIDTH, HEIGHT) as tab:
        await tab.until("document.querySelector('#live[data-state=live]')")
        for path, way, after in VISITS:
            values = {"path": path, "way": way, "after": after}
            await tab.evaluate(";".join(f"document.getElementById({id!r}).value = {value!r}" for id, value in values.items()))
            await tab.evaluate("document.getElementById('go').click()")
            await tab.until(f"document.querySelector('#view[data-running=false] h2')?.textContent.startsWith('GET {path} ')")
            await tab.until("/^(over|answered)/.test(document.getElementById('launched').textContent)")
        return await tab.picture()


def main() -> None:
    """Write it.

    :raises SystemExit: it is larger than it may be
    """
    with inspected() as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = anyio.run(shot, address, Path(folder))
    small = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    if small.tell() > LARGEST:
        raise SystemExit(f"the picture has {small.tell():,} bytes, and may have {LARGEST:,}: take fewer COLOURS")
    PICTURE.write_bytes(small.getvalue())
    print(f"{PICTURE.relative_to(ROOT)}: {small.tell():,} bytes")


if __name__ == "__main__":
    main()
