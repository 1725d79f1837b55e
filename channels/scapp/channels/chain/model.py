"""What the contracts do, in Python: adjudicator, apps and ERC20 tokens as a function of state and call.

Checked against the compiled contracts by random calls (tests/chain/test_model.py): equal status words, holdings,
events, balances and revert reasons. `model_chain.py` puts blocks, a mempool and reorganisations around it.

Not modelled: gas, apps beside those of `support.py`, which has what they decide (a channel of another cannot be
challenged here), calls from contracts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import Mode, Status, fingerprint, pack_status
from scapp.channels.chain import contract_events as events
from scapp.channels.chain.calls import (
    Allowance,
    Approve,
    BalanceOf,
    Call,
    Challenge,
    Checkpoint,
    Conclude,
    ConcludeAndTransfer,
    Deposit,
    Holdings,
    Reclaim,
    Reveal,
    RevealedAt,
    StatusOf,
    Transfer,
    TransferAll,
    TransferTokens,
    decode_outcome,
    without_fixed_part,
)
from scapp.channels.chain.contract_events import ContractEvent
from scapp.channels.chain.model_reclaim import OUT_OF_BOUNDS, dissolved
from scapp.channels.chain.model_world import OVERFLOW, SILENT, Revert, Token, World
from scapp.channels.chain.support import VIRTUAL, Signed, Unsupported, recovered, require_supported, signed
from scapp.channels.crypto import keccak256
from scapp.channels.outcome import (
    Allocation,
    AllocationType,
    Outcome,
    encode_outcome,
    is_external,
)
from scapp.channels.payments.locks import hash_of
from scapp.channels.payouts import transfer_effects
from scapp.channels.reading import SignedState
from scapp.channels.state import FixedPart, challenge_hash, encode_fixed_part, encode_state_of_outcome
from scapp.channels.types import U48_MAX, U256_MAX, ZERO_ADDRESS, ZERO_HASH, Address, ChannelId, Hash

PAYS_NOTHING = "Channel is virtual."


def execute(world: World, sender: bytes, to: bytes, call: Call | None, value: int, time_s: int) -> list[ContractEvent]:
    """Carry out one call in place; the adjudicator's events. `call` None is a plain payment of `value`.

    Raises Revert; the world is then half changed, so work on a copy. The sender must have the value."""
    if to in world.tokens or to == world.adjudicator or world.app_at(to) is not None:
        if value and not (to == world.adjudicator and isinstance(call, Deposit)):
            raise Revert(SILENT)  # not payable
        if to in world.tokens:
            _on_token(world.tokens[to], sender, call)
            return []
        if to == world.adjudicator and call is not None:
            return _on_adjudicator(world, sender, call, value, time_s)
        if world.app_at(to) == "hash-lock" and isinstance(call, Reveal):
            for preimage in call.preimages:
                world.revealed.setdefault(hash_of(preimage), time_s)
            return []  # its own event is not the adjudicator's
        raise Revert(SILENT)
    world.pay(sender, to, value)  # nobody with code there: calldata does nothing
    return []


def view(world: World, to: bytes, call: Call) -> int | bytes:
    """The answer of a function that changes nothing. Raises Revert for one that is not there."""
    token = world.tokens.get(to)
    if to == world.adjudicator and isinstance(call, StatusOf):
        return world.status.get(call.channel, ZERO_HASH)
    if to == world.adjudicator and isinstance(call, Holdings):
        return world.held(call.asset, call.channel)
    if world.app_at(to) == "hash-lock" and isinstance(call, RevealedAt):
        return world.revealed.get(call.hash, 0)
    if token is not None and isinstance(call, Allowance):
        return token.allowances.get((call.owner, call.spender), 0)
    if token is not None and isinstance(call, BalanceOf):
        return token.balances.get(call.owner, 0)
    raise Revert(SILENT)


def _on_token(token: Token, sender: bytes, call: Call | None) -> None:
    match call:
        case Approve(spender=spender, amount=amount):
            token.approve(sender, spender, amount)
        case TransferTokens(recipient=recipient, amount=amount):
            token.move(sender, recipient, amount)
        case _:
            raise Revert(SILENT)


def _on_adjudicator(world: World, sender: bytes, call: Call, value: int, time_s: int) -> list[ContractEvent]:
    match call:
        case Deposit():
            return _deposit(world, sender, call, value)
        case Challenge():
            return _challenge(world, call, time_s)
        case Checkpoint():
            return _checkpoint(world, call, time_s)
        case Conclude(candidate=state):
            channel, outcome = _concluding(world, state, time_s)
            _mark(world, channel, state)
            status = Status(0, time_s, fingerprint(ZERO_HASH, _hash(encode_outcome(outcome))))
            world.status[channel] = pack_status(status)
            return [events.Concluded(channel, time_s)]
        case ConcludeAndTransfer(candidate=state):
            channel, outcome = _concluding(world, state, time_s)
            if world.app_at(state.app_definition) in VIRTUAL:
                raise Revert(PAYS_NOTHING)
            paid = _transfer_all(world, channel, outcome, ZERO_HASH, Status(0, time_s, bytes(20)))
            return [events.Concluded(channel, time_s), *paid]
        case TransferAll():
            status = _finalized(world, call.channel, time_s)
            _check_fingerprint(status, call.state_hash, encode_outcome(call.outcome))
            _require_not_virtual(world, call.channel)
            return _transfer_all(world, call.channel, call.outcome, call.state_hash, status)
        case Transfer():
            return _transfer(world, call, time_s)
        case Reclaim():
            return _reclaim(world, call, time_s)
        case _:
            raise Revert(SILENT)


def _deposit(world: World, sender: bytes, call: Deposit, value: int) -> list[ContractEvent]:
    if call.channel[:12] == bytes(12):
        raise Revert("Deposit to external destination")
    held = world.held(call.asset, call.channel)
    if held != call.expected:
        raise Revert("held != expectedHeld")
    if value != (call.amount if call.asset == ZERO_ADDRESS else 0):
        raise Revert("Incorrect msg.value for deposit")
    if call.asset == ZERO_ADDRESS:
        world.pay(sender, world.adjudicator, value)
    elif call.asset in world.tokens:
        world.tokens[call.asset].take(sender, world.adjudicator, call.amount)
    else:
        raise Revert("Address: call to non-contract")
    if held + call.amount > U256_MAX:
        raise Revert(OVERFLOW)
    world.holdings[call.asset, call.channel] = held + call.amount
    return [events.Deposited(call.channel, call.asset, held + call.amount)]


def _challenge(world: World, call: Challenge, time_s: int) -> list[ContractEvent]:
    state = call.candidate
    channel = _channel(state)
    status = world.status_of(channel)
    if status.finalizes_at == 0:
        if state.turn < status.turn_record:
            raise Revert("turnNumRecord decreased.")
    else:
        _require_not_finalized(status, time_s)
        if state.turn <= status.turn_record:
            raise Revert("turnNumRecord not increased.")
    state_hash = _supported(world, channel, state, call.proof)
    if _recovered(challenge_hash(state_hash), call.signature) not in state.participants:
        raise Revert("Challenger is not a participant")
    finalizes_at = time_s + state.challenge_duration
    if finalizes_at > U48_MAX:
        raise Revert(OVERFLOW)
    committed = fingerprint(state_hash, _hash(state.outcome))
    world.status[channel] = pack_status(Status(state.turn, finalizes_at, committed))
    _mark(world, channel, state)
    proof = tuple(without_fixed_part(item) for item in call.proof)
    return [events.ChallengeRegistered(channel, finalizes_at, proof, without_fixed_part(state))]


def _checkpoint(world: World, call: Checkpoint, time_s: int) -> list[ContractEvent]:
    state = call.candidate
    channel = _channel(state)
    status = world.status_of(channel)
    _require_not_finalized(status, time_s)
    if state.turn <= status.turn_record:
        raise Revert("turnNumRecord not increased.")
    _supported(world, channel, state, call.proof)
    world.status[channel] = pack_status(Status(state.turn, 0, fingerprint(ZERO_HASH, ZERO_HASH)))
    if status.finalizes_at == 0:
        return [events.Checkpointed(channel, state.turn)]
    return [events.ChallengeCleared(channel, state.turn)]


def _concluding(world: World, state: SignedState, time_s: int) -> tuple[ChannelId, Outcome]:
    channel = _channel(state)
    _require_not_finalized(world.status_of(channel), time_s)
    if not state.is_final:
        raise Revert("State must be final")
    if not _signed(channel, state).unanimous:
        raise Revert("!unanimous")
    return channel, decode_outcome(state.outcome)


def _transfer_all(
    world: World, channel: ChannelId, outcome: Outcome, state_hash: Hash, status: Status
) -> list[ContractEvent]:
    """All effects first, then all payments."""
    found: list[ContractEvent] = []
    payments, remaining, settled = [], [], True
    for index, exit_ in enumerate(outcome):
        left, shares, event = _settle(world, channel, index, exit_.asset, exit_.allocations, ())
        settled = settled and not any(item.amount for item in left)
        remaining.append(msgspec.structs.replace(exit_, allocations=left))
        payments.append((exit_.asset, left, shares))
        found.append(event)
    if settled:
        world.status.pop(channel, None)
    else:
        committed = fingerprint(state_hash, _hash(encode_outcome(tuple(remaining))))
        world.status[channel] = pack_status(msgspec.structs.replace(status, fingerprint=committed))
    for payment in payments:
        _pay(world, *payment)
    return found


def _transfer(world: World, call: Transfer, time_s: int) -> list[ContractEvent]:
    if any(later <= earlier for earlier, later in zip(call.indices, call.indices[1:], strict=False)):
        raise Revert("Indices must be sorted")
    status = _finalized(world, call.channel, time_s)
    _check_fingerprint(status, call.state_hash, call.outcome)
    _require_not_virtual(world, call.channel)
    outcome = decode_outcome(call.outcome)
    if call.asset_index >= len(outcome):
        raise Revert(OUT_OF_BOUNDS)
    exit_ = outcome[call.asset_index]
    left, shares, event = _settle(world, call.channel, call.asset_index, exit_.asset, exit_.allocations, call.indices)
    exits = list(outcome)
    exits[call.asset_index] = msgspec.structs.replace(exit_, allocations=left)
    committed = fingerprint(call.state_hash, _hash(encode_outcome(tuple(exits))))
    world.status[call.channel] = pack_status(msgspec.structs.replace(status, fingerprint=committed))
    _pay(world, exit_.asset, left, shares)
    return [event]


def _settle(
    world: World,
    channel: ChannelId,
    index: int,
    asset: Address,
    allocations: Sequence[Allocation],
    indices: tuple[int, ...],
) -> tuple[tuple[Allocation, ...], list[int], ContractEvent]:
    """Allocations after the payout, what each is paid, and the event; nothing is paid yet."""
    if any(
        item.allocation_type == AllocationType.GUARANTEE and (not indices or at in indices)
        for at, item in enumerate(allocations)
    ):
        raise Revert("cannot transfer a guarantee")
    held = world.held(asset, channel)
    # The published contract's weak check of guarantees, which `transfer_effects` mirrors, is not in ours.
    simple = [msgspec.structs.replace(item, allocation_type=AllocationType.SIMPLE) for item in allocations]
    after = [item.amount for item in transfer_effects(held, simple, indices).remaining]
    shares = [item.amount - amount for item, amount in zip(allocations, after, strict=True)]
    world.holdings[asset, channel] = held - sum(shares)
    left = tuple(msgspec.structs.replace(item, amount=amount) for item, amount in zip(allocations, after, strict=True))
    return left, shares, events.AllocationUpdated(channel, index, held, held - sum(shares))


def _pay(world: World, asset: Address, allocations: Sequence[Allocation], shares: Sequence[int]) -> None:
    for item, share in zip(allocations, shares, strict=True):
        if share == 0:
            continue
        recipient = item.destination[12:]
        if not is_external(item.destination):
            target = (asset, ChannelId(item.destination))
            world.holdings[target] = world.holdings.get(target, 0) + share
        elif asset != ZERO_ADDRESS:
            world.tokens[asset].move(world.adjudicator, recipient, share)
        elif recipient in world.refusing:
            raise Revert("Could not transfer ETH")
        else:
            world.pay(world.adjudicator, recipient, share)


def _supported(world: World, channel: ChannelId, state: SignedState, proof: Sequence[SignedState]) -> Hash:
    """Hash of a candidate that its channel's app supports."""
    shown = [_signed(channel, item) for item in proof]
    candidate = _signed(channel, state)
    app = world.app_at(state.app_definition)
    if app is None:
        raise Revert(SILENT)  # nobody there who would answer
    try:
        require_supported(app, channel, candidate, shown, world.revealed)
    except Unsupported as error:
        raise Revert(str(error)) from None
    return _state_hash(channel, state)


def _signed(channel: ChannelId, state: SignedState) -> Signed:
    try:
        return signed(state, _state_hash(channel, state))
    except Unsupported as error:
        raise Revert(str(error)) from None


def _recovered(digest: Hash, signature: bytes) -> bytes:
    try:
        return recovered(digest, signature)
    except Unsupported as error:
        raise Revert(str(error)) from None


def _reclaim(world: World, call: Reclaim, time_s: int) -> list[ContractEvent]:
    status = _finalized(world, call.channel, time_s)
    _check_fingerprint(status, call.state_hash, call.outcome)
    outcome, target_outcome = decode_outcome(call.outcome), None
    if call.asset_index >= len(outcome) or call.guarantee_index >= len(outcome[call.asset_index].allocations):
        raise Revert(OUT_OF_BOUNDS)
    exit_ = outcome[call.asset_index]
    guarantee = exit_.allocations[call.guarantee_index]
    if guarantee.allocation_type != AllocationType.GUARANTEE:
        raise Revert("not a guarantee allocation")
    try:
        target_outcome = decode_outcome(call.target_outcome)
    except InvalidValue:
        raise Revert(SILENT) from None
    if call.target_asset_index >= len(target_outcome):
        raise Revert(OUT_OF_BOUNDS)
    target = target_outcome[call.target_asset_index]
    if target.asset != exit_.asset:
        raise Revert("targetAsset != guaranteeAsset")
    target_status = _finalized(world, ChannelId(guarantee.destination), time_s)
    _check_fingerprint(target_status, call.target_state_hash, call.target_outcome)
    left = dissolved(exit_.allocations, target.allocations, call.guarantee_index)
    exits = list(outcome)
    exits[call.asset_index] = msgspec.structs.replace(exit_, allocations=left)
    committed = fingerprint(call.state_hash, _hash(encode_outcome(tuple(exits))))
    world.status[call.channel] = pack_status(msgspec.structs.replace(status, fingerprint=committed))
    return [events.Reclaimed(call.channel, call.asset_index)]


def _mark(world: World, channel: ChannelId, state: SignedState) -> None:
    if world.app_at(state.app_definition) in VIRTUAL:
        world.virtual.add(channel)


def _require_not_virtual(world: World, channel: ChannelId) -> None:
    if channel in world.virtual:
        raise Revert(PAYS_NOTHING)


def _finalized(world: World, channel: ChannelId, time_s: int) -> Status:
    status = world.status_of(channel)
    if status.mode(time_s) is not Mode.FINALIZED:
        raise Revert("Channel not finalized.")
    return status


def _require_not_finalized(status: Status, time_s: int) -> None:
    if status.mode(time_s) is Mode.FINALIZED:
        raise Revert("Channel finalized.")


def _check_fingerprint(status: Status, state_hash: Hash, outcome: bytes) -> None:
    if status.fingerprint != fingerprint(state_hash, _hash(outcome)):
        raise Revert("incorrect fingerprint")


def _channel(state: SignedState) -> ChannelId:
    fixed = FixedPart(
        tuple(map(Address, state.participants)), state.nonce, Address(state.app_definition), state.challenge_duration
    )
    return ChannelId(_hash(encode_fixed_part(fixed)))


def _state_hash(channel: ChannelId, state: SignedState) -> Hash:
    return _hash(encode_state_of_outcome(channel, state.app_data, state.outcome, state.turn, is_final=state.is_final))


def _hash(data: bytes) -> Hash:
    return Hash(keccak256(data))
