"""Addresses as the maps have them."""

from ipaddress import IPv4Address, IPv6Address

from merbridge.datapath.addresses import as_address, as_ip4, from_ip4, from_ip6


def test_bytes_are_in_network_order() -> None:
    """IPv6 as it is, IPv4 as ::ffff:a.b.c.d, none as ::."""
    assert bytes(as_address(IPv6Address("2001:db8::1:2"))) == IPv6Address("2001:db8::1:2").packed
    assert bytes(as_address(IPv4Address("10.1.2.3"))) == IPv6Address("::ffff:10.1.2.3").packed
    assert bytes(as_address(None)) == bytes(16)


def test_what_is_read_back() -> None:
    """Each as it was written; none is None."""
    ip4, ip6 = IPv4Address("192.0.2.1"), IPv6Address("fd00:1:2:3:4:5:6:7")
    assert (from_ip4(as_ip4(ip4)), from_ip6(as_address(ip6))) == (ip4, ip6)
    assert (from_ip4(as_ip4(None)), from_ip6(as_address(None))) == (None, None)
