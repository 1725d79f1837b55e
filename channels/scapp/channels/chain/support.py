"""Which states the apps of channels support, as their contracts decide it (docs/reference/contracts.md, Apps). Pure.

The model of the chain asks here, and so does whoever wants to know off chain whether a state could be enforced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from scapp.channels import abi_types
from scapp.channels.abi import InvalidValue
from scapp.channels.chain.calls import SIGNATURE, decode_outcome, signature_of
from scapp.channels.chain.judging import channel_of, state_hash_of
from scapp.channels.cosigned import low_s
from scapp.channels.outcome import Allocation, AllocationType, SingleAssetExit
from scapp.channels.payments.locks import Lock, LockedVoucher, locked_voucher_hash
from scapp.channels.reading import SignedState
from scapp.channels.signing import InvalidSignature, recover
from scapp.channels.state import voucher_hash
from scapp.channels.types import U256_MAX, ChannelId, Hash, Signature

App = Literal["consensus", "payment", "two-party", "hash-lock"]
VIRTUAL: frozenset[App | None] = frozenset({"payment", "two-party", "hash-lock"})
"""Apps of channels that are funded by ledgers' guarantees; the adjudicator pays nothing out of them."""
OVERFLOW = "panic 0x11"
UNLOCKED_BYTES = 128  # of app data: a voucher without locks
LOCKS = "(uint256,bytes32,uint256)[]"
SILENT = "revert"


class Signed(msgspec.Struct, frozen=True, gc=False):
    """A state with the positions of the participants who signed it."""

    state: SignedState
    signers: frozenset[int]

    @property
    def unanimous(self) -> bool:
        return len(self.signers) == len(self.state.participants) < 256


class Unsupported(Exception):
    """The text is the contract's reason, `panic N`, or `revert` without one."""


def signed(state: SignedState, state_hash: Hash) -> Signed:
    """Who signed: of a participant that is there twice, the first. Raises Unsupported for what is no signature."""
    found = [recovered(state_hash, signature) for signature in state.signatures if signature]
    return Signed(state, frozenset(state.participants.index(each) for each in found if each in state.participants))


def recovered(digest: Hash, signature: bytes) -> bytes:
    """As ecrecover does, which takes a high s as well. Raises Unsupported."""
    try:
        return recover(digest, low_s(signature))
    except InvalidSignature:
        raise Unsupported("Invalid signature") from None


def require_supported(
    app: App,
    channel: ChannelId,
    candidate: Signed,
    proof: Sequence[Signed],
    revealed: Mapping[bytes, int] | None = None,
) -> None:
    """Raises Unsupported, with the reason of the app's contract. `revealed`: when preimages were revealed at the app of
    hash locks, by hash; where that is not known (None), any of a redemption's locks may have been opened."""
    if app == "consensus":
        _require(not proof, "|proof|!=0")
        _require(candidate.unanimous, "!unanimous")
    elif not proof:
        _require(candidate.unanimous, "!unanimous; |proof|=0")
        _require(candidate.state.turn < 2, "bad candidate turnNum; |proof|=0")
    else:
        _require(len(proof) == 1, "bad proof length")
        _require(proof[0].state.turn == 1, "bad proof[0].turnNum; |proof|=1")
        _require(proof[0].unanimous, "postfund !unanimous; |proof|=1")
        if app == "two-party":
            _divides(proof[0].state, candidate)
        elif app == "payment" or len(candidate.state.app_data) == UNLOCKED_BYTES:
            _redeems(channel, proof[0].state, candidate)
        else:
            _redeems_locks(channel, proof[0].state, candidate, revealed)


def is_supported(apps: Mapping[bytes, App], candidate: SignedState, proof: Sequence[SignedState]) -> bool:
    """The same as an answer, for states with their fixed part, which may come from strangers; False for one of an app
    that is not in `apps`."""
    app = apps.get(candidate.app_definition)
    if app is None or len(proof) > 1:
        return False
    try:
        states = [signed(state, state_hash_of(state)) for state in (candidate, *proof)]
        require_supported(app, channel_of(candidate), states[0], states[1:])
    except (Unsupported, InvalidValue):
        return False
    return True


def is_unanimous(state: SignedState) -> bool:
    """Has every participant signed this state, which has its fixed part and may come from a stranger?"""
    try:
        return signed(state, state_hash_of(state)).unanimous
    except (Unsupported, InvalidValue):
        return False


def _divides(old: SignedState, candidate: Signed) -> None:
    _require(candidate.state.turn >= 2, "bad candidate turnNum; |proof|=1")
    _require(0 in candidate.signers, "not signed by the first participant")
    _require(len(old.participants) - 1 in candidate.signers, "not signed by the last participant")
    before, after = decode_outcome(old.outcome), decode_outcome(candidate.state.outcome)
    _require(len(before) == len(after), "number of assets changed")
    for one, other in zip(before, after, strict=True):
        old_slots, new_slots = _slots(one, other)
        _require(_sum(*old_slots) == _sum(*new_slots), "sum changed")


def _redeems(channel: ChannelId, old: SignedState, candidate: Signed) -> None:
    state = candidate.state
    _require(state.turn == 2, "bad candidate turnNum; |proof|=1")
    _require(len(old.participants) - 1 in candidate.signers, "redemption not signed by Bob")
    amount, signature = _voucher(state.app_data)
    _require(recovered(voucher_hash(channel, amount), signature) == state.participants[0],
             "invalid signature for voucher")  # fmt: skip
    _require_moved(old, state, amount)


def _redeems_locks(
    channel: ChannelId, old: SignedState, candidate: Signed, revealed: Mapping[bytes, int] | None
) -> None:
    state = candidate.state
    _require(len(old.participants) - 1 in candidate.signers, "redemption not signed by Bob")
    voucher = _locked_voucher(channel, state.app_data)
    _require(recovered(locked_voucher_hash(voucher), voucher.signature) == state.participants[0],
             "invalid signature for voucher")  # fmt: skip
    times = revealed or {}
    opened = [lock for lock in voucher.locks if 0 < times.get(lock.hash, 0) <= lock.expiry_s]
    amount, count = voucher.amount + sum(lock.amount for lock in opened), len(opened)
    if revealed is None:  # as much as the turn may stand for
        count = max(0, min(state.turn - 2, len(voucher.locks)))
        amount = max(voucher.amount, min(_taken(old, state), voucher.most if count else voucher.amount))
    _require(amount <= U256_MAX, OVERFLOW)
    _require(state.turn == 2 + count, "bad candidate turnNum; |proof|=1")
    _require_moved(old, state, amount)


def _taken(old: SignedState, state: SignedState) -> int:
    """What a redemption takes from the payer, 0 for one that is none."""
    before, after = decode_outcome(old.outcome), decode_outcome(state.outcome)
    if not (before and before[0].allocations and after and after[0].allocations):
        return 0
    return before[0].allocations[0].amount - after[0].allocations[0].amount


def _require_moved(old: SignedState, state: SignedState, amount: int) -> None:
    """The outcome gives `amount` of the payer's to the payee."""
    before, after = decode_outcome(old.outcome), decode_outcome(state.outcome)
    _require(len(before) == len(after) == 1, "only one asset allowed")
    (payer, payee), (payer_after, payee_after) = _slots(before[0], after[0])
    _require(amount <= payer.amount, OVERFLOW)
    _require(payer_after.amount == payer.amount - amount, "Alice not adjusted correctly")
    _require(payee.amount + amount <= U256_MAX, OVERFLOW)
    _require(payee_after.amount == payee.amount + amount, "Bob not adjusted correctly")


def _voucher(app_data: bytes) -> tuple[int, Signature]:
    try:
        amount, signature = abi_types.decode(f"(uint256,{SIGNATURE})", app_data)
    except InvalidValue:
        raise Unsupported(SILENT) from None
    return amount, signature_of(signature)


def _locked_voucher(channel: ChannelId, app_data: bytes) -> LockedVoucher:
    try:
        amount, locks, signature = abi_types.decode(f"(uint256,{LOCKS},{SIGNATURE})", app_data)
    except InvalidValue:
        raise Unsupported(SILENT) from None
    return LockedVoucher(channel, amount, tuple(Lock(*lock) for lock in locks), signature_of(signature))


def _slots(
    old: SingleAssetExit, later: SingleAssetExit
) -> tuple[tuple[Allocation, Allocation], tuple[Allocation, Allocation]]:
    _require(old.asset == later.asset, "asset changed")
    before, after = old.allocations, later.allocations
    _require(len(before) == len(after) == 2, "only two allocations allowed")
    for one, other in zip(before, after, strict=True):
        _require(one.destination == other.destination, "destination changed")
        kinds = {one.allocation_type, other.allocation_type}
        _require(kinds == {AllocationType.SIMPLE}, "only simple allocations allowed")
    return (before[0], before[1]), (after[0], after[1])


def _sum(first: Allocation, second: Allocation) -> int:
    _require(first.amount + second.amount <= U256_MAX, OVERFLOW)
    return first.amount + second.amount


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise Unsupported(reason)
