"""P4a: one update of a ledger at both parties together, up to the bytes that are stored and sent, beside what cannot be
left out of it: each party hashes the state once, signs it once and checks the other's signature once."""

from __future__ import annotations

from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

GUARANTEES = (10, 100, 399)  # and one that comes and goes: 400 are the most
UPDATES = 40


def run() -> Result:
    """A guarantee comes and goes again: wanted by both, proposed, countersigned, folded on both sides."""
    from scapp.channels.ledger import consensus
    from scapp.channels.ledger.proposals import Add, Part, Remove
    from scapp.channels.types import ChannelId
    from tests.support.ledger_pair import COIN, LedgerPair, Party

    def target(number: int) -> ChannelId:
        return ChannelId(b"\xff" + number.to_bytes(31, "big"))

    def filled(count: int) -> LedgerPair:
        pair = LedgerPair([(COIN, 10**9, 10**9)])
        pair.run()
        wants = [change(pair, number) for number in range(count)]
        for party in reversed(pair.parties):
            party.wants = list(wants)
        while not pair.leader.it.holds(target(count - 1)):
            turn(pair)
        for party in pair.parties:
            party.wants = []
            party.checks = False  # what tests look at is not part of an update
        return pair

    def change(pair: LedgerPair, number: int) -> Add:
        parties = pair.leader.it.setup.opening.parties
        return Add(target(number), parties.leader, parties.follower, (Part(COIN, 10, 4),), 1)

    def turn(pair: LedgerPair) -> None:
        for party in (pair.leader, pair.follower):
            party.settle()
            hand_over(party, pair)
        hand_over(pair.follower, pair)
        pair.leader.settle()

    def hand_over(party: Party, pair: LedgerPair) -> None:
        other = pair.parties[1 - party.index]
        for _, data in party.outbox:
            other.hear(party.address, data)
        party.outbox.clear()

    def sides(count: int) -> tuple[Side, Side]:
        pair = filled(count)
        added = change(pair, count)
        removed = Remove(target(count), (Part(COIN, 10, 4),), 1)
        state_hash = pair.leader.it.balances.state_hash(pair.channel)

        def ours() -> None:
            for _ in range(UPDATES // 2):
                for want in (added, removed):
                    for party in pair.parties:
                        party.wants = [want]
                    turn(pair)
            assert pair.leader.it.balances == pair.follower.it.balances
            for party in pair.parties:
                party.log.clear()

        def bare() -> None:
            for _ in range(UPDATES):
                for party in pair.parties:
                    pair.leader.it.balances.state_hash(pair.channel)
                    signature = party.signer.sign(state_hash)
                    assert consensus.verifier(party.address).matches(state_hash, signature)

        return Side(ours, UPDATES), Side(bare, UPDATES)

    outcomes = {count: compare(*sides(count)) for count in GUARANTEES}
    parts = [
        f"{count}: {1e6 / o.rate:,.0f} us, hashes and signatures alone {1e6 / o.reference_rate:,.0f}"
        for count, o in outcomes.items()
    ]
    most = outcomes[GUARANTEES[-1]]
    return Result(most.rate, "updates/s", most.ratio, ("per update with guarantees " + "; ".join(parts),))


MEASURES = [
    Measure("P4a", "one update at both parties with 399 guarantees, against its hashes and signatures", 0.5, run)
]
