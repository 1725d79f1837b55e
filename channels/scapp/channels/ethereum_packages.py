"""The slow Ethereum packages, loaded by those who need them: eth_account and web3 cost up to a second each.

A package below them raises Python's recursion limit to 100,000 at import, beyond what the C stack holds: deeply nested
bytes from a peer would then crash the process instead of raising RecursionError. So the limit is put back.
"""

from __future__ import annotations

import sys
from typing import Any


def eth_account() -> Any:
    limit = sys.getrecursionlimit()
    try:
        import eth_account
    finally:
        sys.setrecursionlimit(limit)
    return eth_account


def web3_providers() -> Any:
    """`web3.providers`: JSON-RPC over HTTP and WebSocket."""
    limit = sys.getrecursionlimit()
    try:
        import web3.providers
    finally:
        sys.setrecursionlimit(limit)
    return web3.providers
