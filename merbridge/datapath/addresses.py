"""Addresses as the maps have them, and back."""

from ipaddress import IPv4Address, IPv6Address

from programs.maps import Address
from pybpfasm import be32, htonl, ip4, ntohl

_WORD = (1 << 32) - 1


def as_ip4(address: IPv4Address | None) -> be32:
    """An IPv4 address; 0 for none."""
    return htonl(0) if address is None else ip4(address)


def as_address(address: IPv4Address | IPv6Address | None) -> Address:
    """An address of either family, one of IPv4 as ::ffff:a.b.c.d; :: for none."""
    number = 0 if address is None else int(address)
    if isinstance(address, IPv4Address):
        number |= 0xFFFF << 32
    words = [htonl(number >> shift & _WORD) for shift in (96, 64, 32, 0)]
    return Address(w0=words[0], w1=words[1], w2=words[2], w3=words[3])


def from_ip4(address: be32) -> IPv4Address | None:
    """What `as_ip4` was given."""
    number = ntohl(address)
    return IPv4Address(number) if number else None


def from_ip6(address: Address) -> IPv6Address | None:
    """What `as_address` was given, an address of IPv6 or none."""
    number = 0
    for word in (address.w0, address.w1, address.w2, address.w3):
        number = number << 32 | ntohl(word)
    return IPv6Address(number) if number else None
