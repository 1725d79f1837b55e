"""The transport over TCP: listening, dialling, and which link each peer uses (docs/reference/wire.md).

TLS 1.3 and the handshake make links (`link.py`), peers use them (`peer.py`). A stranger gets no further than
the tasks in this module: it is refused with a reason in the log "scapp.transport", counted, and cut off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.signing import recover_text
from scapp.channels.transport.certificates import client_context, server_context, shown_certificate_hash
from scapp.channels.transport.endpoints import parse_endpoint, show_endpoint, source_of
from scapp.channels.transport.frames import Frame
from scapp.channels.transport.handshake import Handshake, Recover, Role, TransportSigner, show
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.link import Link, describe
from scapp.channels.transport.peer import Peer
from scapp.channels.transport.port import Handler, LinkListener, PeerStatus, PeerUnknown
from scapp.channels.transport.refusals import Refusals
from scapp.channels.transport.sockets import let_asyncio_make_transports, listen, no_delay
from scapp.channels.transport.twins import IN_USE, REPLACED, Twins
from scapp.channels.types import Address

_log = logging.getLogger("scapp.transport")
_ACCEPT_PAUSE_S = 0.5
"""After the system refused to accept, usually because the process has no file descriptors left."""


class TransportStopped(LocalError):
    """The transport does not run: not started yet, or stopped."""


class TcpTransport:
    """One node's connections. `port` 0 lets the system choose; `endpoint` tells which after `start`.

    `authorize` is asked for every address that connects to us, once it is proved. `counters` counts what is
    refused or fails: strangers_refused, links_refused, links_replaced, handler_failures, listener_failures.
    """

    def __init__(
        self,
        signer: TransportSigner,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        limits: TransportLimits | None = None,
        authorize: Callable[[Address], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = os.urandom,
        jitter: random.Random | None = None,
        recover: Recover = recover_text,
    ) -> None:
        self.address = signer.address
        self.counters: Counter[str] = Counter()
        self._signer = signer
        self._host = host
        self._port = port
        self._limits = limits or TransportLimits()
        self._authorize = authorize
        self._clock = clock
        self._entropy = entropy
        # Jitter keeps nodes from dialling in step; nobody gains by guessing it.
        self._jitter = jitter or random.Random()  # noqa: S311
        self._recover = recover
        self._refusals = Refusals(self.counters)
        self._twins = Twins(self.counters)
        self._client_context = client_context()
        self._session = entropy(16)
        self._peers: dict[Address, Peer] = {}
        self._endpoints: dict[Address, str] = {}  # given before start
        self._strangers: dict[Link, tuple[str, asyncio.Task[None]]] = {}  # oldest first: source, `_greet`
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._handler: Handler | None = None
        self._on_link: LinkListener | None = None

    # --- the port ----------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Where this node listens."""
        if self._listener is None:
            raise TransportStopped("the transport listens only between start and stop")
        host, port = self._listener.getsockname()[:2]
        return show_endpoint(host, port)

    async def start(self, handler: Handler, on_link: LinkListener) -> None:
        """Listen and dial; raises OSError when the address cannot be listened on."""
        if self._handler is not None:
            raise LocalError("a transport starts once")
        self._listener = await listen(self._host, self._port)
        self._server_context, self._own_hash = server_context()
        self._handler, self._on_link = handler, on_link
        self._acceptor = self._spawn(self._accept(self._listener))
        for peer, endpoint in self._endpoints.items():
            self.add_peer(peer, endpoint)

    async def stop(self) -> None:
        """End tasks and links; running handlers get `stop_s` to finish and are acknowledged."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        for peer in self._peers.values():
            peer.hold()
        if self._acceptor is not None:
            self._acceptor.cancel()
        await let_asyncio_make_transports()
        dialers = {peer.dialer for peer in self._peers.values() if peer.dialer is not None}
        tasks = self._tasks | dialers
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
        await asyncio.gather(*(peer.stop(self._limits.stop_s) for peer in self._peers.values()))

    def add_peer(self, address: Address, endpoint: str) -> None:
        parse_endpoint(endpoint)
        if address == self.address:
            raise LocalError(f"{show(address)} is this node itself")
        if self._handler is None:
            self._endpoints[address] = endpoint
            return
        if self._listener is None:
            raise TransportStopped("the transport has stopped")
        peer = self._peer(address)
        if peer.endpoint == endpoint:
            return
        peer.dial(endpoint, asyncio.get_running_loop().create_task(self._dial_forever(peer, endpoint)))

    def remove_peer(self, address: Address) -> None:
        self._endpoints.pop(address, None)
        if (peer := self._peers.get(address)) is not None:
            peer.dial(None, None)
            peer.end_link("it was taken out of the peers list")

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        known = self._peers.get(peer)
        if self._listener is None:
            raise TransportStopped("messages are sent only between start and stop")
        if known is None:
            raise PeerUnknown(f"no endpoint is known for {show(peer)} and it has not connected to this node")
        known.send(message, on_acked)

    def peers(self) -> list[PeerStatus]:
        return [peer.status() for peer in self._peers.values()]

    def _peer(self, address: Address) -> Peer:
        known = self._peers.get(address)
        if known is not None:
            return known
        assert self._handler is not None
        assert self._on_link is not None
        peer = Peer(address, self._session, self._limits, self._handler, self._on_link, self.counters)
        self._peers[address] = peer
        return peer

    # --- links -------------------------------------------------------------------------------------------------

    def link_authenticated(self, link: Link) -> None:
        """Choose between this link and the one in use, if any; both ends choose alike.

        Two links of the same initiator: the newer, for nobody dials a peer it still has. One of each: the one that
        the lower address initiated; the other end comes to the same result, and `Open` settles what to resend.
        """
        self._strangers.pop(link, None)
        address = link.address
        assert address is not None
        if self._listener is None:
            link.fail("the node stops", is_fault=False)
            return
        if address not in self._peers:
            self._make_room()
        peer = self._peer(address)
        old = peer.link
        if old is not None and self._prefers(old, link):
            link.fail(IN_USE, is_fault=False)
            old.probe()  # it may be dead without our knowing
            return
        peer.attach(link)
        if old is not None:
            self.counters["links_replaced"] += 1
            old.fail(REPLACED, is_fault=False)
        _log.info("linked with %s", describe(link), extra={"peer": show(address), "reason": link.role.name.lower()})

    def _prefers(self, old: Link, new: Link) -> bool:
        if old.role is new.role:
            return False
        assert new.address is not None
        return old.role is (Role.CLIENT if self.address < new.address else Role.SERVER)

    def _make_room(self) -> None:
        """Forget a peer that is away and wanted by nobody, or refuse the newcomer."""
        if len(self._peers) < self._limits.peers_max:
            return
        away = next((peer for peer in self._peers.values() if peer.is_forgettable), None)
        if away is None:
            raise PeerError(f"{len(self._peers)} peers are connected or expected: at most {self._limits.peers_max}")
        del self._peers[away.address]

    def link_frames(self, link: Link, frames: list[Frame]) -> None:
        assert link.address is not None
        peer = self._peers.get(link.address)
        if peer is not None and peer.link is link:
            peer.on_frames(frames)

    def link_writable(self, link: Link) -> None:
        peer = None if link.address is None else self._peers.get(link.address)
        if peer is not None and peer.link is link:
            peer.flush_soon()

    def link_lost(self, link: Link) -> None:
        assert link.address is not None
        reason = link.end_reason or "closed"
        if link.end_is_fault:
            self._refusals.note("links_refused", show(link.address), reason)
        else:
            extra = {"peer": show(link.address), "reason": reason}
            _log.info("link with %s ended: %s", describe(link), reason, extra=extra)
        peer = self._peers.get(link.address)
        is_known = peer is not None and peer.endpoint is not None
        self._twins.link_ended(link.address, reason, self._clock(), known=is_known)
        if peer is not None and peer.link is link:
            peer.detach()

    # --- listening ---------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                self._refusals.note("accept_failures", "listener", str(error))
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            self._admit(connection, address[0], show_endpoint(*address[:2]))
            await let_asyncio_make_transports()

    def _admit(self, connection: socket.socket, host: str, endpoint: str) -> None:
        """Give a stranger a chance, within limits that leave room for others."""
        source, limits = source_of(host), self._limits
        if sum(held == source for held, _ in self._strangers.values()) >= limits.strangers_per_source_max:
            connection.close()
            reason = f"{limits.strangers_per_source_max} unauthenticated connections from {source} already"
            self._refusals.note("strangers_refused", endpoint, reason)
            return
        if len(self._strangers) >= limits.strangers_max:
            # The oldest has had the most time; refusing newcomers instead would let strangers shut the door.
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest)[1].cancel()
            reason = f"more than {limits.strangers_max} unauthenticated connections, this is the oldest"
            self._refusals.note("strangers_refused", describe(oldest), reason)

        def make_handshake(transport: asyncio.Transport) -> Handshake:
            return Handshake(
                Role.SERVER,
                self._signer,
                self._recover,
                certificate_hash=self._own_hash,
                nonce=self._entropy(32),
                authorize=self._authorize,
            )

        link = Link(self, Role.SERVER, endpoint, limits, self._clock, make_handshake)
        self._strangers[link] = source, self._spawn(self._greet(link, connection))

    async def _greet(self, link: Link, connection: socket.socket) -> None:
        """TLS and handshake with whoever connected."""
        loop, limits = asyncio.get_running_loop(), self._limits
        try:
            no_delay(connection)
        except OSError as error:
            connection.close()
            self._strangers.pop(link, None)
            self._note_stranger(link, error)
            return
        try:
            async with asyncio.timeout(limits.handshake_s):
                await loop.connect_accepted_socket(
                    lambda: link,
                    connection,
                    ssl=self._server_context,
                    ssl_handshake_timeout=limits.handshake_s,
                    ssl_shutdown_timeout=limits.close_s,
                )
                await link.authenticated
        except (OSError, PeerError) as error:
            self._note_stranger(link, error)
        finally:
            self._strangers.pop(link, None)
            if link.address is None:
                link.abort("the handshake did not end in time")

    def _note_stranger(self, link: Link, error: Exception) -> str:
        """Log and count a connection that ended before authentication; returns the reason."""
        if isinstance(error, TimeoutError):
            reason = f"not authenticated within {self._limits.handshake_s} s"
        else:
            reason = link.end_reason or f"{type(error).__name__}: {error}"
        claimed = link.claimed
        known = None if claimed is None else self._peers.get(claimed)
        if known is not None:
            known.refused += 1
        link.abort(reason)
        self._refusals.note("strangers_refused", describe(link), reason)
        return reason

    # --- dialling ----------------------------------------------------------------------------------------------

    async def _dial_forever(self, peer: Peer, endpoint: str) -> None:
        """Connect whenever there is no link, waiting longer after each attempt that led to none."""
        attempt = 0
        while True:
            await peer.unlinked.wait()
            before = peer.session.links_opened
            await self._dial(peer, endpoint)
            if peer.session.links_opened > before:
                attempt = 0
            await asyncio.sleep(self._backoff_s(attempt))
            attempt += 1

    def _backoff_s(self, attempt: int) -> float:
        """Half fixed, half random."""
        limits = self._limits
        longest: float = min(limits.backoff_max_s, limits.backoff_first_s * 2 ** min(attempt, 32))
        return longest * (0.5 + self._jitter.random() / 2)

    async def _dial(self, peer: Peer, endpoint: str) -> None:
        """One attempt; stays until the link it made is lost."""
        host, port = parse_endpoint(endpoint)
        loop, limits = asyncio.get_running_loop(), self._limits

        def make_handshake(transport: asyncio.Transport) -> Handshake:
            return Handshake(
                Role.CLIENT,
                self._signer,
                self._recover,
                certificate_hash=shown_certificate_hash(transport.get_extra_info("ssl_object")),
                nonce=self._entropy(32),
                expected=peer.address,
            )

        link = Link(self, Role.CLIENT, endpoint, limits, self._clock, make_handshake)
        try:
            async with asyncio.timeout(limits.handshake_s):
                transport, _ = await loop.create_connection(
                    lambda: link,
                    host,
                    port,
                    ssl=self._client_context,
                    server_hostname="",
                    ssl_handshake_timeout=limits.handshake_s,
                    ssl_shutdown_timeout=limits.close_s,
                )
                no_delay(transport.get_extra_info("socket"))
                await link.authenticated
        except (OSError, PeerError) as error:
            peer.last_error = self._dial_failed(peer, link, error)
        except BaseException:
            link.abort("dialling ended")
            raise
        else:
            await asyncio.shield(link.lost)

    def _dial_failed(self, peer: Peer, link: Link, error: Exception) -> str:
        """Log why; a peer that answers wrongly is refused, one that cannot be reached is only away."""
        if isinstance(error, PeerError):
            peer.refused += 1
            link.abort(str(error))
            self._refusals.note("strangers_refused", f"{show(peer.address)} at {link.endpoint}", str(error))
            return str(error)
        reason = str(error) or f"no authenticated link within {self._limits.handshake_s} s"
        link.abort(reason)
        _log.log(
            logging.DEBUG if reason == peer.last_error else logging.INFO,  # once for each reason, not for each attempt
            "cannot reach %s at %s: %s",
            show(peer.address),
            link.endpoint,
            reason,
            extra={"peer": show(peer.address), "reason": reason},
        )
        return reason
