"""K12: a channel derived again into a schema of its own beside its live rows, against a bare COPY of the rows that come
out, plus commit. The replay checks each batch against what was signed, and makes and drops its schema. Value: messages
per second.

K13: the same replay where the app keeps history of its accounts, so that each message leaves two versions of rows as
well, against the one without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks._server import folder, server
from benchmarks._transfers import clean, maker, module
from benchmarks.k06_end_to_end import copy
from benchmarks.k10_verify import MESSAGES, derived
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare


def _replaying(backend: Any, log: Any, manifest: Any, make_kernel: Callable[[], Any]) -> Side:
    from scapp.runtime.replay import Replay
    from scapp.runtime.schema import AppSchema

    def replay() -> None:
        fresh = Replay(backend, AppSchema("transfer", manifest), log.context, log, make_kernel)
        cursor, _ = fresh.run(compare=False, swap=False)
        assert cursor.sequence == MESSAGES + 1
        fresh.drop()

    return Side(replay, MESSAGES)


def run() -> Result:
    from scapp.runtime.kernel import Budget
    from scapp.runtime.schema import ensure_side_schema

    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        log = derived(backend)
        kernel = maker()(log.context)
        for batch in log.batches(log.context.channel_id):
            kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
            kernel.commit(batch.turn)
        changes = kernel.take_changes(1)
        kernel.close()
        ensure_side_schema(backend, "scapp_bare", module().manifest)
        assert changes.messages is not None
        streams = [("scapp_bare.scapp_messages", changes.messages.copy)]
        streams += [(f"scapp_bare.{change.table}", change.copy) for change in changes.tables]
        with backend.connect() as connection:

            def empty() -> None:
                connection.execute(f"TRUNCATE {', '.join(name for name, _ in streams)}".encode())

            bare = Side(lambda: copy(connection, streams), MESSAGES, empty)
            ours = _replaying(backend, log, module().manifest, lambda: maker()(log.context))
            outcome = compare(ours, bare, clock="wall", slot_seconds=0.001)
    notes = (f"the bare COPY and its commit: {outcome.reference_rate:,.0f} messages/s",)
    return Result(outcome.rate, "messages/s", 1 / outcome.ratio, notes)


def run_history() -> Result:
    import msgspec

    from scapp.runtime.module import CheckedModule
    from scapp.runtime.native.kernel import NativeKernel

    plain = module()
    account, *others = plain.manifest.tables
    manifest = msgspec.structs.replace(plain.manifest, tables=(msgspec.structs.replace(account, history=True), *others))
    keeping = CheckedModule(plain.wasm, plain.limits, manifest, plain._compiled)
    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        log = derived(backend)
        outcome = compare(
            _replaying(backend, log, manifest, lambda: NativeKernel(keeping, log.context)),
            _replaying(backend, log, plain.manifest, lambda: NativeKernel(plain, log.context)),
            clock="wall",
            slot_seconds=0.001,
        )
    notes = (f"without history: {outcome.reference_rate:,.0f} messages/s",)
    return Result(outcome.rate, "messages/s", outcome.ratio, notes)


MEASURES = [
    Measure("K12", "a channel derived again, against COPY of its rows", 3, run, lower_is_better=True),
    Measure("K13", "the same with history of two rows a message, against without", 0.5, run_history),
]
