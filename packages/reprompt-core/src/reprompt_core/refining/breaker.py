"""A circuit breaker: a server that fails again and again is left alone for a while."""

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Opens after `failures` in a row, for `pause_s` seconds; then lets one call a pause through until one succeeds."""

    def __init__(self, *, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._pause, self._clock = failures, pause_s, clock
        self._failures = 0
        self._until = 0.0

    def admits(self) -> bool:
        """Whether a call may be made now. When the breaker is open and its pause is over, the one asking tries."""
        if self._failures < self._most:
            return True
        if self._clock() < self._until:
            return False
        self._until = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        if self._failures >= self._most:
            self._until = self._clock() + self._pause

    @property
    def rest_s(self) -> float:
        """Seconds until the next call is let through; 0: now."""
        return max(0.0, self._until - self._clock()) if self._failures >= self._most else 0.0
