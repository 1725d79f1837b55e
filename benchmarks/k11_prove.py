"""K11: proofs of rows under a co-signed state, each beside the least it needs.

A channel that was asked before: a document with row, siblings and signed state, beside checking it. A channel
that is asked for the first time: its log, read from disk and run, beside running the same batches from memory through a
bare kernel. Value: milliseconds for a document.
"""

from __future__ import annotations

from typing import Any

from benchmarks._ledger_channel import channel_in, opened, write_channel
from benchmarks._server import folder
from benchmarks._transfers import draw, maker, module
from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import Side, compare

MESSAGES = 10_000
HISTORY = 1  # the table's position


def run() -> Result:
    from scapp.runtime.kernel import Budget
    from scapp.runtime.proof_documents import check, make_document
    from scapp.runtime.prover import Prover
    from scapp.runtime.rows import encode_key

    transfers = draw(MESSAGES)

    def payload(number: int, _: Any) -> Any:
        return {"transfer": dict(zip(("sender", "recipient", "amount"), transfers[number], strict=True))}

    with folder() as at:
        signer = write_channel(at / "log", MESSAGES, at_once=1_000, module=module(), payload=payload)
        with opened(at / "log") as log:
            driver, source = channel_in(log, signer)
            context = driver.engine.state.setup.context
            codec = module().tables[HISTORY]
            key = codec.read_key(encode_key(codec.table, [777]))
            prover = Prover(source, maker())

            def document() -> Any:
                proved = prover.prove(context, HISTORY, key)
                assert proved.row is not None
                return make_document(context.deployment, HISTORY, codec.table, key, proved)

            made = document()
            warm = compare(Side(document), Side(lambda: check(made)))
            prover.close()

            def first() -> None:
                once = Prover(source, maker())
                assert once.prove(context, HISTORY, key).row is not None
                once.close()

            batches = [batch for batch in source.batches(context.channel_id) if batch.entries]

            def bare() -> None:
                kernel = maker()(context)
                for batch in batches:
                    kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
                    kernel.commit(batch.turn)
                kernel.close()

            cold = compare(Side(first, MESSAGES), Side(bare, MESSAGES), clock="wall")
    notes = (
        f"a document in {1e3 / warm.rate:.3f} ms, checked in {1e3 / warm.reference_rate:.3f} ms",
        f"the first of a channel: {cold.rate:,.0f} messages/s, the bare kernel {cold.reference_rate:,.0f}",
    )
    parts = [
        Part("documents made for one checked", warm.ratio, 0.5),
        Part("the first one against the bare kernel", cold.ratio, 0.5),
    ]
    return Result.of_parts(1e3 / warm.rate, "ms", parts, notes)


MEASURES = [Measure("K11", "a proof's document against checking it; the first against a bare kernel", 1, run)]
