"""A network that tests spoil: nodes dial each other through forwarders that reset, delay and stall what passes.

The bytes pass as they are, so TLS and the transport's handshake are the real ones; a reset loses whatever is on its
way, in the middle of a record as likely as between two.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

from tests.support.cluster import Cluster

_CHUNK = 16_384
_HARD_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset, and what is not sent yet is lost
FAULTS = ("reset", "stall", "delay")


class Forwarder:
    """Takes connections at a port of its own and passes their bytes on to `target`, a port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self.delay_s = 0.0
        self.port = 0
        self.passed = 0  # bytes

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()

    def reset(self) -> int:
        """Cut every connection at once; how many sockets that were."""
        found = list(self._writers)
        for writer in found:
            whole = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                whole.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HARD_CLOSE)
            writer.transport.abort()
        return len(found)

    def hold(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            back, on = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # nobody listens there at the moment
            self._drop(writer)
            return
        self._writers.add(on)
        try:
            await asyncio.gather(self._pump(reader, on), self._pump(back, writer))
        finally:
            self._drop(writer)
            self._drop(on)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                self.passed += len(data)
                sink.write(data)
                await sink.drain()
        except OSError:  # cut
            pass
        finally:
            sink.close()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()


class BadNetwork:
    """A forwarder for each direction in which a node may dial another, and the weather: one fault after another."""

    def __init__(self, nodes: Cluster, rng: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self._rng = rng
        self._ports = {name: _port(file.listen) for name, node in nodes.nodes.items() if (file := node.file())}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bad network")
        self._weather: asyncio.Task[None] | None = None
        self._forwarders: dict[tuple[str, str], Forwarder] = {}

    def start(self, nodes: Cluster) -> None:
        """Introduce every node to every other one, each by a forwarder."""
        self._thread.start()
        for one in nodes.names:
            for other in nodes.names:
                if one != other:
                    found = self._forwarders[one, other] = Forwarder(self._ports[other])
                    asyncio.run_coroutine_threadsafe(found.start(), self._loop).result(10)
                    nodes.client(one).add_peer(nodes.addresses[other], f"127.0.0.1:{found.port}", other)

    def turn_bad(self) -> None:
        async def begin() -> None:
            self._weather = asyncio.create_task(self._faults())

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10)

    def slow(self, one: str, other: str, delay_s: float) -> None:
        """From now on whatever the two say to each other takes at least so long."""
        for link in ((one, other), (other, one)):
            self._forwarders[link].delay_s = delay_s

    @property
    def passed(self) -> int:
        """Bytes that went through so far."""
        return sum(each.passed for each in self._forwarders.values())

    def stop(self) -> None:
        async def end() -> None:
            if self._weather is not None:
                self._weather.cancel()
            for each in self._forwarders.values():
                each.stop()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _faults(self) -> None:
        """At drawn moments, at drawn places; every kind equally often, give or take one. Delays and stalls may overlap,
        for a fault lasts longer than the pause before the next."""
        async with asyncio.TaskGroup() as running:
            while True:
                for kind in self._rng.sample(FAULTS, len(FAULTS)):
                    await asyncio.sleep(self._rng.uniform(0.02, 0.3))
                    where = self._rng.choice(list(self._forwarders.values()))
                    if kind == "reset":
                        hit = [each.reset() for each in self._rng.sample(list(self._forwarders.values()), 4)]
                        self.faults[kind] += sum(map(bool, hit))
                    else:
                        running.create_task(self._spoil(kind, where, self._rng.uniform(0.1, 1.0)))
                        self.faults[kind] += 1

    async def _spoil(self, kind: str, where: Forwarder, length_s: float) -> None:
        try:
            if kind == "stall":
                where.hold()
            else:
                where.delay_s = self._rng.uniform(0.01, 0.2)
            await asyncio.sleep(length_s)
        finally:
            if kind == "stall":
                where.release()
            else:
                where.delay_s = 0.0


def _port(listen: str) -> int:
    return int(listen.rpartition(":")[2])


@contextlib.contextmanager
def bad_network(nodes: Cluster, rng: random.Random) -> Iterator[BadNetwork]:
    """The nodes, which must not know each other yet, are introduced over forwarders; good weather at first."""
    found = BadNetwork(nodes, rng)
    found.start(nodes)
    try:
        yield found
    finally:
        found.stop()
