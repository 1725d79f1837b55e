"""eth_account, loaded by those who need it: it costs a second.

A package below it raises Python's recursion limit to 100,000 at import, beyond what the C stack holds: deeply nested
bytes from a peer would then crash the process instead of raising RecursionError. So the limit is put back.
"""

from __future__ import annotations

import sys
from typing import Any


def eth_account() -> Any:
    """The module `eth_account`."""
    limit = sys.getrecursionlimit()
    try:
        import eth_account
    finally:
        sys.setrecursionlimit(limit)
    return eth_account
