"""Tasks of asyncio that must end."""

import asyncio
import time
from typing import Any

__all__ = ["end"]


async def end(*tasks: "asyncio.Task[Any] | None", within_s: float = float("inf"), again_s: float = 0.2) -> bool:
    """Cancels tasks and waits for their end; what they raise is not heard. Whether all ended within `within_s` seconds.

    Once is not always enough: `asyncio.wait_for` of Python 3.11, by which the connection pool waits, forgets that it
    was to stop when what it waited for is there at that very moment, and the task goes on. So every `again_s` seconds
    they are told again; where a task has work to do at its end, give it the time that this takes.
    """
    given = {task for task in tasks if task is not None}
    left = {task for task in given if not task.done()}
    deadline = time.monotonic() + within_s
    while left and (remaining := deadline - time.monotonic()) > 0:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=min(again_s, remaining))
    for task in given - left:
        if not task.cancelled():
            task.exception()  # seen: asyncio says nothing of it
    return not left
