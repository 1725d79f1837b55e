"""A hostile peer against a real node: real sockets and TLS, a log on disk, crafted bytes.

Every attack is refused with a reason in the node's log, changes nothing, and leaves the node working.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from scapp.channels.channel.events import ChannelCreated, Signed
from scapp.channels.channel.messages import Countersign, Propose, Status, decode_message, encode_message
from scapp.channels.channel.session import NOTHING
from scapp.channels.deployment import Deployment
from scapp.channels.entries import Kind, encode_entry, extend_log_root
from scapp.channels.log.committer import Committer
from scapp.channels.log.rocks import RocksLog
from scapp.channels.node import Node
from scapp.channels.service import ChannelInfo, OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.transport.tcp import TcpTransport
from scapp.channels.types import Address, ChannelId, Hash
from tests.support.fakes import SumAdmission


def now_ms() -> int:
    """The nodes' clock."""
    return time.time_ns() // 1_000_000


class AcceptAll:
    """A policy for the test."""

    def decide(self, proposer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        return "accept"


class Scene:
    """An honest node on disk and an honest peer of its channel, whose transport Mallory can take over."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def start(self, honest_is_sequencer: bool) -> Scene:
        self.log = RocksLog(self.directory / "log")
        self.committer = Committer(self.log)
        self.honest = await self._node(1, self.log, self.committer)
        self.other_log = RocksLog(self.directory / "other")
        self.other_committer = Committer(self.other_log)
        self.other = await self._node(2, self.other_log, self.other_committer)
        self.honest.add_peer(self.other.address, self.other_transport.endpoint)
        opener, peer = (self.honest, self.other) if honest_is_sequencer else (self.other, self.honest)
        request = OpenRequest(
            peers=(peer.address,), deployment=Deployment(bytes(32)), slots=((bytes(20), bytes(32), 9),)
        )
        self.channel: ChannelId = await opener.open_channel(request)
        await opener.wait_phase(self.channel, ("running",), 10)
        await peer.wait_phase(self.channel, ("running",), 10)
        return self

    async def _node(self, key: int, log: RocksLog, committer: Committer) -> Node:
        signer = Signer(bytes([key]) * 32)
        transport = TcpTransport(signer)
        node = Node(
            signer=signer,
            log=log,
            committer=committer,
            transport=transport,
            admission=SumAdmission(),
            policy=AcceptAll(),
            clock_ms=now_ms,
            nonce=lambda: 5,
        )
        await node.start()
        if key == 1:
            self.honest_transport = transport
        else:
            self.other_transport, self.mallory = transport, signer
        return node

    async def say(self, data: bytes) -> None:
        """Send bytes as the other participant, proved by its key, and wait until they are processed."""
        done = asyncio.Event()
        self.other_transport.send(self.honest.address, data, done.set)
        async with asyncio.timeout(10):
            await done.wait()
            await self.honest._runners[self.channel].input(lambda engine, now: NOTHING)  # behind it in the queue

    def info(self) -> ChannelInfo:
        return self.honest.channel(self.channel)

    def events(self) -> list[bytes]:
        return [event for page in self.log.read(self.channel) for event in page.events]

    async def end(self) -> None:
        await self.honest.stop()
        await self.other.stop()
        for committer in (self.committer, self.other_committer):
            committer.close()
        self.log.close()
        self.other_log.close()


@pytest.fixture
async def countersigner(tmp_path: Path) -> AsyncIterator[Scene]:
    """The honest node countersigns; Mallory speaks as its sequencer."""
    scene = await Scene(tmp_path).start(honest_is_sequencer=False)
    yield scene
    await scene.end()


@pytest.fixture
async def sequencer(tmp_path: Path) -> AsyncIterator[Scene]:
    """The honest node is the sequencer; Mallory speaks as the countersigner."""
    scene = await Scene(tmp_path).start(honest_is_sequencer=True)
    yield scene
    await scene.end()


def proposal(scene: Scene, *, turn: int = 2, payload: bytes = b"hi", root: bytes | None = None) -> Propose:
    """The sequencer's next state with one entry of its own, validly signed; `root` replaces the right state root."""
    info = scene.info()
    now = now_ms()
    entries = (encode_entry(Kind.MESSAGE, 0, 1, now, payload),)
    admission = SumAdmission()
    state = scene.honest._runners[scene.channel].engine.state
    admission.load(state.setup.context, [scene.honest.source.entries(scene.channel, 0, info.sequence)])
    right = admission.try_batch(scene.channel, info.sequence, entries, strict=True)
    unsigned = Propose(
        scene.channel,
        turn,
        False,
        info.sequence,
        entries,
        extend_log_root(Hash(info.log_root), entries),
        root or right.state_root,
        b"".join(a.to_bytes(32, "big") for a in right.amounts),
        now,
        (),
        bytes(65),
    )
    signed = Signed(turn, False, entries, info.sequence + 1, unsigned.log_root, unsigned.state_root, unsigned.amounts,
                    now, (b"", b""), (0, 0))  # fmt: skip
    return msgspec.structs.replace(unsigned, signature=scene.mallory.sign(state.setup.hash(signed)))


async def refused(scene: Scene, data: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """The bytes change nothing but the log file of the operator, which names the reason."""
    before, stored = scene.info(), scene.events()
    with caplog.at_level(logging.WARNING):
        await scene.say(data)
    after = msgspec.structs.replace(scene.info(), waiting_for=before.waiting_for)
    assert after == before
    assert scene.events() == stored
    assert reason in caplog.text


async def test_garbage_inside_the_secured_connection(countersigner: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no message."""
    await refused(countersigner, b"\xc1\xff garbage", "cannot be read", caplog)


async def test_a_wrong_signature(countersigner: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A proposal whose signature is another key's."""
    forged = msgspec.structs.replace(proposal(countersigner), signature=Signer(b"\x09" * 32).sign(Hash(bytes(32))))
    await refused(countersigner, encode_message(forged), "wrong signature", caplog)


async def test_a_wrong_root(countersigner: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A well-signed proposal whose state root is not what the reducer gives."""
    wrong = proposal(countersigner, root=b"\x01" * 32)
    await refused(countersigner, encode_message(wrong), "state root 0x0101", caplog)


async def test_a_lower_turn(countersigner: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A second proposal of a turn that is signed already."""
    again = proposal(countersigner, turn=1)
    before, stored = countersigner.info(), countersigner.events()
    await countersigner.say(encode_message(again))
    assert (countersigner.info(), countersigner.events()) == (before, stored)


async def test_another_participants_message(sequencer: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A countersigner that proposes: only participant 0 may."""
    status = sequencer.info()
    stolen = Propose(sequencer.channel, 2, False, status.sequence, (), status.log_root, status.state_root,
                     bytes(32), status.time_ms, (), bytes(65))  # fmt: skip
    await refused(sequencer, encode_message(stolen), "cannot propose", caplog)


async def test_a_message_twice(sequencer: Scene) -> None:
    """A peer that says everything twice: each submission becomes one entry."""
    once = sequencer.other_transport.send

    def twice(peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        once(peer, message, on_acked)
        once(peer, message)

    sequencer.other_transport.send = twice  # type: ignore[method-assign]
    receipts = await sequencer.other.submit(sequencer.channel, [b"one", b"two"])
    assert [r.sequence for r in receipts] == [1, 2]
    assert (await sequencer.honest.submit(sequencer.channel, [b"three"]))[0].sequence == 3
    assert sequencer.info().sequence == 4


async def test_a_signature_for_a_state_nobody_proposed(sequencer: Scene) -> None:
    """An early or invented countersignature changes nothing."""
    before, stored = sequencer.info(), sequencer.events()
    signature = sequencer.mallory.sign(Hash(bytes(32)))
    for turn in (1, 2, 99, 2**48 - 1):
        await sequencer.say(encode_message(Countersign(sequencer.channel, turn, signature)))
    assert (sequencer.info(), sequencer.events()) == (before, stored)


async def test_a_message_for_an_unknown_channel(sequencer: Scene, caplog: pytest.LogCaptureFixture) -> None:
    data = encode_message(Status(bytes(32), 1, 1, 1, bytes(32), True))
    await refused(sequencer, data, "unknown channel", caplog)


async def test_a_huge_frame_and_plain_noise_on_the_port(sequencer: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Strangers on the port get no further than the transport, and the node goes on serving its peer."""
    host, port = sequencer.honest_transport.endpoint.rsplit(":", 1)
    before, stored = sequencer.info(), sequencer.events()
    with caplog.at_level(logging.WARNING):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, struct.pack(">I", 2**31) + b"x" * 64):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(noise)
            async with asyncio.timeout(10):
                await reader.read()  # the node closes the connection
            writer.close()
            with contextlib.suppress(OSError):  # the node may reset a connection that it refuses
                await writer.wait_closed()
    assert "scapp.transport" in {record.name for record in caplog.records}
    assert (sequencer.info(), sequencer.events()) == (before, stored)
    assert (await sequencer.honest.submit(sequencer.channel, [b"still here"]))[0].status == "accepted"


async def test_after_all_that_a_valid_proposal_is_signed(
    countersigner: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The proposals refused above are refused for what is wrong with them: the right one is countersigned."""
    await countersigner.say(encode_message(msgspec.structs.replace(proposal(countersigner), signature=bytes(65))))
    good = proposal(countersigner)
    assert isinstance(decode_message(encode_message(good)), Propose)
    await countersigner.say(encode_message(good))
    assert countersigner.info().turn == 2
    assert countersigner.info().sequence == 2
