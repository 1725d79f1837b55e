"""Transactions of this account that are under way, as facts fold into it; `sender.py` decides what to do with them.

A *slot* is one nonce with everything that was signed for it: replacements compete for it, and one of them at most gets
into a block. It stays until that is so deep that it will stay.
"""

from __future__ import annotations

import dataclasses

from scapp.channels.chain.client import Receipt
from scapp.channels.chain.events import ChainEvent, CursorMoved, TransactionEnded, TransactionSigned
from scapp.channels.errors import CorruptionError
from scapp.channels.onchain import Purpose
from scapp.channels.types import Hash

NONCE_GAP_MAX = 64  # so many foreign transactions are believed to be under way, as many as nodes queue
NONCE_NEVER = 2**20  # so far above the others a nonce is not reached
BUMP_PERCENT = 113  # nodes want both fees of a replacement a tenth higher; some an eighth


@dataclasses.dataclass
class Slot:
    """`versions` in the order in which they were signed. `receipt` is what the last look found, of any version, and
    `note` what keeps it from getting into a block; `refused`: the chain's node would not have it at all."""

    versions: list[TransactionSigned]
    receipt: Receipt | None = None
    note: str = ""
    refused: bool = False

    @property
    def newest(self) -> TransactionSigned:
        return self.versions[-1]

    @property
    def nonce(self) -> int:
        return self.newest.nonce

    @property
    def hashes(self) -> tuple[Hash, ...]:
        return tuple(Hash(version.hash) for version in self.versions)

    @property
    def purpose(self) -> Purpose:
        return self.versions[0].purpose

    @property
    def step(self) -> str:
        return self.versions[0].step

    @property
    def digest(self) -> bytes:
        return self.versions[0].digest

    @property
    def included(self) -> TransactionSigned | None:
        """The version that is in a block."""
        if self.receipt is None:
            return None
        return next(item for item in self.versions if item.hash == self.receipt.transaction)

    @property
    def succeeded(self) -> bool:
        """In a block, and what was wanted: not reverted, not a cancellation."""
        included = self.included
        return included is not None and included.step == self.step and self.receipt is not None and self.receipt.ok


@dataclasses.dataclass
class Account:
    """`slots` by nonce; `done` has what ended well, by purpose, the newest for each."""

    slots: dict[int, Slot] = dataclasses.field(default_factory=dict)
    done: dict[Purpose, TransactionEnded] = dataclasses.field(default_factory=dict)
    cursor: CursorMoved | None = None

    def apply(self, event: ChainEvent) -> None:
        """Fold one fact. Raises CorruptionError for one that cannot follow."""
        match event:
            case CursorMoved():
                self.cursor = event
            case TransactionSigned(nonce=nonce):
                if nonce in self.slots:
                    self.slots[nonce].versions.append(event)
                else:
                    self.slots[nonce] = Slot([event])
            case TransactionEnded(nonce=nonce):
                if self.slots.pop(nonce, None) is None:
                    raise CorruptionError(f"a transaction with nonce {nonce} ended that was never signed")
                if event.ok and event.step == "main":
                    self.done[event.purpose] = event

    def next_nonce(self, nonce: int) -> int:
        """The nonce after all of ours that can get in, where the chain stands at `nonce`. What an endpoint's wrong
        count once put far above can not."""
        for number in sorted(self.slots):
            if number > nonce + NONCE_GAP_MAX:
                break
            nonce = max(nonce, number + 1)
        return nonce

    def of(self, purpose: Purpose) -> list[Slot]:
        """In the order of their nonces."""
        return [slot for _, slot in sorted(self.slots.items()) if slot.purpose == purpose]

    def fold(self, events: list[ChainEvent]) -> Account:
        for event in events:
            self.apply(event)
        return self


def bumped(fee: int) -> int:
    """The least fee that replaces one."""
    return fee * BUMP_PERCENT // 100 + 1
