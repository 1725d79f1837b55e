"""Both neighbours of an honest hub are one enemy: whatever they sign and show to the chain, the hub loses nothing."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.ledger import consensus
from scapp.channels.ledger.proposals import Part, Remove
from scapp.channels.onchain import Challenge
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.state import VariablePart, state_hash, voucher_hash
from scapp.channels.types import ChannelId
from scapp.channels.virtual import settling
from scapp.channels.virtual.agreement import ABORTED_MARK, pack_amounts
from scapp.channels.virtual.chain_view import milestone_state
from scapp.channels.virtual.events import Signed
from scapp.channels.virtual.messages import Final, Postfund, Said
from scapp.channels.virtual.record import VirtualRecord, evolve
from tests.support.dispute_net import DURATION_S, TERMS, DisputeNet, model_net
from tests.support.virtual_net import Party


def final_of(net: DisputeNet, record: VirtualRecord, last: int, signers: tuple[Party, ...]) -> Said:
    """A final state that pays `last` to the last participant, under the signatures of those."""
    (asset,) = record.agreement.assets
    amounts = ((asset.total - last, last),)
    variable = VariablePart(record.agreement.outcome(amounts), b"", 2, True)
    digest = state_hash(record.channel_id, variable)
    people = record.agreement.participants
    by = {party.address: party.signer.sign(digest) for party in signers}
    final = Final(2, pack_amounts(amounts), b"", tuple(by.get(who, b"") for who in people))
    return Said(record.channel_id, (), None, final)


def propose_removal(party: Party, to: Party, channel: ChannelId, amount: int, first: int) -> bool:
    """The leader of a ledger proposes that the guarantee goes so; does the other sign?"""
    (asset,) = (each.asset for each in party.ledgers[to.address].current.assets)
    remove = Remove(channel, (Part(asset, amount, first),))
    ledger, signed = consensus.propose(party.ledgers[to.address], remove, party.signer)
    party.ledgers[to.address] = ledger
    to.hear(party.address, signed)
    sends, to.sends = to.sends, []
    for send in sends:
        if send.peer == party.address:
            party.hear(to.address, send.message)
    return party.ledgers[to.address].current.turn == ledger.proposed.turn


@pytest.mark.parametrize("when", ["challenged", "finalized"])
def test_a_final_state_that_comes_after_a_challenge_moves_no_guarantee(when: str) -> None:
    """Alice has the channel finalized with all for her, then she and Bob give the hub a final state with all for Bob.
    Were it removed from Bob's ledger so, the hub would pay both."""
    net = model_net(3, leads=(True, False))
    alice, hub, bob = net.parties
    channel = net.open(net.agreement(amounts=((100, 0),), fees=(0,)))
    net.run()
    postfund = milestone_state(alice.records[channel], "postfund")
    assert postfund is not None
    net.side(alice)._send(channel, Challenge(postfund))
    net.chain.mine(12)
    if when == "finalized":
        net.side(hub).look()
        net.chain.mine(DURATION_S + 1)
    hub.now_ms = net.chain.now_s * 1_000
    net.side(hub).look()
    assert hub.records[channel].disputed
    assert hub.records[channel].on_chain is None
    hub.hear(alice.address, final_of(net, hub.records[channel], 100, (alice, bob)))
    hub.sends.clear()
    assert not propose_removal(bob, hub, channel, 100, 0), "the chain may say otherwise"
    assert hub.worth(net.assets[0]) >= hub.start_worth[net.assets[0]]


def test_an_aborted_state_that_is_complete_after_the_chain_has_decided_counts_no_more() -> None:
    """Three of four are the enemy: they hold the postfund state that the honest hub has signed first, let it join an
    aborted state that nobody completes, redeem a voucher on chain for all, and complete the aborted state after that.
    The hub must not give Alice back what it pays to its right by the chain's outcome."""
    net = model_net(4, leads=(True, True, True))
    alice, hub, second, bob = net.parties
    channel = net.open(net.agreement(amounts=((100, 0),), fees=(0, 0)))
    net.run(lambda: channel in hub.records and hub.records[channel].guaranteed)
    net.bag.clear()
    proof = hub.records[channel].hash_of("postfund", 1, hub.records[channel].agreement.start, b"")
    everybody = tuple(each.signer.sign(proof) for each in net.parties)
    hub.hear(bob.address, Said(channel, (), Postfund(b"", (everybody[0], b"", b"", everybody[3]))))
    record = hub.records[channel]
    assert record.signed(record.postfund)
    assert record.postfund is not None
    assert not record.postfund.complete
    digest = record.hash_of("aborted", 2, record.agreement.start, ABORTED_MARK)
    aborted = tuple(b"" if each is hub else each.signer.sign(digest) for each in net.parties)
    hub.hear(second.address, Said(channel, (), aborted=(b"", b"", aborted[2], b"")))
    assert hub.records[channel].signed(hub.records[channel].aborted)
    voucher = Voucher(channel, 100, alice.signer.sign(voucher_hash(channel, 100)))
    start = pack_amounts(record.agreement.start)
    complete = evolve(record, Signed(channel, "postfund", 1, start, b"", everybody))
    mine = msgspec.structs.replace(complete, my_index=3, left=complete.right, right=None)
    redemption = settling.redemption(mine, voucher, bob.signer)
    net.side(bob)._send(channel, Challenge(redemption.candidate, redemption.proof))
    for seconds in (12, DURATION_S + 1, TERMS.conclude_delay_s, 12, 12):
        net.chain.mine(seconds)
        net.side(hub).look()
    assert hub.records[channel].on_chain == ((0, 100),)
    hub.hear(second.address, Said(channel, (), aborted=aborted))
    ended = hub.records[channel].ended
    assert ended is hub.records[channel].aborted is not None
    assert not propose_removal(alice, hub, channel, 100, 100), "it would pay both"


def test_a_payee_signs_no_final_state_before_it_is_paid_through_the_channel() -> None:
    """Alice ends the channel with nothing for Bob just before he hears that it is funded. Had he signed that, he would
    take her vouchers from then on, and she have her money back."""
    net = DisputeNet(3)
    alice, hub, bob = net.parties
    channel = net.open(net.agreement(amounts=((100, 0),), fees=(0,)))
    net.run(lambda: channel in bob.records and bob.records[channel].signed(bob.records[channel].postfund))
    assert not bob.records[channel].funded
    bob.hear(alice.address, final_of(net, bob.records[channel], 0, (alice,)))
    assert not bob.records[channel].signed(bob.records[channel].final)
    bob.promised[channel] = 60  # what she pays once it runs
    net.run()
    assert bob.records[channel].funded
    assert not bob.records[channel].signed(bob.records[channel].final), "it would lose 60"
    assert hub.records[channel].ended is None
