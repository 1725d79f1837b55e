"""Sessions against a model: two ends and a connection that loses, breaks and restarts at random."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.transport.frames import Ack, Data, Frame, FrameDecoder, Open, encode_frame
from scapp.channels.transport.limits import TransportLimits, limits_for_frames
from scapp.channels.transport.port import QueueFull
from scapp.channels.transport.session import MessageTooLarge, PeerSession, SessionError

LIMITS = TransportLimits(
    frame_bytes_max=10_000, queue_messages_max=20, queue_bytes_max=30_000, window_messages=4, window_bytes=600
)
WIDE = TransportLimits(frame_bytes_max=10_000, window_messages=16, window_bytes=600)


class End:
    """A session with the wire towards the other end and what was handed over, as `peer.py` would."""

    def __init__(self, name: bytes) -> None:
        self.session = PeerSession(name.ljust(16), LIMITS)
        self.handed: list[bytes] = []
        self.acked: list[bytes] = []
        self.wire: deque[Frame] = deque()  # towards the other end

    def connect(self) -> None:
        self.wire.clear()
        self.wire.append(self.session.link_up())

    def write(self) -> None:
        decoder = FrameDecoder(LIMITS.frame_bytes_max)
        self.wire += decoder.feed(self.session.take(1_000_000))

    def read(self, other: End) -> bool:
        """Handle one frame of the other end's."""
        if not other.wire:
            return False
        frame = other.wire.popleft()
        if isinstance(frame, Open):
            self.session.on_open(frame)
        elif isinstance(frame, Data):
            self.session.on_data(frame.seq, frame.payload)
        else:
            assert isinstance(frame, Ack)
            for callback in self.session.on_ack(frame.seq):
                callback()
        return True

    def work(self) -> bool:
        if not self.session.has_messages:
            return False
        origin, message = self.session.next_message()
        self.handed.append(message)
        self.session.processed(origin, len(message))
        return True

    def queue(self, message: bytes) -> None:
        self.session.queue(message, lambda: self.acked.append(message))


def connect(one: End, other: End) -> None:
    one.connect()
    other.connect()


def settle(one: End, other: End) -> None:
    """Run until nothing happens any more."""
    while True:
        one.write()
        other.write()
        if not any((one.read(other), other.read(one), one.work(), other.work())):
            return


@given(st.integers(0, 2**32), st.integers(20, 150))
def test_exactly_once_over_random_breaks(seed: int, steps: int) -> None:
    """Whatever is lost with broken links, each message is handed over once, in order, and acknowledged after that."""
    rng = random.Random(seed)
    one, other = End(b"one"), End(b"other")
    sent: dict[End, list[bytes]] = {one: [], other: []}
    connect(one, other)
    for number in range(steps):
        end, peer = rng.choice([(one, other), (other, one)])
        action = rng.choice(["queue", "queue", "write", "write", "read", "read", "work", "break"])
        if action == "queue" and end.session.queued < LIMITS.queue_messages_max:
            message = b"%d" % number + bytes(rng.choice([0, 0, 100, 700]))
            end.queue(message)
            sent[end].append(message)
        elif action == "write":
            end.write()
        elif action == "read":
            end.read(peer)
        elif action == "work":
            end.work()
        elif action == "break" and rng.random() < 0.5:
            connect(one, other)
        for each, receiver in ((one, other), (other, one)):
            assert receiver.handed == sent[each][: len(receiver.handed)]
            assert each.acked == sent[each][: len(each.acked)]
            assert len(each.acked) <= len(receiver.handed)
    settle(one, other)
    assert (other.handed, one.handed) == (sent[one], sent[other])
    assert (one.acked, other.acked) == (sent[one], sent[other])
    assert one.session.queued == other.session.queued == 0


@given(st.integers(0, 2**32))
def test_a_restarted_receiver_gets_everything_unacknowledged(seed: int) -> None:
    """What was not acknowledged when the receiver died comes to its next life, in order and complete."""
    rng = random.Random(seed)
    one, other = End(b"one"), End(b"other")
    connect(one, other)
    messages = [b"%d" % n for n in range(15)]
    for message in messages:
        one.queue(message)
    for _ in range(rng.randrange(30)):
        rng.choice([one.write, other.write, lambda: one.read(other), lambda: other.read(one), other.work])()
    acked = len(one.acked)
    again = End(b"another life")
    connect(one, again)
    settle(one, again)
    assert again.handed == messages[acked:]
    assert one.acked == messages


def test_a_restarted_sender_starts_anew() -> None:
    """What an ended session left unprocessed is forgotten, and its late end acknowledges nothing of the new one."""
    one, other = linked()
    one.queue(b"old 1")
    one.queue(b"old 2")
    one.write()
    while other.read(one):
        pass
    origin, running = other.session.next_message()
    again = End(b"one, again")
    connect(again, other)
    again.queue(b"new")
    assert again.read(other)
    again.write()
    while other.read(again):
        pass
    other.session.processed(origin, len(running))
    again.read(other)
    other.write()
    again.read(other)
    assert again.acked == []
    settle(again, other)
    assert other.handed == [b"new"]
    assert again.acked == [b"new"]


def linked() -> tuple[End, End]:
    one, other = End(b"one"), End(b"other")
    connect(one, other)
    assert one.read(other)
    assert other.read(one)
    return one, other


def test_window_of_messages() -> None:
    """Only so many messages fly; each acknowledgement lets another go."""
    one, other = linked()
    for number in range(6):
        one.queue(b"%d" % number)
    one.write()
    assert len(one.wire) == 4
    assert not one.session.can_take
    assert other.read(one)
    other.work()
    other.write()
    one.read(other)
    assert one.session.can_take
    one.write()
    assert len(one.wire) == 4


def test_window_of_bytes() -> None:
    """The window counts bytes, and a message larger than it goes alone."""
    one, _ = linked()
    for size in (5_000, 10):
        one.queue(bytes(size))
    one.write()
    assert [len(frame.payload) for frame in one.wire if isinstance(frame, Data)] == [5_000]


def test_an_acknowledgement_is_urgent_before_the_window_is_full() -> None:
    """A quarter of the window, in messages or in bytes, makes it urgent; one that is taken along is not any more."""
    for sizes in ((0,) * 4, (0, LIMITS.window_bytes // 4)):
        one, other = End(b"one"), End(b"other")
        one.session, other.session = (PeerSession(name.ljust(16), WIDE) for name in (b"one", b"other"))
        connect(one, other)
        settle(one, other)
        for _ in range(2):
            told = []
            for size in sizes:
                one.queue(bytes(size))
                one.write()
                assert other.read(one)
                origin, message = other.session.next_message()
                told.append(other.session.processed(origin, len(message)))
            assert told == [*[False] * (len(sizes) - 1), True]
            other.queue(b"an answer")
            other.write()
            assert [type(frame) for frame in other.wire] == [Ack, Data]
            other.wire.clear()


def test_nothing_before_open() -> None:
    """Without the peer's Open nothing is written."""
    one = End(b"one")
    one.queue(b"x")
    one.connect()
    assert one.session.take(1000) == b""


def test_queue_limits_name_the_numbers() -> None:
    """Refusals say how much waits and how much may; nothing is taken."""
    one = End(b"one")
    with pytest.raises(MessageTooLarge, match="message of 10000 bytes: at most 9983 fit"):
        one.queue(bytes(10_000))
    for _ in range(3):
        one.queue(bytes(9_900))
    with pytest.raises(QueueFull, match="29700 bytes wait for this peer, 301 more would exceed 30000"):
        one.queue(bytes(301))
    for _ in range(17):
        one.queue(b"")
    with pytest.raises(QueueFull, match="20 messages wait for this peer: at most 20"):
        one.queue(b"")
    assert one.session.queued == 20


def test_a_bad_frame_changes_nothing() -> None:
    """After a refused number the session goes on over the next link as if it had not come."""
    one, other = linked()
    one.queue(b"x")
    one.write()
    with pytest.raises(SessionError, match="acknowledged 2: 0 to 1 are possible"):
        one.session.on_ack(2)
    with pytest.raises(SessionError, match="message 5 after 0: some are missing"):
        other.session.on_data(5, b"y")
    connect(one, other)
    settle(one, other)
    assert other.handed == one.acked == [b"x"]


def test_a_peer_that_forgot_is_refused() -> None:
    """A peer of the same session cannot take back what it acknowledged, nor leave a gap."""
    one, other = linked()
    one.queue(b"x")
    settle(one, other)
    assert one.acked == [b"x"]
    one.session.link_up()
    with pytest.raises(SessionError, match="says it received 0: 1 to 1 are possible"):
        one.session.on_open(Open(b"other".ljust(16), 1, b"one".ljust(16), 0, 10_000, 4, 600))
    other.session.link_up()
    with pytest.raises(SessionError, match="goes on at 3, we have received 1"):
        other.session.on_open(Open(b"one".ljust(16), 3, b"", 0, 10_000, 4, 600))


def test_open_is_small() -> None:
    """Open fits the handshake's frame limit: it may arrive in the same read as Auth."""
    frame = PeerSession(bytes(16), LIMITS).link_up()
    assert len(encode_frame(frame)) < 100


@pytest.mark.parametrize("frame", [65_536, 4_194_304, 33_554_432])
def test_a_frame_always_fits_window_and_queue(frame: int) -> None:
    """Whatever size of frame an operator sets, one of them can be sent."""
    limits = limits_for_frames(frame)
    assert limits.frame_bytes_max == frame
    assert limits.window_bytes >= 2 * frame
    assert limits.queue_bytes_max >= 4 * frame
