"""What type checkers say of apps: everything that works passes, and what fails when it runs is refused where it is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import ROOT, needs_package

HERE = Path(__file__).parent
FILES = [HERE / "accepted.py", HERE / "refused.py"]


def expected() -> dict[int, str]:
    """The lines of `refused.py` that must be, with mypy's code for each."""
    lines = enumerate(FILES[1].read_text().splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(r"  # refused: (\S+)$", line))}


@needs_package("mypy")
def test_mypy_accepts_and_refuses_line_by_line() -> None:
    """mypy, strict, has nothing to say of the one file, and of the other what its comments say."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--hide-error-context", *map(str, FILES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    pattern = r"tests/typing/(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$"
    errors = [(name, int(line), code) for name, line, code in re.findall(pattern, done.stdout, re.MULTILINE)]
    assert [error for error in errors if error[0] != "refused"] == []
    assert {line: code for _, line, code in errors} == expected(), done.stdout + done.stderr


@pytest.mark.slow
@needs_package("basedpyright")
def test_pyright_accepts_and_refuses_line_by_line(tmp_path: Path) -> None:
    """So does Pyright, by its standard rules, whose codes are others: as basedpyright, which brings what it needs."""
    config = {"include": [str(file) for file in FILES], "extraPaths": [str(ROOT), str(ROOT / "server")], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "basedpyright", "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)["generalDiagnostics"]
    errors = [(Path(error["file"]).name, error["range"]["start"]["line"] + 1) for error in report if error["severity"] == "error"]
    assert [error for error in errors if error[0] != "refused.py"] == [], report
    assert {line for _, line in errors} == expected().keys(), report
