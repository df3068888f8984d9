"""The one error of the benchmarks."""


class BenchmarkError(Exception):
    """The measurement can't be made, or would mean nothing. The message is for the person who started it."""
