"""The transport in process: a network whose every delivery is a step that a test or simulator takes.

The same port as `tcp.py` without bytes, clock or sockets. Which of the possible steps comes next is drawn from a
seed, so messages of different peers overtake each other at random while each peer's stay in order. By hand:
`deliver_next`, `run_until_idle`; with `automatic=True` steps happen by themselves as the event loop runs.
Faults: `drop_link`, `partition` and `heal`, `crash`, and the rates of dropped links and doubled messages. A
doubled message is what a restarted peer causes whose outbox sends again what was processed but not recorded as
acknowledged; without restarts the real transport never doubles, so the rate is 0 unless a test sets it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from scapp.channels.errors import LocalError
from scapp.channels.transport.frames import DATA_OVERHEAD_BYTES
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.port import Handler, LinkListener, PeerStatus, PeerUnknown, QueueFull
from scapp.channels.transport.session import MessageTooLarge
from scapp.channels.types import Address

_log = logging.getLogger("scapp.transport")
Step = tuple[str, Address, Address]
"""("connect" | "deliver" | "ack", sender, receiver)."""


class _Message:
    """In a sender's queue until acknowledged."""

    __slots__ = ("body", "on_acked", "processed")

    def __init__(self, body: bytes, on_acked: Callable[[], None] | None) -> None:
        self.body = body
        self.on_acked = on_acked
        self.processed = False


class _Queue:
    """What one node has for one peer."""

    def __init__(self) -> None:
        self.messages: deque[_Message] = deque()
        self.bytes = 0
        self.endpoint: str | None = None
        self.sent = 0
        self.received = 0
        self.busy: asyncio.Future[None] | None = None  # the handler has a message of this peer
        self.last_error: str | None = None

    @property
    def next_unprocessed(self) -> _Message | None:
        return next((message for message in self.messages if not message.processed), None)


class FakeNetwork:
    """Connects the `FakeTransport`s made with it."""

    def __init__(
        self, seed: int = 0, *, automatic: bool = False, drop_rate: float = 0.0, duplicate_rate: float = 0.0
    ) -> None:
        self.drop_rate = drop_rate  # chance per step that some link drops first
        self.duplicate_rate = duplicate_rate  # chance per delivery that the message comes again
        self._random = random.Random(seed)  # noqa: S311 - a simulation must repeat
        self._automatic = automatic
        self._nodes: dict[Address, FakeTransport] = {}
        self._pairs: list[tuple[Address, Address, frozenset[Address]]] = []  # of the nodes, in a fixed order
        self._links: set[frozenset[Address]] = set()
        self._cut: set[frozenset[Address]] = set()
        self._pump_due = False
        self._running: set[asyncio.Task[None]] = set()

    # --- steps -------------------------------------------------------------------------------------------------

    def possible_steps(self) -> list[Step]:
        """Every step that could come next, in a fixed order."""
        steps: list[Step] = []
        for one, other, pair in self._pairs:
            if pair in self._links:
                if self._nodes[one].queues[other].messages:
                    steps += self._steps_on_link(one, other)
            elif pair not in self._cut and self._nodes[one].knows_endpoint(other):
                steps.append(("connect", one, other))
        return steps

    def _steps_on_link(self, sender: Address, receiver: Address) -> list[Step]:
        queue = self._nodes[sender].queues[receiver]
        steps: list[Step] = []
        if queue.messages and queue.messages[0].processed:
            steps.append(("ack", sender, receiver))
        if self._nodes[receiver].queues[sender].busy is None and queue.next_unprocessed is not None:
            steps.append(("deliver", sender, receiver))
        return steps

    async def deliver_next(self) -> bool:
        """Take one step and see it through, a delivery until its handler has returned; False if there is none."""
        work = self._take_step()
        if work is None:
            return False
        await work
        return True

    async def run_until_idle(self, steps_max: int = 1_000_000) -> int:
        """Take steps until none is left; returns how many. Raises LocalError when they do not end."""
        for taken in range(steps_max):
            if not await self.deliver_next():
                return taken
        raise LocalError(f"the network is not idle after {steps_max} steps")

    def _take_step(self) -> Awaitable[None] | None:
        if self._links and self._random.random() < self.drop_rate:
            one, other = sorted(self._random.choice(sorted(self._links, key=sorted)))
            self.drop_link(one, other)
        steps = self.possible_steps()
        if not steps:
            return None
        kind, one, other = self._random.choice(steps)
        if kind == "deliver":
            return self._deliver(self._nodes[one], self._nodes[other])
        if kind == "connect":
            self._connect(one, other)
        else:
            self._nodes[one].acknowledge(other)
        return _nothing()

    def wake(self) -> None:
        """Something may have become possible."""
        if self._automatic and not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        work = self._take_step()
        if work is None:
            return
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._step_done)
        self.wake()

    def _step_done(self, task: asyncio.Future[None]) -> None:
        self._running.discard(task)
        self.wake()

    def _connect(self, one: Address, other: Address) -> None:
        self._links.add(frozenset((one, other)))
        self._nodes[one].link_changed(other, True)
        self._nodes[other].link_changed(one, True)

    def _deliver(self, sender: FakeTransport, receiver: FakeTransport) -> Awaitable[None]:
        message = sender.queues[receiver.address].next_unprocessed
        assert message is not None
        again = self._random.random() < self.duplicate_rate
        # Busy from now on, not from when the coroutine first runs: the next step may be taken before.
        busy = receiver.queues[sender.address].busy = asyncio.get_running_loop().create_future()
        return self._hand_over(sender, receiver, message, busy, again)

    async def _hand_over(
        self,
        sender: FakeTransport,
        receiver: FakeTransport,
        message: _Message,
        busy: asyncio.Future[None],
        again: bool,
    ) -> None:
        try:
            await receiver.handle(sender.address, message.body)
            # What a crashed node was still doing reaches nobody.
            message.processed = not again and self._nodes.get(receiver.address) is receiver
        finally:
            receiver.queues[sender.address].busy = None
            busy.set_result(None)

    # --- nodes and faults --------------------------------------------------------------------------------------

    def join(self, node: FakeTransport) -> None:
        if node.address in self._nodes:
            raise LocalError(f"0x{node.address.hex()} is on the network already")
        self._nodes[node.address] = node
        self._pair_up()
        self.wake()

    def _pair_up(self) -> None:
        pairs = itertools.permutations(sorted(self._nodes), 2)
        self._pairs = [(one, other, frozenset((one, other))) for one, other in pairs]

    def leave(self, node: FakeTransport) -> None:
        """Take a node off; the others keep what they have for it and, as it will have a new life, send it again."""
        if self._nodes.get(node.address) is not node:
            return
        for other in sorted(self._nodes):
            self.drop_link(node.address, other)
        del self._nodes[node.address]
        self._pair_up()
        for survivor in self._nodes.values():
            if node.address in survivor.queues:
                survivor.acknowledge(node.address)
                for message in survivor.queues[node.address].messages:
                    message.processed = False

    def crash(self, address: Address) -> None:
        """The node is gone at once with all it had queued; its listener is told nothing. Start a new one to go on."""
        node = self._nodes[address]
        node.silence()
        for message in itertools.chain.from_iterable(n.queues[address].messages for n in self._others(node)):
            message.processed = False  # no acknowledgement that it had not sent will ever come
        self.leave(node)

    def _others(self, node: FakeTransport) -> Iterable[FakeTransport]:
        return (n for n in self._nodes.values() if n is not node and node.address in n.queues)

    def drop_link(self, one: Address, other: Address) -> None:
        """Cut the link, if there is one; it may come back at once. Unacknowledged messages stay queued."""
        pair = frozenset((one, other))
        if pair in self._links:
            self._links.discard(pair)
            self._nodes[one].link_changed(other, False)
            self._nodes[other].link_changed(one, False)
        self.wake()

    def partition(self, here: Iterable[Address], there: Iterable[Address]) -> None:
        """Nobody here reaches anybody there until `heal`."""
        for one, other in itertools.product(list(here), list(there)):
            self._cut.add(frozenset((one, other)))
            self.drop_link(one, other)

    def heal(self) -> None:
        """End all partitions."""
        self._cut.clear()
        self.wake()

    def linked(self, one: Address, other: Address) -> bool:
        return frozenset((one, other)) in self._links


async def _nothing() -> None:
    """A step that is done already."""


class FakeTransport:
    """One node of a `FakeNetwork`."""

    def __init__(self, network: FakeNetwork, address: Address, limits: TransportLimits | None = None) -> None:
        self.address = address
        self.endpoint = f"fake-{address.hex()}:1"
        self.queues: dict[Address, _Queue] = {}
        self.handler_failures = 0
        self._network = network
        self._limits = limits or TransportLimits()
        self._handler: Handler | None = None
        self._on_link: LinkListener | None = None
        self._running = False

    # --- the port ----------------------------------------------------------------------------------------------

    async def start(self, handler: Handler, on_link: LinkListener) -> None:
        if self._handler is not None:
            raise LocalError("a transport starts once")
        self._handler, self._on_link = handler, on_link
        self._network.join(self)
        self._running = True

    async def stop(self) -> None:
        """Running handlers finish first and are acknowledged."""
        if not self._running:
            return
        self._running = False
        await asyncio.gather(*(queue.busy for queue in self.queues.values() if queue.busy is not None))
        self._network.leave(self)

    def add_peer(self, address: Address, endpoint: str) -> None:
        if address == self.address:
            raise LocalError(f"0x{address.hex()} is this node itself")
        self.queues.setdefault(address, _Queue()).endpoint = endpoint
        self._network.wake()

    def remove_peer(self, address: Address) -> None:
        if address in self.queues:
            self.queues[address].endpoint = None
            self._network.drop_link(self.address, address)

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        if not self._running:
            raise LocalError("messages are sent only between start and stop")
        queue, limits, size = self.queues.get(peer), self._limits, len(message)
        if queue is None:
            raise PeerUnknown(f"no endpoint is known for 0x{peer.hex()} and it has not connected to this node")
        if size + DATA_OVERHEAD_BYTES > limits.frame_bytes_max:
            allowed = limits.frame_bytes_max - DATA_OVERHEAD_BYTES
            raise MessageTooLarge(f"message of {size} bytes: at most {allowed} fit a frame")
        if len(queue.messages) >= limits.queue_messages_max or queue.bytes + size > limits.queue_bytes_max:
            raise QueueFull(
                f"{len(queue.messages)} messages of {queue.bytes} bytes wait for this peer: at most "
                f"{limits.queue_messages_max} of {limits.queue_bytes_max} bytes may, this one has {size}"
            )
        queue.messages.append(_Message(message, on_acked))
        queue.bytes += size
        self._network.wake()

    def peers(self) -> list[PeerStatus]:
        linked = self._network.linked
        return [
            PeerStatus(
                address,
                queue.endpoint,
                linked(self.address, address),
                len(queue.messages),
                queue.sent,
                queue.received,
                0,
                queue.last_error,
            )
            for address, queue in self.queues.items()
        ]

    # --- the network's side ------------------------------------------------------------------------------------

    def knows_endpoint(self, peer: Address) -> bool:
        queue = self.queues.get(peer)
        return queue is not None and queue.endpoint is not None

    def silence(self) -> None:
        """Never call the owner again."""
        self._running = False
        self._on_link = None

    def link_changed(self, peer: Address, connected: bool) -> None:
        queue = self.queues.setdefault(peer, _Queue())
        queue.last_error = None if connected else "link dropped"
        if self._on_link is None:
            return
        try:
            self._on_link(peer, connected)
        except Exception:
            _log.exception("link listener failed for 0x%s", peer.hex())

    async def handle(self, peer: Address, message: bytes) -> None:
        """Give a message to the handler; whatever it does, the message counts as processed."""
        assert self._handler is not None
        self.queues[peer].received += 1
        try:
            await self._handler(peer, message)
        except Exception:
            self.handler_failures += 1
            _log.exception("message of %d bytes from 0x%s failed; acknowledged and skipped", len(message), peer.hex())

    def acknowledge(self, peer: Address) -> None:
        """The peer has processed the messages at the head of its queue."""
        queue = self.queues[peer]
        while queue.messages and queue.messages[0].processed:
            message = queue.messages.popleft()
            queue.bytes -= len(message.body)
            queue.sent += 1
            if message.on_acked is not None:
                try:
                    message.on_acked()
                except Exception:
                    _log.exception("on_acked failed for 0x%s", peer.hex())
