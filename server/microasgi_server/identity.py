"""Which of several processes this is."""

worker: int | None = None
"""The number of the worker that this process is, from 1 on; None in one that serves alone, and in a supervisor.

A worker's successor has its number: metrics and logs go on under the same name.
"""
