"""Tests of the benchmarks, which need nearly all of the extra `bench`: without it, every module is skipped."""

from tests.needs import demand_package

for name in ("rich", "matplotlib", "starlette", "fastapi", "uvicorn", "psycopg"):
    demand_package(name)
