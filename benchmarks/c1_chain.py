"""C1: how far the chain service is behind its chain at 1000 watched channels, in polling intervals.

anvil mines a block each polling interval; in each, 100 of the channels get a deposit (one call of the batch operator).
Measured is the time from the block to the last view that it changes, the wait for the next poll included.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from benchmarks.runner import HERE, Measure, Result, Unmeasured

CHANNELS = 1000
TOUCHED = 100
BLOCKS = 15
POLL_S = 1.0


async def follow(chain: Any) -> tuple[list[float], float]:
    """Lags of the blocks in polling intervals, and seconds for the first reading of all channels."""
    from scapp.channels import abi_types
    from scapp.channels.chain.key import ChainKey
    from scapp.channels.chain.service import connect
    from scapp.channels.chain.settings import ChainSettings
    from scapp.channels.crypto import keccak256
    from scapp.channels.log.memory import MemoryLog
    from scapp.channels.signing import Signer
    from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
    from scapp.runtime.devchain import DEPLOYER

    channels = [ChannelId(keccak256(number.to_bytes(4, "big"))) for number in range(CHANNELS)]
    settings = ChainSettings(
        endpoints=(chain.url,),
        chain_id=1337,
        adjudicator=Address(chain.contracts["NitroAdjudicator"]),
        consensus_app=Address(chain.contracts["ConsensusApp"]),
        confirmations=3,
        poll_seconds=POLL_S,
    )
    service = connect(settings, MemoryLog(), ChainKey(b"\x07" * 32), Signer(b"\x08" * 32).sign)
    told: dict[bytes, int] = {}
    last_told = [0.0]

    def on_view(channel: ChannelId, view: Any) -> None:
        told[channel] = view.latest.holdings[0]
        last_told[0] = time.perf_counter()

    for channel in channels:
        service.watch(channel, (ZERO_ADDRESS,))
    began = time.perf_counter()
    await service.start(on_view, lambda time_s: None)
    await until(lambda: len(told) == CHANNELS)
    first = time.perf_counter() - began
    lags, held = [], 0
    signature = "(bytes32[],uint256[],uint256[])"
    for block in range(BLOCKS):
        start = block * TOUCHED % CHANNELS
        touched = channels[start : start + TOUCHED]
        held = block * TOUCHED // CHANNELS
        data = abi_types.selector("deposit_batch_eth", signature) + abi_types.encode(
            signature, (touched, [held] * TOUCHED, [1] * TOUCHED)
        )
        receipt = await asyncio.to_thread(chain.send, DEPLOYER, chain.contracts["BatchOperator"], data, TOUCHED)
        mined = time.perf_counter()
        if receipt["status"] != "0x1":
            raise Unmeasured("a batch of deposits reverted")
        await until(lambda touched=touched, held=held: all(told[channel] == held + 1 for channel in touched))
        lags.append((last_told[0] - mined) / POLL_S)
        await asyncio.sleep(POLL_S * 1.37 - (time.perf_counter() - mined) % POLL_S)  # at any point between polls
    await service.stop()
    return lags, first


async def until(holds: Any) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  # the listener is called, nothing is awaited
            await asyncio.sleep(0.005)


def run() -> Result:
    from scapp.runtime import devchain

    try:
        program = devchain.binary(HERE.parent / "build" / "npm")
        with devchain.running(program=program) as chain:
            lags, first = asyncio.run(follow(chain))
    except OSError as error:
        raise Unmeasured(f"anvil does not run here: {error}") from error
    notes = (
        f"{CHANNELS} channels watched, {TOUCHED} touched by each of {BLOCKS} blocks, poll every {POLL_S:g} s",
        f"median {statistics.median(lags):.2f}; all channels were first read in {first:.2f} s",
    )
    return Result(value=max(lags), unit="polling intervals", notes=notes)


MEASURES = [
    Measure("C1", "greatest lag of the chain service at 1000 watched channels", 2, run, lower_is_better=True),
]
