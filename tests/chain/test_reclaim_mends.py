"""Reclaiming, where ours differs from the published adjudicator: who stands between two ledgers loses nothing.

`docs/reference/contracts.md`, "Differences". Alice and Bob are hostile and work together; Irene is the intermediary.
"""

from __future__ import annotations

import pytest

from tests.chain import published
from tests.chain.cast import World
from tests.chain.states import ADDRESSES, NATIVE, Channel, allocation, encode_outcome, exits, guarantee, voucher

ALICE, BOB, IRENE, IVAN = (ADDRESSES[name] for name in ("alice", "bob", "irene", "ivan"))


class Hop:
    """Ledgers of Alice and Irene, of Irene and Bob, and a payment channel of 10 through both; all challenged and
    finalized. 7 were paid."""

    def __init__(self, load=None) -> None:
        self.world = World(load) if load else World()
        for address in ADDRESSES.values():
            self.world.give(address)
        consensus = self.world.consensus.address
        self.channel = Channel((ALICE, IRENE, BOB), self.world.payments.address, 1)
        self.postfund = self.channel.state(slots(10, 0), 1)
        self.redeemed = self.redemption(7)
        self.ledgers = [Channel(pair, consensus, 2) for pair in ((ALICE, IRENE), (IRENE, BOB))]
        self.owed = [
            exits(NATIVE, allocation(a, 0), allocation(b, 10), guarantee(self.channel.id, 10, a, b))
            for a, b in ((ALICE, IRENE), (IRENE, BOB))
        ]
        self.hashes = []
        for ledger, owed in zip(self.ledgers, self.owed, strict=True):
            self.do("deposit", NATIVE, ledger.id, 0, 20, value=20)
            state = ledger.state(owed, 2)
            self.hashes.append(state.hash)
            self.do("challenge", ledger.fixed, [], state.signed(), state.challenger("irene"))
        self.challenge(self.redeemed)

    def redemption(self, amount):
        return self.channel.state(slots(10 - amount, amount), 2, voucher(self.channel, amount))

    def do(self, function, *arguments, value=0, sender=IVAN):
        receipt = self.world.adjudicator.send(sender, function, *arguments, value=value)
        assert receipt.ok, receipt.reason

    def challenge_with(self, state):
        arguments = (self.channel.fixed, [self.postfund.signed()], state.signed("bob"), state.challenger("bob"))
        return self.world.adjudicator.send(BOB, "challenge", *arguments)

    def challenge(self, state):
        assert self.challenge_with(state).ok
        self.world.evm.timestamp += 60

    def reclaim(self, which, target):
        """By a state of the channel, or (state hash, outcome)."""
        state_hash, outcome = target if isinstance(target, tuple) else (target.hash, target.outcome)
        arguments = (
            self.ledgers[which].id, self.hashes[which], encode_outcome(self.owed[which]), 0, 2, state_hash,
            encode_outcome(outcome), 0,
        )  # fmt: skip
        return self.world.adjudicator.send(IRENE, "reclaim", arguments)

    def pay_out(self, which, left, right):
        a, b = ((ALICE, IRENE), (IRENE, BOB))[which]
        rest = exits(NATIVE, allocation(a, left), allocation(b, right))
        self.do("transferAllAssets", self.ledgers[which].id, rest, self.hashes[which])

    def pay_channel_out(self):
        """Its whole amount is deposited, and goes back to Alice and Bob."""
        self.do("deposit", NATIVE, self.channel.id, 0, 10, value=10)
        return self.world.adjudicator.send(
            IVAN, "transferAllAssets", self.channel.id, self.redeemed.outcome, self.redeemed.hash
        )


def slots(alice, bob):
    return exits(NATIVE, allocation(ALICE, alice), allocation(BOB, bob))


def test_each_ledger_reclaims_by_the_same_outcome():
    """Alice and Bob settle one ledger and cannot reopen the channel for the other: Irene has what she brought."""
    hop = Hop()
    before = hop.world.evm.balance(IRENE)
    assert hop.reclaim(1, hop.redeemed).ok
    assert hop.pay_channel_out().reason == "Channel is virtual."
    receipt = hop.challenge_with(hop.redemption(1))
    assert receipt.reason == "Channel finalized."
    assert hop.reclaim(0, hop.redeemed).ok
    hop.pay_out(0, 3, 17)
    hop.pay_out(1, 3, 17)
    assert hop.world.evm.balance(IRENE) - before == 17 + 3


def test_the_published_adjudicator_lets_both_ledgers_settle_differently():
    """What is mended: the channel is paid out to Alice and Bob, forgotten, and finalized with a smaller voucher. Irene
    loses 6 of 20."""
    hop = Hop(published.load)
    before = hop.world.evm.balance(IRENE)
    assert hop.reclaim(1, hop.redeemed).ok
    assert hop.pay_channel_out().ok
    smaller = hop.redemption(1)
    hop.challenge(smaller)
    assert hop.reclaim(0, hop.redeemed).reason == "incorrect fingerprint"
    assert hop.reclaim(0, smaller).ok
    hop.pay_out(0, 9, 11)
    hop.pay_out(1, 3, 17)
    assert hop.world.evm.balance(IRENE) - before == 11 + 3


@pytest.mark.parametrize("function", ["transferAllAssets", "transfer"])
def test_dust_paid_into_the_channel_hinders_no_reclaim(function):
    """It stays there: nothing is paid out of the channel, so that its outcome stays."""
    hop = Hop()
    hop.do("deposit", NATIVE, hop.channel.id, 0, 1, value=1)
    outcome = hop.redeemed.outcome
    arguments = {
        "transferAllAssets": (hop.channel.id, outcome, hop.redeemed.hash),
        "transfer": (0, hop.channel.id, encode_outcome(outcome), hop.redeemed.hash, [1]),
    }[function]
    assert hop.world.adjudicator.send(IVAN, function, *arguments).reason == "Channel is virtual."
    assert hop.reclaim(0, hop.redeemed).ok
    assert hop.reclaim(1, hop.redeemed).ok


def test_in_the_published_adjudicator_dust_locks_every_guarantee():
    """One wei of a stranger is enough."""
    hop = Hop(published.load)
    hop.do("deposit", NATIVE, hop.channel.id, 0, 1, value=1)
    hop.do("transferAllAssets", hop.channel.id, hop.redeemed.outcome, hop.redeemed.hash)
    assert hop.reclaim(0, (hop.redeemed.hash, slots(2, 7))).reason == "totalReclaimed!=guarantee.amount"


def test_an_agreed_end_of_a_virtual_channel_pays_nothing_either():
    """Everybody has signed the final state: it is concluded and reclaimed, never paid."""
    hop = Hop()
    other = Channel((ALICE, IRENE, BOB), hop.world.payments.address, 2)
    final = other.state(slots(3, 7), 2, is_final=True)
    hop.do("deposit", NATIVE, other.id, 0, 10, value=10)
    send = hop.world.adjudicator.send
    both = send(ALICE, "concludeAndTransferAllAssets", other.fixed, final.signed())
    assert both.reason == "Channel is virtual."
    assert send(ALICE, "conclude", other.fixed, final.signed()).ok
    assert send(ALICE, "transferAllAssets", other.id, final.outcome, bytes(32)).reason == "Channel is virtual."


def test_a_guarantee_is_reclaimed_once():
    """Whoever comes second names an outcome that is no longer the ledger's."""
    hop = Hop()
    assert hop.reclaim(0, hop.redeemed).ok
    assert hop.reclaim(0, hop.redeemed).reason == "incorrect fingerprint"
