"""A process that appends to a log until it is killed; `tests/contracts/test_log_kill.py` checks what it leaves.

`python log_writer.py DIRECTORY` prints one line per acknowledged append, `STREAM_INDEX NUMBER`, after it is durable.
Append `NUMBER` of a stream holds `NUMBER % 4 + 1` events, repeats them in the witness stream, and counts in the outbox.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from scapp.channels.log.committer import Committer
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.log.rocks import RocksLog

STREAMS = tuple(bytes([index]) * 32 for index in range(1, 4))
WITNESSES = tuple(bytes([index]) * 31 + b"\x00" for index in range(1, 4))


def events_of_append(index: int, number: int) -> tuple[bytes, ...]:
    """What append `number` of a stream holds; its size varies up to several blocks."""
    filler = bytes([number % 251]) * (number * 7919 % 3000)
    return tuple(b"%d.%d.%d|" % (index, number, part) + filler for part in range(number % 4 + 1))


def appends_in(version: int) -> int:
    """How many whole appends make `version` events; raises ValueError when the last one is cut."""
    number = events = 0
    while events < version:
        events += number % 4 + 1
        number += 1
    if events != version:
        raise ValueError(f"{version} events end inside append {number - 1}")
    return number


def _append_for_ever(committer: Committer, index: int, version: int) -> None:
    number = appends_in(version)
    while True:
        events = events_of_append(index, number)
        writes = (StreamWrite(STREAMS[index], version, events), StreamWrite(WITNESSES[index], version, events))
        committer.submit(Append(writes, {b"stream%d" % index: b"%d" % number})).result()
        os.write(1, b"%d %d\n" % (index, number))
        number, version = number + 1, version + len(events)


def main() -> None:
    log = RocksLog(Path(sys.argv[1]))
    committer = Committer(log)
    for index, stream in enumerate(STREAMS):
        threading.Thread(target=_append_for_ever, args=(committer, index, log.version(stream)), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
