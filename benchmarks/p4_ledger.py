"""P4: one change of a ledger channel with many open guarantees, beside hashing the state's bytes and nothing else."""

from __future__ import annotations

from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

GUARANTEES = (10, 100, 1_000)
CHANGES = 50


def run() -> Result:
    """A guarantee comes and goes: what is measured is applying the change and hashing the state after it."""
    from scapp.channels.crypto import keccak256
    from scapp.channels.ledger.balances import Balances, Parties, opening_balances
    from scapp.channels.ledger.proposals import Add, Part, Remove, apply
    from scapp.channels.state import encode_state_of_outcome
    from scapp.channels.types import Address, ChannelId, Destination

    asset, channel = Address(bytes(20)), ChannelId(keccak256(b"ledger"))
    parties = Parties(*(Destination(bytes(12) + letter * 20) for letter in (b"\xaa", b"\xbb")))

    def target(number: int) -> ChannelId:
        return ChannelId(b"\xff" + keccak256(number.to_bytes(4, "big"))[1:])

    def add(number: int) -> Add:
        return Add(target(number), parties.leader, parties.follower, (Part(asset, 10, 4),))

    def filled(count: int) -> Balances:
        balances = opening_balances(parties, [(asset, 10**6, 10**6)])
        for number in range(count):
            balances = apply(balances, add(number))
        return balances

    def sides(count: int) -> tuple[Side, Side]:
        full = filled(count)
        added, removed = add(count), Remove(target(count), (Part(asset, 10, 4),))
        data = encode_state_of_outcome(channel, b"", full.encode_outcome(), 2, is_final=False)

        def ours() -> None:
            for _ in range(CHANGES // 2):
                after = apply(full, added)
                after.state_hash(channel)
                apply(after, removed).state_hash(channel)

        def bare() -> None:
            for _ in range(CHANGES):
                keccak256(data)

        return Side(ours, CHANGES), Side(bare, CHANGES)

    outcomes = {count: compare(*sides(count)) for count in GUARANTEES}
    parts = [
        f"{count}: {1e6 / o.rate:,.0f} us, hash alone {1e6 / o.reference_rate:,.0f}" for count, o in outcomes.items()
    ]
    most = outcomes[GUARANTEES[-1]]
    return Result(most.rate, "changes/s", most.ratio, ("per change with guarantees " + "; ".join(parts),))


MEASURES = [Measure("P4", "one change of a ledger with 1,000 guarantees, against hashing its state", 0.5, run)]
