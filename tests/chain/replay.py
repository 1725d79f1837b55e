"""Replays the `onchain` scenarios of a vectors file on the project's contracts.

Each step must do what it did with the published contracts: the same success or revert reason, and the same events; the
status words, holdings and balances that a scenario names must have been seen on the way. Where our contracts are meant
to differ (docs/reference/contracts.md, "Differences"), the step must do exactly what the difference says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels.chain import contracts
from scapp.channels.chain.contracts import Contract
from scapp.channels.signing import Signer
from tests.chain.cast import DEPLOYER, KEYS, World
from tests.chain.evm import Receipt

NATIVE = bytes(20)
STRAY = "Incorrect msg.value for deposit"
ALLOWANCE = 100  # what the vectors' parties approve
PAYOUTS = ("transfer", "transferAllAssets", "concludeAndTransferAllAssets")


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


class Replay:
    """One chain for all scenarios of a file, in their order, as the file was made."""

    def __init__(self, onchain: dict[str, Any], load: Callable[[str], Contract] = contracts.load) -> None:
        self.world = World(load)
        self.ours = load is contracts.load
        self.gas: list[tuple[str, int, int]] = []  # step, here, in the file
        world = self.world
        deployed = {
            "NitroAdjudicator": world.adjudicator,
            "ConsensusApp": world.consensus,
            "VirtualPaymentApp": world.payments,
            "Token": world.token,
            "BatchOperator": world.batch,
        }
        for name, found in deployed.items():
            wanted = onchain["deploy"][name]["address"]
            assert found.address == unhex(wanted), f"{name} is at 0x{found.address.hex()}, not at {wanted}"
        self._start_people()

    def _start_people(self) -> None:
        self.people = {name: Signer(key).address for name, key in KEYS.items()}
        for address in self.people.values():
            self.world.give(address, 10_000)

    def scenario(self, scenario: dict[str, Any]) -> None:
        """Raises AssertionError at the first step, or fact, that differs."""
        seen = Seen(self.world, scenario)
        for step in scenario["steps"]:
            where = f"{scenario['name']}, {step['name']}"
            if "calldata" not in step:
                self._described(step, where)
                continue
            seen.channels |= internal_destinations(self.world, step)
            before = {name: self.world.evm.balance(address) for name, address in self.people.items()}
            self._step(step, seen, where)
            if step["function"] in PAYOUTS:
                for name, address in self.people.items():
                    seen.received[name] += self.world.evm.balance(address) - before[name]
            seen.look()
        if not seen.differs:
            seen.check(scenario)

    def _step(self, step: dict[str, Any], seen: Seen, where: str) -> None:
        evm, adjudicator = self.world.evm, self.world.adjudicator
        sender, calldata, value = unhex(step["from"]), unhex(step["calldata"]), int(step["value"])
        evm.timestamp = step["timestamp"]
        if evm.balance(sender) < 10**18:
            self.world.give(sender)
        receipt = evm.send(sender, adjudicator.address, calldata, value)
        if self.ours and self._differs_as_listed(step, receipt, seen):
            return
        assert (receipt.ok, receipt.reason) == (step["ok"], step["revertReason"]), (
            f"{where}: {receipt.reason or 'succeeds'}, not {step['revertReason'] or 'success'}"
        )
        events = [{"topics": [t.hex() for t in log.topics], "data": log.data.hex()} for log in receipt.logs]
        wanted = [
            {"topics": [t.removeprefix("0x") for t in e["topics"]], "data": e["data"].removeprefix("0x")}
            for e in step["events"]
        ]
        assert events == wanted, f"{where}: events {events}, not {wanted}"
        self.gas.append((where, receipt.gas, step["gasUsed"]))

    def _differs_as_listed(self, step: dict[str, Any], receipt: Receipt, seen: Seen) -> bool:
        """Whether the step does what a listed difference says, which then was to be seen: no step may do both."""
        adjudicator = self.world.adjudicator
        if step["function"] == "deposit" and step["ok"] and int(step["value"]):
            asset, *_ = adjudicator.interface.arguments("deposit", unhex(step["calldata"]))
            if int(asset, 16):  # stray coin is refused; the scenario goes on with the same deposit without it
                assert receipt.reason == STRAY, f"stray coin: {receipt.reason}"
                again = self.world.evm.send(unhex(step["from"]), adjudicator.address, unhex(step["calldata"]))
                assert again.ok, again.reason
                return True
        if step["function"] == "challenge" and step["revertReason"] == "only native asset allowed":
            assert receipt.ok, f"a voucher over tokens: {receipt.reason}"
            seen.differs = True
            return True
        if step["function"] == "challenge" and step["ok"] and receipt.reason == "destination changed":
            seen.differs = True
            return True
        if step["function"] in PAYOUTS and step["ok"] and receipt.reason == "Channel is virtual.":
            seen.differs = True
            return True
        # What was refused above cannot be paid out later in the same scenario.
        return seen.differs and step["ok"] and receipt.reason == "Channel not finalized."

    def _described(self, step: dict[str, Any], where: str) -> None:
        """Steps that the file describes without calldata."""
        world, token, batch = self.world, self.world.token, self.world.batch
        if step.get("function") == "ERC20.approve":
            for name in ("alice", "bob"):
                assert token.send(self.people[name], "approve", world.adjudicator.address, ALLOWANCE).ok
            return
        ids = [bytes(31) + bytes([0xB0 + i]) for i in range(3)]
        ids = [b"\xbb" + i[1:] for i in ids]
        held = [world.holdings(NATIVE if "eth" in step["name"] else token.address, i) for i in ids]
        if "deposit_batch_eth" in step["name"]:
            receipt = batch.send(DEPLOYER, "deposit_batch_eth", ids, held, [1, 2, 3], value=6)
            assert [world.holdings(NATIVE, i) for i in ids] == [1, 2, 3], f"{where}: other holdings"
        elif "deposit_batch_erc20" in step["name"]:
            assert token.send(DEPLOYER, "approve", batch.address, ALLOWANCE).ok
            receipt = batch.send(DEPLOYER, "deposit_batch_erc20", token.address, ids, held, [1, 2, 3], 7)
            if self.ours:  # takes what it deposits and leaves no allowance, so that the next one works as well
                assert receipt.ok, f"{where}: {receipt.reason}"
                assert token.read("balanceOf", batch.address) == 0
                assert token.read("allowance", batch.address, world.adjudicator.address) == 0
                return
        else:
            raise AssertionError(f"{where}: a step without calldata that is not known here")
        assert (receipt.ok, receipt.reason) == (step["ok"], step["revertReason"]), f"{where}: {receipt.reason}"


class Seen:
    """What a scenario's channels and people had on the way, and whether it went another way as listed."""

    def __init__(self, world: World, scenario: dict[str, Any]) -> None:
        self.world = world
        self.channels = {unhex(value) for key, value in scenario.items() if key.lower().endswith("channelid")}
        self.statuses: set[bytes] = set()
        self.holdings: set[int] = set()
        self.received = dict.fromkeys(KEYS, 0)
        self.differs = False

    def look(self) -> None:
        for channel in self.channels:
            self.statuses.add(self.world.status(channel))
            self.holdings.add(self.world.holdings(NATIVE, channel))

    def check(self, scenario: dict[str, Any]) -> None:
        """The facts beside the steps of a scenario: `status…`, `holdings…`, `balanceDelta`."""
        for key, value in scenario.items():
            where = f"{scenario['name']}, {key}"
            if key.startswith("status"):
                assert unhex(value) in self.statuses, f"{where}: {value} was never there"
            elif key.startswith("holdings"):
                assert int(value) in self.holdings, f"{where}: {value} was never held"
            elif key == "balanceDelta":
                found = {name: str(self.received[name]) for name in value}
                assert found == value, f"{where}: {found}, not {value}"


def internal_destinations(world: World, step: dict[str, Any]) -> set[bytes]:
    """Channels that a payout may pay into."""
    if step["function"] != "concludeAndTransferAllAssets":
        return set()
    _, candidate = world.adjudicator.interface.arguments(step["function"], unhex(step["calldata"]))
    destinations = {allocation[0] for exit in candidate[0][0] for allocation in exit[2]}
    return {destination for destination in destinations if any(destination[:12])}
