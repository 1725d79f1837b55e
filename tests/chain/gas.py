"""Gas of each on-chain operation, ours beside the published contracts': `make gas` writes docs/reference/gas.md.

Each operation is the same call on the same state and the same EVM (Shanghai). Only the token is ours on both sides, so
that the adjudicators alone differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scapp.channels.chain import contracts
from scapp.channels.chain.contracts import Contract
from tests.chain import published
from tests.chain.cast import DEPLOYER, Deployed, World
from tests.chain.evm import Receipt
from tests.chain.states import (
    ADDRESSES,
    NATIVE,
    Channel,
    Exit,
    State,
    allocation,
    encode_outcome,
    exits,
    guarantee,
    voucher,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "gas.md"
ALICE, IRENE, BOB = (ADDRESSES[name] for name in ("alice", "irene", "bob"))
# What the published project's own benchmark says, where it has the operation (its states differ in details).
FIGURES = {
    "deploy NitroAdjudicator": 3_443_915, "deposit coin, first": 46_496, "deposit coin, second": 29_408,
    "deposit tokens, first": 69_866, "deposit tokens, second": 52_778, "cooperative exit, coin": 111_514,
    "cooperative exit, tokens": 112_690, "unilateral exit: challenge": 113_146,
    "unilateral exit: transferAllAssets": 82_026, "unilateral exit, both": 195_172, "challenge ledger": 122_389,
    "challenge virtual channel with a voucher": 172_692, "reclaim": 61_713, "transferAllAssets of the ledger": 113_726,
    "checkpoint": 73_936, "counter-challenge": 96_482, "batch of coin, 1, first": 60_300,
    "batch of coin, 10, first": 356_835, "batch of coin, 100, first": 3_321_861, "batch of coin, 10, second": 185_955,
    "batch of coin, 100, second": 1_613_061, "batch of tokens, 1, first": 105_476,
    "batch of tokens, 10, first": 383_795, "batch of tokens, 100, first": 3_301_247,
    "batch of tokens, 10, second": 212_915, "batch of tokens, 100, second": 1_592_447,
}  # fmt: skip
# Operations that may cost more than published, by the mend that they pay for.
MENDS = {
    "deposit tokens, first": "balance compared before and after", "deposit tokens, second": "same",
    "batch of tokens, 1, first": "same", "batch of tokens, 10, first": "same", "batch of tokens, 100, first": "same",
    "batch of tokens, 1, second": "same", "batch of tokens, 10, second": "same", "batch of tokens, 100, second": "same",
    "challenge virtual channel with a voucher": "marked as one that pays out nothing",
}  # fmt: skip
MOST = 0.05


@dataclass
class Bench:
    """A world in which operations are measured."""

    world: World
    gas: dict[str, int] = field(default_factory=dict)

    @property
    def adjudicator(self) -> Deployed:
        return self.world.adjudicator

    def note(self, name: str, receipt: Receipt) -> Receipt:
        assert receipt.ok, f"{name}: {receipt.reason}"
        self.gas[name] = receipt.gas
        return receipt

    def do(self, name: str, function: str, *arguments: object, value: int = 0, sender: bytes = ALICE) -> None:
        self.note(name, self.adjudicator.send(sender, function, *arguments, value=value))

    def fund(self, channel: Channel, asset: bytes, amount: int) -> None:
        held = self.world.holdings(asset, channel.id)
        value = amount if asset == NATIVE else 0
        assert self.adjudicator.send(ALICE, "deposit", asset, channel.id, held, amount, value=value).ok

    def challenge(self, name: str, state: State, proof: tuple[object, ...] = (), by: str = "bob") -> None:
        names = (by,) if proof else ()
        self.do(name, "challenge", state.channel.fixed, proof, state.signed(*names), state.challenger(by))

    def channel(self, nonce: int, *participants: bytes) -> Channel:
        return Channel(participants or (ALICE, BOB), self.world.consensus.address, nonce)


def ours(name: str) -> Contract:
    return contracts.load(name)


def theirs(name: str) -> Contract:
    """The published contracts with our token."""
    return contracts.load(name) if name == "Token" else published.load(name)


def measure(load: Callable[[str], Contract]) -> dict[str, int]:
    """Operation to gas, in the table's order."""
    bench = Bench(World(load))
    for address in (ALICE, BOB, IRENE):
        bench.world.give(address, 10**6)
        for spender in (bench.adjudicator, bench.world.batch):
            assert bench.world.token.send(address, "approve", spender.address, 10**6).ok
    for part in (deploying, deposits, cooperative, unilateral, virtual, choosing, batches):
        part(bench, load)
    return bench.gas


def deploying(bench: Bench, load: Callable[[str], Contract]) -> None:
    for name in ("NitroAdjudicator", "ConsensusApp", "VirtualPaymentApp", "BatchOperator"):
        arguments = [bench.adjudicator.address] if name == "BatchOperator" else []
        bench.note(f"deploy {name}", bench.world.evm.deploy(DEPLOYER, load(name).creation_code(*arguments)))


def deposits(bench: Bench, _: object) -> None:
    token, channel = bench.world.token.address, bench.channel(1)
    bench.do("deposit coin, first", "deposit", NATIVE, channel.id, 0, 5, value=5)
    bench.do("deposit coin, second", "deposit", NATIVE, channel.id, 5, 5, value=5, sender=BOB)
    bench.do("deposit tokens, first", "deposit", token, channel.id, 0, 5)
    bench.do("deposit tokens, second", "deposit", token, channel.id, 5, 5, sender=BOB)


def even(asset: bytes, amount: int = 5) -> tuple[Exit, ...]:
    return exits(asset, allocation(ALICE, amount), allocation(BOB, amount))


def cooperative(bench: Bench, _: object) -> None:
    token = bench.world.token.address
    three = bench.channel(5, ALICE, IRENE, BOB)
    fresh = exits(NATIVE, allocation(b"\x51" * 20, 5), allocation(b"\x52" * 20, 5))
    both = even(NATIVE) + even(token)
    cases = [
        ("conclude", "conclude", bench.channel(2), even(NATIVE)),
        ("cooperative exit, coin", "concludeAndTransferAllAssets", bench.channel(3), even(NATIVE)),
        ("cooperative exit, tokens", "concludeAndTransferAllAssets", bench.channel(4), even(token)),
        ("cooperative exit, coin, new accounts", "concludeAndTransferAllAssets", bench.channel(6), fresh),
        ("cooperative exit, coin and tokens, three parties", "concludeAndTransferAllAssets", three, both),
        ("cooperative exit, partly funded", "concludeAndTransferAllAssets", bench.channel(7), even(NATIVE, 9)),
    ]  # fmt: skip
    for name, function, channel, outcome in cases:
        for asset, *_rest in outcome:
            bench.fund(channel, asset, 10)
        bench.do(name, function, channel.fixed, channel.state(outcome, 4, is_final=True).signed())


def unilateral(bench: Bench, _: object) -> None:
    channel = bench.channel(8)
    bench.fund(channel, NATIVE, 10)
    states = [channel.state(even(NATIVE), turn) for turn in range(6)]
    bench.challenge("unilateral exit: challenge", states[2])
    bench.challenge("counter-challenge", states[3])
    bench.do("checkpoint that clears a challenge", "checkpoint", channel.fixed, [], states[4].signed())
    bench.do("checkpoint", "checkpoint", bench.channel(9).fixed, [], bench.channel(9).state(even(NATIVE), 2).signed())
    bench.challenge("challenge after a checkpoint", states[5])
    bench.world.evm.timestamp += 60
    bench.do("unilateral exit: transferAllAssets", "transferAllAssets", channel.id, even(NATIVE), states[5].hash)
    parts = ("unilateral exit: challenge", "unilateral exit: transferAllAssets")
    bench.gas["unilateral exit, both"] = sum(bench.gas[part] for part in parts)


def virtual(bench: Bench, _: object) -> None:
    """A payment channel of Alice and Bob through Irene, funded by a ledger of Bob and Irene; nobody cooperates."""
    channel = Channel((ALICE, IRENE, BOB), bench.world.payments.address, 10)
    ledger = bench.channel(11, IRENE, BOB)
    bench.fund(ledger, NATIVE, 20)
    postfund = channel.state(exits(NATIVE, allocation(ALICE, 10), allocation(BOB, 0)), 1)
    redeemed = exits(NATIVE, allocation(ALICE, 3), allocation(BOB, 7))
    redemption = channel.state(redeemed, 2, voucher(channel, 7))
    owed = exits(NATIVE, allocation(IRENE, 5), allocation(BOB, 5), guarantee(channel.id, 10, IRENE, BOB))
    promise = ledger.state(owed, 2)
    bench.challenge("challenge ledger", promise)
    bench.challenge("challenge virtual channel with a voucher", redemption, (postfund.signed(),))
    bench.world.evm.timestamp += 60
    arguments = (
        ledger.id, promise.hash, encode_outcome(owed), 0, 2, redemption.hash, encode_outcome(redeemed), 0,
    )  # fmt: skip
    bench.do("reclaim", "reclaim", arguments)
    left = exits(NATIVE, allocation(IRENE, 8), allocation(BOB, 12))
    bench.do("transferAllAssets of the ledger", "transferAllAssets", ledger.id, left, promise.hash)


def choosing(bench: Bench, _: object) -> None:
    channel, target = bench.channel(12), bench.channel(13)
    outcome = exits(NATIVE, *(allocation(b, 2) for b in (ALICE, BOB, IRENE)), allocation(target.id, 4))
    bench.fund(channel, NATIVE, 10)
    assert bench.adjudicator.send(
        ALICE, "conclude", channel.fixed, channel.state(outcome, 1, is_final=True).signed()
    ).ok
    bench.do("transfer of one of four", "transfer", 0, channel.id, encode_outcome(outcome), bytes(32), [1])
    left = exits(NATIVE, allocation(ALICE, 2), allocation(BOB, 0), allocation(IRENE, 2), allocation(target.id, 4))
    bench.do("transfer of the rest, one to a channel", "transfer", 0, channel.id, encode_outcome(left), bytes(32), [])


def batches(bench: Bench, _: object) -> None:
    batch, token = bench.world.batch, bench.world.token.address
    for kind in ("coin", "tokens"):
        for count in (1, 10, 100):
            ids = [bytes([1 + count, kind == "coin", i]) + bytes(29) for i in range(count)]
            ones = [1] * count
            for round_, held in (("first", [0] * count), ("second", ones)):
                name = f"batch of {kind}, {count}, {round_}"
                if kind == "coin":
                    receipt = batch.send(ALICE, "deposit_batch_eth", ids, held, ones, value=count)
                else:
                    receipt = batch.send(ALICE, "deposit_batch_erc20", token, ids, held, ones, count)
                bench.note(name, receipt)


HEAD = """# Gas

What each on-chain operation costs with scapp's contracts and with the published Nitro contracts (npm
`@statechannels/nitro-protocol` 2.0.1-alpha.6): the same call on the same state and the same EVM (Shanghai), two
participants unless it says otherwise, all accounts used before. `make gas` measures and writes this page; a test says
whether it is current. Batches of tokens use the same token on both sides.

The last column is what the published project's own benchmark says, for orientation: its states differ in details, such
as the number of payees that are paid for the first time.

Where ours costs more, the operation pays for a [listed difference](contracts.md#differences), with at most 5 %.

| operation | scapp | published | difference | for | benchmark |
|---|---|---|---|---|---|
"""


def rows(here: dict[str, int], there: dict[str, int]) -> Iterator[str]:
    for name, gas in here.items():
        ratio = gas / there[name] - 1
        reason = MENDS.get(name, "") if gas > there[name] else ""
        figure = f"{FIGURES[name]:,}".replace(",", " ") if name in FIGURES else ""
        ours_, theirs_ = (f"{value:,}".replace(",", " ") for value in (gas, there[name]))
        yield f"| {name} | {ours_} | {theirs_} | {ratio:+.1%} | {reason} | {figure} |".replace("%", " %")


def page() -> str:
    return HEAD + "\n".join(rows(measure(ours), measure(theirs))) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.read_text())
