"""The recorded log of a real channel as a test: what `scapp log CHANNEL --json` wrote, run again without a node.

Each turn runs as the batch that was signed, and must end at the root that was signed. The same log then goes through
every way of `determinism.differences`, or through `stalling.stalls`: a turn is a moment at which somebody could stop.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, OpenPayload, encode_entry
from scapp.channels.types import ChannelId
from scapp.runtime.app_document import BadTest
from scapp.runtime.app_test import Report
from scapp.runtime.app_values import shown
from scapp.runtime.determinism import differences
from scapp.runtime.documents import EntryView
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.module import CheckedModule
from scapp.runtime.modules import kernel_maker
from scapp.runtime.stalling import Prefix, stalls


class RecordedLog(msgspec.Struct, frozen=True):
    """`entries` from the opening on, without a gap."""

    channel: str
    entries: list[EntryView]


class _Entry(msgspec.Struct, frozen=True):
    view: EntryView
    data: bytes


def load_log(path: Path) -> RecordedLog:
    """Raises BadTest."""
    try:
        log = msgspec.json.decode(path.read_bytes(), type=RecordedLog)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise BadTest(f"{path.name} is no log as `scapp log CHANNEL --json` writes it: {error}") from None
    if not log.entries or [entry.sequence for entry in log.entries] != list(range(len(log.entries))):
        raise BadTest(f"{path.name}: the log must be whole, from entry 0 on")
    return log


def run_log(module: CheckedModule, log: RecordedLog, *, determinism: bool = False) -> Report:
    """Run the log as it was signed. Raises BadTest for one that is not a channel's of this module."""
    entries = [_Entry(view, _bytes_of(view)) for view in log.entries]
    context, names = _context(module, log, entries[0])
    failures: list[str] = []
    prefixes: list[Prefix] = []
    kernel = kernel_maker(lambda _: module, track=False)(context)
    try:
        for turn in _turns(entries):
            fault = _run(kernel, turn)
            if fault:
                failures.append(f"turn {turn[0].view.turn}, from entry {turn[0].view.sequence}: {fault}")
                break
            last = turn[-1].view
            prefixes.append(Prefix(last.sequence + 1, _step(turn, names), kernel.amounts()))
    finally:
        kernel.close()
    if determinism and not failures:
        found = differences(module, context, [entry.data for entry in entries])
        failures += [f"{each.way}: after {each.sequence} entries, {each.detail}\n    {each.hint}" for each in found]
    payees = {address.rjust(32, b"\0"): name for name, address in zip(names, context.participants, strict=True)}
    slots = [("0x" + asset.hex(), payees.get(destination)) for asset, destination, _ in context.slots]
    return Report(failures, len(entries), set(_accepted(log)), stalls(slots, names, prefixes))


def _bytes_of(view: EntryView) -> bytes:
    """The entry as it was signed: its hash stands beside it."""
    try:
        kind = Kind[view.kind.upper()]
        payload = base64.b64decode(view.payload_base64, validate=True)
        data = encode_entry(kind, view.author, view.counter, view.time_ms, payload)
    except (KeyError, ValueError, struct.error) as error:
        raise BadTest(f"entry {view.sequence} cannot be read: {error}") from None
    if view.hash != "0x" + keccak256(data).hex():
        raise BadTest(f"entry {view.sequence} was changed: its hash is not {view.hash}")
    return data


def _context(module: CheckedModule, log: RecordedLog, first: _Entry) -> tuple[ChannelContext, list[str]]:
    """What the opening says, and how the participants are called here."""
    try:
        channel = bytes.fromhex(log.channel.removeprefix("0x"))
        opening = msgspec.msgpack.decode(base64.b64decode(first.view.payload_base64), type=OpenPayload)
    except (ValueError, RecursionError) as error:
        raise BadTest(f"the log does not begin with the opening of a channel: {error}") from None
    if len(channel) != 32:
        raise BadTest(f"{log.channel!r} is no channel id: 32 bytes are")
    lengths = [(len(slot.asset), len(slot.destination), len(slot.amount)) for slot in opening.slots]
    if set(map(len, opening.participants)) != {20} or any(each != (20, 32, 32) for each in lengths):
        raise BadTest("the log does not begin with the opening of a channel: addresses or slots have other lengths")
    strange = next((e for e in log.entries if e.author >= len(opening.participants)), None)
    if strange is not None:
        raise BadTest(f"entry {strange.sequence} is of author {strange.author}, who does not take part")
    slots = tuple((slot.asset, slot.destination, int.from_bytes(slot.amount, "big")) for slot in opening.slots)
    context = ChannelContext(ChannelId(channel), opening.participants, module.deployment, slots)
    return context, [f"{index} 0x{address.hex()[:6]}" for index, address in enumerate(opening.participants)]


def _turns(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    for _, turn in groupby(entries, key=lambda entry: entry.view.turn):
        yield list(turn)


def _run(kernel: Kernel, turn: Sequence[_Entry]) -> str:
    """Why the turn is not what was signed, or nothing."""
    first, last = turn[0].view, turn[-1].view
    result = kernel.run(first.sequence, [entry.data for entry in turn], budget=Budget.DERIVE)
    if result.refusals:
        refusal = result.refusals[0]
        return (
            f"entry {first.sequence + refusal.index} was signed and is refused here ({refusal.code}): {refusal.reason}"
        )
    kernel.commit(last.turn)
    root = "0x" + result.state_root.hex()
    return "" if root == last.state_root else f"root {root}, signed was {last.state_root}"


def _step(turn: Sequence[_Entry], names: Sequence[str]) -> str:
    """What the turn did, as far as a line of a table has room."""
    if turn[0].view.kind == "open":
        return "the opening"
    said = [shown(each.view.payload) if each.view.kind == "message" else each.view.kind for each in turn]
    who = names[turn[0].view.author]
    more = f" and {len(turn) - 1} more" if len(turn) > 1 else ""
    return f"turn {turn[0].view.turn}{more} ({who}: {said[0]})"


def _accepted(log: RecordedLog) -> Iterator[str]:
    """Names of the messages in it, as far as their payloads could be read."""
    for entry in log.entries:
        if entry.kind != "message":
            continue
        if isinstance(entry.payload, str):
            yield entry.payload
        elif isinstance(entry.payload, dict):
            yield next(iter(entry.payload), "")
