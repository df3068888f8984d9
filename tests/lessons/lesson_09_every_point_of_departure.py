"""Every point of departure.

Try every await at which a client can leave, not the one that you thought of.

Predict: the handler below waits four times. After which of them may its client leave, and the books are wrong?
"""

from contextlib import suppress
from functools import partial

import anyio

from microasgi import Request, Router
from microasgi.testing import Client, Departure, SwallowedCancellation
from tests.lessons.form import Break, Place

# Every `await` is a place where a handler may end. That was so before anybody cancelled anything: each may raise. But a connection to a
# database breaks once a year, and a client leaves every second.


class Books:
    """Every cup that is taken from the shelf must be on a bill."""

    def __init__(self) -> None:
        self.taken, self.billed = 0, 0

    @property
    def balanced(self) -> bool:
        return self.taken == self.billed


ask_the_database = partial(anyio.sleep, 0.001)


def shop(books: Books, *, shielded: bool) -> Router:
    routes = Router()

    @routes.post("/order")
    async def order(request: Request) -> str:
        await ask_the_database()  # is there tea?
        await ask_the_database()  # may this customer have it?
        with anyio.CancelScope(shield=shielded):
            books.taken += 1
            await ask_the_database()  # the bill is written
            books.billed += 1
        await ask_the_database()  # when will it come?
        return "tomorrow"

    return routes


async def departures(books: Books, app: Router) -> dict[Departure, bool]:
    """Whether the books were balanced, by the await at which the client left."""
    found = {}
    async for departure in Client(app).hang_up_everywhere("/order", "POST"):
        found[departure] = books.balanced
        print(f"  {departure}: {'fine' if books.balanced else 'the books are wrong'}")
        books.taken = books.billed
    return found


# Four places: one could write four tests, each with an event to stop the handler there, and a fifth when somebody adds an await. Or let the
# client leave at the first await, then at the second, and so on until the handler comes to its end. The same request, five runs, and one
# rule that must hold after each.


async def test_the_half_order_is_found() -> None:
    """Of four points of departure one leaves a cup without a bill."""
    books = Books()
    found = await departures(books, shop(books, shielded=False))
    assert [departure.number for departure in found] == [1, 2, 3, 4]
    assert [departure.number for departure, balanced in found.items() if not balanced] == [3]


# A shield makes one piece of what must not be torn: a cancellation waits until it is left. So it wants to be small, and to hold nothing
# slow. For what is larger there are transactions, which take back instead of holding on.


async def test_a_shield_mends_it() -> None:
    """What is shielded happens as a whole, or not at all, wherever the client leaves."""
    books = Books()
    found = await departures(books, shop(books, shielded=True))
    assert len(found) == 4
    assert all(found.values()), "each cup has its bill"
    assert all(departure.cancelled for departure in found)


# The same walk finds who doesn't stop at all. To catch everything around one await is enough: the cancellation is caught, too, and
# the handler goes on, for nobody.


async def test_a_handler_that_swallows_it_is_found() -> None:
    """A handler that catches its cancellation and goes on fails the test that walks through it."""
    routes = Router()

    @routes.post("/order")
    async def stubborn(request: Request) -> str:
        with suppress(BaseException):
            await ask_the_database()
        return "tomorrow"

    found: list[str] = []
    try:
        await departures(Books(), routes)
    except SwallowedCancellation as error:
        found.append(str(error))
    print(f"  {found}")
    assert found


# Break it: take the shield away where it was needed.

BREAK = Break(
    old="shop(books, shielded=True)",
    new="shop(books, shielded=False)",
    fails='assert all(found.values()), "each cup has its bill"',
)

READ_NEXT = [
    Place("microasgi/testing/stepping.py", "Stepper"),  # how a task is stopped at its third await
    Place("microasgi/testing/client.py", "Departures"),  # the walk
    Place("microasgi/promise/telling.py", "Telling"),  # how a shield is respected
]
