"""Carries out wanted transactions, each once: signed and stored, then sent until it is deep in the chain. Pure.

    wanted → read again → (approve) → signed, stored → sent → in a block → confirmed → ended
                 ↑ back-off ←── would revert, reverted, lost its nonce to another ──┘

Nothing is sent for a purpose while something of it is under way and may still come into a block. `round` is one look;
it can be thrown away at any step: what counts is stored before it leaves.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from scapp.channels import onchain
from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import calls, judging
from scapp.channels.chain import requests as ask
from scapp.channels.chain.client import Block, Fees, Receipt, Refused, ViewCall
from scapp.channels.chain.events import ChainEvent, TransactionEnded, TransactionSigned
from scapp.channels.chain.judging import Hold, OnChain
from scapp.channels.chain.port import TransactionInfo
from scapp.channels.chain.requests import Steps
from scapp.channels.chain.sending import Account, Slot, bumped
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.chain.watcher import WINDOW_BLOCKS, Moved
from scapp.channels.onchain import Purpose, Transaction, purpose_of
from scapp.channels.state import challenge_hash
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId, Hash

PENDING_MAX = 16  # what nodes take from one account at least
BACK_OFF_BLOCKS_MAX = 32
APPROVALS_MAX = 3
FILLER_GAS = 21_000
NOBODY = ChannelId(bytes(32))  # whose purposes are those of the account itself


@dataclasses.dataclass
class Job:
    """One wanted transaction. It is not looked at before block `again`."""

    wanted: Transaction
    digest: bytes
    status: str = "waiting"
    detail: str = "not looked at yet"
    again: int = 0
    refusals: int = 0
    approvals: int = 0


class Sender:
    """`canonical` tells of a block (number, hash) whether it is on the chain, as the watcher saw it last."""

    def __init__(
        self,
        settings: ChainSettings,
        account: Address,
        state: Account,
        canonical: Callable[[int, Hash], bool],
    ) -> None:
        self.state = state
        self._settings = settings
        self._account = account
        self._canonical = canonical
        self._jobs: dict[Purpose, Job] = {}
        self._told: set[ChannelId] = set()  # channels that have said what they want
        self._gap_since: int | None = None
        self._head: Block | None = None
        # Until so deep a transaction is looked after; the watcher knows blocks as far back.
        self._depth = max(WINDOW_BLOCKS, 2 * settings.confirmations)

    @property
    def pending(self) -> int:
        return sum(slot.receipt is None for slot in self.state.slots.values())

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        """Replaces what the channel wanted before."""
        self._told.add(channel)
        new = {purpose_of(channel, item): item for item in wanted}
        for purpose in [purpose for purpose in self._jobs if purpose.channel == channel]:
            if purpose not in new:
                del self._jobs[purpose]
        for purpose, item in new.items():
            digest, known = judging.digest_of(item), self._jobs.get(purpose)
            if known is None or known.digest != digest:
                self._jobs[purpose] = Job(item, digest)

    def infos(self, channel: ChannelId) -> list[TransactionInfo]:
        """What became of each purpose of a channel, wanted now or still under way."""
        purposes = [purpose for purpose in self._jobs if purpose.channel == channel]
        purposes += [slot.purpose for slot in self.state.slots.values() if slot.purpose.channel == channel]
        return [self._info(purpose) for purpose in dict.fromkeys(purposes)]

    def round(self, head: Block) -> Steps[None]:
        """One look at everything, at a head that the watcher has processed."""
        new_head = self._head is None or self._head.hash != head.hash
        nonce = (yield from self._nonce(head)) if self.state.slots or self._jobs else 0
        if new_head and self.state.slots:
            yield from self._look(head, nonce)
            yield from self._fill_gap(head, nonce)
        self._head = head
        for purpose, job in list(self._jobs.items()):
            if self._jobs.get(purpose) is job and head.number >= job.again:
                yield from self._advance(purpose, job, head, nonce)

    # What is under way

    def _look(self, head: Block, nonce: int) -> Steps[None]:
        slots = [slot for _, slot in sorted(self.state.slots.items())]
        receipts: list[Receipt | None] = yield ask.ReadReceipts(tuple(h for slot in slots for h in slot.hashes))
        found = {item.transaction: item for item in receipts if item is not None and self._stands(item)}
        below = yield from self._deep_nonce(head) if any(slot.nonce < nonce for slot in slots) else _nothing()
        for slot in slots:
            slot.receipt = next((found[hash_] for hash_ in slot.hashes if hash_ in found), None)
            if slot.receipt is not None:
                slot.note = ""
                if head.number - slot.receipt.block >= self._depth:
                    yield from self._end(slot, slot.receipt)
            elif slot.nonce < below:
                yield from self._end(slot, None)  # the nonce went to a transaction that is not ours
            elif slot.nonce >= nonce:
                yield from self._send_again(slot, head, nonce)

    def _stands(self, receipt: Receipt) -> bool:
        return self._canonical(receipt.block, receipt.block_hash)

    def _deep_nonce(self, head: Block) -> Steps[int]:
        """The account's nonce so deep that it stays; 0 while the chain is not so long."""
        number = head.number - self._settings.confirmations
        if number < 0:
            return 0
        (block,) = yield ask.ReadBlocks((number,))
        return 0 if block is None else (yield from self._nonce(block))

    def _nonce(self, block: Block) -> Steps[int]:
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
        dropped = slot.purpose not in self._jobs and slot.purpose.channel in self._told
        cancel = dropped and slot.purpose.kind == "deposit" and slot.newest.step != "cancel"
        stuck = head.number - slot.newest.block >= self._settings.stuck_blocks
        if slot.nonce == nonce and (stuck or cancel):
            yield from self._replace(slot, head, cancel=cancel)
        yield from self._broadcast(slot)

    def _replace(self, slot: Slot, head: Block, *, cancel: bool) -> Steps[None]:
        """Sign the same again with a higher fee, or, to take it back, a payment of nothing with the same nonce."""
        old, ceiling = slot.newest, self._settings.fee_ceiling
        fees: Fees = yield ask.ReadFees()
        priority = max(bumped(old.priority_fee), fees.priority)
        max_fee = max(bumped(old.max_fee), 2 * fees.base + priority)
        max_fee = min(max_fee, max(ceiling, old.max_fee))
        if max_fee < bumped(old.max_fee):
            slot.note = f"pending with the highest fee allowed, {old.max_fee} wei; the chain asks for {fees.base}"
            return
        to, data, value, gas, step = old.to, old.data, int.from_bytes(old.value, "big"), old.gas, old.step
        if cancel:
            to, data, value, gas, step = self._account, b"", 0, FILLER_GAS, "cancel"
        sign = ask.Sign(old.nonce, Address(to), data, value, gas, max_fee, min(priority, max_fee))
        yield from self._sign(old.purpose, step, old.digest, sign, head)

    def _sign(self, purpose: Purpose, step: str, digest: bytes, sign: ask.Sign, head: Block) -> Steps[Slot]:
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

    def _broadcast(self, slot: Slot) -> Steps[None]:
        answer = yield ask.Broadcast(slot.newest.raw)
        if isinstance(answer, Refused) and answer.kind not in ("known", "nonce-too-low"):
            slot.note = f"the chain's node does not take it: {answer}"

    def _fill_gap(self, head: Block, nonce: int) -> Steps[None]:
        """A nonce below ours that nobody uses (a foreign transaction that was taken back): use it up, after a while."""
        ours = [number for number in self.state.slots if number >= nonce]
        missing = [number for number in range(nonce, max(ours, default=nonce)) if number not in self.state.slots]
        if not missing:
            self._gap_since = None
        elif self._gap_since is None or head.number < self._gap_since:
            self._gap_since = head.number
        elif head.number - self._gap_since >= self._settings.stuck_blocks:
            fee = yield from self._fee()
            if isinstance(fee, Hold):
                return
            purpose = Purpose(NOBODY, "gap", missing[0].to_bytes(8, "big"))
            sign = ask.Sign(missing[0], self._account, b"", 0, FILLER_GAS, *fee)
            slot = yield from self._sign(purpose, "gap", ZERO_HASH, sign, head)
            yield from self._broadcast(slot)

    # What is wanted

    def _advance(self, purpose: Purpose, job: Job, head: Block, nonce: int) -> Steps[None]:
        """Send what the purpose needs next, or say why not."""
        slots = self.state.of(purpose)
        if any(slot.receipt is None for slot in slots):
            return  # under way; its state is told from the slot
        done = self.state.done.get(purpose)
        ended = done is not None and done.digest == job.digest
        if ended or any(slot.succeeded and slot.step == "main" and slot.digest == job.digest for slot in slots):
            return
        if self.pending >= PENDING_MAX:
            self._hold(job, head, "waiting", f"{PENDING_MAX} transactions are under way; more follow when one is in")
            return
        if any(slot.receipt is not None and slot.receipt.block > head.number for slot in slots):
            return
        reverted = [s for s in slots if s.step == "main" and s.digest == job.digest and s.receipt and not s.receipt.ok]
        if len(reverted) > job.refusals:
            self._refused(job, head, "the contract refused it in a block", len(reverted))
            return
        found = yield from self._read(purpose.channel, job.wanted, head)
        try:
            verdict = judging.judge(purpose.channel, job.wanted, found)
        except InvalidValue as error:
            self._hold(job, head, "failed", f"it cannot be encoded: {error}")
            return
        if isinstance(verdict, Hold):
            self._hold(job, head, verdict.status, verdict.detail)
            return
        if isinstance(verdict, judging.Sign):
            assert isinstance(job.wanted, onchain.Challenge)
            signature = yield ask.SignChallenge(challenge_hash(verdict.state_hash))
            verdict = judging.Call(calls.Challenge(job.wanted.proof, job.wanted.candidate, signature))
        step, to, call = "main", self._settings.adjudicator, verdict.call
        if isinstance(call, calls.Deposit) and call.asset != ZERO_ADDRESS:
            if self._token_busy(call.asset, purpose):
                self._hold(job, head, "waiting", "another deposit of this token is under way", soon=True)
                return
            approval = yield from self._approval(job, call, head)
            if isinstance(approval, Hold):
                self._hold(job, head, approval.status, approval.detail)
                return
            if approval is not None:
                step, to, call = "approve", call.asset, approval
        yield from self._send(purpose, job, step, to, call, verdict.value, head, nonce)

    def _read(self, channel: ChannelId, wanted: Transaction, head: Block) -> Steps[OnChain]:
        asked: list[calls.Call] = [calls.StatusOf(channel)]
        with contextlib.suppress(InvalidValue):  # `judge` says so
            asked += [calls.Holdings(asset, channel) for asset in judging.assets_of(wanted)]
        status, *holdings = yield from self._views(self._settings.adjudicator, asked, head)
        return OnChain(
            unpack_status(Hash(status or ZERO_HASH)),
            tuple(calls.decode_number(answer or ZERO_HASH) for answer in holdings),
            head.time_s,
        )

    def _views(self, to: Address, asked: Sequence[calls.Call], head: Block) -> Steps[list[bytes]]:
        answers = yield ask.ReadViews(tuple(ViewCall(to, calls.encode_call(call), head.hash) for call in asked))
        for answer in answers:
            if isinstance(answer, Refused) and answer.kind != "reverted":
                raise Moved(f"0x{to.hex()} cannot be read: {answer}")
        return [b"" if isinstance(answer, Refused) else answer for answer in answers]

    def _token_busy(self, asset: Address, purpose: Purpose) -> bool:
        """Allowances are one number for each token: two deposits at once would use each other's."""
        return any(
            slot.purpose.kind == "deposit" and slot.purpose.subject == asset and slot.receipt is None
            for slot in self.state.slots.values()
            if slot.purpose != purpose
        ) or any(
            other != purpose and other.kind == "deposit" and other.subject == asset and item.approvals
            and item.status == "pending" and not any(s.step == "main" and s.succeeded for s in self.state.of(other))
            for other, item in self._jobs.items()
        )  # fmt: skip

    def _approval(self, job: Job, call: calls.Deposit, head: Block) -> Steps[calls.Approve | Hold | None]:
        """The approval that a deposit of tokens needs first; None when the allowance is enough."""
        spender = self._settings.adjudicator
        asked: list[calls.Call] = [calls.BalanceOf(self._account), calls.Allowance(self._account, spender)]
        balance, allowed = yield from self._views(call.asset, asked, head)
        if len(balance) != 32 or len(allowed) != 32:
            return Hold("failed", f"0x{call.asset.hex()} is no token on this chain")
        has = calls.decode_number(balance)
        if has < call.amount:
            return Hold("waiting", f"the account 0x{self._account.hex()} has {has} of the token, {call.amount} needed")
        if calls.decode_number(allowed) >= call.amount:
            return None
        if job.approvals >= APPROVALS_MAX:
            return Hold("failed", f"after {APPROVALS_MAX} approvals the token still allows too little")
        approve = calls.Approve(spender, call.amount)
        if calls.decode_number(allowed):
            answer = yield ask.Estimate(call.asset, calls.encode_call(approve), 0)
            if isinstance(answer, Refused) and answer.kind == "reverted":
                return calls.Approve(spender, 0)  # the token wants an allowance to be zero before it changes
        return approve

    def _fee(self) -> Steps[tuple[int, int] | Hold]:
        """Fees of a new transaction, for one unit of gas: at most, and the tip."""
        fees: Fees = yield ask.ReadFees()
        ceiling = self._settings.fee_ceiling
        if fees.base + fees.priority > ceiling:
            return Hold("waiting", f"the chain asks for {fees.base + fees.priority} wei per gas, allowed are {ceiling}")
        return min(2 * fees.base + fees.priority, ceiling), fees.priority

    def _send(
        self, purpose: Purpose, job: Job, step: str, to: Address, call: calls.Call, value: int, head: Block, nonce: int
    ) -> Steps[None]:
        data = calls.encode_call(call)
        value = value if step == "main" else 0
        fee = yield from self._fee()
        if isinstance(fee, Hold):
            self._hold(job, head, fee.status, fee.detail)
            return
        balance: int = yield ask.ReadBalance()
        estimate = yield ask.Estimate(to, data, value)
        gas = 0 if isinstance(estimate, Refused) else estimate * 5 // 4 + 10_000
        if (isinstance(estimate, Refused) and estimate.kind == "funds") or balance < value + gas * fee[0]:
            need = f"{value} to deposit and up to {gas * fee[0]} in fees are needed" if value else "fees are needed"
            self._hold(job, head, "waiting", f"the account 0x{self._account.hex()} has {balance} wei; {need}")
            return
        if isinstance(estimate, Refused):
            self._refused(job, head, str(estimate), job.refusals + 1)
            return
        pending = yield ask.ReadNonce(None)
        taken = [number + 1 for number in self.state.slots]
        number = max(nonce, 0 if isinstance(pending, Refused) else pending, *taken, 0)
        job.approvals += step == "approve"
        sign = ask.Sign(number, to, data, value, gas, *fee)
        slot = yield from self._sign(purpose, step, job.digest, sign, head)
        job.status, job.detail = "pending", ""
        yield from self._broadcast(slot)

    def _hold(self, job: Job, head: Block, status: str, detail: str, *, soon: bool = False) -> None:
        job.status, job.detail = status, detail
        job.again = head.number if soon else head.number + 1

    def _refused(self, job: Job, head: Block, reason: str, refusals: int) -> None:
        """Look again after a while that grows."""
        job.refusals = refusals
        wait = min(2 ** (refusals - 1), BACK_OFF_BLOCKS_MAX)
        job.status, job.detail = "reverted", f"{reason}; tried again from block {head.number + wait} on"
        job.again = head.number + wait

    def _info(self, purpose: Purpose) -> TransactionInfo:
        job, slots = self._jobs.get(purpose), self.state.of(purpose)
        waiting = next((slot for slot in slots if slot.receipt is None), None)
        if waiting is not None:
            return TransactionInfo(purpose, "pending", Hash(waiting.newest.hash), detail=waiting.note)
        main = [slot for slot in slots if slot.step == "main" and slot.receipt is not None]
        last = main[-1] if main else None
        current = last is not None and (job is None or last.digest == job.digest)
        if current and last is not None and last.receipt is not None:
            receipt = last.receipt
            depth = -1 if self._head is None else self._head.number - receipt.block
            status = "confirmed" if depth >= self._settings.confirmations else "included"
            status, detail = (status, "") if last.succeeded else ("reverted", "" if job is None else job.detail)
            return TransactionInfo(purpose, status, receipt.transaction, receipt.block, receipt.gas_used, detail)
        done = self.state.done.get(purpose)
        if done is not None and (job is None or done.digest == job.digest):
            return TransactionInfo(purpose, "confirmed", Hash(done.hash), done.block, done.gas_used)
        if job is None:
            return TransactionInfo(purpose, "unneeded", detail="no longer wanted")
        return TransactionInfo(purpose, job.status, detail=job.detail)


def _nothing() -> Steps[int]:
    return 0
    yield
