"""Tests of the benchmarks, which need nearly all of the extra `bench`: without it, every module is skipped."""

from tests.needs import needs_package

for name in ("rich", "matplotlib", "starlette", "fastapi", "uvicorn", "psycopg"):
    needs_package(name)
