"""The project's contracts beside the published ones: the same random calls on both, everything compared after each.

Two chains with the same addresses. A call must have the same success or revert reason, events, status words, holdings
and balances on both, unless it falls under a listed difference (docs/reference/contracts.md, "Differences"): then both
go back to before it. After each step the invariants of our contracts are checked. `draws.py` has what is drawn.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import eth_abi

from scapp.channels.chain import contracts
from scapp.channels.chain.contracts import Contract
from scapp.channels.crypto import keccak256
from tests.chain import published
from tests.chain.cast import World
from tests.chain.draws import PEOPLE, STRANGER, Draws
from tests.chain.evm import GAS_LIMIT, Receipt
from tests.chain.replay import PAYOUTS as PAYING
from tests.chain.replay import STRAY
from tests.chain.states import ADDRESSES, GUARANTEE, NATIVE, Channel, Exit, encode_outcome, external, guarantee

ZERO = "payment of zero"
MUTATED = "mutated"  # calldata that was changed at random after encoding
TOKENS = 10_000
STRAY_PAYEE = b"\x01" * 20
PAYOUTS = (*PAYING, "reclaim")


class Story(Draws):
    """One random life of both worlds. `step()` raises AssertionError at the first thing that is not equal."""

    def __init__(self, seed: str, load: Callable[[str], Contract] = contracts.load) -> None:
        self.ours, self.theirs = World(load), World(published.load)
        addresses = (found.address for found in (self.ours.consensus, self.ours.payments, self.ours.token))
        super().__init__(seed, *addresses)
        self.log: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()  # what happened, for tests of reach
        self.known: dict[bytes, tuple[bytes, tuple[Exit, ...]]] = {}  # state hash and outcome behind a fingerprint
        for world in (self.ours, self.theirs):
            for address in ADDRESSES.values():
                world.give(address, TOKENS)
                assert world.token.send(address, "approve", world.adjudicator.address, 2**256 - 1).ok
        self.paid_into: set[bytes] = set()
        self.statuses: dict[bytes, tuple[bytes, bool]] = {}
        self.last = ""
        self.wealth = self._wealth()

    # What is done

    def step(self) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [
            (4, self.deposit), (6, self.challenge), (2, self.checkpoint), (3, self.conclude), (1, self.fund),
            (4, self.conclude_and_pay), (5, self.pay_all), (5, self.transfer), (4, self.reclaim), (1, self.supported),
            (2, self.effects), (3, self.wait),
        ]  # fmt: skip
        weights = [weight for weight, _ in actions]
        self.last = ""
        self.draw.choices([action for _, action in actions], weights)[0]()
        self.check_invariants()

    def wait(self) -> None:
        for world in (self.ours, self.theirs):
            world.evm.timestamp += 30
        self.log.append("wait")

    def deposit(self) -> None:
        draw, channel, asset = self.draw, self.channel(), self.draw.choice([*self.assets, b"\x77" * 20])
        held = self.ours.holdings(asset, channel.id)
        amount = draw.choice([3, 5, 10])
        value = amount if asset == NATIVE else 0
        if draw.random() < 0.05:
            held, value = draw.choice([(held + 1, value), (held, value + 1)])
        where = bytes(12) + b"\x01" * 20 if draw.random() < 0.02 else channel.id
        self.call("deposit", asset, where, held, amount, value=value)

    def challenge(self) -> None:
        channel = self.channel()
        proof, candidate, state = self.support(channel)
        names = [name for name, address in ADDRESSES.items() if address in channel.participants]
        challenger = state.challenger(self.draw.choice(names) if self.draw.random() < 0.95 else STRANGER)
        if self.call("challenge", channel.fixed, proof, candidate, challenger):
            self.known[channel.id] = (state.hash, state.outcome)

    def checkpoint(self) -> None:
        channel = self.channel()
        proof, candidate, _ = self.support(channel)
        self.call("checkpoint", channel.fixed, proof, candidate)

    def conclude(self) -> None:
        channel = self.channel()
        state = self.final(channel)
        if self.call("conclude", channel.fixed, self.signatures(state)):
            self.known[channel.id] = (bytes(32), state.outcome)

    def conclude_and_pay(self) -> None:
        channel = self.channel()
        state = self.final(channel)
        held = self.held(channel.id, state.outcome)
        if self.call("concludeAndTransferAllAssets", channel.fixed, self.signatures(state)):
            self.known[channel.id] = (bytes(32), paid(state.outcome, held))

    def pay_all(self) -> None:
        found = self.recorded()
        if found is None:
            return
        channel_id, state_hash, outcome = found
        held = self.held(channel_id, outcome)
        if self.call("transferAllAssets", channel_id, outcome, state_hash):
            self.known[channel_id] = (state_hash, paid(outcome, held))

    def transfer(self) -> None:
        found = self.recorded()
        if found is None:
            return
        channel_id, state_hash, outcome = found
        index = self.draw.randrange(len(outcome) + 1) if self.draw.random() < 0.1 else 0
        size = len(outcome[index][2]) if index < len(outcome) else 2
        indices = sorted(self.draw.sample(range(size + 2), self.draw.randrange(size + 1)))
        indices = [i for i in indices if i < size or self.draw.random() < 0.2]
        if self.draw.random() < 0.03:
            indices.reverse()
        held = self.held(channel_id, outcome)
        if self.call("transfer", index, channel_id, encode_outcome(outcome), state_hash, indices):
            self.known[channel_id] = (state_hash, paid(outcome, held, index, indices))

    def fund(self) -> None:
        """A ledger and a channel that it guarantees, both concluded: what a reclaim needs, mostly consistent."""
        draw, app = self.draw, self.ours.consensus.address
        left, right = draw.sample([ADDRESSES[name] for name in PEOPLE], 2)
        target, ledger = (Channel((left, right), app, draw.randrange(2**40)) for _ in range(2))
        self.channels |= {target.id: target, ledger.id: ledger}
        asset, share = draw.choice(self.assets), draw.randrange(11)
        sides = [external(left), external(right)]
        draw.shuffle(sides)
        items = [(side, draw.randrange(5), 0, b"") for side in sides[: draw.choice([2, 2, 2, 1])]]
        items.insert(draw.randrange(len(items) + 1), guarantee(target.id, 10, left, right))
        slots = [
            (external(left), share, 0, b""),
            (external(right), 10 - share + draw.choice([0, 0, 0, 1]), 0, b""),
        ]
        for channel, allocations in ((target, slots), (ledger, items)):
            state = channel.state(((asset, (0, b""), allocations),), 5, is_final=True)
            if self.call("conclude", channel.fixed, state.signed()):
                self.known[channel.id] = (bytes(32), state.outcome)
            self.check_invariants()

    def reclaim(self) -> None:
        """Of a guarantee that is there, when there is one."""
        for channel_id, (state_hash, outcome) in self.draw.sample(list(self.known.items()), len(self.known)):
            for index, exit_ in enumerate(outcome):
                for position, item in enumerate(exit_[2]):
                    if item[2] == GUARANTEE and item[0] in self.known:
                        target_hash, target = self.known[item[0]]
                        at = self.draw.choice([0, 0, 0, len(target)])
                        arguments = (
                            channel_id, state_hash, encode_outcome(outcome), index, position, target_hash,
                            encode_outcome(target), at,
                        )  # fmt: skip
                        if self.call("reclaim", arguments):
                            self.known[channel_id] = (state_hash, reclaimed(outcome, index, position, target[at][2]))
                        return

    def supported(self) -> None:
        channel = self.channel()
        proof, candidate, _ = self.support(channel)
        self.call("stateIsSupported", channel.fixed, proof, candidate)

    def effects(self) -> None:
        draw, items = self.draw, self.allocations()
        if draw.random() < 0.5:
            indices = draw.sample(range(len(items) + 1), draw.randrange(len(items) + 1))
            indices = sorted(indices) if draw.random() < 0.9 else indices
            self.call("compute_transfer_effects_and_interactions", draw.choice([0, 3, 10, 100]), items, indices)
        else:
            self.call("compute_reclaim_effects", items, self.allocations(), draw.randrange(len(items) + 1))

    def recorded(self) -> tuple[bytes, bytes, tuple[Exit, ...]] | None:
        """A channel with the state hash and outcome that its status was made of; sometimes a wrong one."""
        if not self.known:
            return None
        channel_id = self.draw.choice(list(self.known))
        state_hash, outcome = self.known[channel_id]
        if self.draw.random() < 0.05:
            state_hash = self.draw.randbytes(32)
        return channel_id, state_hash, outcome

    def held(self, channel_id: bytes, outcome: tuple[Exit, ...]) -> list[int]:
        return [self.ours.holdings(exit_[0], channel_id) for exit_ in outcome]

    # What is compared

    def call(self, function: str, *arguments: Any, value: int = 0) -> bool:
        """Send one call on both worlds; whether it succeeded on both, with equal effects."""
        calldata = self.ours.adjudicator.interface.call(function, *arguments)
        sender = ADDRESSES[self.draw.choice(list(ADDRESSES))]
        mutated = self.draw.random() < 0.05
        if mutated:
            calldata = self.mutate(calldata)
        before = (self.ours.evm.snapshot(), self.theirs.evm.snapshot())
        here, there = (
            world.evm.send(sender, world.adjudicator.address, calldata, value) for world in (self.ours, self.theirs)
        )
        self.log.append(f"{function} {here.reason or 'ok'} | {there.reason or 'ok'}")
        difference = None if self.same(here, there) else self.listed(function, arguments, value, here, there, mutated)
        if difference is not None:
            self.done[f"difference: {difference}"] += 1
            if difference == ZERO and here.ok and there.ok:  # they differ in events alone
                self.last = function
                self.compare_state(function)
                return True
            self.ours.evm.revert(before[0])
            self.theirs.evm.revert(before[1])
            return False
        assert self.same(here, there), self.report(function, calldata, here, there)
        self.done[f"{function}: {here.reason or 'ok'}"] += 1
        if function == "deposit" and here.ok:  # of changed calldata only the event says where to
            self.paid_into.add(here.logs[-1].topics[1])
        self.last = function if here.ok else ""
        assert here.gas < GAS_LIMIT or not here.ok
        self.compare_state(function)
        return here.ok and not mutated

    @staticmethod
    def same(here: Receipt, there: Receipt) -> bool:
        return (here.ok, here.output, here.logs) == (there.ok, there.output, there.logs)

    def listed(
        self, function: str, arguments: tuple[Any, ...], value: int, here: Receipt, there: Receipt, mutated: bool
    ) -> str | None:
        """The name of the listed difference that explains what differs; None when there is none."""
        ours, theirs = here.reason, there.reason
        if mutated and not here.ok and not there.ok:
            return MUTATED  # both refuse, at another place of reading what is no encoding
        if function == "deposit" and ours == STRAY and value and arguments[0] != NATIVE:
            return "stray coin"
        slip = "cannot transfer a guarantee"
        choosing = function in ("transfer", "compute_transfer_effects_and_interactions") and arguments[-1]
        if choosing and (ours == slip) != (theirs == slip):
            return "guarantee slip"
        if ours == "Channel is virtual.":
            return "virtual channel"
        if function in ("challenge", "checkpoint", "stateIsSupported"):
            return self.listed_payment(arguments, here, there)
        if function in ("transfer", "transferAllAssets", "concludeAndTransferAllAssets"):
            return self.listed_payout(outcome_of(function, arguments), here, there)
        return None

    def listed_payment(self, arguments: tuple[Any, ...], here: Receipt, there: Receipt) -> str | None:
        """Differences of the payment app."""
        if arguments[0][2] != self.ours.payments.address or len(arguments[1]) != 1:
            return None
        reason = {here.reason} & {
            "only one asset allowed", "asset changed", "only two allocations allowed", "destination changed",
            "only simple allocations allowed",
        }  # fmt: skip
        if reason and there.reason in (None, "only native asset allowed", "Alice not adjusted correctly",
                                       "Bob not adjusted correctly", "panic 0x32", "panic 0x11",
                                       "Challenger is not a participant"):  # fmt: skip
            # Theirs may go on to what is refused later.
            return reason.pop()
        if there.reason == "only native asset allowed":
            return "vouchers over tokens"
        initial = arguments[1][0][0][0][0][2][1][1]
        if initial and {here.reason, there.reason} <= {
            None,
            "Bob not adjusted correctly",
            "Challenger is not a participant",
            "panic 0x11",  # theirs goes on to add a challenge duration that no time has room for
        }:
            return "payee's initial balance"
        return None

    def listed_payout(self, outcome: tuple[Exit, ...], here: Receipt, there: Receipt) -> str | None:
        """Payments of nothing: not made by ours; theirs emit an event, or are refused by the token. And an asset that
        is in an outcome twice: theirs takes its holdings for there twice."""
        if here.ok and len({exit_[0] for exit_ in outcome}) < len(outcome):
            return "asset twice"
        token = self.ours.token.address
        moved = [log for log in there.logs if log.address != token or any(log.data)]
        if here.ok and there.ok and here.output == there.output and tuple(moved) == here.logs:
            return ZERO
        if here.ok and there.reason == "ERC20: transfer to the zero address":
            return ZERO
        return None

    def compare_state(self, function: str) -> None:
        """Status words, holdings and balances."""
        for channel_id in {*self.channels, *self.known}:
            assert self.ours.status(channel_id) == self.theirs.status(channel_id), self.tail(function)
            for asset in self.assets:
                held = self.ours.holdings(asset, channel_id)
                assert held == self.theirs.holdings(asset, channel_id), self.tail(function)
        assert self.ours.evm.balance(self.ours.adjudicator.address) == self.theirs.evm.balance(
            self.theirs.adjudicator.address
        ), self.tail(function)

    def report(self, function: str, calldata: bytes, here: Receipt, there: Receipt) -> str:
        return (
            f"{self.tail(function)}\nours:   {here.reason or 'ok'} {here.output.hex()[:200]} {here.logs}\n"
            f"theirs: {there.reason or 'ok'} {there.output.hex()[:200]} {there.logs}\ncalldata 0x{calldata.hex()}"
        )

    def tail(self, function: str) -> str:
        return f"{function} differs, after: {'; '.join(self.log[-8:])}"

    # What must hold

    def check_invariants(self) -> None:
        """No value comes from nowhere or gets lost; the contract has exactly what it says its channels hold; what is
        finalized stays so, and only payouts and reclaims change what it owes."""
        world = self.ours
        for asset, has in zip(self.assets, self.wealth_of(world.adjudicator.address), strict=True):
            holders = {*self.channels, *self.known, *self.paid_into}
            assert has == sum(world.holdings(asset, holder) for holder in holders), self.tail("solvency")
        assert self._wealth() == self.wealth, self.tail("sum of all money")
        for channel_id in self.channels:
            status = world.status(channel_id)
            old, final = self.statuses.get(channel_id, (status, False))
            if final and status != old:
                assert self.last in PAYOUTS, self.tail(f"finalized, then {self.last}")
                assert status[:12] in (old[:12], bytes(12)), self.tail("finalized stays final")
                assert any(status) or self.last == "transferAllAssets", self.tail("forgotten")
            if any(old[6:12]) and not final and not any(status[6:12]):
                clearing = ("checkpoint", "concludeAndTransferAllAssets")
                assert self.last in clearing, self.tail("a challenge was cleared")
            if self.last in ("challenge", "checkpoint"):
                assert status[:6] >= old[:6], self.tail("turn record")
            finalizes = int.from_bytes(status[6:12], "big")
            self.statuses[channel_id] = (status, 0 < finalizes <= world.evm.timestamp)

    def wealth_of(self, address: bytes) -> list[int]:
        evm, token = self.ours.evm, self.ours.token.address
        return [evm.balance(address), evm.storage(token, keccak256(bytes(12) + address + bytes(32)))]

    def _wealth(self) -> list[int]:
        """Coin and tokens of everybody together."""
        everybody = [*ADDRESSES.values(), self.ours.adjudicator.address, bytes(20), STRAY_PAYEE]
        return [sum(amounts) for amounts in zip(*(self.wealth_of(address) for address in everybody), strict=True)]


def outcome_of(function: str, arguments: tuple[Any, ...]) -> tuple[Exit, ...]:
    """The outcome that a payout is about; empty for `transfer`, which is about one asset of it."""
    if function == "transferAllAssets":
        return tuple(arguments[1])
    return tuple(arguments[1][0][0]) if function == "concludeAndTransferAllAssets" else ()


def paid(
    outcome: tuple[Exit, ...], held: list[int], index: int | None = None, indices: list[int] | None = None
) -> tuple[Exit, ...]:
    """An outcome after payments; `held` has the holdings for each exit, before any of them."""
    left = {exit_[0]: amount for exit_, amount in zip(outcome, held, strict=True)}
    after: list[Exit] = []
    for at, (asset, metadata, items) in enumerate(outcome):
        surplus, remaining = left[asset], []
        for i, (destination, amount, kind, data) in enumerate(items):
            share = min(amount, surplus)
            surplus -= share
            chosen = index in (None, at) and (not indices or i in indices)
            remaining.append((destination, amount - share if chosen else amount, kind, data))
            left[asset] -= share if chosen else 0
        after.append((asset, metadata, remaining))
    return tuple(after)


def reclaimed(outcome: tuple[Exit, ...], index: int, position: int, target: Any) -> tuple[Exit, ...]:
    """An outcome after a reclaim."""
    after = list(outcome)
    asset, metadata, items = after[index]
    sides = eth_abi.decode(["bytes32", "bytes32"], items[position][3])
    remaining = [item for i, item in enumerate(items) if i != position]
    for side, (_, amount, *_rest) in zip(sides, target, strict=False):
        at = next(i for i, item in enumerate(remaining) if item[0] == side)
        remaining[at] = (side, remaining[at][1] + amount, *remaining[at][2:])
    after[index] = (asset, metadata, remaining)
    return tuple(after)
