"""How far the cancellation of a call has come, told as it moves."""

import sys

from microasgi.promise.delivery import Block
from microasgi.promise.stages import Stage
from microasgi.promise.visit import Visit
from microasgi.watching.members import present


class WatchedBlock(Block):
    """A block that tells the member of a request that it is made by, if there is one."""

    def __init__(self, cleanup_grace: float) -> None:
        super().__init__(cleanup_grace)
        self._member = present.get()

    def _move(self, stage: Stage) -> None:
        old = self.stage
        super()._move(stage)
        if self._member is not None:
            frame = sys._getframe(1)
            self._member.moves(old, stage, (frame.f_code, frame.f_lasti))

    def warn(self) -> None:
        super().warn()
        if self._member is not None:
            self._member.is_given_up(self.cleanup_grace)


def watch_stages() -> None:
    """From now on the blocks of requests are made so."""
    Visit.block_class = WatchedBlock
