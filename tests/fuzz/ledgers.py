"""What a ledger's other party may send, up to the record; and its stored facts, up to the fold."""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec

from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.ledger.messages import LedgerMessage

Decode = Callable[[bytes], object]


def read_message(data: bytes) -> LedgerMessage:
    """As `books.messages` does."""
    from tests.support.ledger_pair import decode_message

    try:
        return decode_message(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def ledger_messages() -> tuple[Decode, list[bytes]]:
    """The first byte chooses who hears the message: a party that runs, waits for a proposal, or recovers. A signature
    is seldom right after a mutation; what is behind it is tried by tests of hostile parties."""
    from scapp.channels.ledger import opening, receiving
    from scapp.channels.ledger.messages import AskStanding, OpenLedger, RejectLedger, SignFinal, SignStage
    from scapp.channels.ledger.proposals import Expand, Transfer
    from tests.support.ledger_pair import COIN, RULES, LedgerPair, encode

    pair = LedgerPair()
    good = [pair.bag[0][1]]
    waiting = copy.copy(pair.follower)
    pair.run()
    for index, change in ((0, Expand(COIN, 5, 0)), (1, Transfer(COIN, 5, 1))):
        pair.parties[index].request(change)
        pair.collect()
        good += [data for _, data in pair.bag]
        pair.quiet()
    recovering = LedgerPair()
    recovering.run()
    recovering.follower.restore(3, bytes(16))
    pair.leader.hear(pair.follower.address, encode(AskStanding(pair.channel, bytes(16))))
    pair.collect()
    good += [data for _, data in pair.bag]
    signature = pair.leader.it.prefund[0]
    good += [
        encode(message)
        for message in (
            RejectLedger(pair.channel, "no"),
            SignStage(pair.channel, 1, signature, answer=True),
            SignFinal(pair.channel, 9, signature, answer=True),
        )
    ]
    hearers = [pair.leader, pair.follower, recovering.follower, waiting]

    def decode(data: bytes) -> None:
        party = hearers[data[0] % len(hearers) if data else 0]
        message = read_message(data[1:])
        if isinstance(message, OpenLedger):
            opening.receive_open(message, pair.parties[1 - party.index].address, (), RULES, party.context)
        elif party.record is not None:
            receiving.receive(party.record, party.session, message, party.context)

    return decode, [bytes((hearer,)) + data for hearer in range(len(hearers)) for data in good]


def ledger_facts() -> tuple[Decode, list[bytes]]:
    """A log of facts in which one has other bytes."""
    from scapp.channels.ledger.events import LedgerCreated, LedgerEvent
    from scapp.channels.ledger.proposals import Expand
    from scapp.channels.ledger.record import create, evolve
    from tests.support.ledger_pair import COIN, LedgerPair

    pair = LedgerPair()
    pair.run()
    pair.follower.request(Expand(COIN, 5, 1))
    pair.collect()
    pair.quiet()
    pair.leader.close()
    pair.collect()
    pair.quiet()
    decoder = msgspec.msgpack.Decoder(LedgerEvent)
    log = pair.follower.log
    created = decoder.decode(log[0])
    assert isinstance(created, LedgerCreated)
    records = [create(created)]
    for data in log[1:]:
        records.append(evolve(records[-1], decoder.decode(data)))

    def decode(data: bytes) -> None:
        try:
            event = decoder.decode(data[1:])
        except (ValueError, RecursionError):  # as `books.events` does
            return
        if isinstance(event, LedgerCreated):
            create(event)
            return
        evolve(records[data[0] % len(records)], event)

    return decode, [bytes((max(0, at - 1),)) + data for at, data in enumerate(log)]
