"""How much at once, and how much a minute."""

import time
from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Gate", "Rate", "Rates"]

_BUCKETS = 10_000  # of keys and addresses whose rate is remembered


class Rate(NamedTuple):
    """How far a caller is from its limit."""

    allowed: bool
    limit: int  # requests a minute
    remaining: int
    wait_s: float  # until the next one is allowed; 0: now
    full_s: float  # until all are allowed again

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """RateLimit-*, as the IETF's draft names them."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % round(self.full_s + 0.5)),
        ]


class Rates:
    """Buckets that hold a minute's requests and fill evenly. Counted in this process.

    Args:
        per_minute: of one caller.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens, when)

    def take(self, who: str) -> Rate:
        """Counts a request."""
        now = time.monotonic()
        tokens, then = self._buckets.pop(who, (float(self._most), now))
        tokens = min(float(self._most), tokens + (now - then) * self._most / 60)
        allowed = tokens >= 1
        tokens -= allowed
        self._buckets[who] = (tokens, now)
        while len(self._buckets) > _BUCKETS:
            self._buckets.popitem(last=False)
        second = self._most / 60
        return Rate(
            allowed=allowed,
            limit=self._most,
            remaining=int(tokens),
            wait_s=max(0.0, (1 - tokens) / second),
            full_s=(self._most - tokens) / second,
        )


class Gate:
    """Places for what is under way at once.

    Args:
        places: at most.
    """

    def __init__(self, places: int) -> None:
        self._places, self.taken = places, 0

    def enter(self) -> bool:
        """Takes a place; False: there is none."""
        if self.taken >= self._places:
            return False
        self.taken += 1
        return True

    def leave(self) -> None:
        """Gives a place back."""
        self.taken -= 1
