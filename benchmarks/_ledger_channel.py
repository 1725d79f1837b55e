"""A supported channel of the ledger app in a log on disk, as two real nodes leave it; for measures of what reads it.

The nodes run in this process over the in-process transport; everything else is what a node process is made of.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_MS = 1_700_000_000_000


class AcceptAll:
    """The policy of a node that accepts whatever is proposed."""

    def decide(self, proposer: Any, deployment: Any, created: Any) -> str:
        return "accept"


def module_for(deployment: Any) -> Any:
    """The checked ledger module, compiled once in a process."""
    from scapp.channels.deployment import Limits
    from scapp.reducers.library import wasm_bytes
    from scapp.runtime.module import check_module

    if "ledger" not in _CHECKED:
        _CHECKED["ledger"] = check_module(wasm_bytes("ledger"), Limits())
    checked = _CHECKED["ledger"]
    if deployment is not None and deployment != checked.deployment:
        raise LookupError("only the ledger is here")
    return checked


_CHECKED: dict[str, Any] = {}


def write_channel(
    folder: Path,
    messages: int,
    *,
    killed: Path | None = None,
    at_once: int = 100,
    module: Any = None,
    payload: Callable[[int, Any], Any] | None = None,
) -> Any:
    """Order, check and sign `messages` transfers between two nodes; the sequencer's log is then in `folder`,
    as after a stop, and in `killed`, if that is given, as a kill before the stop would leave it.

    `payload` gives another module's messages by number and recipient. Returns the sequencer's signer.
    Every transfer of the ledger reads and writes two accounts and a history row with two indexes."""
    from scapp.channels.signing import Signer

    signers = [Signer(bytes([number]) * 32) for number in (0x11, 0x22)]
    module = module or module_for(None)
    asyncio.run(
        _play(
            folder, signers, module, [(payload or _transfer)(n, signers[1]) for n in range(messages)], killed, at_once
        )
    )
    return signers[0]


def _transfer(number: int, recipient: Any) -> Any:
    return {"transfer": {"to": recipient.address, "amount": 1 + number % 7}}


async def _play(
    folder: Path, signers: list[Any], module: Any, messages: list[Any], killed: Path | None, at_once: int
) -> None:
    import msgspec

    from scapp.channels.log.committer import Committer
    from scapp.channels.log.memory import MemoryLog
    from scapp.channels.log.rocks import RocksLog
    from scapp.channels.node import Node
    from scapp.channels.service import OpenRequest
    from scapp.channels.transport.fake import FakeNetwork, FakeTransport
    from scapp.runtime.admission import ReducerAdmission
    from scapp.runtime.modules import kernel_maker

    network = FakeNetwork(seed=1, automatic=True)
    clock, nonces = itertools.count(START_MS), itertools.count(1)
    logs: list[Any] = [RocksLog(folder), MemoryLog()]
    committers = [Committer(log) for log in logs]
    nodes = [
        Node(
            signer=signer,
            log=log,
            committer=committer,
            transport=FakeTransport(network, signer.address),
            admission=ReducerAdmission(kernel_maker(lambda _: module, track=False)),
            policy=AcceptAll(),
            clock_ms=lambda: next(clock),
            nonce=lambda: next(nonces),
        )
        for signer, log, committer in zip(signers, logs, committers, strict=True)
    ]
    try:
        for node in nodes:
            await node.start()
        a, b = (signer.address for signer in signers)
        nodes[0].add_peer(b, "sim:1")
        nodes[1].add_peer(a, "sim:1")
        slots = tuple((bytes(20), bytes(12) + who, 10_000_000) for who in (a, b))
        channel = await nodes[0].open_channel(OpenRequest(peers=(b,), deployment=module.deployment, slots=slots))
        await nodes[0].wait_phase(channel, ("running",), 30)
        for start in range(0, len(messages), at_once):
            payloads = [msgspec.msgpack.encode(message) for message in messages[start : start + at_once]]
            receipts = await nodes[0].submit(channel, payloads)
            assert all(receipt.status == "accepted" for receipt in receipts), receipts[0]
        if killed is not None:
            logs[0].flush()
            shutil.copytree(folder, killed)
    finally:
        for node in nodes:
            await node.stop()
        for committer, log in zip(committers, logs, strict=True):
            committer.close()
            log.close()


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """The log, open again: nothing of it is in memory tables."""
    from scapp.channels.log.rocks import RocksLog

    with RocksLog(folder) as log:
        yield log


def channel_in(log: Any, signer: Any) -> tuple[Any, Any]:
    """The log's one channel rebuilt from its events, and the source that reads the log for it."""
    from scapp.channels.driver import load
    from scapp.channels.log_source import LogSource

    (stream,) = log.streams()
    driver = load(log, stream, signer)
    return driver, LogSource(log, lambda: {stream: driver})
