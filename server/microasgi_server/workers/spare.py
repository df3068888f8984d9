"""An interpreter that has imported all but the app, and waits for its job: whoever has a place to fill has it filled sooner by that.

To import the server and the framework takes several times as long as most apps do, above all on a machine that is busy with what the other
workers serve. It is paid for in memory, so that only who develops, or asks for it, has one.
"""

from contextlib import suppress

from microasgi_server.workers.child import Child
from microasgi_server.workers.job import Job


class Spare:
    """At most one such process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._waiting: Child | None = None

    def prepare(self) -> None:
        """Have one, unless the system has no room for it, as the next worker will tell."""
        if self._waiting is None or self._waiting.ended:
            self.dismiss()
            with suppress(OSError):
                self._waiting = Child(self._job)

    def take(self) -> Child:
        """The one that waits, or a new one, to be given its job.

        :raises OSError: the system has no room for one
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.ended:
            return waiting
        return Child(self._job)

    def dismiss(self) -> None:
        """End the one that waits: what it has imported is no longer what is on the disk, or nobody is to start any more."""
        if self._waiting is not None:
            self._waiting.kill()
            self._waiting = None
