"""When things are due: pure functions of a certificate, a serial and `now`.

A leaf is renewed when a fraction of its life, drawn once per certificate uniformly from 0.5 to
0.7, has passed. The draw is a function of the serial, so every replica and every restart computes
the same instant, and a fleet that started together does not renew together (redrawing at each
check would narrow the window four times: SPIRE, spiffe.md section 6).
"""

import random
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

EARLIEST: Final = 0.5
LATEST: Final = 0.7
FIRST_RETRY: Final = timedelta(seconds=1)
LONGEST_RETRY: Final = timedelta(seconds=30)
CLOCK_TOLERANCE: Final = timedelta(seconds=1)


def renewal_instant(serial: str, *, issued_at: datetime, not_after: datetime) -> datetime:
    """Return the instant at which the certificate with `serial` is to be renewed."""
    drawn = int.from_bytes(sha256(serial.encode()).digest()[:8], "big") / 2**64
    return issued_at + (not_after - issued_at) * (EARLIEST + (LATEST - EARLIEST) * drawn)


def is_due(now: datetime, *, issued_at: datetime, renew_at: datetime) -> bool:
    """Return whether to renew: the instant has come, or the clock stands before the issuance.

    A clock set back would otherwise leave certificates that peers hold to be not yet valid.
    """
    return now >= renew_at or now < issued_at - CLOCK_TOLERANCE


def retry_delay(attempt: int, draw: random.Random) -> timedelta:
    """Return how long to wait after failure number `attempt` (from 1): full jitter, doubling."""
    doubled: timedelta = FIRST_RETRY * int(2 ** min(attempt, 10))
    ceiling = min(doubled, LONGEST_RETRY)
    return FIRST_RETRY / 2 + ceiling * draw.random()
