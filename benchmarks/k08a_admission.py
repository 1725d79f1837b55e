"""K8a: 2,000 channels opened and signed by two nodes in one process, which keep 64 each in memory: nearly every message
finds its channel set aside at both and has it loaded again from snapshot and log. Value = peak resident memory of that
process in MiB; both nodes, their logs in memory and what their engines hold of every channel are in it.

The process is a child of its own (`python -m benchmarks.k08a_admission COUNT`), because a peak cannot be taken back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._ledger_channel import START_MS, AcceptAll
from benchmarks._transfers import draw, module
from benchmarks.runner import Measure, Result

CHANNELS, KEPT = 2_000, 64
ROUNDS = 2  # messages in each channel, one after the other over all channels
AT_ONCE = 16


async def _life(count: int) -> dict[str, Any]:
    import msgspec

    from scapp.channels.idle import IdleBound
    from scapp.channels.log.committer import Committer
    from scapp.channels.log.memory import MemoryLog
    from scapp.channels.node import Node
    from scapp.channels.service import OpenRequest
    from scapp.channels.signing import Signer
    from scapp.channels.transport.fake import FakeNetwork, FakeTransport
    from scapp.runtime.admission import ReducerAdmission
    from scapp.runtime.modules import kernel_maker

    network = FakeNetwork(seed=1, automatic=True)
    clock, nonces = itertools.count(START_MS), itertools.count(1)
    nodes, committers = [], []
    for key in (0x11, 0x22):
        signer, log = Signer(bytes([key]) * 32), MemoryLog()
        committers.append(Committer(log))
        nodes.append(
            Node(
                signer=signer,
                log=log,
                committer=committers[-1],
                transport=FakeTransport(network, signer.address),
                admission=ReducerAdmission(kernel_maker(lambda _: module(), track=False)),
                policy=AcceptAll(),
                clock_ms=lambda: next(clock),
                nonce=lambda: next(nonces),
                idle=IdleBound(KEPT),
            )
        )
        await nodes[-1].start()
    alice, bob = nodes
    alice.add_peer(bob.address, "sim:1")
    request = OpenRequest(peers=(bob.address,), deployment=module().deployment)

    async def all_of(calls: list[Any]) -> float:
        began = time.perf_counter()
        for start in range(0, len(calls), AT_ONCE):
            await asyncio.gather(*(call() for call in calls[start : start + AT_ONCE]))
        return len(calls) / (time.perf_counter() - began)

    channels: list[Any] = []

    async def open_one() -> None:
        channel = await alice.open_channel(request)
        await alice.wait_phase(channel, ("running",), 60)
        channels.append(channel)

    async def submit(channel: Any, payload: bytes) -> None:
        (receipt,) = await alice.submit(channel, [payload], timeout=60)
        assert receipt.status == "accepted", receipt

    rates = [await all_of([open_one] * count)]
    for sender, recipient, amount in draw(ROUNDS):
        data = msgspec.msgpack.encode({"transfer": {"sender": sender, "recipient": recipient, "amount": amount}})
        rates.append(await all_of([lambda at=at, data=data: submit(at, data) for at in channels]))
    aside = [node.counters()["admission_set_aside"] for node in nodes]
    for node, committer in zip(nodes, committers, strict=True):
        await node.stop()
        committer.close()
    return {"rates": rates, "aside": aside}


def child(count: int) -> None:
    """Open and sign everything, and print what it took as JSON."""
    found = asyncio.run(_life(count))
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **found}))


def run() -> Result:
    command = [sys.executable, "-m", "benchmarks.k08a_admission", str(CHANNELS)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1])
    found = json.loads(ended.stdout)
    opened, *signed = (f"{rate:,.0f}" for rate in found["rates"])
    notes = (
        f"channels opened/s {opened}, messages/s {', '.join(signed)}; set aside {found['aside'][0]:,} times by the "
        f"sequencer, {found['aside'][1]:,} by the countersigner",
    )
    return Result(found["peak"], "MiB", notes=notes)


MEASURES = [Measure("K8a", "2,000 channels signed, 64 in memory", 512, run, lower_is_better=True)]

if __name__ == "__main__":
    child(int(sys.argv[1]))
