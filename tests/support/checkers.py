"""The safety rules as checks that look at logs and messages only, by the clear implementations (no fast hasher).

`check_log` reads one node's durable stream; `Watch` sees all that leaves a node. Neighbour of `sim.py`, which plays.
"""

from __future__ import annotations

import operator
from typing import Any

import msgspec

from scapp.channels.app_data import encode_app_data
from scapp.channels.channel.events import (
    BackingSeen,
    ChainSeen,
    ChannelCreated,
    ChannelRejected,
    ExitStarted,
    Restored,
    Signed,
    StateAdopted,
    StateCompleted,
    StateRecalled,
    StateSigned,
    StateSupported,
    SubmissionsRefused,
    Submitted,
    decode_event,
)
from scapp.channels.channel.messages import Countersign, Proposal, Propose, Supported, decode_message
from scapp.channels.channel.setup import Setup
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.log.framing import STREAM_BYTES, unframe_page
from scapp.channels.log.port import EventLog
from scapp.channels.outcome import Allocation, SingleAssetExit
from scapp.channels.signing import recover
from scapp.channels.state import VariablePart, state_hash
from scapp.channels.types import Address, Destination, Hash
from tests.support.disk import SimDisk


class Broken(AssertionError):
    """A safety rule is broken; the text begins with its number."""


def require(truth: object, text: str) -> None:
    """Raises Broken unless it is so."""
    if not truth:
        raise Broken(text)


def plain_hash(setup: Setup, state: Signed) -> Hash:
    """The hash of the state by the clear implementation in `state.py`, whatever slots its outcome has."""
    amounts = [int.from_bytes(state.amounts[i : i + 32], "big") for i in range(0, len(state.amounts), 32)]
    count = len(setup.slots)
    moved = [0] * count
    successor = passed_to(setup, state.amounts)
    if successor is not None:
        amounts, moved = amounts[:count], amounts[count + 1 :]
    slots = list(setup.slots) + [setup.slots[-1]] * (len(amounts) - count) if amounts else []
    exits: list[SingleAssetExit] = []
    for at, ((asset, destination, _), amount) in enumerate(zip(slots, amounts, strict=False)):
        allocations = [Allocation(Destination(destination), amount - (moved[at] if at < count else 0))]
        if exits and exits[-1].asset == asset:
            exits[-1] = msgspec.structs.replace(exits[-1], allocations=(*exits[-1].allocations, *allocations))
            continue
        if successor is not None:
            total = sum(moved[i] for i in range(count) if slots[i][0] == asset)
            allocations.insert(0, Allocation(Destination(successor), total))
        exits.append(SingleAssetExit(Address(asset), tuple(allocations)))
    app_data = encode_app_data(
        setup.deployment_id, state.sequence, Hash(state.log_root), Hash(state.state_root), state.time_ms
    )
    return state_hash(setup.channel_id, VariablePart(tuple(exits), app_data, state.turn, state.is_final))


def passed_to(setup: Setup, amounts: bytes) -> bytes | None:
    """The channel to which a state with these amounts moves money, if it does: one word after those of the slots, and
    then one for each slot again."""
    count = len(setup.slots)
    return amounts[32 * count :][:32] if count and len(amounts) == 32 * (2 * count + 1) else None


def with_other_v(signature: bytes) -> bytes:
    """27 becomes 28, and 28 becomes 27: the same r and s, of which the contracts recover somebody else."""
    return signature[:64] + bytes([55 - signature[64]])


class LogCheck:
    """What one node's stream says, rule by rule; `feed` raises Broken."""

    def __init__(self, created: ChannelCreated) -> None:
        self.setup = Setup(created)
        self.me = created.my_index
        self.signed: dict[int, Signed] = {}
        self.head: Signed | None = None
        self.log: list[bytes] = []
        self.root = bytes(32)
        self.rejected = False
        self.chain: ChainSeen | None = None
        self.leaving = False
        self.backing = "none"
        self.submitted: dict[int, tuple[int, bytes]] = {}
        self.included: set[tuple[int, int]] = set()
        self.refused: set[tuple[int, int]] = set()
        self.restored = False
        self.recalled: set[int] = set()  # turns of states that others gave back after a restore

    def feed(self, event: Any) -> None:
        match event:
            case StateSigned(state):
                self._signed(state)
            case Restored():
                self.restored = True
            case StateRecalled(state):
                self._signed(state, recalled=True)
                self.recalled.add(state.turn)
            case StateCompleted(state):
                self._signed(state)
                self._full(state)
                self._advance(state)
            case StateSupported(turn, signatures):
                require(turn in self.signed, f"6: turn {turn} supported but never signed here")
                self._full(msgspec.structs.replace(self.signed[turn], signatures=signatures))
                if turn == max(self.signed):
                    self._advance(self.signed[turn], remembered=turn not in self.recalled)
            case StateAdopted(state):
                self._full(state)
                self._advance(state, remembered=False)
            case ChannelRejected():
                highest = max([*self.signed, self.head.turn if self.head else -1], default=-1)
                given_up = highest < 1 or (self.setup.virtual and highest == 1)
                require(given_up, f"8: rejected after turn {highest} was signed")
                self.rejected = True
            case BackingSeen(stage):
                self.backing = stage
            case ChainSeen():
                self.chain = event
            case ExitStarted():
                self.leaving = True
            case Submitted(first, kind, payloads):
                self.submitted.update({first + i: (kind, p) for i, p in enumerate(payloads)})
            case SubmissionsRefused(refused):
                for item in refused:
                    key = (item.author, item.counter)
                    require(key not in self.included, f"6: {key} is in the log and then refused")
                    self.refused.add(key)

    def _signed(self, state: Signed, *, recalled: bool = False) -> None:
        newest = max([*self.signed, self.head.turn if self.head else -1], default=-1)
        require(state.turn > newest, f"2: turn {state.turn} signed after turn {newest}")
        require(not self.rejected, f"9: turn {state.turn} signed in a channel that was rejected")
        early = self.head is None or self.head.turn < 1
        require(not early or state.turn == 0 or not state.entries, f"8: entries in turn {state.turn} before postfund")
        if self.setup.funded and state.turn > 0 and not recalled:
            self._rule_8_virtual(state) if self.setup.virtual else self._rule_8(state)
        signer = recover(plain_hash(self.setup, state), state.signatures[self.me])
        require(signer == self.setup.participants[self.me], "1: the recorded signature is not ours")
        for old in (*self.signed.values(), *([self.head] if self.head else [])):
            if old.is_final:
                require(state.is_final, f"5: turn {state.turn} is not final, turn {old.turn} was")
                require(state.amounts == old.amounts, f"5: final turns {old.turn} and {state.turn} differ in outcome")
        if passed_to(self.setup, state.amounts) is not None:
            require(state.is_final, f"5: turn {state.turn} passes money on and is not final")
            require(self.setup.shares is not None, f"8: turn {state.turn} passes on what is not on chain")
        full = [s for s in self.signed.values() if all(s.signatures)]
        if full:
            extended = full[-1].entries == state.entries[: len(full[-1].entries)]
            require(extended, f"4: turn {state.turn} does not extend fully signed turn {full[-1].turn}")
        self.signed[state.turn] = state

    def _rule_8(self, state: Signed) -> None:
        """A funded channel: nothing above the prefund state before all deposits are confirmed, and under a challenge
        nothing but a final state."""
        require(self.chain is not None, f"8: turn {state.turn} signed before the chain was seen")
        assert self.chain is not None
        latest, confirmed = self.chain.latest, self.chain.confirmed
        disputed = bool(latest.status.finalizes_at or confirmed.status.finalizes_at)
        if state.is_final and (disputed or self.leaving):
            return
        require(not disputed, f"8: turn {state.turn} signed under a challenge")
        require(not self.leaving, f"8: turn {state.turn} signed after this node began to leave")
        for at in (latest, confirmed):
            held = [int.from_bytes(amount, "big") for amount in at.holdings]
            covered = all(map(operator.ge, held, self._needed(state)))
            require(covered, f"8: turn {state.turn} signed before every deposit was confirmed")

    def _needed(self, state: Signed) -> list[int]:
        """Per asset all that the state owes, but where the last slot began with money that nobody brought: that one,
        and the ones before it in which participants say what they are about to bring."""
        groups: dict[bytes, list[tuple[int, int]]] = {}
        for at, (asset, _, start) in enumerate(self.setup.slots):
            now = int.from_bytes(state.amounts[32 * at : 32 * at + 32], "big")
            groups.setdefault(asset, []).append((start, now))
        grows = {asset: len(group) > 2 * self.setup.count and group[-1][0] > 0 for asset, group in groups.items()}
        return [
            sum(now for _, now in (group[: -self.setup.count - 1] if grows[asset] else group))
            for asset, group in groups.items()
        ]

    def _rule_8_virtual(self, state: Signed) -> None:
        """A virtual channel: the postfund state with a guarantee, batches with everybody's postfund signature, and
        nothing but a final state after that has ended."""
        if state.turn == 1:
            require(self.backing not in ("none", "failed", "released"), "8: turn 1 signed without a guarantee")
            return
        require(
            self.head is not None and self.head.turn >= 1, f"8: turn {state.turn} signed before turn 1 is supported"
        )
        stages = ("complete", "releasing", "disputed") if state.is_final else ("complete",)
        require(self.backing in stages, f"8: turn {state.turn} signed while the channel is {self.backing}")
        require(state.is_final or not self.leaving, f"8: turn {state.turn} signed after this node began to leave")

    def _is_finalized(self, state: Signed) -> bool:
        """Has the chain finalized this very turn, and been seen to?"""
        if self.setup.virtual and self.backing == "released":
            return True
        confirmed = self.chain.confirmed if self.chain is not None else None
        if confirmed is None or confirmed.registered is None or not confirmed.status.finalizes_at:
            return False
        same = plain_hash(self.setup, state) == plain_hash(self.setup, confirmed.registered)
        return same and confirmed.registered.turn == state.turn

    def _full(self, state: Signed) -> None:
        digest = plain_hash(self.setup, state)
        for participant, signature in zip(self.setup.participants, state.signatures, strict=True):
            signers = [recover(digest, turned) for turned in (signature, with_other_v(signature))]
            require(participant in signers, f"7: turn {state.turn} is not signed by everybody")
        if state.turn in self.signed:
            self.signed[state.turn] = state

    def _advance(self, state: Signed, *, remembered: bool = True) -> None:
        """`remembered` is False after a restore: then our own signature is all that says what we submitted."""
        before = self.head.turn if self.head else -1
        require(state.turn > before, f"6: turn {state.turn} follows turn {before}")
        above = not self.signed or state.turn >= max(self.signed)
        require(above or self._is_finalized(state), "4: appended below a turn that is signed")
        require(len(self.log) + len(state.entries) == state.sequence, "6: the log has a gap")
        for data in state.entries:
            self.root = keccak256(self.root + keccak256(data))
            self._entry(data, remembered)
        require(self.root == state.log_root, "6: the signed log root is another one")
        require(self.head is None or state.time_ms >= self.head.time_ms, "3: time runs backwards")
        require(self.head is None or not self.head.is_final or state.is_final, "5: a state after the final one")
        self.head = state
        self.signed = {turn: s for turn, s in self.signed.items() if turn > state.turn}

    def _entry(self, data: bytes, remembered: bool) -> None:
        entry = decode_entry(data)
        key = (entry.author, entry.counter)
        require(key not in self.included, f"6: {key} is in the log twice")
        require(key not in self.refused, f"6: {key} was refused and is in the log")
        forgotten = self.restored and entry.kind in (Kind.TICK, Kind.CLOSE) and entry.counter not in self.submitted
        if remembered and entry.author == self.me and self.me != 0 and entry.kind != Kind.OPEN and not forgotten:
            said = self.submitted.get(entry.counter)
            require(said == (entry.kind, entry.payload), f"3: {key} is not what this participant said")
        if entry.kind != Kind.OPEN:
            self.included.add(key)
        self.log.append(data)


def check_log(log: EventLog, channel: bytes) -> LogCheck | None:
    """Rules 1 to 7 over one node's stream, from its first event; None when it does not know the channel."""
    check: LogCheck | None = None
    for page in log.read(channel):
        for data in page.events:
            event = decode_event(data)
            if check is None:
                require(isinstance(event, ChannelCreated), "6: the stream does not begin with its creation")
                check = LogCheck(event)
            else:
                check.feed(event)
    return check


class Watch:
    """Sees every message that leaves a node: nothing signed before it is durable (rule 1), one state per turn (2)."""

    def __init__(self, sim: Any, honest: set[int] | None = None) -> None:
        self.sim = sim
        self.honest = honest
        self.left: dict[tuple[int, bytes, int], bytes] = {}  # (node, channel, turn): the signature that left
        self.messages = 0
        self._known: dict[tuple[int, bytes], tuple[SimDisk, int, set[bytes]]] = {}  # pages read, signatures in them
        self._inner = sim.tap
        sim.tap = self._tap

    def _tap(self, sender: int, to: Address, data: bytes) -> bytes | None:
        if self.honest is None or sender in self.honest:
            self._check(sender, decode_message(data))
            self.messages += 1
        inner: bytes | None = self._inner(sender, to, data) if self._inner is not None else data
        return inner

    def _check(self, sender: int, message: Any) -> None:
        match message:
            case Proposal():
                turn, signature = 0, message.signature
            case Propose() | Countersign():
                turn, signature = message.turn, message.signature
                self._check_successor(self.sim.nodes[sender], message.channel, turn)
            case Supported():
                node = self.sim.nodes[sender]
                index = node.engine(message.channel).state.setup.my_index
                turn, signature = message.turn, message.signatures[index]
                self.check_full(node.engine(message.channel).state.setup, message)
            case _:
                return
        key = (sender, message.channel, turn)
        require(self.left.setdefault(key, signature) == signature, f"2: node {sender} said turn {turn} in two ways")
        require(signature in self._durable(sender, message.channel), f"1: turn {turn} left node {sender} unrecorded")

    def _check_successor(self, node: Any, channel: bytes, turn: int) -> None:
        """Under a state that passes money on nobody signs before everybody's signature is durable under the state by
        which the successor would pay, with what comes in and no more, to the same accounts."""
        state = node.engine(channel).state
        known = [each for each in (state.head, *state.candidates) if each is not None and each.turn == turn]
        successor = passed_to(state.setup, known[0].amounts) if known else None
        if successor is None:
            return
        head = check_log(node.log.durable_copy(), successor)
        require(head is not None and head.head is not None, f"7: turn {turn} moves money to a channel without a state")
        assert head is not None
        old = state.setup
        words = [int.from_bytes(known[0].amounts[i : i + 32], "big") for i in range(0, len(known[0].amounts), 32)]
        owed, moved = words[: len(old.slots)], words[len(old.slots) + 1 :]
        accounts = [[slot[:2] for slot in each.slots] for each in (old, head.setup)]
        require(accounts[0] == accounts[1], f"7: turn {turn} moves money to a channel that pays others")
        assets = [asset for asset, _, _ in old.slots]
        for at, (_, _, begins) in enumerate(head.setup.slots):
            if at - assets.index(assets[at]) < old.count:
                require(
                    moved[at] == begins <= owed[at], f"7: {moved[at]} of slot {at} move, which begins with {begins}"
                )
            else:
                require(moved[at] == 0, f"7: {moved[at]} of slot {at} move, which is no participant's")

    def check_full(self, setup: Setup, full: Supported) -> None:
        """Would the contracts take this full set?"""
        state = Signed(
            full.turn,
            full.is_final,
            (),
            full.sequence,
            full.log_root,
            full.state_root,
            full.amounts,
            full.time_ms,
            full.signatures,
            (),
        )
        digest = plain_hash(setup, state)
        signers = tuple(recover(digest, signature) for signature in full.signatures)
        require(signers == setup.participants, f"7: turn {full.turn} left in a form that the contracts refuse")

    def _durable(self, sender: int, channel: bytes) -> set[bytes]:
        """Every signature of its own that the node would still know after a power cut now."""
        disk = self.sim.nodes[sender].log.disk
        known_disk, read, known = self._known.get((sender, channel), (disk, 0, set()))
        if known_disk is not disk:  # another one was put in
            read, known = 0, set()
        for key, value in disk.pages[read:]:
            if key[:STREAM_BYTES] == channel:
                for data in unframe_page(key, value).events:
                    event = decode_event(data)
                    if isinstance(event, StateSigned | StateCompleted | StateAdopted | StateRecalled):
                        known.update(event.state.signatures)
        self._known[(sender, channel)] = (disk, len(disk.pages), known)
        return known
