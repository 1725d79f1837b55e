"""What strangers and broken peers do to a listening node: refused with a reason, counted, nothing lost, node alive.

Mallory has a key of her own, can open connections, and can relay other people's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.errors import LocalError
from scapp.channels.signing import Signer
from scapp.channels.transport.endpoints import parse_endpoint
from scapp.channels.transport.frames import (
    Ack,
    Auth,
    Close,
    Data,
    Frame,
    FrameDecoder,
    Hello,
    Open,
    Ping,
    Pong,
    encode_frame,
)
from scapp.channels.transport.handshake import Role, signed_text
from scapp.channels.transport.tcp import TcpTransport
from scapp.channels.transport.twins import IN_USE, LASTS_MIN_S, TIMES_MIN
from scapp.runtime.logs import Trickle
from tests.support.transport_bench import ALICE, BOB, CAROL, LIMITS, MALLORY, Node
from tests.support.transport_wire import Wire, WireServer, serve_handshake

SESSION = b"session of tests"


@pytest.fixture
async def bob(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Node]:
    """A listening node; at the end it must still serve an honest peer."""
    caplog.set_level(logging.INFO, "scapp.transport")
    node = await Node(TcpTransport(BOB, limits=LIMITS)).start()
    yield node
    node.gate.set()
    honest = await Node(TcpTransport(CAROL, limits=LIMITS)).start()
    honest.transport.add_peer(node.address, node.transport.endpoint)
    honest.send(node, b"still there?")
    await honest.until(lambda: honest.acked == [0])
    await honest.transport.stop()
    await node.transport.stop()


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        getattr(r, "reason", "") for r in caplog.records if r.name == "scapp.transport" and r.levelname == "WARNING"
    ]


async def tcp(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*parse_endpoint(node.transport.endpoint))


async def until_refused(node: Node, count: int = 1, counter: str = "strangers_refused") -> None:
    """Wait for the node to have counted so many refusals; there is no event for a stranger."""
    async with asyncio.timeout(10):
        while node.transport.counters[counter] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# --- before TLS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 70_000], ids=["http", "zeros", "ff"]
)
async def test_garbage_instead_of_tls(bob: Node, caplog: pytest.LogCaptureFixture, garbage: bytes) -> None:
    """A connection that does not speak TLS is refused and counted; the node goes on."""
    _, writer = await tcp(bob)
    writer.write(garbage)
    await until_refused(bob)
    writer.transport.abort()
    assert any("SSL" in reason or "Connection" in reason for reason in refusals(caplog)), refusals(caplog)
    assert bob.transport.peers() == []


async def test_a_connection_closed_at_once(bob: Node) -> None:
    _, writer = await tcp(bob)
    writer.transport.abort()
    await until_refused(bob)


async def test_silence_before_tls(caplog: pytest.LogCaptureFixture) -> None:
    """Who says nothing is cut off after the handshake's time."""
    limits = msgspec.structs.replace(LIMITS, handshake_s=0.05)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    reader, writer = await tcp(node)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    await until_refused(node)
    writer.transport.abort()
    assert any("0.05 s" in reason for reason in refusals(caplog)), refusals(caplog)
    await node.transport.stop()


async def test_silence_after_tls(caplog: pytest.LogCaptureFixture) -> None:
    """Time runs from the connection, not from the last byte."""
    limits = msgspec.structs.replace(LIMITS, handshake_s=0.5)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    wire = await Wire.connect(node.transport.endpoint)
    await wire.greet(wire.hello(MALLORY))
    await wire.receive_until_closed()
    await until_refused(node)
    assert any("not authenticated within 0.5 s" in reason for reason in refusals(caplog)), refusals(caplog)
    await wire.close()
    await node.transport.stop()


async def test_strangers_per_source_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """One source cannot hold more than its share of half-open connections; those it has stay."""
    limits = msgspec.structs.replace(LIMITS, strangers_per_source_max=2)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    held = [await tcp(node) for _ in range(2)]
    reader, writer = await tcp(node)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    assert any("2 unauthenticated connections from 127.0.0.1" in reason for reason in refusals(caplog))
    for _, each in [*held, (reader, writer)]:
        each.transport.abort()
    await node.transport.stop()


async def test_the_oldest_stranger_makes_room() -> None:
    """When strangers fill every place, the oldest goes, and an honest peer still gets in."""
    limits = msgspec.structs.replace(LIMITS, strangers_max=3)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    held = [await tcp(node) for _ in range(3)]
    honest = await Node(TcpTransport(CAROL, limits=LIMITS)).start()
    honest.transport.add_peer(node.address, node.transport.endpoint)
    await honest.until(lambda: honest.links == [(node.address, True)])
    async with asyncio.timeout(10):
        assert await held[0][0].read() == b""
    for _, writer in held:
        writer.transport.abort()
    await honest.transport.stop()
    await node.transport.stop()


# --- before authentication --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00\x00\x05\x01\xc1\xc1\xc1\xc1", "malformed frame"),
        (b"\x00\x00\x00\x02\x07\x90", "frame version 7"),
        (b"\x00\x00\x00\x00", "frame of 0 bytes"),
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes: 2 to 4096 are allowed"),
        (b"\x00\x00\x10\x01", "frame of 4097 bytes: 2 to 4096 are allowed"),
        (encode_frame(Data(1, b"early")), "Data frame during the handshake, expected Hello"),
        (encode_frame(Auth(bytes(65))), "Auth frame during the handshake, expected Hello"),
        (encode_frame(Ping(1)) * 1000, "Ping frame during the handshake"),
        (b"\x00\x00\x00\x04\x01\x92\x63\x01", "malformed frame"),
    ],
    ids=["msgpack", "version", "empty", "huge", "above", "data", "auth", "flood", "kind"],
)
async def test_garbage_after_tls(bob: Node, caplog: pytest.LogCaptureFixture, data: bytes, reason: str) -> None:
    """Bytes that are no frame of ours end the connection with the reason, told to the other side too."""
    wire = await Wire.connect(bob.transport.endpoint)
    wire.raw(data)
    assert reason in await wire.close_reason()
    await until_refused(bob)
    assert any(reason in found for found in refusals(caplog)), refusals(caplog)
    assert bob.transport.peers() == []
    await wire.close()


async def refused_login(bob: Node, frames_after_hello: list[Frame], hello: Hello | None = None) -> str:
    wire = await Wire.connect(bob.transport.endpoint)
    await wire.greet(hello or wire.hello(ALICE))
    wire.send(*frames_after_hello)
    reason = await wire.close_reason()
    await wire.close()
    await until_refused(bob)
    assert bob.transport.peers() == []
    assert bob.messages == []
    return reason


async def test_data_before_auth(bob: Node) -> None:
    """Even with a Hello, messages pass only after the proof."""
    reason = await refused_login(bob, [Data(1, b"let me in")])
    assert reason == "Data frame during the handshake, expected Auth"


@pytest.mark.parametrize("signature", [bytes(65), b"\xff" * 65, bytes(64) + b"\x1b"], ids=["zero", "ff", "v27"])
async def test_no_signature(bob: Node, signature: bytes) -> None:
    """65 bytes that are nobody's signature."""
    assert "no valid signature" in await refused_login(bob, [Auth(signature)])


async def test_with_the_address_of_another(bob: Node) -> None:
    """Mallory claims to be Alice and signs as herself."""
    wire = await Wire.connect(bob.transport.endpoint)
    hello = wire.hello(ALICE, BOB.address)
    answer = await wire.greet(hello)
    wire.send(wire.auth(MALLORY, hello, answer))
    reason = await wire.close_reason()
    assert f"of 0x{ALICE.address.hex()} is signed by 0x{MALLORY.address.hex()}" in reason
    await wire.close()


async def test_the_servers_role_is_not_the_clients(bob: Node) -> None:
    """A signature made as a server does not open a connection as a client (reflection)."""
    wire = await Wire.connect(bob.transport.endpoint)
    hello = wire.hello(ALICE, BOB.address)
    answer = await wire.greet(hello)
    wire.send(Auth(ALICE.sign_text(signed_text(Role.SERVER, wire.certificate_hash, hello, answer))))
    assert "is signed by" in await wire.close_reason()
    await wire.close()


async def test_replayed_auth(bob: Node) -> None:
    """An Auth recorded on one connection is worth nothing on the next: the server's nonce differs."""
    first = await Wire.connect(bob.transport.endpoint)
    hello = first.hello(ALICE, BOB.address)
    auth = first.auth(ALICE, hello, await first.greet(hello))
    first.send(auth)
    assert isinstance(await first.receive(), Auth)
    second = await Wire.connect(bob.transport.endpoint)
    await second.greet(hello)
    second.send(auth)
    assert "is signed by" in await second.close_reason()
    await first.close()
    await second.close()


async def test_addressed_as_somebody_else(bob: Node) -> None:
    """Who means Carol does not get Bob."""
    wire = await Wire.connect(bob.transport.endpoint)
    wire.send(wire.hello(ALICE, CAROL.address))
    assert f"expects 0x{CAROL.address.hex()} here; this node is 0x{BOB.address.hex()}" in await wire.close_reason()
    await wire.close()


async def test_with_the_nodes_own_address(bob: Node) -> None:
    """Nobody else is Bob."""
    wire = await Wire.connect(bob.transport.endpoint)
    wire.send(wire.hello(BOB, BOB.address))
    assert "this node's own address" in await wire.close_reason()
    await wire.close()


async def test_another_protocol_version(bob: Node) -> None:
    """The refusal names both versions."""
    wire = await Wire.connect(bob.transport.endpoint)
    wire.send(Hello(2, ALICE.address, bytes(32), b""))
    assert await wire.close_reason() == "protocol version 2: this node speaks 1"
    await wire.close()


async def test_not_authorized() -> None:
    """The allow-list is asked with a proved address."""
    asked = []

    def authorize(address: bytes) -> bool:
        asked.append(address)
        return False

    node = await Node(TcpTransport(BOB, limits=LIMITS, authorize=authorize)).start()
    wire = await Wire.connect(node.transport.endpoint)
    hello = wire.hello(ALICE)
    wire.send(wire.auth(ALICE, hello, await wire.greet(hello)))
    assert "is not authorized" in await wire.close_reason()
    assert asked == [ALICE.address]
    await wire.close()
    await node.transport.stop()


# --- the relay --------------------------------------------------------------------------------------------------


DIALS_ONCE = msgspec.structs.replace(LIMITS, backoff_first_s=60.0, backoff_max_s=60.0)


async def relay_frames(source: Wire, target: Wire, seen: list[Frame]) -> None:
    while (frame := await source.receive()) is not None:
        seen.append(frame)
        target.send(frame)


async def test_relay_in_the_middle(bob: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Mallory ends TLS on both sides and passes every frame on: both ends notice, no message passes."""
    relay = WireServer()
    endpoint = await relay.start()
    alice = await Node(TcpTransport(ALICE, limits=DIALS_ONCE)).start()
    alice.transport.add_peer(bob.address, endpoint)
    alice.send(bob, b"secret")
    towards_alice = await relay.next()
    towards_bob = await Wire.connect(bob.transport.endpoint)
    from_alice: list[Frame] = []
    from_bob: list[Frame] = []
    tasks = [
        asyncio.create_task(relay_frames(towards_alice, towards_bob, from_alice)),
        asyncio.create_task(relay_frames(towards_bob, towards_alice, from_bob)),
    ]
    await until_refused(bob)
    assert any("somebody relays in the middle" in reason for reason in refusals(caplog))
    assert [type(frame) for frame in from_alice[:2]] == [Hello, Auth]
    assert not any(isinstance(frame, Auth | Open | Data) for frame in from_bob)
    assert not any(isinstance(frame, Data) for frame in from_alice)
    assert bob.messages == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await towards_bob.close()
    await towards_alice.close()
    await relay.stop()
    assert alice.status(bob).queued == 1
    await alice.transport.stop()


async def test_the_client_notices_a_relay_by_itself() -> None:
    """Even when the true server signs for the relay's connection to it, the dialling side refuses."""
    relay = WireServer()
    alice = await Node(TcpTransport(ALICE, limits=DIALS_ONCE)).start()
    endpoint = await relay.start()
    alice.transport.add_peer(BOB.address, endpoint)
    wire = await relay.next()
    hello = await wire.receive()
    assert isinstance(hello, Hello)
    answer = Hello(1, BOB.address, bytes(32), ALICE.address)
    wire.send(answer)
    assert isinstance(await wire.receive(), Auth)
    # What Bob would sign had Alice's Auth convinced him: over his own certificate, not the relay's.
    wire.send(Auth(BOB.sign_text(signed_text(Role.SERVER, bytes(31) + b"\x01", hello, answer))))
    assert "somebody relays in the middle" in await wire.close_reason()
    assert alice.links == []
    await wire.close()
    await alice.transport.stop()
    await relay.stop()


async def test_dialled_somebody_else() -> None:
    """A node that answers with its own true identity is refused when another was dialled."""
    alice = await Node(TcpTransport(ALICE, limits=LIMITS)).start()
    carol = await Node(TcpTransport(CAROL, limits=LIMITS)).start()
    alice.transport.add_peer(BOB.address, carol.transport.endpoint)
    await until_refused(carol)
    await until_refused(alice)
    (status,) = alice.transport.peers()
    assert f"0x{BOB.address.hex()} here; this node is 0x{CAROL.address.hex()}" in str(status.last_error)
    assert status.refused >= 1
    assert alice.links == carol.links == []
    await alice.transport.stop()
    await carol.transport.stop()


# --- authenticated, and misbehaving -----------------------------------------------------------------------------


OPEN = Open(SESSION, 1, b"", 0, 2**26, 4096, 2**26)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([Data(1, b"x")], "Data frame before Open"),
        ([Ack(0)], "Ack frame before Open"),
        ([OPEN, OPEN], "second Open"),
        ([OPEN, Data(2, b"x")], "message 2 after 0: some are missing"),
        ([OPEN, Data(1, b"good"), Data(1, b"again")], "message 1 after 1 on one link"),
        ([OPEN, Data(1, b"good"), Data(2, b"good"), Data(1, b"x")], "message 1 after 2 on one link"),
        ([OPEN, Ack(1)], "acknowledged 1: 0 to 0 are possible"),
        ([OPEN, Ack(2**63 - 1)], "0 to 0 are possible"),
        ([OPEN, Auth(bytes(65))], "Auth frame on an authenticated link"),
        ([OPEN, Hello(1, MALLORY.address, bytes(32), b"")], "Hello frame on an authenticated link"),
        ([Open(SESSION, 0, b"", 0, 2**26, 1, 1)], "begins at 0"),
        ([Open(SESSION, 1, b"", 0, 1000, 1, 1)], "accepts frames of 1000 bytes"),
        ([OPEN, *[Ping(n) for n in range(65)]], "65 pings"),
    ],
    ids=lambda value: value.replace(" ", "-")[:24] if isinstance(value, str) else "",
)
async def test_protocol_violations(
    bob: Node, caplog: pytest.LogCaptureFixture, frames: list[Frame], reason: str
) -> None:
    """An authenticated peer that contradicts itself is cut off; its good messages before that count."""
    wire = await Wire.connect(bob.transport.endpoint)
    await wire.log_in(MALLORY, BOB.address)
    wire.send(*frames)
    assert reason in await wire.close_reason()
    await until_refused(bob, counter="links_refused")
    good = [frame.payload for frame in frames if isinstance(frame, Data) and frame.payload == b"good"]
    await bob.until(lambda: bob.bodies() == good)
    (status,) = bob.transport.peers()
    assert status.refused == 1
    assert reason in str(status.last_error)
    assert any(reason in found for found in refusals(caplog))
    await wire.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ((LIMITS.frame_bytes_max + 1).to_bytes(4, "big"), f"2 to {LIMITS.frame_bytes_max} are allowed"),
        (b"\x00\x00\x00\x03\x01\x91\x04", "malformed frame"),
        (bytes(1000), "frame of 0 bytes"),
    ],
    ids=["oversize", "short", "zeros"],
)
async def test_garbled_frames_on_a_link(bob: Node, data: bytes, reason: str) -> None:
    """A frame that cannot be read ends the link; the message before it in the same write is processed."""
    wire = await Wire.connect(bob.transport.endpoint)
    await wire.link(MALLORY, BOB.address)
    wire.raw(encode_frame(Data(1, b"good")) + data)
    assert reason in await wire.close_reason()
    await bob.until(lambda: bob.bodies() == [b"good"])
    await wire.close()


async def test_ignoring_the_window(bob: Node) -> None:
    """Sending more than the receiver allows before it has processed anything is a flood."""
    bob.gate.clear()
    wire = await Wire.connect(bob.transport.endpoint)
    theirs = await wire.link(MALLORY, BOB.address)
    assert theirs.window_messages == LIMITS.window_messages
    wire.send(*[Data(n + 1, b"x") for n in range(theirs.window_messages + 1)])
    assert f"the window is {LIMITS.window_messages} messages" in await wire.close_reason()
    await wire.close()


async def test_a_false_claim_about_what_was_received(bob: Node) -> None:
    """A peer that says it has what was never sent is refused; nothing of the queue is dropped."""
    wire = await Wire.connect(bob.transport.endpoint)
    theirs = await wire.log_in(MALLORY, BOB.address)
    wire.send(Open(SESSION, 1, theirs.session, 5, 2**26, 16, 2**26))
    assert "says it received 5: 0 to 0 are possible" in await wire.close_reason()
    await wire.close()


async def test_a_resumed_session_drops_duplicates(bob: Node) -> None:
    """A peer that sends again what had arrived, on a new link of the same session, is acknowledged, not obeyed."""
    first = await Wire.connect(bob.transport.endpoint)
    await first.link(ALICE, BOB.address)
    first.send(Data(1, b"one"), Data(2, b"two"))
    assert await first.receive() in (Ack(1), Ack(2))
    await first.close()
    await bob.until(lambda: len(bob.links) == 2)
    second = await Wire.connect(bob.transport.endpoint)
    theirs = await second.link(ALICE, BOB.address)
    assert theirs.received == 2
    second.send(Data(1, b"one"), Data(2, b"two"), Data(3, b"three"))
    frame = await second.receive()
    while frame != Ack(3):
        assert isinstance(frame, Ack)
        frame = await second.receive()
    assert bob.bodies() == [b"one", b"two", b"three"]
    await second.close()


async def test_ping_is_answered(bob: Node) -> None:
    """Each read's last ping gets its pong."""
    wire = await Wire.connect(bob.transport.endpoint)
    await wire.link(ALICE, BOB.address)
    wire.send(Ping(7))
    assert await wire.receive() == Pong(7)
    await wire.close()


async def test_silent_peer_is_pinged_then_given_up() -> None:
    """A link on which nothing comes back is closed after the time for it, and the listener hears of it."""
    limits = msgspec.structs.replace(LIMITS, ping_after_s=0.05, dead_after_s=0.2)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    wire = await Wire.connect(node.transport.endpoint)
    await wire.link(ALICE, BOB.address)
    frames = await wire.receive_until_closed()
    assert Ping(0) in frames
    assert "silent for" in frames[-1].reason  # type: ignore[union-attr]
    await node.until(lambda: node.links == [(ALICE.address, True), (ALICE.address, False)])
    assert node.transport.counters["links_refused"] == 0
    await wire.close()
    await node.transport.stop()


async def test_a_dead_link_yields_to_a_probe() -> None:
    """A link that stands in a new one's way is probed, and makes room when nobody answers on it."""
    limits = msgspec.structs.replace(LIMITS, probe_s=0.05)
    server = WireServer()
    endpoint = await server.start()
    # The link that the lower address initiates is the one that is kept.
    low, high = sorted([ALICE, BOB], key=lambda signer: signer.address)
    node = await Node(TcpTransport(low, limits=limits)).start()
    node.transport.add_peer(high.address, endpoint)
    old = await server.next()
    await serve_handshake(old, high)
    old.send(OPEN)
    await node.until(lambda: node.links == [(high.address, True)])
    await server.stop()
    new = await Wire.connect(node.transport.endpoint)
    hello = new.hello(high, low.address)
    new.send(new.auth(high, hello, await new.greet(hello)))
    assert await new.close_reason() == "another link is in use"
    await node.until(lambda: node.links[-1] == (high.address, False))
    again = await Wire.connect(node.transport.endpoint)
    await again.link(high, low.address)
    await node.until(lambda: node.links[-1] == (high.address, True))
    for wire in (old, new, again):
        await wire.close()
    await node.transport.stop()


async def test_peers_are_limited() -> None:
    """Identities cost nothing: a node remembers only so many, and forgets those nobody waits for."""
    limits = msgspec.structs.replace(LIMITS, peers_max=2)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    wires = []
    for number in (1, 2):
        wire = await Wire.connect(node.transport.endpoint)
        await wire.link(Signer(bytes([number]) * 32), BOB.address)
        wires.append(wire)
    await node.until(lambda: len(node.links) == 2)
    refused = await Wire.connect(node.transport.endpoint)
    hello = refused.hello(ALICE)
    refused.send(refused.auth(ALICE, hello, await refused.greet(hello)))
    assert "at most 2" in await refused.close_reason()
    await wires[0].close()
    await node.until(lambda: len(node.links) == 3)
    welcome = await Wire.connect(node.transport.endpoint)
    await welcome.link(ALICE, BOB.address)
    await node.until(lambda: (ALICE.address, True) in node.links)
    assert len(node.transport.peers()) == 2
    for wire in (*wires, refused, welcome):
        await wire.close()
    await node.transport.stop()


async def test_only_known_peers_may_say_that_this_key_runs_twice(bob: Node) -> None:
    """A stranger with a key of its own ends links with that reason as often as it likes."""
    now_s = 0.0
    bob.transport._clock = lambda: now_s

    async def turned_away() -> None:
        nonlocal now_s
        for _ in range(TIMES_MIN + 1):
            wire = await Wire.connect(bob.transport.endpoint)
            ended = bob.links.count((MALLORY.address, False))
            await wire.link(MALLORY, bob.address)
            wire.send(Close(IN_USE))
            await bob.until(lambda: bob.links.count((MALLORY.address, False)) > ended)  # noqa: B023 - ends first
            now_s += LASTS_MIN_S
            await wire.close()

    await turned_away()
    assert not bob.transport.counters["twins_suspected"]
    bob.transport.add_peer(MALLORY.address, "127.0.0.1:1")
    await turned_away()
    assert bob.transport.counters["twins_suspected"] == 1


async def test_refusals_do_not_fill_the_disk(bob: Node, caplog: pytest.LogCaptureFixture) -> None:
    """All refusals are counted; of many at once, each of another stranger, a process writes only a part."""
    trickle = Trickle()
    caplog.handler.addFilter(trickle)
    try:
        for number in range(150):
            bob.transport._refusals.note("strangers_refused", f"stranger {number}", "test")
    finally:
        caplog.handler.removeFilter(trickle)
    assert bob.transport.counters["strangers_refused"] == 150
    assert 100 <= refusals(caplog).count("test") < 120


@pytest.mark.parametrize("endpoint", ["", "host", ":1", "host:", "host:0", "host:65536", "host:x", "::1:80", "h:-1"])
async def test_bad_endpoint(bob: Node, endpoint: str) -> None:
    """An endpoint that cannot be dialled is refused when it is given."""
    with pytest.raises(LocalError, match="host:port"):
        bob.transport.add_peer(ALICE.address, endpoint)


async def test_a_peer_that_does_not_read_is_not_read() -> None:
    """While a peer leaves our bytes lying, writing stops and so does reading; when it reads, all of it comes."""
    limits = msgspec.structs.replace(LIMITS, queue_bytes_max=2**26)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    wire = await Wire.connect(node.transport.endpoint)
    await wire.link(ALICE, BOB.address)
    await node.until(lambda: node.links == [(ALICE.address, True)])
    link = node.transport._peers[ALICE.address].link
    for _ in range(20):
        node.transport.send(ALICE.address, bytes(2_000_000))
    async with asyncio.timeout(10):
        while not link.write_paused:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    decoder = FrameDecoder(limits.frame_bytes_max)
    received: list[Frame] = []
    async with asyncio.timeout(20):
        while len(received) < 20:
            received += decoder.feed(await wire.reader.read(1_000_000))
    assert received == [Data(n + 1, bytes(2_000_000)) for n in range(20)]
    assert not link.write_paused
    await wire.close()
    await node.transport.stop()


async def test_stop_does_not_wait_for_ever() -> None:
    """A handler that does not end is cancelled after the time for it, its message not acknowledged."""
    limits = msgspec.structs.replace(LIMITS, stop_s=0.05)
    node = await Node(TcpTransport(BOB, limits=limits)).start()
    node.gate.clear()
    wire = await Wire.connect(node.transport.endpoint)
    await wire.link(ALICE, BOB.address)
    wire.send(Data(1, b"one"))
    await node.until(lambda: node.bodies() == [b"one"])
    await node.transport.stop()
    assert node.finished == 0
    assert not any(isinstance(frame, Ack) for frame in await wire.receive_until_closed())
    await wire.close()
