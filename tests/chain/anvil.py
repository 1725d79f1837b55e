"""Development chains for tests, and `make devchain`, with anvil installed into the checkout's build folder.

`scapp.runtime.devchain` does the work. `evm.py` is the machine for tests of contracts alone; this is for what talks
JSON-RPC.
"""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, suppress
from typing import Any

from scapp.runtime import devchain
from scapp.runtime.devchain import CHAIN_ID, Chain, RpcError, hexed
from tests.chain import published

__all__ = ["CHAIN_ID", "Chain", "RpcError", "hexed", "running"]


def running(port: int = 0, **how: Any) -> AbstractContextManager[Chain]:
    """`devchain.running`."""
    return devchain.running(port, program=devchain.binary(published.build().CACHE), **how)


def main() -> None:
    """Run until interrupted, or until the standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else the chain would be left behind
    with running(int(sys.argv[1]) if len(sys.argv) > 1 else 8545) as chain:
        chain.rpc("evm_setAutomine", True)
        print(f"chain {CHAIN_ID} at {chain.url}")
        for name, address in chain.contracts.items():
            print(f"  {name:18} {hexed(address)}")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            while sys.stdin.read(1):
                pass


if __name__ == "__main__":
    main()
