"""Carries out wanted transactions, each once: signed and stored, then sent until it is deep in the chain. Pure.

    wanted → read again → (approve) → signed, stored → sent → in a block → confirmed → ended
                 ↑ back-off ←── would revert, reverted, lost its nonce to another ──┘

Nothing is sent for a purpose while something of it is under way and may still come into a block. `round` is one look;
it can be thrown away at any step: what counts is stored before it leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from scapp.channels import onchain
from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import calls, judging
from scapp.channels.chain import requests as ask
from scapp.channels.chain.around import around
from scapp.channels.chain.client import Block, Refused, ViewCall
from scapp.channels.chain.judging import Hold, OnChain
from scapp.channels.chain.port import TransactionInfo
from scapp.channels.chain.requests import Steps
from scapp.channels.chain.sending import NONCE_GAP_MAX, Account
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.chain.tending import Tending
from scapp.channels.chain.watcher import Moved
from scapp.channels.onchain import Purpose, Transaction, purpose_of
from scapp.channels.state import challenge_hash
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId, Hash, money

PENDING_MAX = 16  # what nodes take from one account at least
BACK_OFF_BLOCKS_MAX = 32
APPROVALS_MAX = 3
# A deadline may run: no long pauses, no waiting for a free place.
URGENT = ("reveal", "checkpoint", "challenge", "conclude-virtual")
URGENT_BACK_OFF_BLOCKS_MAX = 2
ORDER = (*URGENT, "conclude", "reclaim", "transfer-all", "transfer", "deposit")  # strangers' tokens come last


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
    """Knows what is wanted; `Tending` what is under way. `canonical` as there."""

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
        self._tending = Tending(settings, account, state, canonical, self._dropped, self._held)
        self._jobs: dict[Purpose, Job] = {}
        self._told: set[ChannelId] = set()  # channels that have said what they want
        self._asked: set[ChannelId] = set()  # channels with news that they have not answered yet
        self._head: Block | None = None

    @property
    def pending(self) -> int:
        return sum(slot.receipt is None for slot in self.state.slots.values())

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        """Replaces what the channel wanted before."""
        self._told.add(channel)
        self._asked.discard(channel)
        new = {purpose_of(channel, item): item for item in wanted}
        for purpose in [purpose for purpose in self._jobs if purpose.channel == channel]:
            if purpose not in new:
                del self._jobs[purpose]
        for purpose, item in new.items():
            digest, known = judging.digest_of(item), self._jobs.get(purpose)
            if known is None or known.digest != digest:
                self._jobs[purpose] = Job(item, digest)

    def hold_deposits(self, channel: ChannelId) -> None:
        """There is news of the channel: what it wanted to pay in may be wrong now, so nothing is until its next
        `want`. Answers to disputes go on: they are the same or refused, and cost no more than fees."""
        self._asked.add(channel)

    def _held(self, purpose: Purpose) -> bool:
        return purpose.kind == "deposit" and purpose.channel in self._asked

    def _dropped(self, purpose: Purpose) -> bool:
        return purpose not in self._jobs and purpose.channel in self._told

    def infos(self, channel: ChannelId) -> list[TransactionInfo]:
        """What became of each purpose of a channel, wanted now or still under way."""
        purposes = [purpose for purpose in self._jobs if purpose.channel == channel]
        purposes += [slot.purpose for slot in self.state.slots.values() if slot.purpose.channel == channel]
        return [self._info(purpose) for purpose in dict.fromkeys(purposes)]

    def round(self, head: Block, confirmed: Block) -> Steps[None]:
        """One look at everything, at a head that the watcher has processed, and the newest confirmed block."""
        new_head = self._head is None or self._head.hash != head.hash
        nonce = (yield from self._tending.nonce(head)) if self.state.slots or self._jobs else 0
        if new_head and self.state.slots:
            yield from self._tending.look(head, confirmed, nonce)
        self._head = head
        for purpose, job in sorted(self._jobs.items(), key=lambda item: ORDER.index(item[0].kind)):
            if self._jobs.get(purpose) is not job or head.number < job.again or self._held(purpose):
                continue
            try:
                yield from self._advance(purpose, job, head, confirmed, nonce)
            except InvalidValue as error:  # of this one alone: the others go on
                self._hold(job, head, "failed", f"it cannot be encoded, or its contract answers nonsense: {error}")

    def _advance(self, purpose: Purpose, job: Job, head: Block, confirmed: Block, nonce: int) -> Steps[None]:
        """Send what the purpose needs next, or say why not."""
        slots = self.state.of(purpose)
        if any(slot.receipt is None for slot in slots):
            return  # under way; its state is told from the slot
        done = self.state.done.get(purpose)
        ended = done is not None and done.digest == job.digest
        if ended or any(slot.succeeded and slot.step == "main" and slot.digest == job.digest for slot in slots):
            return
        if self.pending >= PENDING_MAX and purpose.kind not in URGENT:
            self._hold(job, head, "waiting", f"{PENDING_MAX} transactions are under way; more follow when one is in")
            return
        if any(slot.receipt is not None and slot.receipt.block > head.number for slot in slots):
            return
        failed = [s for s in slots if s.step == "main" and s.digest == job.digest and s.receipt and not s.succeeded]
        if len(failed) > job.refusals:
            cancelled = failed[-1].included
            taken = cancelled is None or cancelled.step == "main"
            reason = "the contract refused it in a block" if taken else "no node of the chain took it"
            self._refused(purpose, job, head, reason, len(failed))
            return
        found = yield from self._read(purpose.channel, job.wanted, head, confirmed)
        verdict = judging.judge(purpose.channel, job.wanted, found)
        if isinstance(verdict, Hold):
            self._hold(job, head, verdict.status, verdict.detail)
            return
        if isinstance(verdict, judging.Sign):
            assert isinstance(job.wanted, onchain.Challenge)
            signature = yield ask.SignChallenge(challenge_hash(verdict.state_hash))
            verdict = judging.Call(calls.Challenge(job.wanted.proof, job.wanted.candidate, signature))
        step, to = "main", self._settings.adjudicator
        if isinstance(verdict.call, calls.Reveal):
            to = self._settings.hash_lock_app
        call = yield from around(to, verdict.call, found.holdings)
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

    def _read(self, channel: ChannelId, wanted: Transaction, head: Block, confirmed: Block) -> Steps[OnChain]:
        holdings: list[calls.Call] = [calls.Holdings(asset, channel) for asset in judging.assets_of(wanted)]
        adjudicator = self._settings.adjudicator
        asked = [calls.StatusOf(channel), *holdings]
        if isinstance(wanted, onchain.Reclaim):
            asked.append(calls.StatusOf(wanted.target))
        status, *latest = yield from self._views(adjudicator, asked, head)
        target = unpack_status(Hash(latest.pop() or ZERO_HASH)) if isinstance(wanted, onchain.Reclaim) else None
        before = (yield from self._views(adjudicator, holdings, confirmed)) if holdings else []
        return OnChain(
            unpack_status(Hash(status or ZERO_HASH)),
            tuple(calls.decode_number(answer or ZERO_HASH) for answer in latest),
            tuple(calls.decode_number(answer or ZERO_HASH) for answer in before),
            head.time_s,
            target,
        )

    def _views(self, to: Address, asked: Sequence[calls.Call], block: Block) -> Steps[list[bytes]]:
        """Answers of a contract; empty for what it refuses."""
        answers = yield ask.ReadViews(tuple(ViewCall(to, calls.encode_call(call), block.hash) for call in asked))
        for answer in answers:
            if isinstance(answer, Refused) and (answer.kind == "missing" or to == self._settings.adjudicator):
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

    def _send(
        self, purpose: Purpose, job: Job, step: str, to: Address, call: calls.Call, value: int, head: Block, nonce: int
    ) -> Steps[None]:
        data = calls.encode_call(call)
        value = value if step == "main" else 0
        fee = yield from self._tending.fee()
        if fee is None:
            detail = (
                f"the chain asks for more than the fee ceiling of {self._settings.fee_ceiling} wei for a unit of gas"
            )
            self._hold(job, head, "waiting", detail)
            return
        balance: int = yield ask.ReadBalance()
        estimate = yield ask.Estimate(to, data, value)
        gas = 0 if isinstance(estimate, Refused) else estimate * 5 // 4 + 10_000
        if (isinstance(estimate, Refused) and estimate.kind == "funds") or balance < value + gas * fee[0]:
            fees = money(gas * fee[0], named=True)
            need = (
                f"{money(value, named=True)} to deposit and up to {fees} in fees are needed"
                if value
                else "fees are needed"
            )
            self._hold(job, head, "waiting", f"the account 0x{self._account.hex()} has {money(balance)}; {need}")
            return
        if isinstance(estimate, Refused):
            self._refused(purpose, job, head, str(estimate), job.refusals + 1)
            return
        pending = yield ask.ReadNonce(None)
        ours = self.state.next_nonce(nonce)
        number = max(ours, 0 if isinstance(pending, Refused) else pending)
        if number > ours + NONCE_GAP_MAX:
            self._hold(job, head, "waiting", f"{number - ours} transactions of others are said to be under way")
            return
        job.approvals += step == "approve"
        sign = ask.Sign(number, to, data, value, gas, *fee)
        slot = yield from self._tending.sign(purpose, step, job.digest, sign, head)
        job.status, job.detail = "pending", ""
        yield from self._tending.broadcast(slot)

    def _hold(self, job: Job, head: Block, status: str, detail: str, *, soon: bool = False) -> None:
        job.status, job.detail = status, detail
        job.again = head.number if soon else head.number + 1

    def _refused(self, purpose: Purpose, job: Job, head: Block, reason: str, refusals: int) -> None:
        """Look again after a while that grows."""
        job.refusals = refusals
        longest = URGENT_BACK_OFF_BLOCKS_MAX if purpose.kind in URGENT else BACK_OFF_BLOCKS_MAX
        wait = min(2 ** min(refusals - 1, 10), longest)
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
