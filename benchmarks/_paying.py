"""Two nodes' payments in two processes, and what the machine can do at most in two processes, for P1 and P2.

Each side is the real thing: `payments.runner` over RocksDB with its committer, TLS between them; only the channels are
opened by fiat, on both sides alike. The other process runs `python -m benchmarks._paying DIRECTORY` and obeys lines on
its standard input: `pay` (the default), `bare SECONDS`, `echo PORT ROUNDS`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAYER_KEY, PAYEE_KEY = b"\x01" * 32, b"\x02" * 32
CHANNELS = 1_024
START = 2**128
BARE_BLOCK = 16


def channel(number: int) -> Any:
    return number.to_bytes(32, "big")


class PayingSide:
    """A node as far as it pays or is paid."""

    def __init__(self, key: bytes, directory: Path) -> None:
        from scapp.channels.log.committer import Committer
        from scapp.channels.log.rocks import RocksLog
        from scapp.channels.payments.runner import PaymentRunner
        from scapp.channels.signing import Signer
        from scapp.channels.transport.tcp import TcpTransport

        self.signer = Signer(key)
        self.log = RocksLog(directory)
        self.committer = Committer(self.log)
        self.transport = TcpTransport(self.signer)
        self.counters: Counter[str] = Counter()
        self.linked = asyncio.Event()
        self.payments = PaymentRunner(
            signer=self.signer,
            log=self.log,
            committer=self.committer,
            send=self._send,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            counters=self.counters,
        )

    def _send(self, peer: Any, message: bytes) -> bool:
        self.transport.send(peer, message)
        return True

    async def start(self, payer: Any, payee: Any) -> None:
        from scapp.channels.payments.book import PurseTerms

        terms = [
            PurseTerms(channel=channel(number), payer=payer, payee=payee, asset=payee, start=START)
            for number in range(CHANNELS)
        ]
        await asyncio.gather(*map(self.payments.open, terms))
        await self.transport.start(self._receive, self._on_link)

    async def _receive(self, peer: Any, data: bytes) -> None:
        self.payments.receive(peer, data)

    def _on_link(self, peer: Any, connected: bool) -> None:
        if connected:
            self.linked.set()

    async def stop(self) -> None:
        await self.payments.stop()
        await self.transport.stop()
        self.committer.close()
        self.log.close()


def bare(seconds: float) -> float:
    """Sign a voucher's hash and check a signature, nothing else; pairs per second in this process."""
    from scapp.channels.signing import Signer, Verifier

    signer = Signer(PAYER_KEY)
    verifier = Verifier(signer.address)
    digest = bytes(range(32))
    signature = signer.sign(digest)  # type: ignore[arg-type]
    verifier.signed(digest, signature)  # type: ignore[arg-type]
    pairs, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(BARE_BLOCK):
            signer.sign(digest)  # type: ignore[arg-type]
            verifier.signed(digest, signature)  # type: ignore[arg-type]
        pairs += BARE_BLOCK
    return pairs / seconds


def fdatasync_p50(directory: Path, rounds: int) -> float:
    """Seconds for a small append to a file and its sync."""
    descriptor = os.open(directory / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        os.write(descriptor, bytes(256))
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - began)
    os.close(descriptor)
    return statistics.median(times)


def _echo(port: int, rounds: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            connection.sendall(connection.recv(4096))


class OtherProcess:
    """The payee's process."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._paying", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the payee's process ended")
        return line

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def bare_in_both(self, seconds: float) -> float:
        """Pairs per second of two processes at the same time."""
        self._tell(f"bare {seconds}")
        ours = bare(seconds)
        return ours + float(self._line())

    def round_trip_p50(self, rounds: int) -> float:
        """Seconds from a small write to its echo by the other process, both ends blocking."""
        times = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._tell(f"echo {server.getsockname()[1]} {rounds}")
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(rounds):
                    began = time.perf_counter()
                    connection.sendall(bytes(200))
                    connection.recv(4096)
                    times.append(time.perf_counter() - began)
        self._line()
        return statistics.median(times)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@contextmanager
def both(directory: Path) -> Iterator[tuple[asyncio.AbstractEventLoop, PayingSide, OtherProcess]]:
    """A payer here and a payee in the other process, linked."""
    loop = asyncio.new_event_loop()
    other = OtherProcess(directory / "payee")
    side = None
    try:
        side = loop.run_until_complete(_linked(directory, other.endpoint))
        yield loop, side, other
    finally:
        if side is not None:
            loop.run_until_complete(side.stop())
        other.close()
        loop.close()


async def _linked(directory: Path, endpoint: str) -> PayingSide:
    from scapp.channels.signing import Signer

    payee = Signer(PAYEE_KEY).address
    side = PayingSide(PAYER_KEY, directory / "payer")
    await side.start(side.signer.address, payee)
    side.transport.add_peer(payee, endpoint)
    await asyncio.wait_for(side.linked.wait(), 20)
    return side


async def _main(directory: Path) -> None:
    from scapp.channels.signing import Signer

    side = PayingSide(PAYEE_KEY, directory)
    await side.start(Signer(PAYER_KEY).address, side.signer.address)
    print(side.transport.endpoint, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *arguments = line.split()
        if what == "bare":
            print(bare(float(arguments[0])), flush=True)
        elif what == "echo":
            _echo(int(arguments[0]), int(arguments[1]))
            print("done", flush=True)
    await side.stop()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
