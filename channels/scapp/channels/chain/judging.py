"""Whether a wanted transaction can and need be sent, from what the adjudicator holds right now. Pure."""

from __future__ import annotations

import msgspec

from scapp.channels import onchain
from scapp.channels.adjudicator_status import Mode, Status, fingerprint
from scapp.channels.chain import calls
from scapp.channels.crypto import keccak256
from scapp.channels.onchain import Transaction
from scapp.channels.outcome import Outcome, encode_outcome, outcome_hash
from scapp.channels.reading import SignedState
from scapp.channels.state import FixedPart, encode_state_of_outcome
from scapp.channels.state import channel_id as channel_id_of
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId, Hash


class OnChain(msgspec.Struct, frozen=True):
    """At the newest block, whose time it has. `holdings` of the assets that `assets_of` names; `confirmed` are the same
    at the newest confirmed block. `target` is the status of the channel that a reclaim is about."""

    status: Status
    holdings: tuple[int, ...]
    confirmed: tuple[int, ...]
    time_s: int
    target: Status | None = None

    @property
    def mode(self) -> Mode:
        return self.status.mode(self.time_s)


class Call(msgspec.Struct, frozen=True):
    """Send this to the adjudicator. A deposit of tokens first needs an allowance of its amount."""

    call: calls.Call
    value: int = 0


class Sign(msgspec.Struct, frozen=True):
    """Send this challenge once the state is signed by the channel key."""

    state_hash: Hash


class Hold(msgspec.Struct, frozen=True):
    """Send nothing now. `status` as in `port.TransactionInfo`: "waiting", "unneeded" or "failed"."""

    status: str
    detail: str


def assets_of(wanted: Transaction) -> tuple[Address, ...]:
    """The assets whose holdings the judgement needs."""
    match wanted:
        case onchain.Deposit(asset=asset):
            return (asset,)
        case onchain.Conclude(state=state, pays=True):
            return tuple(exit_.asset for exit_ in calls.decode_outcome(state.outcome))
        case onchain.TransferAll(outcome=outcome):
            return tuple(exit_.asset for exit_ in outcome)
        case onchain.Transfer(outcome=outcome, asset_index=index):
            return (outcome[index].asset,) if index < len(outcome) else ()
        case _:
            return ()


def judge(channel: ChannelId, wanted: Transaction, found: OnChain) -> Call | Sign | Hold:
    """What to do about it. Raises InvalidValue for a state that cannot be encoded."""
    match wanted:
        case onchain.Deposit():
            return _deposit(channel, wanted, found)
        case onchain.Conclude(state=state, pays=False):
            if found.mode is Mode.FINALIZED:
                return Hold("unneeded", "the channel is finalized")
            return Call(calls.Conclude(state))
        case onchain.Conclude(state=state):
            return _conclude(channel, state, found)
        case onchain.Challenge(candidate=state):
            if found.mode is Mode.FINALIZED:
                return Hold("unneeded", "the channel is finalized")
            lowest = found.status.turn_record + (found.mode is Mode.CHALLENGE)
            if state.turn < lowest:
                return Hold("unneeded", f"turn {state.turn} is to be registered; the chain takes {lowest} or later")
            return Sign(state_hash_of(state))
        case onchain.Checkpoint(candidate=state):
            if found.mode is Mode.FINALIZED:
                return Hold("failed", "the channel was finalized before the newer state was registered")
            if state.turn <= found.status.turn_record:
                return Hold("unneeded", f"turn {found.status.turn_record} is registered already")
            return Call(calls.Checkpoint(wanted.proof, state))
        case onchain.Reveal(preimage=preimage):
            return Call(calls.Reveal((preimage,)))
        case onchain.Reclaim():
            return _reclaim(channel, wanted, found)
        case onchain.TransferAll():
            held = _payable(found, wanted.state_hash, wanted.outcome)
            return held or Call(calls.TransferAll(channel, wanted.outcome, wanted.state_hash))
        case onchain.Transfer():
            held = _payable(found, wanted.state_hash, wanted.outcome)
            encoded = encode_outcome(wanted.outcome)
            return held or Call(calls.Transfer(wanted.asset_index, channel, encoded, wanted.state_hash, wanted.indices))


def _deposit(channel: ChannelId, wanted: onchain.Deposit, found: OnChain) -> Call | Hold:
    (held,) = found.holdings
    if held >= wanted.target:
        return Hold("unneeded", f"the channel holds {held}, the target is {wanted.target}")
    if found.mode is not Mode.OPEN:
        # What comes into a channel under challenge is paid by the state that was registered.
        return Hold("waiting", f"the channel is in {found.mode.value} on chain; nothing is deposited meanwhile")
    safe = min(held, *found.confirmed)  # what a reorganisation takes back would leave ours alone and first in line
    if safe < wanted.safety:
        return Hold("waiting", f"the channel holds {safe} confirmed; ours follows when it holds {wanted.safety}")
    amount = min(wanted.target - held, wanted.amount_max)
    if amount <= 0:
        return Hold("waiting", f"{wanted.target - held} are missing, and none of it is to be paid by this participant")
    value = amount if wanted.asset == ZERO_ADDRESS else 0
    return Call(calls.Deposit(wanted.asset, channel, held, amount), value)


def _conclude(channel: ChannelId, state: SignedState, found: OnChain) -> Call | Hold:
    if found.mode is Mode.FINALIZED:
        outcome = calls.decode_outcome(state.outcome)
        held = _payable(found, ZERO_HASH, outcome)  # concluded by somebody who did not pay out
        return held or Call(calls.TransferAll(channel, outcome, ZERO_HASH))
    if not any(found.holdings):
        return Hold("unneeded", "the channel holds nothing on chain")
    return Call(calls.ConcludeAndTransfer(state))


def _reclaim(channel: ChannelId, wanted: onchain.Reclaim, found: OnChain) -> Call | Hold:
    held = _finalized_with(found, wanted.state_hash, wanted.outcome)
    if held is not None:
        return held
    target = found.target
    if target is None or target.mode(found.time_s) is not Mode.FINALIZED:
        return Hold("waiting", "the channel that the guarantee funds is not finalized on chain")
    if target.fingerprint != fingerprint(wanted.target_state_hash, outcome_hash(wanted.target_outcome)):
        return Hold("waiting", "the channel that the guarantee funds is finalized with another state or outcome")
    return Call(
        calls.Reclaim(
            channel,
            wanted.state_hash,
            encode_outcome(wanted.outcome),
            wanted.asset_index,
            wanted.guarantee_index,
            wanted.target_state_hash,
            encode_outcome(wanted.target_outcome),
            wanted.target_asset_index,
        )
    )


def _payable(found: OnChain, state_hash: Hash, outcome: Outcome) -> Hold | None:
    """None when the finalized channel has something to pay by that outcome."""
    held = _finalized_with(found, state_hash, outcome)
    if held is None and not any(found.holdings):
        return Hold("unneeded", "the channel holds nothing on chain")
    return held


def _finalized_with(found: OnChain, state_hash: Hash, outcome: Outcome) -> Hold | None:
    """None when the channel is finalized with that outcome."""
    if found.mode is Mode.CHALLENGE:
        return Hold("waiting", f"the channel finalizes at {found.status.finalizes_at}, the chain is at {found.time_s}")
    if found.mode is Mode.OPEN:
        return Hold("waiting" if any(found.holdings) else "unneeded", "the channel is not finalized on chain")
    if found.status.fingerprint != fingerprint(state_hash, Hash(keccak256(encode_outcome(outcome)))):
        return Hold("waiting", "the channel is finalized with another state or outcome")
    return None


def channel_of(state: SignedState) -> ChannelId:
    """The channel that a state's own fixed part names."""
    participants = tuple(map(Address, state.participants))
    return channel_id_of(FixedPart(participants, state.nonce, Address(state.app_definition), state.challenge_duration))


def state_hash_of(state: SignedState) -> Hash:
    """Hash of a state under its own fixed part."""
    encoded = encode_state_of_outcome(
        channel_of(state), state.app_data, state.outcome, state.turn, is_final=state.is_final
    )
    return Hash(keccak256(encoded))


def digest_of(wanted: Transaction) -> bytes:
    """Tells apart what is wanted under one purpose: 32 bytes, equal in every run."""
    match wanted:
        case onchain.Deposit(safety=safety, target=target, amount_max=amount_max):
            numbers = (safety, target, amount_max)
            return keccak256(b"".join(number.to_bytes(32, "big") for number in numbers))
        case onchain.Conclude(state=state) | onchain.Challenge(candidate=state) | onchain.Checkpoint(candidate=state):
            return state_hash_of(state)
        case onchain.Reveal(preimage=preimage):
            return keccak256(preimage)
        case onchain.Reclaim():
            numbers = (wanted.asset_index, wanted.guarantee_index, wanted.target_asset_index)
            chosen = b"".join(number.to_bytes(32, "big") for number in numbers)
            hashes = wanted.state_hash + wanted.target_state_hash + outcome_hash(wanted.target_outcome)
            return keccak256(hashes + chosen + encode_outcome(wanted.outcome))
        case onchain.TransferAll(outcome=outcome, state_hash=state_hash):
            return keccak256(state_hash + encode_outcome(outcome))
        case onchain.Transfer(outcome=outcome, state_hash=state_hash, indices=indices, asset_index=asset_index):
            chosen = b"".join(number.to_bytes(32, "big") for number in (asset_index, *indices))
            return keccak256(state_hash + chosen + encode_outcome(outcome))
