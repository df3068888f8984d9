"""What a parameter is called in its test's id."""

import re
from typing import Any


def named(value: Any) -> str:
    """`str`, without the address that objects have there: an id says the same in every run, and in every worker of one."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
