"""S3: 1000 messages of the ledger derived, from the log on disk to committed rows in PostgreSQL, in seconds.

In the figure: rebuilding the channel from its RocksDB stream, reading and checking the supported batches (log roots,
state roots, amounts), the reducer over every message, the state root, schema and tables of the
app in an empty database, and the transaction with all rows and the cursor on the embedded server, which a query sees
afterwards. Not in it: starting the server and compiling the module. Every message reads and writes two accounts and a
history row with two indexes, and sets the outcome. The kernel's part is printed below, measured by itself.
"""

from __future__ import annotations

from typing import Any

from benchmarks._ledger_channel import channel_in, module_for, opened, write_channel
from benchmarks._server import folder, server
from benchmarks.runner import Measure, Result
from benchmarks.timing import median_seconds

MESSAGES = 1_000


def _derived_anew(backend: Any, log: Any, signer: Any) -> tuple[Any, Any]:
    """An empty database, and what derives the log into it."""
    from scapp.runtime.modules import kernel_maker
    from scapp.runtime.worker import Worker

    with backend.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS ledger, scapp CASCADE")

    def derive() -> None:
        driver, source = channel_in(log, signer)
        worker = Worker(
            source,
            backend,
            signer.address,
            kernel_for=kernel_maker(module_for, track=True),
            manifest_for=lambda deployment: module_for(deployment).manifest,
        )
        worker.run_once()
        worker.stop()
        (status,) = worker.status().values()
        assert status.cursor is not None, status.detail
        assert status.cursor.sequence == driver.engine.state.sequence == MESSAGES + 1, status

    def check() -> None:
        with backend.connect() as connection:
            found = connection.execute("SELECT count(*) FROM ledger.transfer").fetchone()
        assert found == (MESSAGES,), found

    return derive, check


def _kernel_alone(log: Any, signer: Any) -> float:
    """Seconds from the same batches to their changes; no database."""
    from scapp.runtime.kernel import Budget
    from scapp.runtime.modules import kernel_maker

    driver, source = channel_in(log, signer)
    context = driver.engine.state.setup.context
    batches = [batch for batch in source.batches(context.channel_id) if batch.entries]
    kernel = kernel_maker(module_for, track=True)(context)
    start = kernel.export_state()

    def derive() -> None:
        for batch in batches:
            result = kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
            assert result.state_root == batch.state_root, result.refusals[:1]
            kernel.commit(0)

    return median_seconds(derive, prepare=lambda: kernel.import_state(start), clock="wall", rounds=5)


def run() -> Result:
    with folder() as at, server(at / "pg") as backend:
        signer = write_channel(at / "log", MESSAGES)
        with opened(at / "log") as log:
            call: list[Any] = []

            def prepare() -> None:
                for check in call[1:]:
                    check()
                call[:] = _derived_anew(backend, log, signer)

            seconds = median_seconds(lambda: call[0](), prepare=prepare, clock="wall", rounds=9)
            call[1]()
            alone = _kernel_alone(log, signer)
    return Result(seconds, "s", notes=(f"the kernel alone, from entries to changes and root: {alone:.3f} s",))


MEASURES = [Measure("S3", "1000 messages from log to committed rows", goal=5, run=run, lower_is_better=True)]
