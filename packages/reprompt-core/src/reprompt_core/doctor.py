"""What is configured, what is there, what is missing: `reprompt doctor`."""

import importlib.util
import platform
import time
from collections.abc import Callable
from typing import Any

from . import __version__
from .database import Database
from .encoder import MANIFEST, Encoder
from .errors import RepromptError
from .settings import Settings

__all__ = ["examine"]


async def examine(settings: Settings, tell: Callable[[str], object]) -> bool:
    """Tells, a line at a time, how things stand; True when `reprompt` can answer."""
    tell(f"reprompt-core {__version__}, Python {platform.python_version()}, {platform.machine()}")
    encoder = _examine_encoder(settings, tell)
    database = await _examine_database(settings, tell)
    llm = await _examine_llm(settings, tell)
    extra = importlib.util.find_spec("sentence_transformers") is not None
    tell(
        f"extra     sentence-transformers: {'installed' if extra else 'not installed (only needed to build encoders)'}"
    )
    font = importlib.util.find_spec("pretty_midi") is not None and importlib.util.find_spec("symusic") is not None
    tell(f"preview   {'ready' if font else 'missing: symusic and pretty-midi are not installed'}")
    tell(f"offline   {'yes (REPROMPT_OFFLINE)' if settings.offline else 'no'}")
    return encoder and database and font and llm


def _examine_encoder(settings: Settings, tell: Callable[[str], object]) -> bool:
    folder = settings.encoder or settings.cache_dir / "encoder"
    origin = "REPROMPT_ENCODER" if settings.encoder else "the user cache"
    if not (folder / MANIFEST).is_file() and settings.encoder is None:
        tell(f"encoder   missing: none in {folder}; the first use builds or downloads one, or set REPROMPT_ENCODER")
        return False
    try:
        encoder = Encoder(folder)
    except RepromptError as e:
        tell(f"encoder   broken: {e}")
        return False
    tell(
        f"encoder   {encoder.model}, {encoder.precision}, {encoder.dimensions} dimensions, "
        f"fingerprint {encoder.fingerprint}, from {origin} ({folder})"
    )
    return True


async def _examine_database(settings: Settings, tell: Callable[[str], object]) -> bool:
    try:
        database = await Database.open(settings)
    except RepromptError as e:
        tell(f"database  unusable: {e}")
        return False
    try:
        ((server, vector),) = await database.fetch("versions")
        tell(f"database  {database.where}: PostgreSQL {server}, pgvector {vector}")
        for name, license_, fingerprint, count in await database.fetch("count_captions"):
            tell(f"corpus    {name}: {count} captions, {license_}, embedded with {fingerprint}")
    finally:
        await database.close()
    return True


async def _examine_llm(settings: Settings, tell: Callable[[str], object]) -> bool:
    """One tiny call; False when a model is configured and does not answer (the rules answer then)."""
    if settings.llm_model is None:
        tell("llm       not configured: the rules write the prompts (REPROMPT_LLM_MODEL, see docs/llm.md)")
        return True
    from .refining.endpoint import Endpoint, ModelError

    endpoint = Endpoint(settings)
    where = f"{endpoint.model} at {endpoint.server}"
    started = time.monotonic()
    try:
        await endpoint.complete(_TINY, schema=_OK, seed=0, deadline=started + settings.llm_timeout_s)
    except ModelError as e:
        if e.faulty:
            said = f" The server says: {e.said}" if e.said else ""
            tell(f"llm       {where}: {e}.{said} Until it answers the rules write the prompts")
            return False
        tell(f"llm       {where}: reached, but {e}")
        return True
    finally:
        await endpoint.close()
    took = time.monotonic() - started
    schema = "takes a JSON schema" if endpoint.structured else "takes no JSON schema (JSON is asked for in words)"
    tell(f"llm       {where}: answers in {took:.1f} s, {schema}")
    return True


_OK: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
_TINY = [{"role": "user", "content": 'Answer with this JSON object and nothing else: {"ok": true}'}]
