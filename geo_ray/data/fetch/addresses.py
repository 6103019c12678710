"""Which network addresses may be dialled on the word of a list of URLs, and a resolver that gives no others."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

# Where clouds answer with the machine's credentials; never dialled, not even where private addresses are allowed.
# Azure's is a public address: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200",
                 "168.63.129.16", "192.0.0.192")
)  # fmt: skip
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: how an IPv6-only network reaches IPv4


class BlockedAddressError(OSError):
    """A host that may not be dialled."""


def may_dial(address: str, allow_private: bool = False, usual_port: bool = True) -> bool:
    """Whether an address may be dialled: a global unicast one, or with ``allow_private`` a private or loopback one.

    On a port that isn't usual only the latter: people's own servers listen where they like.

    Link-local, multicast, unspecified, reserved and metadata addresses never are. An IPv6 address that carries an
    IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by that too. Raises ``ValueError`` where it is no address.
    """
    parsed = ipaddress.ip_address(address)
    carried = _carried(parsed) if isinstance(parsed, IPv6Address) else ()
    return all(_allowed(one, allow_private, usual_port) for one in carried or (parsed,))


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    if address in NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.ipv4_mapped or address.sixtofour:
        return (address.ipv4_mapped or address.sixtofour,)  # type: ignore[return-value]
    return address.teredo or ()


def _allowed(address: IPv4Address | IPv6Address, allow_private: bool, usual_port: bool) -> bool:
    plain = IPv6Address(int(address)) if isinstance(address, IPv6Address) else address  # without its %zone
    if plain in METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return False
    if plain.is_loopback:  # before "reserved": Python counts ::1 as that too
        return allow_private
    if plain.is_reserved:
        return False
    is_public = plain.is_global and not getattr(plain, "is_site_local", False)
    return usual_port if is_public else allow_private


class CheckedResolver(AbstractResolver):
    """Resolves a host and refuses it where any of its addresses may not be dialled.

    aiohttp dials what the resolver returned and resolves nothing again, so the address that is checked is the one that
    is dialled, whatever the name says a moment later.
    """

    def __init__(
        self, allow_private: bool, ports: tuple[int, ...] | None, inner: AbstractResolver | None = None
    ) -> None:
        self._allow_private, self._ports = allow_private, ports
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The host's addresses; raises ``BlockedAddressError`` where one may not be dialled."""
        found = await self._inner.resolve(host, port, family)
        usual = self._ports is None or port in self._ports
        if not all(may_dial(one["host"], self._allow_private, usual) for one in found):
            raise BlockedAddressError("an address of this host is not public, or this is not one of its ports")
        return found

    async def close(self) -> None:
        """Let go of the inner resolver."""
        await self._inner.close()
