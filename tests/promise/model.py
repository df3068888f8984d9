"""What must be seen of any handler whose client leaves: the rule, said once more, without a word on how it is done.

For each wait of each task one of these holds, by the blocks that it stands in (`the_rule_for`):

    sheltered   behind a shield: undisturbed
    torn        behind a shield that asyncio itself may tear, since a child of its own groups has opened it: either
    by level    in an anyio block that cleanup has opened: it raises
    calm        in a child that cleanup has started with asyncio's own means: undisturbed
    open        it raises if its task wasn't told before, and then not until the grace ends; behind that it raises, every time

A task is told where it waited when the client left, or at its next wait in the open. What was about to be cancelled before the client
left, by a failure or a deadline of the program's own, may be cancelled twice: such tasks are `loose`.
"""

import sys
from collections.abc import Iterator

from tests.promise import programs as p
from tests.promise.sightings import Leaf, Moment, Outcome, Part, Seen, Task

NATIVE = ("asyncio", "gather", "await", "wait_for")
"""The kinds of parts by which asyncio starts a task, and cancels it."""

ANYIO = ("anyio", "scope")

SLACK = 0.02
"""Seconds by which a deadline may be missed."""

PROMPT = 3
"""Turns of the loop after which a wait must have raised that could not be told in the turn of the departure."""


def blocks(part: Part | None) -> Iterator[Part]:
    """From the inside out, also across tasks."""
    while part is not None:
        yield part
        part = part.outer or part.task.parent


class Model:
    """Compares what was seen with the rule."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.grace = seen.program.cleanup_grace
        self.wrong: list[str] = []
        self.told: dict[Task, Moment] = {}
        self.loose: set[Task] = set()

    def check(self) -> list[str]:
        """All that is wrong."""
        seen = self.seen
        if seen.hung:
            return ["hangs"]
        if seen.departure is not None:
            self._follow(seen.departure)
            for leaf in seen.leaves:
                self._check_leaf(leaf, seen.departure)
            for part in seen.parts:
                self._check_departure_stays(part)
            self._check_warnings()
        for part in seen.parts:
            self._check_errors(part)
        self._check_end()
        return self.wrong

    # Who is told, and when.

    def _follow(self, departure: Moment) -> None:
        """Find out who is told, in the order in which it happens, since it depends on who was told before."""
        tasks = [task for task in self.seen.tasks if task.started_by != "detach"]
        self.loose = {task for task in tasks if task.ended is None or task.ended > departure if self._is_loose(task, departure)}
        moments: list[tuple[Moment, Task, Leaf | Part]] = []
        for leaf in self.seen.leaves:
            if leaf.ended is not None and leaf.ended > departure and leaf.cancelled:
                certain = leaf.begun < departure and not self._may_end(leaf)
                moments.append((departure if certain else leaf.ended, leaf.task, leaf))
        for part in self.seen.parts:
            if part.exits is not None and part.left is not None and part.left > departure:
                since = max(departure, part.exits)
                if any(child.ended and 0 <= since.turn - child.ended.turn <= PROMPT for child in part.children) and part.outcome.errors:
                    self.loose.add(part.task)  # told while the group noticed that its last child had ended, and then had errors instead
                moments.append((since if self._must_wait(part, since) else part.left, part.task, part))
        for moment, task, at in sorted(moments, key=lambda one: one[0]):
            own = at.part if isinstance(at, Leaf) else at
            heard = isinstance(at, Leaf) or at.outcome.cancelled or self._must_wait(at, moment)
            rule = self.the_rule_for(own, task, moment)
            if task not in self.told and heard and rule in ("open", "torn"):
                self.told[task] = moment
                if rule == "torn" or any(self._cancels(one, moment) for one in blocks(own) if not self._is_told_in(one, moment)):
                    self.loose.add(task)
        self._excuse(departure)

    def _must_wait(self, part: Part, at: Moment) -> bool:
        """Whether a task at the end of a part can't go on at that moment, since children are still there."""
        assert part.exits is not None
        if part.kind == "gather" and any(child.ended and child.ended <= at and not child.outcome.ok for child in part.children):
            return False
        return any(child.ended is None or child.ended > at for child in part.children)

    @staticmethod
    def _may_end(leaf: Leaf) -> bool:
        return not isinstance(leaf.node, p.Wait)

    def _is_loose(self, task: Task, departure: Moment) -> bool:
        """Whether something of the program's own was about to cancel the task."""
        parts = [part for part in self.seen.parts if part.task is task and part.opened < departure and not _before(part.left, departure)]
        around = {one for part in parts for one in blocks(part)} | set(blocks(task.parent))
        return any(self._cancels(part, departure) for part in around)

    def _excuse(self, departure: Moment) -> None:
        """Add to the loose ones those who are told later, since asyncio keeps no tree; and those whom it deceives."""
        for part in self.seen.parts:
            told = self.told.get(part.task)
            if _before(part.left, departure) or (told is not None and told < part.opened):
                continue
            inside = {task for task in self.seen.tasks if part in blocks(task.parent)}
            # The members of a TaskGroup are told with its owner, also where that is behind a shield in the group's body (KNOWN FAULT), or
            # runs, or is about to.
            if part.kind == "asyncio" and told != departure:
                self.loose |= inside
            # `wait_for` before Python 3.12 cancels what it waits for a turn later, which may go on until then; and swallows a cancellation
            # when that has just ended.
            if part.kind == "wait_for" and any(self.told.get(child) != departure for child in part.children):
                self.loose |= inside
            if part.kind == "wait_for" and any(abs(child.ended.turn - departure.turn) <= PROMPT for child in part.children if child.ended):
                self.loose |= {one.task for one in blocks(part)}

    def _cancels(self, part: Part, at: Moment) -> bool:
        """Whether by then the part has a reason to cancel what is in it, other than the departure; or is left, with others in it."""
        if part.deadline <= at.time + SLACK or (_before(part.left, at) and part.children):
            return True
        ends = [(part.task, part.exits, part.body), *((child, child.ended, child.outcome) for child in part.children)]
        ended = [(who, when) for who, when, how in ends if when is not None and when <= at and not how.ok]
        return any(who not in self.told or not part.opened < self.told[who] < when for who, when in ended)

    @staticmethod
    def _aborts(part: Part, at: Moment) -> bool:
        """Whether this is an `asyncio.TaskGroup` that cancels its owner, who may be behind a shield in its body: a member has failed."""
        return part.kind == "asyncio" and any(child.ended and child.ended <= at and child.outcome.errors for child in part.children)

    # The rule.

    def the_rule_for(self, part: Part | None, task: Task, at: Moment) -> str:
        """What holds for a wait in this part."""
        around = list(blocks(part)) if part is not None else list(blocks(task.parent))
        shields = [one for one in around if one.kind == "shield"]
        calm = next((number for number, one in enumerate(around) if self._is_cleanups(one, NATIVE)), len(around))
        level = [number for number, one in enumerate(around) if self._is_cleanups(one, ANYIO)]
        if any(number > calm for number in level):
            return "torn"
        inner = [one for one in around[:calm] if one.kind == "shield"]
        if any(one.task.started_by not in NATIVE for one in inner):
            return "sheltered"
        if inner:
            return "torn" if calm == len(around) else "sheltered"
        if level:
            return "by level"
        if calm < len(around):
            return "calm"
        if any(one.task.started_by not in NATIVE for one in shields):
            return "sheltered"
        return "torn" if shields else "open"

    def _is_cleanups(self, part: Part, kinds: tuple[str, ...]) -> bool:
        return part.kind in kinds and part.task in self.told and part.opened > self.told[part.task]

    def _is_late(self, leaf: Leaf, at: Moment, slack: float) -> bool:
        """Whether the grace is over by then: its task's, or that of one which cancels it."""
        tasks = {leaf.task, *(one.task for one in blocks(leaf.part))}
        return any(task in self.told and self.told[task].time + self.grace <= at.time + slack for task in tasks)

    def _is_told_in(self, part: Part, at: Moment) -> bool:
        """Whether it is the departure that ends this part: nothing of its own may cancel what is in it, then."""
        return part.task in self.told and part.opened < self.told[part.task] < at

    def _check_leaf(self, leaf: Leaf, departure: Moment) -> None:
        if leaf.task.started_by == "detach":
            self._unless(not leaf.cancelled, leaf, "a detached task is cancelled")
            return
        if leaf.ended is None:
            self._unless(self._is_orphan(leaf.task), leaf, "nobody has ended this wait")
            return
        around = {leaf.task, *(one.task for one in blocks(leaf.part))}
        if leaf.ended < departure or self.loose & around or self._is_orphan(leaf.task):
            return
        told = self.told.get(leaf.task)
        rule = self.the_rule_for(leaf.part, leaf.task, leaf.begun)
        if rule in ("sheltered", "calm"):
            excused = self._is_late(leaf, leaf.ended, SLACK) and rule == "calm"
            excused = excused or any(self._cancels(one, leaf.ended) for one in blocks(leaf.part) if not self._is_told_in(one, leaf.ended))
            excused = excused or any(self._aborts(one, leaf.ended) for one in blocks(leaf.part) if one.task is leaf.task)
            self._unless(not leaf.cancelled or excused, leaf, f"cancelled, though {rule}")
        elif rule == "by level":
            self._unless(leaf.cancelled, leaf, "not cancelled, in an anyio block that cleanup has opened")
        elif rule == "open":
            self._check_open(leaf, departure, told)

    def _check_open(self, leaf: Leaf, departure: Moment, told: Moment | None) -> None:
        assert leaf.ended is not None
        if told is not None and told < leaf.begun:
            self._unless(self._cleans_up(leaf), leaf, "goes on, though told")
            if leaf.cancelled:
                expired = any(one.kind == "timeout" and one.deadline <= leaf.ended.time + SLACK for one in blocks(leaf.part))
                excused = expired or self._is_late(leaf, leaf.ended, SLACK) or self._is_retold(leaf.task, told, leaf.ended)
                self._unless(excused, leaf, "told twice")
            else:
                mine = told.time + self.grace + SLACK < leaf.begun.time
                self._unless(not mine, leaf, "not cancelled, though its grace has ended")
        elif leaf.begun < departure:
            if leaf.cancelled:
                slow = any(one.kind == "wait_for" for one in blocks(leaf.part)) or isinstance(leaf.node, p.Thread)
                prompt = leaf.ended.turn <= departure.turn + (PROMPT if slow else 1)
                self._unless(prompt or isinstance(leaf.node, p.Thread), leaf, "told late")
            else:
                self._unless(self._may_end(leaf), leaf, "not told")
        elif not isinstance(leaf.node, p.Thread):
            ended = self._may_end(leaf) and leaf.ended.turn <= leaf.begun.turn + PROMPT
            self._unless(leaf.cancelled or ended, leaf, "not told at its next wait")
            self._unless(leaf.ended.turn <= leaf.begun.turn + PROMPT, leaf, "told late at its next wait")
        if isinstance(leaf.node, p.Thread) and not any(one.kind in NATIVE for one in blocks(leaf.part)):
            self._unless(leaf.thread != "never told", leaf, f"its thread: {leaf.thread}")

    def _is_retold(self, task: Task, told: Moment, at: Moment) -> bool:
        """Whether a TaskGroup has had errors in place of the cancellation: since Python 3.13 it cancels its owner again behind that."""
        groups = [one for one in self.seen.parts if one.kind == "asyncio" and one.task is task and one.outcome.errors]
        return sys.version_info >= (3, 13) and any(one.left is not None and told < one.left < at for one in groups)

    @staticmethod
    def _cleans_up(leaf: Leaf) -> bool:
        return any(one.kind == "cleanup" and one.task is leaf.task for one in blocks(leaf.part))

    def _is_orphan(self, task: Task) -> bool:
        """Whether a part that started the task, or one above it, was left without it: asyncio's `gather` does that at the first error."""
        left = [(one.left, child.ended) for one in blocks(task.parent) if one.kind in NATIVE[1:] and one.left for child in one.children]
        return any(ended is None or ended > at for at, ended in left)

    def _check_departure_stays(self, part: Part) -> None:
        """What a told task was in doesn't end as if nothing had happened."""
        told = self.told.get(part.task)
        around = {part.task, *(one.task for one in blocks(part))}
        if told is None or part.left is None or not part.opened < told < part.left or part.kind == "cleanup" or self.loose & around:
            return
        if part.outcome.errors <= {"TimeoutError"} and not part.outcome.cancelled:
            self._say(part, f"left without the cancellation: {part.outcome}")

    def _check_errors(self, part: Part) -> None:
        """A group raises what its children and its body have raised, and nothing else."""
        if part.kind in ("anyio", "asyncio") and part.left is not None:
            expected = part.body.errors.union(*(child.outcome.errors for child in part.children))
            if part.outcome.errors != expected:
                self._say(part, f"raises {set(part.outcome.errors)}, but in it were {set(expected)}")

    def _check_warnings(self) -> None:
        """One warning if somebody is still there when its grace ends."""
        host = next(task for task in self.seen.tasks if task.started_by == "host")
        assert host.ended is not None
        over = [min(task.ended or host.ended, host.ended).time - told.time - self.grace for task, told in self.told.items()]
        count, longest = len(self.seen.warnings), max(over, default=-1.0)
        if count > 1 or (count == 1 and longest < -SLACK) or (count == 0 and longest > SLACK and not self.loose):
            self.wrong.append(f"{count} warnings; somebody was there {longest:.3f} s after its grace")

    def _check_end(self) -> None:
        """Nothing is left behind, and the cancellation ends with the block; an error passes."""
        seen = self.seen
        host = next(task for task in seen.tasks if task.started_by == "host")
        # Before 3.13, a TaskGroup that has failed at its end forgets to take its own cancellation back: it looks like somebody else's.
        failed = sys.version_info < (3, 13) and any(part.kind == "asyncio" and part.outcome.errors for part in seen.parts)
        # A cancellation that the handler had before its client left, and that nobody had to tell it of, isn't ours.
        others = seen.outcome.cancelled and (failed or host not in self.told)
        if seen.outcome != Outcome(others, host.outcome.errors):
            self.wrong.append(f"the block has ended by {seen.outcome}, the handler by {host.outcome}")
        if (seen.cancelling and not (failed or others)) or seen.scope is not None:
            self.wrong.append(f"left behind: cancelling {seen.cancelling}, scope {seen.scope}")
        if seen.tasks_left and not any(self._is_orphan(task) for task in seen.tasks):
            self.wrong.append(f"tasks left: {seen.tasks_left}")
        if seen.remembered:
            self.wrong.append(f"still remembered: {seen.remembered}")
        # `wait_for` before Python 3.12 waits for what it has cancelled, but doesn't look at how that ended.
        limited = sys.version_info < (3, 12) and any(task.started_by == "wait_for" and task.outcome.errors for task in seen.tasks)
        self.wrong += [text for text in seen.complaints if not (limited and "never retrieved" in text)]

    def _unless(self, right: bool, leaf: Leaf, text: str) -> None:
        if not right:
            self._say(leaf, text)

    def _say(self, at: Leaf | Part, text: str) -> None:
        what = at.node if isinstance(at, Leaf) else at.kind
        inside = " < ".join(one.kind for one in blocks(at.part if isinstance(at, Leaf) else at))
        seen = f"begun {at.begun}, ended {at.ended}" if isinstance(at, Leaf) else f"opened {at.opened}, exits {at.exits}, left {at.left}"
        told = self.told.get(at.task)
        self.wrong.append(f"{what} (in {inside or 'the handler'}): {text}; {seen}, told {told}, departure {self.seen.departure}")


def _before(moment: Moment | None, other: Moment) -> bool:
    return moment is not None and moment < other
