"""What a lint finds wrong, as the names of its rules."""

from collections.abc import Callable

from meshca.errors import IssuanceFault


def broken_rules(check: Callable[[], None]) -> list[str]:
    """Return the names of the rules that `check` finds broken, in order; none if it passes."""
    try:
        check()
    except IssuanceFault as fault:
        _, _, said = str(fault).partition(": ")
        return [wrong.partition(": ")[0] for wrong in said.split("; ")]
    return []
