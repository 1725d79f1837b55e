"""S5: the ledger in each language over the same log of 20,000 transfers: size of the module, messages a second.

The log runs through the kernel that nodes use, in batches of 1,000, interleaved between languages; thread CPU time. The
figure is the slowest language against Zig, the first one; the notes are the table of docs/reference/sdks.md.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.runner import Measure, Result

MESSAGES, BATCH, ROUNDS = 20_000, 1_000, 9
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
START_MS = 1_700_000_000_000


def _modules() -> dict[str, bytes]:
    from scapp.reducers.library import wasm_bytes

    return {
        "Zig": wasm_bytes("ledger"),
        "C": (GOLDEN / "ledger-c.wasm").read_bytes(),
        "Rust": (GOLDEN / "ledger-rust.wasm").read_bytes(),
        "AssemblyScript": (GOLDEN / "ledger-assemblyscript.wasm").read_bytes(),
    }


def _log() -> list[bytes]:
    import msgspec

    from scapp.channels.entries import Kind, encode_entry

    encode = msgspec.msgpack.encode
    alice, bob = bytes([1]) * 20, bytes([2]) * 20
    opening = encode([[alice, bob], [], {"balances": [[alice, 10**18], [bob, 10**18]]}])
    entries = [encode_entry(Kind.OPEN, 0, 1, START_MS, opening)]
    for number in range(MESSAGES):
        author, to = number % 2, (bob, alice)[number % 2]
        payload = encode({"transfer": {"to": to, "amount": number % 97 + 1}})
        entries.append(encode_entry(Kind.MESSAGE, author, number + 2, START_MS + number, payload))
    return entries


def _play(module: Any, entries: list[bytes]) -> bytes:
    """State root after the whole log."""
    from scapp.channels.admission import ChannelContext
    from scapp.channels.types import ChannelId
    from scapp.runtime.kernel import Budget
    from scapp.runtime.modules import kernel_maker

    parties = (bytes([1]) * 20, bytes([2]) * 20)
    kernel = kernel_maker(lambda _: module, track=False)(
        ChannelContext(ChannelId(bytes(32)), parties, module.deployment, ())
    )
    try:
        for first in range(0, len(entries), BATCH):
            result = kernel.run(first, entries[first : first + BATCH], budget=Budget.DERIVE)
            assert not result.refusals, result.refusals
            kernel.commit(first)
        return kernel.state_root()
    finally:
        kernel.close()


def _seconds(module: Any, entries: list[bytes]) -> float:
    begin = time.thread_time()
    _play(module, entries)
    return time.thread_time() - begin


def run() -> Result:
    from scapp.runtime.module import check_module

    wasm, entries = _modules(), _log()
    checked = {name: check_module(data) for name, data in wasm.items()}
    roots = {name: _play(module, entries) for name, module in checked.items()}
    assert len(set(roots.values())) == 1, roots
    rounds = [{name: _seconds(module, entries) for name, module in checked.items()} for _ in range(ROUNDS)]
    seconds = {name: statistics.median(each[name] for each in rounds) for name in checked}
    notes = tuple(f"| {name} | {len(wasm[name]):,} bytes | {len(entries) / seconds[name]:,.0f} |" for name in checked)
    slowest = max(statistics.median(each[name] / each["Zig"] for each in rounds) for name in checked)
    return Result(
        slowest,
        "x",
        notes=("| ledger | module | messages/s |", "|---|---|---|", *notes, f"one root: 0x{roots['Zig'].hex()[:16]}…"),
    )


MEASURES = [Measure("S5", "slowest language's ledger against Zig's", goal=2.0, run=run, lower_is_better=True)]
