"""Who calls: the address, the key, and the host name that was asked for."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from .problems import ProblemError
from .settings import ApiSettings

__all__ = ["check_host", "client_address", "tenant_of"]

_Networks = Sequence[IPv4Network | IPv6Network]
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](:\d+)?|(?P<four>[\d.]+):\d+")


def client_address(client: Sequence[Any] | None, headers: Mapping[str, str], trusted: _Networks) -> str:
    """The client's address; what a proxy says of it is taken only from proxies that are trusted.

    Of IPv6 it is the network of 64 bits: a household or a machine has all of its addresses.
    """
    forwarded = [a.strip() for a in headers.get("x-forwarded-for", "").split(",") if a.strip()]
    said = str(client[0]) if client else ""
    address = _address(said)
    for nearer in reversed(forwarded):
        if address is None or not any(address in network for network in trusted):
            break
        further = _address(nearer)
        if further is None:  # not an address: the proxy that said it is as far as is known
            break
        address = further
    if address is None:
        return said or "unknown"
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"] or ""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def tenant_of(headers: Mapping[str, str], settings: ApiSettings) -> str | None:
    """Whose key was given; "" where none are configured; None: no key, or a wrong one."""
    if not settings.keys:
        return ""
    kind, _, given = headers.get("authorization", "").partition(" ")
    secret = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
    digest = hashlib.sha256(secret.encode()).digest()
    # every key is compared, so that the time says nothing
    fitting = [key.name for key in settings.keys if key.fits(digest)]
    return fitting[0] if secret and fitting else None


def check_host(headers: Mapping[str, str], settings: ApiSettings) -> None:
    """Without keys only this machine is answered, by its own names: a page elsewhere can have a name of its own point
    to this address, and would then read what it likes.

    Raises:
        ProblemError: another name was asked for.
    """
    if settings.keys:
        return
    host = headers.get("host", "").strip().lower()
    name = re.sub(r":\d*$", "", host).rstrip(".").strip("[]")
    if not name or name in settings.hosts or name == "localhost" or name.endswith(".localhost"):
        return
    address = _address(name)
    if address is not None and (address.is_loopback or str(address) == settings.host):
        return
    raise ProblemError(
        421,
        "Without API keys this server answers to localhost alone. Who runs it can name others in REPROMPT_API_HOSTS.",
    )
