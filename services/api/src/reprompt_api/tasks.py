"""Tasks that must end."""

import asyncio
from typing import Any

__all__ = ["end"]

_AGAIN_S = 0.2


async def end(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancels tasks, and returns once they have ended.

    Once is not always enough: `asyncio.wait_for` of Python 3.11, by which the connection pool waits, forgets that it
    was to stop when what it waited for is there at that very moment, and the task goes on.
    """
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
