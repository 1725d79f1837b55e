"""What peers may say about a virtual channel that is not so: it changes nothing, and costs nobody anything."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.outcome import Allocation, AllocationType, AssetMetadata, SingleAssetExit
from scapp.channels.signing import Signer
from scapp.channels.state import VariablePart
from scapp.channels.types import U256_MAX, ZERO_ADDRESS, Address, ChannelId, Destination
from scapp.channels.virtual import defunding
from scapp.channels.virtual.agreement import ABORTED_MARK, Amounts, pack_amounts, to_message
from scapp.channels.virtual.messages import Final, Postfund, Refused, Said, VirtualMessage
from scapp.channels.virtual.pending import pending, say
from scapp.channels.virtual.receiving import receive
from scapp.channels.virtual.record import VirtualRecord
from scapp.channels.virtual.standing import phase
from tests.support.virtual_net import TOKEN, WIRE, Net, Party, encode

STRANGER = Signer(b"\x77" * 32)
replace = msgspec.structs.replace


def running(kind: str = "payment") -> tuple[Net, ChannelId]:
    net = Net(3)
    channel = net.open(net.agreement(kind, ((60, 0 if kind == "payment" else 40),)))
    net.run()
    assert net.phases(channel) == ["running"] * 3
    return net, channel


def final(record: VirtualRecord, amounts: Amounts, signers: dict[int, Party], **changes: Any) -> Final:
    """A final state under the signatures of some participants."""
    turn = 2 if record.agreement.kind == "payment" else 9
    state = Final(turn, pack_amounts(amounts), b"", ())
    state = replace(state, **changes)
    digest = record.hash_of("final", state.turn, amounts, state.app_data)
    signatures = tuple(
        signers[index].signer.sign(digest) if index in signers else b"" for index in range(record.agreement.count)
    )
    return replace(state, signatures=signatures)


def refused(party: Party, peer: Party, message: VirtualMessage, says: str) -> None:
    """It is refused, and nothing has changed; not even that it was said twice."""
    record = party.records[ChannelId(message.channel)]
    for _ in range(2):
        with pytest.raises(PeerError, match=says):
            receive(record, peer.address, message)
    events = len(party.events)
    party.hear(peer.address, message)
    assert len(party.events) == events


@pytest.mark.parametrize("milestone", ["prefund", "postfund", "aborted", "final"])
@pytest.mark.parametrize("whose", ["a stranger's", "another participant's", "of another channel", "junk"])
def test_a_signature_counts_only_by_whom_it_should_be_under_what_it_should_be(milestone: str, whose: str) -> None:
    net = Net(3)
    channel = net.open(net.agreement())
    net.run(lambda: channel in net.parties[1].records)
    payer, hub, _ = net.parties
    if milestone == "final":
        net, channel = running()
        payer, hub, _ = net.parties
    record = hub.records[channel]
    turn = {"prefund": 0, "postfund": 1}.get(milestone, 2)
    app_data = ABORTED_MARK if milestone == "aborted" else b""
    digest = record.hash_of(milestone, turn, record.agreement.start, app_data)  # type: ignore[arg-type]
    other = replace(record, channel_id=ChannelId(b"\x01" * 32)).hash_of("prefund", 0, record.agreement.start, b"")
    signature = {
        "a stranger's": STRANGER.sign(digest),
        "another participant's": payer.signer.sign(digest),
        "of another channel": net.parties[2].signer.sign(other),
        "junk": b"\x01" * 65,
    }[whose]
    good = payer.signer.sign(digest)
    forged = (good, b"", signature)
    message = {
        "prefund": Said(channel, (b"", b"", signature)),
        "postfund": Said(channel, (), Postfund(b"", forged)),
        "aborted": Said(channel, (), aborted=forged),
        "final": Said(channel, (), final=Final(2, pack_amounts(record.agreement.start), b"", forged)),
    }[milestone]
    refused(hub, payer, message, "wrong signature of participant 2")


def test_strangers_and_other_channels_are_not_heard() -> None:
    net, channel = running()
    record = net.parties[1].records[channel]
    for peer, message in (
        (STRANGER.address, Said(channel, ())),
        (net.parties[1].address, Said(channel, ())),
        (net.parties[0].address, Said(b"\x01" * 32, ())),
    ):
        with pytest.raises(PeerError):
            receive(record, peer, message)
    refused(net.parties[1], net.parties[0], Refused(channel, 1, "in your name"), "in the name of participant 1")
    refused(net.parties[1], net.parties[0], Refused(channel, 2, "in its name"), "who is this node's neighbour")
    refused(net.parties[1], net.parties[0], Refused(channel, 3, "who?"), "in the name of participant 3")
    refused(net.parties[1], net.parties[0], Said(channel, (b"\x01" * 65,)), "1 signatures for 3")


FINALS: dict[str, tuple[Amounts, dict[str, Any], str]] = {
    "more than there is": (((60, 1),), {}, "the channel has 60"),
    "less than there is": (((1, 1),), {}, "the channel has 60"),
    "all of 2^256": (((U256_MAX, 61),), {}, "the channel has 60"),
    "two assets": (((60, 0), (60, 0)), {}, "pairs of amounts|2 assets"),
    "no asset": ((), {}, "pairs of amounts|0 assets"),
    "a later turn": (((60, 0),), {"turn": 3}, "ends with turn 2"),
    "an earlier turn": (((60, 0),), {"turn": 1}, "ends with turn 2"),
    "app data": (((60, 0),), {"app_data": ABORTED_MARK}, "ends with turn 2"),
}


@pytest.mark.parametrize("what", FINALS)
def test_a_final_state_that_is_none_is_refused_though_the_payer_signs_it(what: str) -> None:
    amounts, changes, says = FINALS[what]
    net, channel = running()
    payer, hub, _ = net.parties
    record = hub.records[channel]
    if len(amounts) == 1:
        state = final(record, amounts, {0: payer}, **changes)
    else:
        state = Final(2, pack_amounts(amounts), b"", (b"\x01" * 65, b"", b""))
    refused(hub, payer, Said(channel, (), final=state), says)


def test_amounts_of_another_length_are_refused() -> None:
    net, channel = running()
    state = Final(2, b"\0" * 63, b"", (b"\x01" * 65, b"", b""))
    refused(net.parties[1], net.parties[0], Said(channel, (), final=state), "63 bytes")


def test_a_final_state_is_the_payers_and_it_has_one() -> None:
    net, channel = running()
    payer, hub, payee = net.parties
    record = hub.records[channel]
    without = final(record, ((0, 60),), {2: payee})
    refused(hub, payee, Said(channel, (), final=without), "without the signatures of those who decide")
    hub.hear(payer.address, Said(channel, (), final=final(record, ((50, 10),), {0: payer})))
    assert hub.records[channel].final is not None
    second = final(record, ((60, 0),), {0: payer})
    refused(hub, payer, Said(channel, (), final=second), "a second final state")


def test_an_apps_final_state_needs_both_its_parties() -> None:
    net, channel = running("app")
    first, hub, last = net.parties
    record = hub.records[channel]
    refused(hub, first, Said(channel, (), final=final(record, ((100, 0),), {0: first})), "without the signatures")
    refused(hub, last, Said(channel, (), final=final(record, ((0, 100),), {2: last})), "without the signatures")
    marked = final(record, ((60, 40),), {0: first, 2: last}, app_data=ABORTED_MARK)
    refused(hub, first, Said(channel, (), final=marked), "not funded")
    hub.hear(first.address, Said(channel, (), final=final(record, ((100, 0),), {0: first, 2: last})))
    assert hub.records[channel].signed(hub.records[channel].final)


def test_a_payee_signs_no_final_state_below_its_vouchers() -> None:
    net, channel = running()
    payer, hub, payee = net.parties
    payee.promised[channel] = 30
    state = final(hub.records[channel], ((31, 29),), {0: payer, 1: hub})
    payee.hear(hub.address, Said(channel, (), final=state))
    assert not payee.records[channel].signed(payee.records[channel].final)
    assert phase(payee.records[channel]) == "closing"
    net, channel = running()
    payer, hub, payee = net.parties
    payee.promised[channel] = 30
    payee.hear(hub.address, Said(channel, (), final=final(hub.records[channel], ((30, 30),), {0: payer, 1: hub})))
    assert payee.records[channel].signed(payee.records[channel].final)


@pytest.mark.parametrize("total", [-1, 61, 2**256])
def test_vouchers_beyond_the_channel_are_a_mistake_of_whoever_counts(total: int) -> None:
    net, channel = running()
    with pytest.raises(LocalError, match="in a channel of 60"):
        defunding.total_known(net.parties[0].records[channel], total)
    with pytest.raises(LocalError, match="only the two ends"):
        defunding.total_known(net.parties[1].records[channel], 1)


def test_a_final_state_before_both_ledgers_hold_the_guarantee_binds_no_hub() -> None:
    """Payer and payee agree on all for the payer while only the hub's right ledger holds it: the hub would pay."""
    for after in range(30):
        net = Net(3, after, leads=[False, True])
        channel = net.open(net.agreement(amounts=((60, 0),), fees=(0,)))
        net.run(lambda net=net, after=after: net.delivered >= after)
        payer, hub, payee = net.parties
        if channel not in hub.records or hub.records[channel].guaranteed:
            continue
        record = hub.records[channel]
        hub.hear(payer.address, Said(channel, (), final=final(record, ((60, 0),), {0: payer, 2: payee})))
        assert not hub.records[channel].signed(hub.records[channel].final)
        assert hub.records[channel].final is None


def test_who_has_everybodys_postfund_signature_takes_no_abort() -> None:
    """A participant that signed both has lied; the fee stays where it was earned."""
    net, channel = running()
    payer, hub, payee = net.parties
    record = hub.records[channel]
    digest = record.hash_of("aborted", 2, record.agreement.start, ABORTED_MARK)
    message = Said(channel, (), aborted=(payer.signer.sign(digest), b"", payee.signer.sign(digest)))
    hub.hear(payer.address, message)
    assert phase(hub.records[channel]) == "running"
    assert hub.records[channel].aborted is None


def test_a_leader_that_never_begins_is_believed_only_once_it_has_signed_the_abort() -> None:
    net = Net(3, leads=[True, True])
    channel = net.open(net.agreement())
    net.run(lambda: channel in net.parties[1].records)
    payer, hub, _ = net.parties
    hub.hear(payer.address, Said(channel, (), never=True))
    assert hub.records[channel].gone == (False, False)


def test_an_answer_to_another_restore_ends_no_recovery() -> None:
    net, channel = running()
    hub = net.parties[1]
    assert receive(hub.records[channel], net.parties[0].address, Said(channel, (), echo=b"\x01" * 16)).events == ()


def exit_of(asset: Address, amounts: tuple[int, ...], record: VirtualRecord, **changes: Any) -> SingleAssetExit:
    people = [*record.agreement.destinations, *[Destination(b"\x05" * 32)] * len(amounts)]
    allocations = tuple(Allocation(where, amount) for where, amount in zip(people, amounts, strict=False))
    return replace(SingleAssetExit(asset, allocations), **changes)


def test_the_outcome_of_a_final_state_is_looked_at_as_a_whole() -> None:
    """docs/reference/nitro.md section 12: what the checks of go-nitro leave out."""
    net, channel = running("app")
    party = net.parties[0]
    record = party.records[channel]
    good = exit_of(ZERO_ADDRESS, (70, 30), record)
    guarantee = Allocation(record.agreement.destinations[1], 30, AllocationType.GUARANTEE)
    for outcome, says in (
        ((), "0 assets"),
        ((good, good), "2 assets"),
        ((exit_of(TOKEN, (70, 30), record),), "agreed is"),
        ((replace(good, metadata=AssetMetadata(1)),), "agreed is"),
        ((exit_of(ZERO_ADDRESS, (100,), record),), "pays others"),
        ((exit_of(ZERO_ADDRESS, (70, 30, 0), record),), "pays others"),
        ((replace(good, allocations=good.allocations[::-1]),), "pays others"),
        ((replace(good, allocations=(good.allocations[0], guarantee)),), "not simple"),
        ((exit_of(ZERO_ADDRESS, (-10, 110), record),), "the channel has 100"),
        ((exit_of(ZERO_ADDRESS, (70, 31), record),), "the channel has 100"),
    ):
        state = VariablePart(outcome, b"end", 9, is_final=True)
        assert says in defunding.final_fault(record, state)
        with pytest.raises(LocalError, match=says):
            defunding.offer(record, state, (b"\x01" * 65, b"", b"\x01" * 65))
    for state, says in (
        (VariablePart((good,), b"end", 1, is_final=True), "turn 1"),
        (VariablePart((good,), b"end", 2**48, is_final=True), "turn 281474976710656"),
        (VariablePart((good,), b"e" * 1025, 9, is_final=True), "1025 bytes"),
        (VariablePart((good,), b"end", 9, is_final=False), "turn 9 is not"),
        (VariablePart((good,), b"end", 9, is_final=True), "wrong signature"),
    ):
        with pytest.raises(LocalError, match=says):
            defunding.offer(record, state, (b"\x01" * 65, b"", b"\x01" * 65))


def test_a_message_that_comes_again_is_nothing_new() -> None:
    net, channel = running()
    for party in net.parties:
        for peer in party.records[channel].peers:
            message = say(party.records[channel], peer)
            assert receive(net.by_address[peer].records[channel], party.address, message).events == ()
            assert pending(party.records[channel], peer) == ()


def test_bytes_that_are_no_message_are_refused_by_the_decoder() -> None:
    net, channel = running()
    good = encode(say(net.parties[0].records[channel], net.parties[1].address))
    source = random.Random(5)
    read = 0
    for _ in range(2_000):
        data = bytearray(good)
        for _ in range(1 + source.randrange(3)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            message = WIRE.decode(
                bytes(data[: source.randrange(len(data)) or len(data)] if source.random() < 0.3 else data)
            )
        except ValueError:
            continue
        read += 1
        net.parties[1].hear(net.parties[0].address, message)
        assert phase(net.parties[1].records[channel]) == "running" or net.parties[1].records[channel].end_wanted
    assert read


@pytest.mark.parametrize("kind", ["payment", "app"])
def test_a_nonce_has_64_bits_and_no_sign(kind: str) -> None:
    """Also one whose highest bit is set, as go-nitro's random ones have it."""
    net, channel = running(kind)
    record = net.parties[0].records[channel]
    proposal = to_message(channel, record.agreement, record.prefund.signatures)
    decoder = msgspec.msgpack.Decoder(VirtualMessage)
    largest = replace(proposal, nonce=2**64 - 1)
    assert decoder.decode(encode(largest)) == largest
    with pytest.raises(msgspec.ValidationError, match=">= 0"):
        decoder.decode(encode(replace(proposal, nonce=-1)))
