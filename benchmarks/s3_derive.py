"""S3: 1000 messages of the ledger derived in one batch, in seconds: reducer, tables, state root and net changes.

The figure is of the kernel alone, from committed entries to a change set; PostgreSQL is not in it. Every message reads
and writes two accounts and a history row with two indexes, and sets the outcome.
"""

from __future__ import annotations

from benchmarks.runner import Measure, Result
from benchmarks.timing import median_seconds

MESSAGES = 1_000


def run() -> Result:
    import msgspec

    from scapp.channels.admission import ChannelContext
    from scapp.channels.deployment import Limits
    from scapp.channels.entries import Kind, OpenPayload, Slot, encode_entry
    from scapp.channels.types import ChannelId
    from scapp.reducers.library import wasm_bytes
    from scapp.runtime.kernel import Budget
    from scapp.runtime.module import check_module
    from scapp.runtime.reference import ReferenceKernel

    participants = (b"\xa1" * 20, b"\xb0" * 20)
    checked = check_module(wasm_bytes("ledger"), Limits())
    slots = tuple((bytes(20), bytes(12) + who, 1_000_000) for who in participants)
    context = ChannelContext(ChannelId(b"\xc4" * 32), participants, checked.deployment, slots)
    opening = OpenPayload(participants, tuple(Slot(a, d, n.to_bytes(32, "big")) for a, d, n in slots), {})
    kernel = ReferenceKernel(checked, context)
    opened = kernel.run(0, [encode_entry(Kind.OPEN, 0, 0, 0, msgspec.msgpack.encode(opening))], budget=Budget.ORDER)
    assert opened.accepted == (0,), opened.refusals
    kernel.commit()
    entries = []
    for number in range(MESSAGES):
        author = number % 2
        payload = msgspec.msgpack.encode({"transfer": {"to": participants[1 - author], "amount": 1 + number % 7}})
        entries.append(encode_entry(Kind.MESSAGE, author, number, 1_000 + number, payload))
    start = kernel.export_state()

    def derive() -> None:
        result = kernel.run(1, entries, budget=Budget.DERIVE)
        assert len(result.accepted) == MESSAGES, result.refusals[:1]
        kernel.commit()

    seconds = median_seconds(derive, prepare=lambda: kernel.import_state(start), clock="wall", rounds=9)
    return Result(seconds, "s")


MEASURES = [Measure("S3", "1000 messages derived", goal=5, run=run, lower_is_better=True)]
