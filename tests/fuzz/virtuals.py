"""What participants of a virtual channel may send, up to the record; and its stored facts, up to the fold."""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.errors import CorruptionError

Decode = Callable[[bytes], object]


def virtual_messages() -> tuple[Decode, list[bytes]]:
    """The first byte chooses who hears it: a participant of a payment or an app channel, or one that does not know of
    it. A signature is seldom right after a mutation; what is behind it is tried by tests of hostile participants."""
    from scapp.channels.virtual import opening
    from scapp.channels.virtual.messages import Proposed, Refused, Unknown
    from scapp.channels.virtual.pending import say
    from scapp.channels.virtual.receiving import receive
    from tests.support.virtual_net import APPS, WIRE, Net, encode

    net = Net(3, leads=[True, False])
    channels = [net.open(net.agreement()), net.open(net.agreement("app", ((60, 40),)))]
    good: list[bytes] = []
    while net.bag:
        good += [payload for _, _, payload in net.bag if isinstance(payload, bytes)]
        net.deliver()
    for party in net.parties:
        for record in party.records.values():
            good += [encode(say(record, peer)) for peer in record.peers]
    good += [encode(message) for message in (Refused(channels[0], 0, "no"), Unknown(channels[1], b"\x01" * 16))]

    def decode(data: bytes) -> None:
        party = net.parties[data[0] % 3 if data else 0]
        peer = net.parties[(party is net.parties[1]) + 1 if party is not net.parties[2] else 1].address
        try:
            message = WIRE.decode(data[1:])
        except (ValueError, RecursionError) as error:  # as `books.messages` does
            raise MalformedMessage(str(error)) from error
        known = party.records.get(message.channel)  # type: ignore[call-overload]
        if known is not None:
            receive(known, peer, message)
        elif isinstance(message, Proposed):
            left, right = opening.neighbours_of(message, party.address)
            sides = [party.side(each) if each in party.ledgers else None for each in (left, right)]
            opening.receive_proposal(peer, message, *sides, APPS, party.context)
        else:
            opening.unknown(peer, message)

    return decode, [bytes((hearer,)) + data for hearer in range(3) for data in dict.fromkeys(good)]


def virtual_facts() -> tuple[Decode, list[bytes]]:
    """A log of facts in which one has other bytes."""
    from scapp.channels.virtual import defunding
    from scapp.channels.virtual.events import VirtualCreated
    from scapp.channels.virtual.record import create, evolve
    from tests.support.virtual_net import STORED, Net

    net = Net(3, leads=[True, False])
    channel = net.open(net.agreement())
    net.run()
    hub = net.parties[1]
    hub.take(defunding.end(hub.records[channel], "enough"))
    hub.settle()
    net.flush()
    net.run()
    created = STORED.decode(hub.events[0])
    assert isinstance(created, VirtualCreated)
    records = [create(created)]
    for data in hub.events[1:]:
        records.append(evolve(records[-1], STORED.decode(data)))

    def decode(data: bytes) -> None:
        try:
            event = STORED.decode(data[1:])
        except (ValueError, RecursionError):  # as `books.events` does
            return
        try:
            if isinstance(event, VirtualCreated):
                create(event)
            else:
                evolve(records[data[0] % len(records)], event)
        except (LookupError, ValueError, TypeError) as error:  # as `books.state` does
            raise CorruptionError(str(error)) from error

    return decode, [bytes((max(0, at - 1),)) + data for at, data in enumerate(hub.events)]
