"""The contracts on an EVM, and the people of the vectors who use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scapp.channels.chain import contracts
from scapp.channels.chain.contracts import Contract
from scapp.channels.crypto import keccak256
from tests.chain.evm import Evm, Receipt
from tests.chain.interface import Interface

ARTIFACTS = Path(__file__).with_name("artifacts")
DEPLOYER = bytes.fromhex("9da3bc37856c890db6088302477c62a66302a995")
KEYS = {
    "alice": bytes.fromhex("2d999770f7b5d49b694080f987b82bbc9fc9ac2b4dcc10b0f8aba7d700f69c6d"),
    "irene": bytes.fromhex("febb3b74b0b52d0976f6571d555f4ac8b91c308dfa25c7b58d1e6a7c3f50c781"),
    "bob": bytes.fromhex("0279651921cd800ac560c21ceea27aab0107b67daf436cdd25ce84cad30159b4"),
    "ivan": bytes.fromhex("1ea91a2724b40fb8fed6a3648d49e9431996c09744fb841b718377fb0700f3e7"),
}
ETHER = 10**18


@dataclass(frozen=True)
class Deployed:
    """A contract at its address."""

    evm: Evm
    address: bytes
    interface: Interface

    def send(self, sender: bytes, function: str, *arguments: Any, value: int = 0) -> Receipt:
        return self.evm.send(sender, self.address, self.interface.call(function, *arguments), value)

    def read(self, function: str, *arguments: Any) -> Any:
        """A view's answer, alone when it is one; raises ValueError with the reason when it reverts."""
        receipt = self.evm.view(self.address, self.interface.call(function, *arguments))
        if not receipt.ok:
            raise ValueError(receipt.reason)
        answer = self.interface.answer(function, receipt.output)
        return answer[0] if len(answer) == 1 else answer

    def events(self, receipt: Receipt) -> list[tuple[Any, ...]]:
        """This contract's events, decoded."""
        return [self.interface.event(log) for log in receipt.logs if log.address == self.address]


def for_tests(name: str) -> Contract:
    """A contract that only tests need."""
    return contracts.read(ARTIFACTS / f"{name}.json")


def deploy(evm: Evm, contract: Contract, *addresses: bytes) -> Deployed:
    created = evm.deploy(DEPLOYER, contract.creation_code(*addresses)).created
    return Deployed(evm, created, Interface(contract.abi))


class World:
    """Adjudicator, apps, token and batch operator, created in the order of the vectors, so that addresses agree."""

    def __init__(self, load: Callable[[str], Contract] = contracts.load) -> None:
        self.evm = Evm()
        self.evm.fund(DEPLOYER, 1000 * ETHER)
        self.gas: dict[str, int] = {}  # of the creation of each contract
        self.adjudicator = self._create(load("NitroAdjudicator"))
        self.consensus = self._create(load("ConsensusApp"))
        self.payments = self._create(load("VirtualPaymentApp"))
        self.token = self._create(load("Token"), DEPLOYER)
        self.batch = self._create(load("BatchOperator"), self.adjudicator.address)

    def _create(self, contract: Contract, *addresses: bytes) -> Deployed:
        receipt = self.evm.deploy(DEPLOYER, contract.creation_code(*addresses))
        self.gas[contract.name] = receipt.gas
        return Deployed(self.evm, receipt.created, Interface(contract.abi))

    def give(self, address: bytes, tokens: int = 0) -> None:
        """Coin, and tokens from the deployer."""
        self.evm.fund(address, 1000 * ETHER)
        if tokens:
            assert self.token.send(DEPLOYER, "transfer", address, tokens).ok

    def status(self, channel_id: bytes) -> bytes:
        """`statusOf`, read where both adjudicators keep it."""
        slot = keccak256(channel_id + bytes(32))
        return self.evm.storage(self.adjudicator.address, slot).to_bytes(32, "big")

    def holdings(self, asset: bytes, channel_id: bytes) -> int:
        """`holdings`, likewise."""
        outer = keccak256(bytes(12) + asset + (1).to_bytes(32, "big"))
        return self.evm.storage(self.adjudicator.address, keccak256(channel_id + outer))
