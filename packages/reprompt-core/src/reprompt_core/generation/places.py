"""Where music can be made now, and how busy it is there."""

from typing import NamedTuple

from ..database import Database
from ..settings import Settings
from .contract import Place

__all__ = ["PlaceState", "place_states"]

_ORDER = ("preview", "musicgen", "runpod")


class PlaceState(NamedTuple):
    """How busy a place is."""

    place: Place
    available: bool
    slots: int  # generations at once
    queued: int
    running: int
    wait_s: float | None  # until a new one would start, by how long the last ones took; None: not known
    model: str | None = None
    model_revision: str | None = None


async def place_states(database: Database, settings: Settings) -> list[PlaceState]:
    """Every place, as its workers last said.

    Raises:
        DatabaseError: the database is away.
    """
    live = {place: rest for place, *rest in await database.fetch("live_workers", stalled_s=settings.stalled_s)}
    states: list[PlaceState] = []
    for place, queued, running, took_s in await database.fetch("queue_state"):
        slots, model, revision = live.get(place, (0, None, None))
        configured = place != "runpod" or settings.runpod_endpoint is not None
        ahead = max(0, queued + running + 1 - slots)
        wait_s = None
        if slots and not ahead:
            wait_s = 0.0
        elif slots and took_s is not None:
            wait_s = took_s * ahead / slots
        states.append(PlaceState(place, bool(slots) and configured, slots, queued, running, wait_s, model, revision))
    return sorted(states, key=lambda state: _ORDER.index(state.place))
