"""Disputes of ledgers and virtual channels, one story for each way they go; told on the model and on the contracts.

Alice pays Bob, or plays with him, through Irene, who stands between two ledgers of 1000 and 1000
(docs/reference/nitro.md, section 22). Each story takes a maker of nets and raises AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels.chain import calls
from scapp.channels.ledger import settling
from scapp.channels.ledger.consensus import Ledger
from scapp.channels.ledger.owed import Reclaimable, Settled, after_reclaim
from scapp.channels.ledger.signed import signed_state
from scapp.channels.onchain import Challenge, Checkpoint, Conclude, Reclaim, Transaction, Transfer, TransferAll
from scapp.channels.outcome import Outcome, encode_outcome
from scapp.channels.types import ChannelId, Hash
from scapp.channels.virtual import chain_view, defunding, leaving
from tests.support.dispute_net import DURATION_S, DisputeNet
from tests.support.virtual_net import Party

Make = Callable[[], DisputeNet]
FEE, PAID = 1, 40
WON = ((60, 90),)  # of an app, after which Alice has lost 40


class Told:
    """A net with a channel that runs. `old` are ledgers from before it, by party and neighbour."""

    def __init__(self, make: Make, kind: str = "payment", paid: int = PAID) -> None:
        self.net = make()
        self.alice, self.irene, self.bob = self.net.parties
        self.asset = self.net.assets[-1]
        self.old = {(p.address, peer): ledger for p in self.net.parties for peer, ledger in p.ledgers.items()}
        brought = [(100, 0 if kind == "payment" else 50)] * len(self.net.assets)
        self.channel = self.net.open(self.net.agreement(kind, brought))
        for _ in range(10):
            self.net.run(lambda: set(self.net.phases(self.channel)) == {"running"}, rounds=1)
            self.net.engines({})
        assert self.net.phases(self.channel) == ["running"] * 3
        if kind == "payment" and paid:
            self.net.pay(self.channel, paid)
        if kind == "app":
            self.net.app_turn(self.channel, 5, WON * len(self.net.assets), (self.alice, self.bob))
        for side in self.net.sides:
            side.look()

    def ledger(self, one: Party, other: Party) -> ChannelId:
        return self.net.side(one).ledgers[other.address].channel

    def leave(self, who: Party, other: Party) -> None:
        self.net.side(who).leave(other.address)

    def send(self, who: Party, channel: ChannelId, wanted: Transaction) -> None:
        self.net.chain.carry_out(who.signer._signer, channel, wanted)

    def challenge_with(self, who: Party, ledger: Ledger) -> None:
        """Somebody shows an older state of its ledger."""
        peer = next(p for p in ledger.fixed.participants if p != who.address)
        setup = self.net.side(who).ledgers[peer].setup
        self.send(who, ledger.channel_id, Challenge(signed_state(setup, ledger.current, ledger.signatures)))

    def challenge_opening(self, who: Party) -> None:
        """Somebody shows the prefund state of the virtual channel."""
        prefund = chain_view.milestone_state(who.records[self.channel], "prefund")
        assert prefund is not None
        self.send(who, self.channel, Challenge(prefund))

    def sent(self, kind: type, channel: ChannelId | None = None) -> list[bytes]:
        """Who wanted that."""
        return [who for who, of, each in self.net.sent if isinstance(each, kind) and channel in (None, of)]

    def end(self, alice: int = 1_000 - FEE - PAID, irene: int = 2_000 + FEE, bob: int = 1_000 + PAID) -> None:
        """Everything is settled, and who is not silent has at least that."""
        self.net.until_settled()
        fee = FEE if self.asset == self.net.assets[0] else 0
        for party, least in ((self.alice, alice + FEE - fee), (self.irene, irene - FEE + fee), (self.bob, bob)):
            if party.address not in self.net.silent:
                assert self.net.has(party, self.asset) >= least, (self.net.has(party, self.asset), least)


def the_payee_redeems_against_silent_others(make: Make) -> None:
    """Bob holds a voucher; nobody else answers. He needs nobody."""
    told = Told(make)
    told.net.silence(told.alice)
    told.net.silence(told.irene)
    told.leave(told.bob, told.irene)
    told.end()
    assert told.sent(Challenge, told.channel)[0] == told.bob.address
    assert told.sent(Reclaim)
    assert told.sent(TransferAll)


def an_intermediary_stands_between_two_enemies(make: Make) -> None:
    """Alice and Bob show older states of both ledgers and the beginning of the channel, and sign nothing any more."""
    told = Told(make)
    net = told.net
    net.silent |= {told.alice.address, told.bob.address}
    for side in net.sides:
        side.answers = side.party is told.irene
    told.challenge_with(told.alice, told.old[told.alice.address, told.irene.address])
    told.challenge_with(told.bob, told.old[told.bob.address, told.irene.address])
    told.challenge_opening(told.alice)
    net.block()
    assert len(told.sent(Checkpoint)) == 0
    net.block()
    assert set(told.sent(Checkpoint)) == {told.irene.address}
    told.leave(told.irene, told.alice)
    told.leave(told.irene, told.bob)
    told.end()


def an_older_state_of_a_ledger_is_answered(make: Make) -> None:
    """The ledger goes on: nothing was lost but a transaction."""
    told = Told(make)
    told.challenge_with(told.alice, told.old[told.alice.address, told.irene.address])
    told.net.blocks(2)
    assert told.net.side(told.irene).ledgers[told.alice.address].phase == "disputed"
    told.net.blocks(12)
    assert told.sent(Checkpoint)
    assert not told.sent(Challenge)
    assert told.net.side(told.irene).ledgers[told.alice.address].phase == "running"


def an_older_state_of_a_payment_channel_is_answered(make: Make) -> None:
    """Alice shows that nothing was paid. Bob shows his voucher; the ledgers follow without the chain."""
    told = Told(make)
    told.challenge_opening(told.alice)
    told.net.blocks(2)
    assert told.sent(Challenge, told.channel) == [told.bob.address]
    again = chain_view.milestone_state(told.alice.records[told.channel], "postfund")
    assert again is not None
    told.send(told.alice, told.channel, Challenge(again))  # refused: it is older than what is registered
    told.end()
    assert {of for _, of, _ in told.net.sent} == {told.channel}


def an_older_state_of_an_app_channel_is_answered(make: Make) -> None:
    """Bob shows the newest one, and the channel ends with it; the ledgers follow without the chain."""
    told = Told(make, "app")
    told.challenge_opening(told.alice)
    told.net.blocks(2)
    assert told.bob.address in told.sent(Challenge, told.channel)
    told.end()
    assert {of for _, of, _ in told.net.sent} == {told.channel}


def an_app_channel_is_enforced_through_its_hub(make: Make) -> None:
    """Alice has lost and is gone. The newest state of both parties counts, though Irene never saw it."""
    told = Told(make, "app")
    told.net.silence(told.alice)
    told.leave(told.irene, told.alice)
    told.end()


def a_voucher_is_redeemed_on_demand(make: Make) -> None:
    """Only the channel goes to the chain; both ledgers change hands off chain and go on."""
    told = Told(make)
    told.bob.take(leaving.leave(told.bob.records[told.channel], "redeem"))
    told.end()
    assert {of for _, of, _ in told.net.sent} == {told.channel}
    assert told.net.phases(told.channel) == ["released"] * 3


def the_other_ledger_follows_off_chain(make: Make) -> None:
    """Alice is gone. Irene settles with her on chain, and with Bob by an update with the outcome from there."""
    told = Told(make)
    told.net.silence(told.alice)
    told.leave(told.irene, told.alice)
    told.end()
    assert told.ledger(told.irene, told.bob) not in {of for _, of, _ in told.net.sent}
    assert not told.net.side(told.bob).ledgers[told.irene.address].has_guarantees


def the_other_ledger_is_left_as_well_when_nobody_answers(make: Make) -> None:
    """Alice is gone, then Bob, who has shown his voucher. Irene leaves both ledgers."""
    told = Told(make)
    told.net.silence(told.alice)
    told.leave(told.irene, told.alice)
    while not told.sent(Challenge, told.channel).count(told.bob.address):
        told.net.block()
    told.net.block()
    told.net.silence(told.bob)
    told.end()
    assert told.ledger(told.irene, told.bob) in {of for _, of, _ in told.net.sent}


def strangers_may_take_part(make: Make) -> None:
    """Somebody reclaims and pays out in part, before those whose money it is: they find what is left to be done."""
    told = Told(make)
    net, ledger = told.net, told.ledger(told.irene, told.alice)
    net.silence(told.alice)
    told.leave(told.irene, told.alice)
    while not any(isinstance(each, Reclaim) for _, _, each in net.sent):
        net.block()
    reclaim = next(each for _, _, each in net.sent if isinstance(each, Reclaim))
    seen = net.side(told.irene).ledgers[told.alice.address].chain
    assert seen is not None
    net.blocks(2)
    told.end()
    before = len(told.sent(Reclaim, ledger))
    net.chain.call(reclaim_call(ledger, reclaim))  # once more, of the outcome before it
    net.blocks(3)
    assert len(told.sent(Reclaim, ledger)) == before


def a_stranger_is_faster(make: Make) -> None:
    """Reclaim and part of the payout are a stranger's, in one block that Irene sees afterwards."""
    told = Told(make)
    net, ledger, side = told.net, told.ledger(told.irene, told.alice), told.net.side(told.irene)
    net.silence(told.alice)
    told.leave(told.irene, told.alice)
    side.answers = False
    seconds = 0
    while True:
        wants = _wants(told)
        side.answers = True
        side.act_but(Reclaim, Transfer, TransferAll)
        side.answers = False
        reclaim = next((each for each in wants if isinstance(each, Reclaim)), None)
        if reclaim is not None:
            break
        net.block()
        seconds += 1
        assert seconds < 200
    net.chain.call(reclaim_call(ledger, reclaim))
    after = _after(reclaim)
    net.chain.call(calls.Transfer(0, ledger, encode_outcome(after), reclaim.state_hash, (0,)))
    net.chain.mine(12)
    side.look()
    side.answers = True
    told.end()
    assert not told.sent(Reclaim, ledger)


def guarantees_cannot_be_transferred(make: Make) -> None:
    """The published adjudicator pays a guarantee out with the right indices (section 23.1). Ours does not, and the
    intermediary reclaims."""
    told = Told(make)
    net, ledger = told.net, told.ledger(told.irene, told.alice)
    net.silence(told.alice)
    told.leave(told.irene, told.alice)
    net.blocks(2)
    net.block(DURATION_S)
    record = net.side(told.irene).ledgers[told.alice.address]
    assert record.chain is not None
    assert record.chain.owed is not None
    state_hash, outcome = record.chain.owed
    for indices in ((2,), (0, 2), (1, 2)):
        net.chain.call(calls.Transfer(len(net.assets) - 1, ledger, outcome, Hash(state_hash), indices))
    told.end()
    assert net.chain.held(told.channel, told.asset) == 0


def only_the_prefund_state_is_signed(make: Make) -> None:
    """The guarantee stands and the postfund state is not complete: everything goes back."""
    net = make()
    alice, irene, bob = net.parties
    channel = net.open(net.agreement("payment", [(100, 0)] * len(net.assets)))
    while not all(record.held == (at > 0, at < 2) for at, record in enumerate(p.records[channel] for p in net.parties)):
        net.deliver()
        if any(p.records.get(channel) is None for p in net.parties):
            continue
    assert not all(p.records[channel].funded for p in net.parties)
    net.silence(alice)
    net.bag.clear()
    net.side(irene).leave(alice.address)
    net.until_settled()
    assert net.has(irene, net.assets[-1]) >= 2_000
    assert net.has(bob, net.assets[-1]) >= 1_000


def a_final_state_is_concluded(make: Make) -> None:
    """Everybody has signed the end, and Alice does not take the guarantee out. The channel is concluded: no waiting for
    its challenge, and nothing older counts."""
    told = Told(make)
    told.alice.promised[told.channel] = told.bob.promised[told.channel] = PAID
    told.bob.take(defunding.end(told.bob.records[told.channel], "done"))
    told.bob.settle()
    told.net.flush()
    while not all(p.records[told.channel].ended for p in (told.irene, told.bob)):
        told.net.deliver()
    told.net.silence(told.alice)
    told.net.bag.clear()
    told.leave(told.irene, told.alice)
    told.end()
    assert told.sent(Conclude, told.channel)


def an_ended_channel_comes_back_with_an_older_ledger(make: Make) -> None:
    """Alice shows a state of the ledger that still guarantees a channel which has ended, and Irene comes too late to
    answer. The channel's final state, which she has kept, makes it the same."""
    told = Told(make)
    net = told.net
    with_guarantee = told.alice.ledgers[told.irene.address]
    told.bob.take(defunding.end(told.bob.records[told.channel], "done"))
    told.bob.settle()
    net.flush()
    net.run(rounds=4)
    assert net.phases(told.channel) == ["released"] * 3
    net.blocks(1)
    net.silence(told.alice)
    net.silence(told.irene)
    told.challenge_with(told.alice, with_guarantee)
    net.blocks(3, DURATION_S)
    net.silent.discard(told.irene.address)
    net.side(told.irene).answers = True
    net.side(told.irene).look()
    told.end()
    assert told.sent(Conclude, told.channel)
    assert told.sent(Reclaim, told.ledger(told.irene, told.alice))


def reclaim_call(ledger: ChannelId, wanted: Reclaim) -> calls.Reclaim:
    return calls.Reclaim(
        ledger, wanted.state_hash, encode_outcome(wanted.outcome), wanted.asset_index, wanted.guarantee_index,
        wanted.target_state_hash, encode_outcome(wanted.target_outcome), wanted.target_asset_index,
    )  # fmt: skip


def _wants(told: Told) -> tuple[Transaction, ...]:
    side = told.net.side(told.irene)
    return settling.wanted(side.ledgers[told.alice.address], side.settled(), side.context)


def _after(wanted: Reclaim) -> Outcome:
    target = Settled(wanted.target_state_hash, wanted.target_outcome)
    return after_reclaim(
        wanted.outcome, Reclaimable(wanted.asset_index, wanted.guarantee_index, target, wanted.target_asset_index)
    )


STORIES = (
    the_payee_redeems_against_silent_others,
    an_intermediary_stands_between_two_enemies,
    an_older_state_of_a_ledger_is_answered,
    an_older_state_of_a_payment_channel_is_answered,
    an_older_state_of_an_app_channel_is_answered,
    an_app_channel_is_enforced_through_its_hub,
    a_voucher_is_redeemed_on_demand,
    the_other_ledger_follows_off_chain,
    the_other_ledger_is_left_as_well_when_nobody_answers,
    strangers_may_take_part,
    a_stranger_is_faster,
    guarantees_cannot_be_transferred,
    only_the_prefund_state_is_signed,
    a_final_state_is_concluded,
    an_ended_channel_comes_back_with_an_older_ledger,
)
