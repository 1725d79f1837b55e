"""An Ethereum virtual machine in this process, for tests of contracts; `cast.py` puts contracts and people on it.

py-evm, the reference implementation in Python: it installs from wheels on every Python that scapp supports, and its gas
is exact. Transactions are real ones but for the signature, with a gas price of zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.shanghai.state import ShanghaiState
from eth.vm.forks.shanghai.transactions import ShanghaiTransactionBuilder
from eth.vm.spoof import SpoofTransaction

START = 1_700_000_000
CHAIN_ID = 1337
GAS_LIMIT = 30_000_000
COINBASE = bytes(20)  # as where the vectors were made: the zero address is then warm in each transaction
ERROR = bytes.fromhex("08c379a0")  # selector of Error(string)
PANIC = bytes.fromhex("4e487b71")


@dataclass(frozen=True)
class Log:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Receipt:
    """What a transaction did. `gas` is what its sender pays; `output` the answer, or what it reverted with."""

    ok: bool
    output: bytes
    gas: int
    logs: tuple[Log, ...]
    created: bytes

    @property
    def reason(self) -> str | None:
        """None for success; the text of `require`, `panic N`, `revert` without a text, or the fault of the machine."""
        if self.ok:
            return None
        if self.output[:4] == ERROR:
            size = int.from_bytes(self.output[36:68], "big")
            return self.output[68 : 68 + size].decode(errors="replace")
        if self.output[:4] == PANIC:
            return f"panic {int.from_bytes(self.output[4:36], 'big'):#04x}"
        return "revert" if not self.output else "0x" + self.output.hex()


class Evm:
    """A chain of one block that never ends. `timestamp` may be set at any time."""

    def __init__(self, timestamp: int = START) -> None:
        self.timestamp = timestamp
        self._database = AtomicDB()
        self._state = ShanghaiState(self._database, self._context(), BLANK_ROOT_HASH)

    def _context(self) -> ExecutionContext:
        return ExecutionContext(
            coinbase=COINBASE,  # type: ignore[arg-type]
            timestamp=self.timestamp,
            block_number=1,  # type: ignore[arg-type]
            difficulty=0,
            mix_hash=bytes(32),  # type: ignore[arg-type]
            gas_limit=GAS_LIMIT,
            prev_hashes=(),
            chain_id=CHAIN_ID,
            base_fee_per_gas=0,
        )

    def snapshot(self) -> bytes:
        """A point to come back to, any number of times."""
        self._state.make_state_root()
        self._state.persist()
        return self._state.state_root

    def revert(self, snapshot: bytes) -> None:
        self._state = ShanghaiState(self._database, self._context(), snapshot)  # type: ignore[arg-type]

    def fund(self, address: bytes, wei: int) -> None:
        self._state.set_balance(address, wei)  # type: ignore[arg-type]
        self._state.lock_changes()

    def balance(self, address: bytes) -> int:
        return self._state.get_balance(address)  # type: ignore[arg-type]

    def place(self, address: bytes, code_of: bytes) -> None:
        """Put the code of a contract that is there at another address as well."""
        self._state.set_code(address, self._state.get_code(code_of))  # type: ignore[arg-type]
        self._state.lock_changes()

    def storage(self, address: bytes, slot: bytes) -> int:
        return self._state.get_storage(address, int.from_bytes(slot, "big"))  # type: ignore[arg-type]

    def send(self, sender: bytes, to: bytes, data: bytes, value: int = 0) -> Receipt:
        """Run a transaction; `to` empty creates a contract. One that fails changes the sender's nonce only."""
        self._state.execution_context = self._context()
        unsigned = ShanghaiTransactionBuilder.create_unsigned_transaction(
            nonce=self._state.get_nonce(sender),  # type: ignore[arg-type]
            gas_price=0,
            gas=GAS_LIMIT,
            to=to,  # type: ignore[arg-type]
            value=value,
            data=data,
        )
        transaction = SpoofTransaction(unsigned, from_=sender, sender=sender)
        done = self._state.apply_transaction(transaction)  # type: ignore[arg-type]
        used = GAS_LIMIT - done.get_gas_remaining()
        used -= self._state.transaction_executor_class.calculate_gas_refund(done, used)  # type: ignore[attr-defined]
        self._state.lock_changes()
        logs = done.get_log_entries() if done.is_success else ()
        return Receipt(
            ok=done.is_success,
            output=done.output,
            gas=used,
            logs=tuple(Log(bytes(a), tuple(t.to_bytes(32, "big") for t in topics), d) for a, topics, d in logs),
            created=bytes(done.msg.storage_address),
        )

    def deploy(self, sender: bytes, code: bytes) -> Receipt:
        """Create a contract; raises when its constructor fails."""
        receipt = self.send(sender, b"", code)
        if not receipt.ok:
            raise ValueError(f"the contract could not be created: {receipt.reason}")
        return receipt

    def view(self, to: bytes, data: bytes, sender: bytes = bytes(20)) -> Receipt:
        """Call without a trace."""
        before = self.snapshot()
        try:
            return self.send(sender, to, data)
        finally:
            self.revert(before)
