"""What is built and installed: both packages, typed, with two dependencies, and nothing of the tests."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["microasgi", "server", "tests", "benchmarks", "pyproject.toml", "README.md", "LICENSE", ".gitignore", ".github"]

EXTRAS = {"fast", "trio", "metrics", "reload", "forms", "files", "websockets", "test", "bench", "lint"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built offline from a copy of the sources, so that nothing lands in the repository."""
    directory = tmp_path_factory.mktemp("packaging")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, directory)
    subprocess.run([sys.executable, "-m", "hatchling", "build"], cwd=directory, check=True, capture_output=True, timeout=120)
    return directory / "dist"


@pytest.fixture
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The wheel has every module of both packages, `py.typed` in both, and neither tests nor benchmarks."""
    expected = {
        f"{package}/{file.relative_to(ROOT / directory).as_posix()}"
        for package, directory in {"microasgi": "microasgi", "microasgi_server": "server/microasgi_server"}.items()
        for file in (ROOT / directory).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md"
    }
    assert {"microasgi/py.typed", "microasgi_server/py.typed"} <= expected
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_it_depends_on_anyio_and_h11_only(metadata: Message) -> None:
    """What comes along without an extra is anyio and h11 from 0.16 on."""
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.partition("<")[0].partition(">")[0] for line in required) == ["anyio", "h11"]
    assert any(line.startswith("h11") and ">=0.16" in line for line in required)


def test_the_extras_are_the_promised_ones(metadata: Message) -> None:
    """Each extra brings what its name promises, `test` what the tests need."""
    promised = {"fast": "uvloop", "trio": "trio", "forms": "multipart", "files": "starlette", "websockets": "websockets", "test": "pytest"}
    assert promised.keys() <= set(metadata.get_all("Provides-Extra", [])) <= EXTRAS
    for extra, package in promised.items():
        lines = [line for line in metadata.get_all("Requires-Dist", []) if f"extra == '{extra}'" in line]
        assert any(line.startswith(package) for line in lines), lines


def test_the_metadata_says_what_it_is(metadata: Message) -> None:
    """Name and licence stand in the metadata, and the Pythons that CI looks for."""
    assert metadata["Name"] == "microasgi"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    pythons = re.findall(r"python(3\.\d+)", (ROOT / ".ci" / "run").read_text())
    versions = {f"Programming Language :: Python :: {python}" for python in pythons}
    assert versions == {each for each in classifiers if re.search(r"3\.\d", each)}
    assert "Typing :: Typed" in classifiers


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    """The wheel installs the command `microasgi`."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "microasgi = microasgi.__main__:main" in wheel.read(name).decode().splitlines()


def test_the_wheel_works_where_only_its_dependencies_are(built: Path, tmp_path: Path) -> None:
    """With nothing to import but the wheel, anyio, h11 and what anyio needs, the command shows the demo's routes."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    for name in ("anyio", "h11", "idna", "sniffio", "typing_extensions"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:  # anyio's own needs differ from version to version
            origin = Path(spec.origin)
            found = origin.parent if origin.name == "__init__.py" else origin
            (tmp_path / found.name).symlink_to(found)
    script = "import sys; sys.path.insert(0, '.'); from microasgi.cli import main; main(['routes', 'microasgi.demo:routes'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "/hello/{name}" in done.stdout


def test_the_sdist_has_results_but_no_drawings(built: Path) -> None:
    """Of the benchmarks' results the sdist has the data and the tables, not the plots, which would be most of its size."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        kinds = {Path(name).suffix for name in archive.getnames() if "benchmarks/results" in name}
    assert kinds - {""} == {".json", ".md"}


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """The sdist has all that a wheel is built of."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    names = []
    for directory in (built, tmp_path / "again"):
        (path,) = directory.glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            names.append(archive.namelist())
    assert names[0] == names[1]
