import asyncio
import gc
from typing import Any

import pytest
from reprompt_core.tasks import end


async def stubborn(times: int) -> None:
    """Forgets that it was cancelled, as asyncio.wait_for of Python 3.11 sometimes does."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            times -= 1
            if not times:
                raise


async def failing() -> None:
    raise ValueError("on its own")


def run(*tasks: Any, **options: Any) -> tuple[bool, list[bool]]:
    """(what `end` said, which of them had ended)."""

    async def use() -> tuple[bool, list[bool]]:
        made = [asyncio.create_task(task) for task in tasks]
        await asyncio.sleep(0.01)
        said = await end(*made, None, **options)
        return said, [task.done() for task in made]

    return asyncio.run(use())


def test_a_task_that_forgets_is_told_again() -> None:
    assert run(stubborn(1), stubborn(3)) == (True, [True, True])


def test_one_that_goes_on_is_left_in_the_end() -> None:
    assert run(stubborn(2), stubborn(1), within_s=0.1) == (False, [False, True])


def test_nothing_to_end() -> None:
    assert run() == (True, [])


def test_what_it_raised_is_not_told_later(caplog: pytest.LogCaptureFixture) -> None:
    assert run(failing()) == (True, [True])
    gc.collect()
    assert not caplog.records
