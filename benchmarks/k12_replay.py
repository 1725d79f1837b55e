"""K12: a channel derived again into a schema of its own beside its live rows, against a bare COPY of the rows that come
out, plus commit. The replay checks each batch against what was signed, and makes and drops its schema. Value: messages
per second.
"""

from __future__ import annotations

from benchmarks._server import folder, server
from benchmarks._transfers import clean, maker, module
from benchmarks.k06_end_to_end import copy
from benchmarks.k10_verify import MESSAGES, derived
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare


def run() -> Result:
    from scapp.runtime.kernel import Budget
    from scapp.runtime.replay import Replay
    from scapp.runtime.schema import AppSchema, ensure_side_schema

    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        log = derived(backend)
        schema = AppSchema("transfer", module().manifest)

        def ours() -> None:
            replay = Replay(backend, schema, log.context, log, lambda: maker()(log.context))
            cursor, _ = replay.run(compare=False, swap=False)
            assert cursor.sequence == MESSAGES + 1
            replay.drop()

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
            outcome = compare(Side(ours, MESSAGES), bare, clock="wall", slot_seconds=0.001)
    notes = (f"the bare COPY and its commit: {outcome.reference_rate:,.0f} messages/s",)
    return Result(outcome.rate, "messages/s", 1 / outcome.ratio, notes)


MEASURES = [Measure("K12", "a channel derived again, against COPY of its rows", 3, run, lower_is_better=True)]
