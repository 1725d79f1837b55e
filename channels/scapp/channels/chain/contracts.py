"""The compiled contracts that come with the package (sources in channels/contracts, docs/reference/contracts.md).

`load("NitroAdjudicator").abi` is what web3 takes; `creation_code` is the data of a deploying transaction.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("artifacts")
NAMES = (  # what ships; the build script writes these
    "NitroAdjudicator",
    "ConsensusApp",
    "VirtualPaymentApp",
    "HashLockPaymentApp",
    "TwoPartyApp",
    "RowProofVerifier",
    "BatchOperator",
    "Token",
)


@dataclass(frozen=True)
class Contract:
    """One contract: `abi` as in the Solidity JSON format, codes as bytes."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes  # immutable values are zero in it

    def creation_code(self, *addresses: bytes) -> bytes:
        """Bytecode with constructor arguments, which are all addresses here.

        Raises ValueError when their number or length is wrong."""
        wanted = next((len(item["inputs"]) for item in self.abi if item["type"] == "constructor"), 0)
        if len(addresses) != wanted or any(len(address) != 20 for address in addresses):
            given = ", ".join(address.hex() for address in addresses) or "none"
            raise ValueError(f"{self.name} is created with {wanted} addresses of 20 bytes, given: {given}")
        return self.bytecode + b"".join(bytes(12) + address for address in addresses)


@functools.cache
def load(name: str) -> Contract:
    """A contract by its name. Raises ValueError for a name that is not in NAMES."""
    if name not in NAMES:
        raise ValueError(f"no contract is called {name!r}; there are {', '.join(NAMES)}")
    return read(FOLDER / f"{name}.json")


def read(path: Path) -> Contract:
    """A contract from its artifact file."""
    artifact = json.loads(path.read_bytes())
    code, deployed = (bytes.fromhex(artifact[key][2:]) for key in ("bytecode", "deployedBytecode"))
    return Contract(artifact["contractName"], artifact["abi"], code, deployed)
