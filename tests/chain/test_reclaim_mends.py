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
        self.prefund = self.channel.state(slots(10, 0), 0)
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

    def challenge(self, state):
        proof, names = ([self.postfund.signed()], ("bob",)) if state.turn == 2 else ([], ())
        self.do("challenge", self.channel.fixed, proof, state.signed(*names), state.challenger("bob"))
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

    def forget_channel(self):
        """Its whole amount is deposited and paid out: the status is 0 again."""
        self.do("deposit", NATIVE, self.channel.id, 0, 10, value=10)
        self.do("transferAllAssets", self.channel.id, self.redeemed.outcome, self.redeemed.hash)
        assert not any(self.world.status(self.channel.id))


def slots(alice, bob):
    return exits(NATIVE, allocation(ALICE, alice), allocation(BOB, bob))


def test_each_ledger_reclaims_by_the_same_outcome():
    """Alice and Bob settle one ledger, reopen the channel at no cost, and challenge it with a smaller voucher: the
    other ledger goes by the first outcome all the same, and Irene has what she brought."""
    hop = Hop()
    before = hop.world.evm.balance(IRENE)
    assert hop.reclaim(1, hop.redeemed).ok
    hop.forget_channel()
    smaller = hop.redemption(1)
    hop.challenge(smaller)
    assert hop.reclaim(0, smaller).reason == "incorrect fingerprint"
    assert hop.reclaim(0, hop.redeemed).ok
    hop.pay_out(0, 3, 17)
    hop.pay_out(1, 3, 17)
    assert hop.world.evm.balance(IRENE) - before == 17 + 3


def test_the_published_adjudicator_lets_both_ledgers_settle_differently():
    """What is mended: Irene loses 6 of 20."""
    hop = Hop(published.load)
    assert hop.reclaim(1, hop.redeemed).ok
    hop.forget_channel()
    smaller = hop.redemption(1)
    hop.challenge(smaller)
    assert hop.reclaim(0, hop.redeemed).reason == "incorrect fingerprint"
    assert hop.reclaim(0, smaller).ok
    hop.pay_out(0, 9, 11)
    hop.pay_out(1, 3, 17)


@pytest.mark.parametrize("dust", [1, 2, 5])
def test_dust_paid_into_the_channel_hinders_no_reclaim(dust):
    """It is paid to the first party of the channel, and what the guarantee has more goes to the left."""
    hop = Hop()
    before = hop.world.evm.balance(IRENE)
    hop.do("deposit", NATIVE, hop.channel.id, 0, dust, value=dust)
    hop.do("transferAllAssets", hop.channel.id, hop.redeemed.outcome, hop.redeemed.hash)
    reduced = (hop.redeemed.hash, slots(max(0, 3 - dust), 7 - max(0, dust - 3)))
    for which in (0, 1):
        assert hop.reclaim(which, reduced).ok
    right = 7 - max(0, dust - 3)
    hop.pay_out(0, 10 - right, 10 + right)
    hop.pay_out(1, 10 - right, 10 + right)
    assert hop.world.evm.balance(IRENE) - before == 20


def test_in_the_published_adjudicator_dust_locks_every_guarantee():
    """One wei of a stranger is enough."""
    hop = Hop(published.load)
    hop.do("deposit", NATIVE, hop.channel.id, 0, 1, value=1)
    hop.do("transferAllAssets", hop.channel.id, hop.redeemed.outcome, hop.redeemed.hash)
    assert hop.reclaim(0, (hop.redeemed.hash, slots(2, 7))).reason == "totalReclaimed!=guarantee.amount"


def test_a_guarantee_is_reclaimed_once():
    """Whoever comes second names an outcome that is no longer the ledger's."""
    hop = Hop()
    assert hop.reclaim(0, hop.redeemed).ok
    assert hop.reclaim(0, hop.redeemed).reason == "incorrect fingerprint"


def test_more_than_the_guarantee_is_not_reclaimed():
    """A target of other sums than were guaranteed is of no ledger that its parties signed."""
    hop = Hop()
    hop.owed[0] = exits(NATIVE, allocation(ALICE, 0), allocation(IRENE, 10), guarantee(hop.channel.id, 9, ALICE, IRENE))
    ledger = Channel((ALICE, IRENE), hop.world.consensus.address, 3)
    state = ledger.state(hop.owed[0], 2)
    hop.ledgers[0], hop.hashes[0] = ledger, state.hash
    hop.do("challenge", ledger.fixed, [], state.signed(), state.challenger("irene"))
    hop.world.evm.timestamp += 60
    assert hop.reclaim(0, hop.redeemed).reason == "totalReclaimed!=guarantee.amount"
