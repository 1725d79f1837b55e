"""The local network of `scapp dev`: a channel for each version of the module, and what was sent, sent again.

A changed module is another deployment and so needs another channel. Moving there sends the recorded messages again, by
their authors, in their order: entries get new times, and what hides behind the old channel's id cannot be shown in the
new one. What the new module refuses is set aside and tried again at the next move.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, encode_entry
from scapp.channels.errors import LocalError
from scapp.runtime.api.payloads import to_json
from scapp.runtime.app_document import BadTest, Document
from scapp.runtime.app_values import Cast, packed
from scapp.runtime.cli.local_nodes import introduce
from scapp.runtime.cli.processes import NodeChild
from scapp.runtime.client import Client
from scapp.runtime.documents import ChannelView, EntryView, SlotView

OPEN_S = 30.0
_KINDS = {kind.name.lower(): kind for kind in Kind}


class Sent(msgspec.Struct, frozen=True):
    """One message of the record: bytes as they were sent, or a value of a test's file; None is a tick."""

    author: int
    value: Any


class Channel(msgspec.Struct, frozen=True):
    """A running channel and what came of sending the record into it."""

    channel_id: str
    deployment_id: str
    accepted: frozenset[int]  # sequences of what was sent by the move itself
    set_aside: tuple[tuple[Sent, str], ...]  # and why


class Network:
    """Nodes that have been started. `move` and `read` each belong to one thread."""

    def __init__(self, children: Sequence[NodeChild], script: Document) -> None:
        self._children, self._script = children, script
        self._movers: list[Client] = []
        self._reader: Client | None = None
        self._addresses: dict[str, bytes] = {}

    def start(self) -> None:
        """Wait for the nodes and make them known to each other."""
        self._movers = introduce(self._children)
        self._reader = self._children[0].client()
        for name, child in zip(self._script.participants, self._children, strict=True):
            file = child.file()
            assert file is not None
            self._addresses[name] = bytes.fromhex(file.address[2:])

    def close(self) -> None:
        for client in [*self._movers, *([self._reader] if self._reader else [])]:
            client.close()

    def move(self, wasm: bytes, record: Sequence[Sent]) -> Channel:
        """Open a channel of this module and send the record into it. Raises ScappError, or BadTest."""
        cast = Cast(self._addresses, b"")
        deployments = {client.deploy(wasm).deployment_id for client in self._movers}
        assert len(deployments) == 1, deployments
        slots = [
            SlotView(asset="0x" + asset.hex(), destination="0x" + destination.hex(), amount=str(amount))
            for asset, destination, amount in map(cast.slot, self._script.slots)
        ]
        found = self._movers[0].open_channel(
            [child.name for child in self._children[1:]],
            next(iter(deployments)),
            params=to_json(cast.given(self._script.params)),
            slots=slots,
            wait_s=OPEN_S,
        )
        if found.phase != "running":
            raise LocalError(f"the channel is {found.phase}: {found.reason or found.waiting_for}")
        accepted, aside = self._send(found.channel_id, record)
        return Channel(found.channel_id, found.deployment_id, frozenset(accepted), tuple(aside))

    def _send(self, channel: str, record: Sequence[Sent]) -> tuple[list[int], list[tuple[Sent, str]]]:
        cast = Cast(self._addresses, bytes.fromhex(channel[2:]))
        accepted, aside = [], []
        for sent in record:
            client = self._movers[sent.author]
            try:
                if sent.value is None:
                    (receipt,) = client.tick(channel)
                else:
                    raw = isinstance(sent.value, bytes)
                    (receipt,) = client.send(channel, sent.value if raw else packed(cast.given(sent.value)))
            except BadTest as error:
                aside.append((sent, str(error)))
                continue
            if receipt.status == "accepted" and receipt.sequence is not None:
                accepted.append(receipt.sequence)
            else:
                aside.append((sent, receipt.reason or receipt.status))
        return accepted, aside

    def read(self, channel: str, first: int) -> list[bytes]:
        """Entries of a channel's log from `first` on, as they were signed. Raises ScappError."""
        assert self._reader is not None, "not started"
        return [_entry(view) for view in self._reader.log(channel, first)]

    def signed(self, channel: str) -> ChannelView:
        """Where a channel stands at the first node."""
        assert self._reader is not None, "not started"
        return self._reader.channel(channel)


def _entry(view: EntryView) -> bytes:
    data = encode_entry(
        _KINDS[view.kind], view.author, view.counter, view.time_ms, base64.b64decode(view.payload_base64)
    )
    if "0x" + keccak256(data).hex() != view.hash:
        raise LocalError(f"entry {view.sequence} has another hash than the node says")
    return data


def script_of(names: Sequence[str]) -> Document:
    """For an app without tests: nobody sends anything, there are neither params nor slots."""
    return Document(list(names))


def record_of(script: Document) -> list[Sent]:
    """The messages of a test but for those that it expects to be refused. Times between them are not waited for."""
    steps = [step for step in script.step if step.rejected is None]
    return [Sent(script.participants.index(step.from_), None if step.tick else step.send) for step in steps]


class Mover(threading.Thread):
    """Moves the network to the newest module it was given, one move at a time."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="dev-mover", daemon=True)
        self._network = network
        self._changed = threading.Condition()
        self._wanted: tuple[bytes, list[Sent]] | None = None
        self._leaving = False
        self._result: Channel | Exception | None = None
        self.busy = False

    def ask(self, wasm: bytes, record: list[Sent]) -> None:
        """Move to this module; one that waits still is forgotten."""
        with self._changed:
            self._wanted = wasm, record
            self.busy = True
            self._changed.notify()

    def take(self) -> Channel | Exception | None:
        """What a move came to, once."""
        with self._changed:
            found, self._result = self._result, None
            return found

    def leave(self) -> None:
        with self._changed:
            self._leaving = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while self._wanted is None and not self._leaving:
                    self._changed.wait()
                if self._leaving or self._wanted is None:
                    return
                (wasm, record), self._wanted = self._wanted, None
            result: Channel | Exception
            try:
                result = self._network.move(wasm, record)
            except Exception as error:  # whose is for the command to say: a bug is raised there
                result = error
            with self._changed:
                self._result = result
                self.busy = self._wanted is not None
