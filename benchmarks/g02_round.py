"""G2 and G6: a countersigned round with both event logs, and what batching makes of it (`channel_pair.py`)."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import Side, compare

MESSAGE_BYTES = 32


def _payloads(count: int) -> list[bytes]:
    return [b"%0*d" % (MESSAGE_BYTES, i) for i in range(count)]


def round_against_bare_crypto() -> Result:
    """One message per state against the bare library doing the same two signatures and two recoveries.

    Both work on another digest each time, like any real round: signing one digest over and over would touch the same
    few lines of the library's tables, which are larger than a core's own cache."""
    from coincurve import PrivateKey, PublicKey

    from benchmarks.channel_pair import Pair

    keys = (PrivateKey(b"\x11" * 32), PrivateKey(b"\x22" * 32))
    digests = itertools.cycle([hashlib.sha256(b"%d" % n).digest() for n in range(4096)])

    def bare() -> None:
        digest = next(digests)
        for key in keys:
            signature = key.sign_recoverable(digest, hasher=None)
            PublicKey.from_signature_and_message(signature, digest, hasher=None)

    with tempfile.TemporaryDirectory() as directory:
        pair = Pair(Path(directory))
        payloads = _payloads(1)
        outcome = compare(Side(lambda: pair.round_(payloads)), Side(bare), clock="thread")
        pair.close()
    return Result(value=outcome.rate, unit="rounds/s", ratio=outcome.ratio)


def batches_against_single_messages() -> Result:
    """Messages per second at 10, 100 and 1000 per state, against one per state on the same engine and logs."""
    from benchmarks.channel_pair import Pair

    parts = []
    rate = 0.0
    for count, goal in ((10, 7), (100, 30), (1000, 60)):
        with tempfile.TemporaryDirectory() as directory:
            one, many = Pair(Path(directory) / "one"), Pair(Path(directory) / "many")
            single, payloads = _payloads(1), _payloads(count)
            outcome = compare(
                Side(lambda pair=many, batch=payloads: pair.round_(batch), units=count),  # type: ignore[misc]
                Side(lambda pair=one, batch=single: pair.round_(batch)),  # type: ignore[misc]
                clock="thread",
            )
            one.close()
            many.close()
        rate = outcome.rate
        parts.append(Part(f"{count} per state", outcome.ratio, goal))
    return Result.of_parts(rate, "messages/s", parts)


MEASURES = [
    Measure(
        "G2",
        "countersigned round, both logs, unsynced, against bare 2 sign + 2 recover",
        0.7,
        round_against_bare_crypto,
    ),
    Measure("G6", "messages/s at 10/100/1000 per state, against one per state", 1, batches_against_single_messages),
]
