"""Looks after transactions that are signed: sent until they are in a block, replaced when stuck, ended when deep. Pure.

`sender.py` decides what is sent at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from scapp.channels.chain import requests as ask
from scapp.channels.chain.client import Block, Fees, Receipt, Refused
from scapp.channels.chain.events import ChainEvent, TransactionEnded, TransactionSigned
from scapp.channels.chain.requests import Steps
from scapp.channels.chain.sending import NONCE_GAP_MAX, NONCE_NEVER, Account, Slot, bumped
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.chain.watcher import WINDOW_BLOCKS, Moved
from scapp.channels.onchain import Purpose
from scapp.channels.types import ZERO_HASH, Address, ChannelId, Hash

FILLER_GAS = 21_000
PASSING = ("known", "nonce-too-low", "underpriced", "funds")  # refusals that are none, or end by themselves
NOBODY = ChannelId(bytes(32))  # whose purposes are those of the account itself


class Tending:
    """`canonical` tells of a block (number, hash) whether it is on the chain, as the watcher saw it last. `dropped`
    tells of a purpose whether its channel wants it no more, `held` whether it must not go out now."""

    def __init__(
        self,
        settings: ChainSettings,
        account: Address,
        state: Account,
        canonical: Callable[[int, Hash], bool],
        dropped: Callable[[Purpose], bool],
        held: Callable[[Purpose], bool],
    ) -> None:
        self.state = state
        self._settings = settings
        self._account = account
        self._canonical = canonical
        self._dropped = dropped
        self._held = held
        self._gap_since: int | None = None
        # Until so deep a transaction is looked after; the watcher knows blocks as far back.
        self._depth = max(WINDOW_BLOCKS, 2 * settings.confirmations)

    def look(self, head: Block, confirmed: Block, nonce: int) -> Steps[None]:
        """At each new head; `nonce` is the account's at that block."""
        yield from self._look_at_slots(head, confirmed, nonce)
        yield from self._fill_gap(head, nonce)

    def _look_at_slots(self, head: Block, confirmed: Block, nonce: int) -> Steps[None]:
        slots = [slot for _, slot in sorted(self.state.slots.items())]
        receipts: list[Receipt | None] = yield ask.ReadReceipts(tuple(h for slot in slots for h in slot.hashes))
        found = {item.transaction: item for item in receipts if item is not None and self._stands(item)}
        deep = (yield from self.nonce(confirmed)) if any(slot.nonce < nonce for slot in slots) else 0
        for slot in slots:
            slot.receipt = next((found[hash_] for hash_ in slot.hashes if hash_ in found), None)
            if slot.receipt is not None:
                slot.note = ""
                if head.number - slot.receipt.block >= self._depth:
                    yield from self._end(slot, slot.receipt)
            elif slot.nonce < deep:
                yield from self._end(slot, None)  # the nonce went to a transaction that is not ours
            elif self._is_lost(slot, nonce):
                yield from self._end(slot, None)
            elif slot.nonce >= nonce:
                yield from self._send_again(slot, head, nonce)

    def _is_lost(self, slot: Slot, nonce: int) -> bool:
        """Was it signed with a nonce that an endpoint had wrong? It must not keep its purpose from being carried out;
        a deposit alone could do harm if its nonce came up after all."""
        above = slot.nonce - self.state.next_nonce(nonce)
        return above > (NONCE_NEVER if slot.purpose.kind == "deposit" else NONCE_GAP_MAX)

    def _stands(self, receipt: Receipt) -> bool:
        return self._canonical(receipt.block, receipt.block_hash)

    def nonce(self, block: Block) -> Steps[int]:
        answer = yield ask.ReadNonce(block.hash)
        if isinstance(answer, Refused):
            raise Moved(f"the account cannot be read at block {block.number}: {answer}")
        nonce: int = answer
        return nonce

    def _end(self, slot: Slot, receipt: Receipt | None) -> Steps[None]:
        event = TransactionEnded(
            slot.nonce,
            slot.purpose,
            slot.step,
            slot.digest,
            b"" if receipt is None else receipt.transaction,
            slot.succeeded,
            0 if receipt is None else receipt.block,
            0 if receipt is None else receipt.gas_used,
        )
        yield from self._store(event)

    def _store(self, event: ChainEvent) -> Steps[None]:
        yield ask.Store((event,))
        self.state.apply(event)

    def _send_again(self, slot: Slot, head: Block, nonce: int) -> Steps[None]:
        """What is in no block goes out with each new one; when it is stuck, with a higher fee."""
        slot.note = ""
        if self._held(slot.purpose):
            return
        stuck = head.number - slot.newest.block >= self._settings.stuck_blocks
        unwanted = slot.purpose.kind == "deposit" and self._dropped(slot.purpose)
        # What no node takes (too long, too much gas) must not keep back all that has a higher nonce.
        cancel = slot.newest.step != "cancel" and (unwanted or (stuck and slot.refused))
        if slot.nonce == nonce and (stuck or cancel):
            yield from self._replace(slot, head, cancel=cancel)
        yield from self.broadcast(slot)

    def _replace(self, slot: Slot, head: Block, *, cancel: bool) -> Steps[None]:
        """Sign the same again with a higher fee, or, to take it back, a payment of nothing with the same nonce."""
        old, ceiling = slot.newest, self._settings.fee_ceiling
        fees: Fees = yield ask.ReadFees()
        priority = max(bumped(old.priority_fee), fees.priority)
        max_fee = max(bumped(old.max_fee), fees.base if fees.legacy else 2 * fees.base + priority)
        max_fee = min(max_fee, max(ceiling, old.max_fee))
        if max_fee < bumped(old.max_fee):
            slot.note = f"pending with the highest fee allowed, {old.max_fee} wei; the chain asks for {fees.base}"
            return
        to, data, value, gas, step = old.to, old.data, int.from_bytes(old.value, "big"), old.gas, old.step
        if cancel:
            to, data, value, gas, step = self._account, b"", 0, FILLER_GAS, "cancel"
        tip = max_fee if fees.legacy else min(priority, max_fee)
        sign = ask.Sign(old.nonce, Address(to), data, value, gas, max_fee, tip, fees.legacy)
        yield from self.sign(old.purpose, step, old.digest, sign, head)

    def sign(self, purpose: Purpose, step: str, digest: bytes, sign: ask.Sign, head: Block) -> Steps[Slot]:
        """A signed transaction, stored; nothing is sent yet."""
        raw, hash_ = yield sign
        to, value = sign.to or b"", sign.value.to_bytes(32, "big")
        yield from self._store(
            TransactionSigned(
                purpose, step, digest, sign.nonce, raw, hash_, to, sign.data, value, sign.gas, sign.max_fee,
                sign.priority_fee, head.number,
            )
        )  # fmt: skip
        return self.state.slots[sign.nonce]

    def broadcast(self, slot: Slot) -> Steps[None]:
        answer = yield ask.Broadcast(slot.newest.raw)
        slot.refused = isinstance(answer, Refused) and answer.kind not in PASSING
        if isinstance(answer, Refused) and answer.kind not in ("known", "nonce-too-low"):
            slot.note = f"the chain's node does not take it: {answer}"

    def _fill_gap(self, head: Block, nonce: int) -> Steps[None]:
        """A nonce below ours that nobody uses (a foreign transaction that was taken back): use it up, after a while."""
        missing = next(number for number in itertools.count(nonce) if number not in self.state.slots)
        if missing >= self.state.next_nonce(nonce):
            self._gap_since = None
        elif self._gap_since is None or head.number < self._gap_since:
            self._gap_since = head.number
        elif head.number - self._gap_since >= self._settings.stuck_blocks:
            fee = yield from self.fee()
            if fee is None:
                return
            purpose = Purpose(NOBODY, "gap", missing.to_bytes(8, "big"))
            sign = ask.Sign(missing, self._account, b"", 0, FILLER_GAS, *fee)
            slot = yield from self.sign(purpose, "gap", ZERO_HASH, sign, head)
            yield from self.broadcast(slot)

    def fee(self) -> Steps[tuple[int, int, bool] | None]:
        """Fees of a new transaction, for one unit of gas: at most, the tip, and whether both are one price (`Sign`).
        None when the chain asks for more than the ceiling."""
        fees: Fees = yield ask.ReadFees()
        offer = fees.offer(self._settings.fee_ceiling)
        return None if offer is None else (*offer, fees.legacy)
