"""When a federated bundle is fetched next, and when it is stale: pure functions.

Fetched at the refresh hint (Federation 4.1; five minutes when the document gives none), a little
earlier at random so that replicas do not ask together. After a failure the wait doubles from ten
seconds up to that interval, with jitter: never at once (Federation 6.2). A publisher shows new
roots three to five hints before it signs under them, so three missed refreshes are the alarm.
"""

import random
from datetime import datetime, timedelta
from typing import Final

DEFAULT_SECONDS: Final = 300
SHORTEST_SECONDS: Final = 60
LONGEST_SECONDS: Final = 24 * 3600
FIRST_RETRY_SECONDS: Final = 10.0
STALE_AFTER_REFRESHES: Final = 3


def refresh_interval(hint: int | None) -> int:
    """Return how many seconds lie between two fetches of a bundle with the refresh hint `hint`."""
    return min(max(hint or DEFAULT_SECONDS, SHORTEST_SECONDS), LONGEST_SECONDS)


def next_wait(interval: int, failures: int, draw: random.Random) -> float:
    """Return how many seconds to wait after `failures` failures in a row."""
    if not failures:
        return interval * (0.8 + 0.2 * draw.random())
    longest = min(FIRST_RETRY_SECONDS * float(2 ** min(failures - 1, 20)), interval)
    return longest * (0.5 + 0.5 * draw.random())


def is_stale(now: datetime, since: datetime, interval: int) -> bool:
    """Return whether a bundle that was last confirmed at `since` has missed its refreshes."""
    return now - since > timedelta(seconds=STALE_AFTER_REFRESHES * interval)
