"""Two channel engines, sequencer and countersigner, each over its own RocksDB log, driven in one thread.

The real engine, driver and messages, encoded and decoded both ways; admission answers at once and computes nothing,
and nothing is synced: what remains is the cost of ordering, checking, signing and recording.

A round is one of a busy channel: the next batch is submitted while the last one is in flight, so that the sequencer
records that a state is supported together with its next proposal, as it does whenever something waits to be ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scapp.channels.admission import Admitted
from scapp.channels.channel.effects import PENDING, SendNow
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.messages import decode_message
from scapp.channels.channel.opening import created_from_proposal, open_signed, opening_entry, prefund_of
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.deployment import Deployment, Limits, encode_deployment
from scapp.channels.driver import ChannelDriver, Do, Store
from scapp.channels.entries import Kind
from scapp.channels.log.rocks import RocksLog
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS

NOW_MS = 1_700_000_000_000
SAID = frozenset(PENDING)
ACCEPTED = tuple(range(10_000))
ROOT_BYTES = 32  # entries have so many at least
MESSAGE = Kind.MESSAGE  # a member is looked for through its enumeration's metaclass each time


class Side:
    """One participant."""

    def __init__(self, key: bytes, directory: Path) -> None:
        self.signer = Signer(key)
        self.log = RocksLog(directory)
        self.out: list[bytes] = []
        self.driver: ChannelDriver | None = None
        self.root = bytes(32)

    def drive(self, step: Step | None) -> None:
        """Answer the driver's requests in place."""
        driver = self.driver
        assert driver is not None
        run = driver.run(step, NOW_MS)
        for request in run:
            kind = type(request)
            while kind is not Store and kind is not Do:
                request = run.send(self._admit(request.candidates))
                kind = type(request)
            if kind is Store:
                self.log.append(request, durable=False)
                continue
            for effect in request.effects:
                kind = type(effect)
                if kind in SAID:
                    self.out += driver.engine.materialize(effect)
                elif kind is SendNow:
                    self.out.append(effect.message)

    def _admit(self, candidates: tuple[bytes, ...]) -> Admitted:
        """A state root that depends on the batch, in place of a reducer: the end of the last entry."""
        if candidates:
            self.root = candidates[-1][-ROOT_BYTES:]
        return Admitted(ACCEPTED[: len(candidates)], (), self.root, ())

    def receive(self, index: int, data: bytes) -> None:
        """One message of the other side."""
        assert self.driver is not None
        message: Any = decode_message(data)  # of this channel: there is no other
        self.drive(self.driver.engine.receive(index, message, NOW_MS))


class Pair:
    """A running channel between two sides; `round_` orders, co-signs and records one batch of the sequencer's own
    messages."""

    def __init__(self, directory: Path) -> None:
        self.a = Side(b"\x11" * 32, directory / "a")
        self.b = Side(b"\x22" * 32, directory / "b")
        self.begin(7)

    def begin(self, nonce: int) -> None:
        """Another channel in the same logs; it is the one that the other methods are about from here on."""
        participants = (self.a.signer.address, self.b.signer.address)
        entry = opening_entry(participants, (), None, NOW_MS)
        created = ChannelCreated(
            my_index=0,
            participants=participants,
            nonce=nonce,
            app_definition=ZERO_ADDRESS,
            challenge_duration=60,
            deployment=encode_deployment(Deployment(bytes(32), limits=Limits())),
            slots=(),
            prefund=prefund_of((), 2, entry, bytes(32), NOW_MS),
        )
        root = entry[-ROOT_BYTES:]
        created = open_signed(created, self.a.signer, Admitted((0,), (), root, ()))
        self.a.root = root
        self.a.driver = ChannelDriver(Engine.created(created, self.a.signer), 0, unstored=created)
        self.a.drive(self.a.driver.engine.opened())
        proposal, self.a.out = self.a.out[0], []
        received = created_from_proposal(decode_message(proposal), self.b.signer.address, NOW_MS)  # type: ignore[arg-type]
        self.b.root = bytes(32)
        self.b.driver = ChannelDriver(Engine.created(received, self.b.signer), 0, unstored=received)
        self.b.drive(self.b.driver.engine.accept())
        self.exchange()
        assert Setup(created).channel_id == self.b.driver.stream

    def exchange(self) -> None:
        """Deliver until nothing is on its way."""
        while self.a.out or self.b.out:
            self._deliver()

    def _deliver(self) -> None:
        """What the sequencer has said, then what the other has."""
        a, b = self.a, self.b
        out, a.out = a.out, []
        for message in out:
            b.receive(0, message)
        out, b.out = b.out, []
        for message in out:
            a.receive(1, message)

    def round_(self, payloads: Sequence[bytes]) -> None:
        """Messages in; the batch before them is co-signed and recorded at both sides, and they are on their way."""
        if not self.a.out:
            self._submit(payloads)
        self._submit(payloads)
        self._deliver()

    def _submit(self, payloads: Sequence[bytes]) -> None:
        assert self.a.driver is not None
        _, step = self.a.driver.engine.submit(payloads, MESSAGE)
        self.a.drive(step)

    def end(self) -> None:
        """The channel's final state, under both signatures."""
        self.exchange()
        assert self.a.driver is not None
        _, step = self.a.driver.engine.submit((b"",), Kind.CLOSE)
        self.a.drive(step)
        self.exchange()
        assert self.a.driver.engine.state.phase == "closed"

    def close(self) -> None:
        """Finish what is on its way; both sides must have come to the same supported state."""
        self.exchange()
        assert self.a.driver is not None
        assert self.b.driver is not None
        assert self.a.driver.engine.state.head == self.b.driver.engine.state.head
        self.a.log.close()
        self.b.log.close()
