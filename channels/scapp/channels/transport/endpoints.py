"""Endpoints "host:port" as people write them, and the network a connection comes from."""

from __future__ import annotations

import ipaddress

from scapp.channels.errors import LocalError


class InvalidEndpoint(LocalError):
    """Not of the form host:port."""


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6 address]:port"."""
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise InvalidEndpoint(f"endpoint {endpoint!r}: host:port or [IPv6 address]:port is wanted, port 1 to 65535")
    return host, int(port)


def show_endpoint(host: str, port: int) -> str:
    """The inverse of `parse_endpoint`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64, which one household can use up alone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
