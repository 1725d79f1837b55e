"""The first steps of a channel: proposal, acceptance, prefund (docs/reference/app-channel.md sections 1 to 3)."""

from __future__ import annotations

from typing import Any

import msgspec

from scapp.channels.admission import Admitted
from scapp.channels.channel.backed import given_up, may_give_up
from scapp.channels.channel.checking import Fault, compare, countersign
from scapp.channels.channel.effects import (
    LoadAdmission,
    RollbackBatch,
    SendProposal,
    SendRejected,
    Tell,
)
from scapp.channels.channel.events import (
    ChannelCreated,
    ChannelRejected,
    Event,
    Signed,
    StateSigned,
    SuccessorCreated,
    VirtualCreated,
)
from scapp.channels.channel.messages import Proposal, SuccessorProposal, VirtualProposal
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, Checking, Opening, Session, Step
from scapp.channels.channel.setup import Setup, SetupError, pack_amounts
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.entries import (
    EMPTY_LOG_ROOT,
    HEADER_BYTES,
    Kind,
    OpenPayload,
    Slot,
    decode_entry,
    encode_entry,
    extend_log_root,
)
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import Address

_payload_encoder = msgspec.msgpack.Encoder()
_payload_decoder = msgspec.msgpack.Decoder(OpenPayload)


def opening_entry(
    participants: tuple[bytes, ...], slots: tuple[tuple[bytes, bytes, bytes], ...], params: Any, time_ms: int
) -> bytes:
    """Entry 0. Raises SetupError when `params` cannot be written as MessagePack."""
    payload = OpenPayload(participants, tuple(Slot(*slot) for slot in slots), params)
    try:
        encoded = _payload_encoder.encode(payload)
    except (TypeError, OverflowError, ValueError) as error:
        raise SetupError(f"params cannot be written as MessagePack: {error}") from error
    return encode_entry(Kind.OPEN, 0, 0, time_ms, encoded)


def opening_params(entry: bytes) -> Any:
    """What the app is given in entry 0, which was checked before."""
    return _payload_decoder.decode(decode_entry(entry).payload).params


def prefund_of(
    slots: tuple[tuple[bytes, bytes, bytes], ...], count: int, entry: bytes, state_root: bytes, time_ms: int
) -> Signed:
    """The prefund state: turn 0, entry 0, the negotiated outcome, no signatures yet."""
    return Signed(
        turn=0,
        is_final=False,
        entries=(entry,),
        sequence=1,
        log_root=extend_log_root(EMPTY_LOG_ROOT, (entry,)),
        state_root=state_root,
        amounts=pack_amounts(tuple(int.from_bytes(v, "big") for _, _, v in slots)),
        time_ms=time_ms,
        signatures=(b"",) * count,
        last=(0,) * count,
    )


def open_signed(created: ChannelCreated, signer: StateSigner, result: Admitted) -> ChannelCreated:
    """Our own new channel with the root of entry 0 and our prefund signature filled in.

    Raises LocalError when the reducer refuses the parameters."""
    if result.refusals:
        refusal = result.refusals[0]
        raise LocalError(f"the app refuses these parameters: {refusal.code}: {refusal.reason}")
    setup = Setup(created)
    prefund = msgspec.structs.replace(created.prefund, state_root=result.state_root)
    if result.amounts != setup.start_amounts:
        raise LocalError(f"the app makes the outcome {result.amounts} while opening; agreed is {setup.start_amounts}")
    signature = signer.sign(setup.hash(prefund))
    signed = msgspec.structs.replace(prefund, signatures=(signature,) + (b"",) * (setup.count - 1))
    return msgspec.structs.replace(created, prefund=signed)


def opened(state: ChannelState, session: Session) -> Step:
    """First step of the channel we have opened: the prefund signature is stored, then everybody is asked. Raises
    LocalError when the channel that it renews has ended meanwhile."""
    if state.rejected is not None:
        raise LocalError(state.rejected)
    session.layer = 0
    sends = tuple(SendProposal(peer) for peer in state.setup.others)
    return Step((StateSigned(state.prefund),), sends)


def created_from_proposal(proposal: Proposal, me: Address, now_ms: int) -> ChannelCreated:
    """Check a stranger's proposal as far as it can be without running the reducer. Raises PeerError."""
    if me not in proposal.participants[1:]:
        raise PeerError(f"proposed a channel in which 0x{me.hex()}, this node, is no countersigner")
    prefund = prefund_of(
        proposal.slots, len(proposal.participants), proposal.entry, proposal.state_root, proposal.time_ms
    )
    prefund = msgspec.structs.replace(prefund, signatures=(proposal.signature, *prefund.signatures[1:]))
    created = ChannelCreated(
        my_index=proposal.participants.index(me),
        participants=proposal.participants,
        nonce=proposal.nonce,
        app_definition=proposal.app_definition,
        challenge_duration=proposal.challenge_duration,
        deployment=proposal.deployment,
        slots=proposal.slots,
        prefund=prefund,
    )
    if isinstance(proposal, VirtualProposal):
        created = virtual(created, proposal.hubs, proposal.fees)
    if isinstance(proposal, SuccessorProposal):
        created = successor(created, proposal.renews, proposal.base_turn)
    try:
        setup = Setup(created)
    except SetupError as error:
        raise PeerError(f"proposed channel is not allowed: {error}") from error
    if setup.channel_id != proposal.channel:
        ids = f"0x{proposal.channel.hex()}", f"0x{setup.channel_id.hex()}"
        raise PeerError(f"channel id {ids[0]} does not follow from the proposal, which gives {ids[1]}")
    _check_entry(setup, proposal.entry, proposal.time_ms, now_ms)
    if not setup.verify(0, setup.hash(prefund), proposal.signature):
        raise PeerError("wrong signature under the proposed channel")
    return created


def virtual(created: ChannelCreated, hubs: tuple[bytes, ...], fees: tuple[bytes, ...]) -> VirtualCreated:
    """The same as a virtual channel through `hubs`."""
    return VirtualCreated(**msgspec.structs.asdict(created), hubs=hubs, fees=fees)


def successor(created: ChannelCreated, renews: bytes, base_turn: int) -> SuccessorCreated:
    """The same as the successor of channel `renews`, from its state of that turn on."""
    return SuccessorCreated(**msgspec.structs.asdict(created), renews=renews, base_turn=base_turn)


def given_up_by(state: ChannelState, reason: str) -> Step:
    """The channel that this one renews will never pass anything on to it, `reason` says why: it is over."""
    if state.rejected is not None or state.signed_turn > 0 or state.recovering:
        return NOTHING
    return _rejected(state, reason)


def _check_entry(setup: Setup, data: bytes, time_ms: int, now_ms: int) -> None:
    try:
        entry = decode_entry(data)
        payload = _payload_decoder.decode(entry.payload)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise PeerError(f"entry 0 cannot be read: {error}") from error
    slots = tuple((s.asset, s.destination, int.from_bytes(s.amount, "big")) for s in payload.slots)
    if entry.kind != Kind.OPEN or entry.author != 0 or entry.counter != 0 or entry.time_ms != time_ms:
        found = f"{entry.kind.name} {entry.counter} of participant {entry.author} at {entry.time_ms} ms"
        raise PeerError(f"entry 0 is not the opening, OPEN 0 of participant 0 at {time_ms} ms: it is {found}")
    if payload.participants != setup.participants or slots != setup.slots:
        raise PeerError("entry 0 names other participants or slots than the channel")
    if len(data) > HEADER_BYTES + setup.limits.batch_bytes_max:
        raise PeerError(f"entry 0 has {len(data)} bytes")
    tolerance = setup.limits.time_tolerance_ms
    if time_ms > now_ms + tolerance:  # an old one is fine: a peer may have been away when the channel was proposed
        raise PeerError(f"opening time {time_ms} ms, our clock {now_ms}, tolerance {tolerance}")


def accept(state: ChannelState, session: Session) -> Step:
    """The operator or a policy agrees: run entry 0, then sign. Raises LocalError when there is nothing to accept."""
    if state.phase != "proposed" or session.work is not None:
        raise LocalError(f"channel is {state.phase}, there is nothing to accept")
    session.work = work = Opening(0, state.prefund.entries, True)
    return Step((), (LoadAdmission(),), work)


def accepted(state: ChannelState, session: Session, signer: StateSigner, result: Admitted) -> Step:
    """Admission has run entry 0: sign the prefund state, or reject with the reason."""
    fault = compare(state, state.prefund, result)
    if fault is not None:
        return Step((), (RollbackBatch(),)) if state.rejected else _reject_after(state, fault)
    prefund = state.prefund
    work = Checking(0, prefund.entries, True, prefund, (), state.setup.hash(prefund), None)
    return countersign(state, session, signer, work)


def _reject_after(state: ChannelState, fault: Fault) -> Step:
    step = reject(state, f"{fault.code}: {fault.reason}")
    return Step(step.events, (RollbackBatch(), *step.effects))


def reject(state: ChannelState, reason: str) -> Step:
    """We do not join. Raises LocalError once the prefund state is supported, of a virtual channel once its postfund
    state is signed here."""
    if state.backed is not None and state.signed_turn < 1 and state.rejected is None:
        return given_up(state, reason)
    if state.head is not None or state.rejected is not None or state.recovering:
        raise LocalError(f"channel is {state.phase}, it can no longer be rejected")
    return _rejected(state, reason)


def _rejected(state: ChannelState, reason: str) -> Step:
    event: Event = ChannelRejected(state.setup.my_index, reason[:1024])
    return Step((event,), (*(SendRejected(peer) for peer in state.setup.others), Tell("rejected", reason)))


def receive_rejected(state: ChannelState, index: int, reason: str) -> Step:
    """A participant does not join. Only a participant of the channel can say so, and only before it is running."""
    if state.rejected is not None:
        return NOTHING
    text = f"participant {index} (0x{state.setup.participants[index].hex()}) does not join: {reason}"
    if state.head is not None and (state.backed is None or not may_give_up(state)):
        raise PeerError("rejected a channel whose prefund state is fully signed")
    return Step((ChannelRejected(index, text[:1024]),), (Tell("rejected", text),))
