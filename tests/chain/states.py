"""Channel states as ABI tuples, signed; encoded by eth_abi, so that nothing of the product is taken for granted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import eth_abi

from scapp.channels.crypto import keccak256
from scapp.channels.signing import Signer
from tests.chain.cast import KEYS

EXITS = "(address,(uint8,bytes),(bytes32,uint256,uint8,bytes)[])[]"
SIGNERS = {name: Signer(key) for name, key in KEYS.items()}
ADDRESSES = {name: signer.address for name, signer in SIGNERS.items()}
NATIVE = bytes(20)
SIMPLE, GUARANTEE = 0, 2
Exit = tuple[bytes, tuple[int, bytes], Sequence[Any]]


def external(address: bytes) -> bytes:
    """Destination of an address."""
    return bytes(12) + address


def allocation(destination: bytes, amount: int, kind: int = SIMPLE, metadata: bytes = b"") -> tuple[Any, ...]:
    return (external(destination) if len(destination) == 20 else destination, amount, kind, metadata)


def guarantee(target: bytes, amount: int, left: bytes, right: bytes) -> tuple[Any, ...]:
    return allocation(target, amount, GUARANTEE, external(left) + external(right))


def exits(asset: bytes, *allocations: tuple[Any, ...]) -> tuple[Exit, ...]:
    """An outcome of one asset."""
    return ((asset, (0, b""), list(allocations)),)


def encode_outcome(outcome: Iterable[Exit]) -> bytes:
    return eth_abi.encode([EXITS], [list(outcome)])


def sign(signer: Signer, hash_: bytes) -> tuple[int, bytes, bytes]:
    signature = signer.sign(hash_)  # type: ignore[arg-type]
    return signature[64], signature[:32], signature[32:64]


@dataclass(frozen=True)
class Channel:
    """A fixed part; participants are addresses."""

    participants: tuple[bytes, ...]
    app: bytes
    nonce: int = 1
    duration: int = 60

    @property
    def fixed(self) -> tuple[Any, ...]:
        return (self.participants, self.nonce, self.app, self.duration)

    @property
    def id(self) -> bytes:
        return keccak256(eth_abi.encode(["address[]", "uint64", "address", "uint48"], self.fixed))

    def state(self, outcome: Iterable[Exit], turn: int, app_data: bytes = b"", is_final: bool = False) -> State:
        return State(self, tuple(outcome), turn, app_data, is_final)


@dataclass(frozen=True)
class State:
    channel: Channel
    outcome: tuple[Exit, ...]
    turn: int
    app_data: bytes = b""
    is_final: bool = False

    @property
    def hash(self) -> bytes:
        types = ["bytes32", "bytes", EXITS, "uint48", "bool"]
        return keccak256(
            eth_abi.encode(types, [self.channel.id, self.app_data, self.outcome, self.turn, self.is_final])
        )

    @property
    def variable(self) -> tuple[Any, ...]:
        return (self.outcome, self.app_data, self.turn, self.is_final)

    def signed(self, *names: str) -> tuple[Any, ...]:
        """A SignedVariablePart; without names by everybody in the cast who takes part."""
        wanted = names or [name for name, address in ADDRESSES.items() if address in self.channel.participants]
        return (self.variable, [sign(SIGNERS[name], self.hash) for name in wanted])

    def challenger(self, name: str) -> tuple[int, bytes, bytes]:
        """A signature to challenge with this state."""
        message = keccak256(eth_abi.encode(["bytes32", "string"], [self.hash, "forceMove"]))
        return sign(SIGNERS[name], message)


def voucher(channel: Channel, amount: int, payer: str = "alice") -> bytes:
    """App data of a redemption."""
    hash_ = keccak256(eth_abi.encode(["bytes32", "uint256"], [channel.id, amount]))
    return eth_abi.encode(["uint256", "(uint8,bytes32,bytes32)"], [amount, sign(SIGNERS[payer], hash_)])
