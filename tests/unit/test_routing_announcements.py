"""Announcements: what a node says of its ledgers and when, and that nothing false, old or endless changes anything."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.errors import PeerError
from scapp.channels.routing import gossip, own, table
from scapp.channels.routing.fees import Schedule, Stake
from scapp.channels.routing.messages import Known, Statements, decode_message, encode_message
from scapp.channels.routing.own import HubTerms, OwnLedger
from scapp.channels.routing.router import Router
from scapp.channels.routing.statements import (
    BODY_BYTES_MAX,
    Ledger,
    Room,
    Signed,
    Statement,
    StatementRefused,
    Terms,
    least_room,
    network_of,
    read_statement,
    sign_statement,
    statement_hash,
)
from scapp.channels.signing import Signer
from scapp.channels.types import Address

ALICE, HUB, BOB, MALLORY = (Signer(bytes((number,)) * 32) for number in (1, 2, 3, 4))
COIN, ADJUDICATOR = Address(bytes(20)), Address(b"\xad" * 20)
NETWORK = network_of(31337, ADJUDICATOR)
NOW = 1_700_000_000_000
FORWARDS = HubTerms(announce=True, schedules=(Schedule(COIN, 1, 0),), duration_min_s=10, duration_max_s=1_000)
QUIET = HubTerms()
REACHED = HubTerms(announce=True, duration_min_s=10, duration_max_s=1_000)
FREE = Terms(COIN, bytes(32), 0, bytes(32), b"\xff" * 32)
MONEY = ((COIN, 1_000, 1_000),)


def node(signer: Signer, *peers: Signer, terms: HubTerms = QUIET, at: int = NOW) -> Router:
    """A node that has a ledger and a link with each of the peers."""
    router = Router(signer, NETWORK, terms)
    router.announce([OwnLedger(peer.address, MONEY) for peer in peers], at)
    for peer in peers:
        router.on_link(peer.address, True)
    return router


def statement(origin: Signer, *peers: Signer, sequence: int = 1, ends: int = NOW + 60_000, bits: int = 10) -> Statement:
    ledgers = tuple(Ledger(peer.address, (Room(COIN, bits),)) for peer in peers)
    return Statement(origin.address, sequence, ends, 10, 1_000, (), ledgers)


def signed(origin: Signer, *peers: Signer, **changes) -> Signed:
    return sign_statement(statement(origin, *peers, **changes), NETWORK, origin)


def said(router: Router, at: int, to: Signer) -> list[Signed]:
    """The statements that a node sends to a peer now."""
    sends = [send.message for send in router.tick(at) if send.peer == to.address]
    return [each for message in sends if isinstance(message, Statements) for each in message.statements]


def says(router: Router, peer: Signer, *statements: Signed, at: int = NOW, more: bool = False) -> None:
    router.on_message(peer.address, decode_message(encode_message(Statements(statements, more))), at)


def refused(router: Router, peer: Signer, *statements: Signed, why: str, at: int = NOW) -> None:
    before = dict(router.graph)
    with pytest.raises(PeerError, match=why):
        says(router, peer, *statements, at=at)
    assert dict(router.graph) == before
    assert said(router, at, peer) == []


# What a node says


def test_a_payer_finds_the_payee_over_a_hub_after_hearing_of_both_ends():
    alice, hub, bob = node(ALICE, HUB), node(HUB, ALICE, BOB, terms=FORWARDS), node(BOB, HUB, terms=REACHED)
    routers = {ALICE.address: alice, HUB.address: hub, BOB.address: bob}
    for step in range(4):
        for sender, router in routers.items():
            for send in router.tick(NOW + step * 500):
                message = decode_message(encode_message(send.message))
                routers[send.peer].on_message(sender, message, NOW + step * 500)
    found = alice.routes(BOB.address, [Stake(COIN, 400, 0)], NOW + 5_000, challenge_duration_s=100)
    assert [(route.hubs, route.fees) for route in found] == [((HUB.address,), (1,))]


def test_who_does_not_announce_says_nothing_but_listens_and_passes_on():
    quiet = node(ALICE, HUB, BOB)
    says(quiet, HUB, signed(HUB, ALICE))
    assert [each.body for each in said(quiet, NOW, BOB)] == [signed(HUB, ALICE).body]
    assert ALICE.address not in quiet.graph


def test_balances_are_told_by_their_number_of_bits():
    router = Router(HUB, NETWORK, FORWARDS)
    router.announce([OwnLedger(ALICE.address, ((COIN, 1_000, 7),)), OwnLedger(BOB.address, ((COIN, 0, 7),))], NOW)
    router.tick(NOW)
    assert router.graph[HUB.address].rooms == {COIN: {ALICE.address: (512, 1_023), BOB.address: (0, 0)}}
    assert [least_room(bits) for bits in (0, 1, 2, 256)] == [0, 1, 2, 2**255]


def test_a_statement_is_renewed_before_it_ends():
    router = node(HUB, ALICE, terms=FORWARDS)
    router.tick(NOW)
    first = router.graph[HUB.address].expires_ms
    router.tick(NOW + own.RENEW_MS - 1)
    assert router.graph[HUB.address].expires_ms == first
    router.tick(NOW + own.RENEW_MS)
    assert router.graph[HUB.address].expires_ms == first + own.RENEW_MS


@pytest.mark.parametrize(
    ("balance", "waits_ms"),
    [
        (511, own.INTERVAL_MS),  # less than was promised
        (600, own.RENEW_MS),  # still what was promised
        (5_000, own.RENEW_MS),  # more harms nobody
    ],
)
def test_a_balance_that_fell_is_told_soon_and_one_that_rose_at_the_renewal(balance, waits_ms):
    router = node(HUB, ALICE, terms=FORWARDS)
    router.tick(NOW)
    first = router.graph[HUB.address].expires_ms
    router.announce([OwnLedger(ALICE.address, ((COIN, balance, 0),))], NOW + 1)
    router.tick(NOW + waits_ms - 1)
    assert router.graph[HUB.address].expires_ms == first
    router.tick(NOW + waits_ms)
    assert router.graph[HUB.address].expires_ms > first


@pytest.mark.parametrize("ledgers", [(), (ALICE, BOB)])
@pytest.mark.parametrize("balance", [0, 9])
def test_ledgers_that_come_and_go_are_told_at_once(ledgers, balance):
    """Those in which this node has nothing as well: it can be paid there."""
    router = node(HUB, ALICE, terms=FORWARDS)
    router.tick(NOW)
    router.announce([OwnLedger(peer.address, ((COIN, balance, 9),)) for peer in ledgers], NOW + 1)
    router.tick(NOW + 1)
    told = router.graph[HUB.address].rooms.get(COIN, {})
    assert set(told) == {peer.address for peer in ledgers}


def test_ledgers_that_come_and_go_without_end_are_told_now_and_then():
    router, told = node(HUB, ALICE, terms=FORWARDS), 0
    for second in range(300):
        router.announce(
            [OwnLedger(peer.address, MONEY) for peer in (ALICE, BOB)[: 1 + second % 2]], NOW + second * 1_000
        )
        told += len(said(router, NOW + second * 1_000, ALICE))
    assert told == own.BURST + 300_000 // own.INTERVAL_MS - 1


def test_a_restarted_node_outdoes_what_it_said_before_its_clock_was_set_back():
    earlier = node(HUB, ALICE, terms=FORWARDS, at=NOW + 50_000)
    earlier.tick(NOW + 50_000)
    old = next(iter(earlier._table.known(Address(bytes(20)), 1)))
    again = node(HUB, ALICE, terms=FORWARDS)
    [mine] = said(again, NOW, ALICE)
    assert read_statement(mine.body).sequence < old.sequence
    says(again, ALICE, old.signed, at=NOW + 1)
    [mine] = said(again, NOW + own.INTERVAL_MS, ALICE)
    assert read_statement(mine.body).sequence > old.sequence


def test_a_clock_that_is_set_back_delays_no_statement():
    router = node(HUB, ALICE, terms=FORWARDS)
    [first] = said(router, NOW, ALICE)
    earlier = NOW - 10 * own.RENEW_MS
    [second] = said(router, earlier, ALICE)
    assert read_statement(second.body).sequence > read_statement(first.body).sequence


# What is refused


def test_a_statement_that_its_origin_did_not_sign_changes_nothing():
    alice = node(ALICE, HUB)
    forged = sign_statement(statement(BOB, HUB), NETWORK, MALLORY)
    altered = Signed(signed(BOB, HUB, bits=11).body, signed(BOB, HUB).signature)
    elsewhere = sign_statement(statement(BOB, HUB), network_of(1, ADJUDICATOR), BOB)
    nobody = Signed(signed(BOB, HUB).body, b"\xff" * 65)
    for each in (forged, altered, elsewhere, nobody):
        refused(alice, HUB, each, why="signed by|no key|signature|v is")


def test_a_state_hash_is_never_a_statement():
    """The first 32 bytes of what is hashed are a hash of a text: no channel id, and no other use of the key."""
    assert network_of(1, ADJUDICATOR) != network_of(2, ADJUDICATOR)
    assert network_of(1, ADJUDICATOR) != network_of(1, COIN)


def test_older_and_repeated_statements_change_nothing():
    alice = node(ALICE, HUB, BOB)
    says(alice, HUB, signed(HUB, ALICE, BOB, sequence=5))
    assert len(said(alice, NOW, BOB)) == 1
    later = NOW + table.ORIGIN_INTERVAL_MS
    for sequence in (5, 4, 0):
        says(alice, BOB, signed(HUB, ALICE, sequence=sequence), at=later)
    assert set(alice.graph[HUB.address].rooms[COIN]) == {ALICE.address, BOB.address}
    assert [send for send in alice.tick(later) if isinstance(send.message, Statements)] == []


@pytest.mark.parametrize("ends", [NOW, NOW - 1, NOW + table.LIFETIME_MAX_MS + table.CLOCK_SKEW_MS + 1])
def test_a_statement_out_of_time_is_refused(ends):
    refused(node(ALICE, HUB), HUB, signed(HUB, ALICE, ends=ends), why="ends at")


def test_what_has_ended_is_forgotten_and_cannot_come_back():
    alice = node(ALICE, HUB)
    says(alice, HUB, signed(HUB, ALICE))
    alice.tick(NOW + 60_000)
    assert HUB.address not in alice.graph
    refused(alice, HUB, signed(HUB, ALICE), why="ends at", at=NOW + 60_000)


def test_an_origin_that_speaks_too_often_is_heard_in_its_time():
    alice = node(ALICE, HUB)
    for sequence in range(table.ORIGIN_BURST):
        says(alice, HUB, signed(HUB, ALICE, sequence=sequence))
    refused(alice, HUB, signed(HUB, ALICE, BOB, sequence=9), why="too soon after those before, by 4999 ms", at=NOW + 1)
    says(alice, HUB, signed(HUB, ALICE, BOB, sequence=9), at=NOW + table.ORIGIN_INTERVAL_MS)
    assert BOB.address in alice.graph[HUB.address].rooms[COIN]


def test_a_peer_that_announces_without_end_is_dropped_until_it_slows_down():
    """Signatures are checked for it as fast as an honest network needs, no faster."""
    alice = node(ALICE, HUB)
    checks = alice._gossip._peers[HUB.address].checks
    while checks.take(NOW):
        pass
    refused(alice, HUB, signed(HUB, ALICE), why="more than this node checks")
    says(alice, HUB, signed(HUB, ALICE), at=NOW + 10)
    assert HUB.address in alice.graph


def test_strangers_are_neither_heard_nor_told():
    alice = node(ALICE, HUB)
    says(alice, HUB, signed(HUB, ALICE))
    alice.on_link(MALLORY.address, True)
    refused(alice, MALLORY, signed(MALLORY, ALICE), why="no usable ledger")
    with pytest.raises(PeerError, match="no usable ledger"):
        alice.on_message(MALLORY.address, Known(bytes(20), b"\xff" * 20, ()), NOW)
    assert {send.peer for send in alice.tick(NOW + 2 * gossip.ASK_MS)} == {HUB.address}


def test_a_bad_statement_does_not_hold_up_the_others_of_its_message():
    alice = node(ALICE, HUB)
    with pytest.raises(StatementRefused, match="cannot be read"):
        says(alice, HUB, Signed(b"\xc1", b"\1" * 65), signed(HUB, ALICE))
    assert HUB.address in alice.graph


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (statement(HUB, ALICE, ALICE), "names a peer twice, or itself"),
        (statement(HUB, HUB), "names a peer twice, or itself"),
        (Statement(HUB.address, 1, NOW + 9, 20, 10, (), ()), "durations 20 to 10"),
        (Statement(HUB.address, 1, NOW + 9, 1, 2, (FREE, FREE), ()), "an asset twice"),
        (Statement(HUB.address, 1, NOW + 9, 1, 2, (), (Ledger(BOB.address, (Room(COIN, 1),) * 2),)), "an asset twice"),
        (Statement(HUB.address, 1, NOW + 9, 1, 2, (), (Ledger(BOB.address, (Room(COIN, 257),)),)), "cannot be read"),
        (Statement(HUB.address, 2**63, NOW + 9, 1, 2, (), ()), "cannot be read"),
        (Statement(b"short", 1, NOW + 9, 1, 2, (), ()), "cannot be read"),
    ],
)  # fmt: skip
def test_statements_that_contradict_themselves_are_refused(broken, why):
    refused(node(ALICE, HUB), HUB, sign_statement(broken, NETWORK, HUB), why=why)


def test_oversized_messages_are_no_messages():
    long = msgspec.msgpack.encode(["r:s", [[bytes(BODY_BYTES_MAX + 1), bytes(65)]], False])
    many = msgspec.msgpack.encode(["r:s", [[b"", bytes(65)]] * 65, False])
    for data in (long, many, b"", b"\xc1", msgspec.msgpack.encode(["r:x"]), b"\x91" * 100_000):
        with pytest.raises(MalformedMessage):
            decode_message(data)


def test_fields_of_a_later_version_are_passed_on_unread():
    alice = node(ALICE, HUB, BOB)
    longer = msgspec.msgpack.encode([*msgspec.to_builtins(statement(HUB, ALICE), builtin_types=(bytes,)), "news"])
    later = Signed(longer, HUB.sign(statement_hash(NETWORK, longer)))
    says(alice, HUB, later)
    assert said(alice, NOW, BOB) == [later]


# Bounds


def small_table(**bounds: int) -> Router:
    router = node(ALICE, HUB, BOB, MALLORY)
    router._table._weight_max = bounds.get("weight", router._table._weight_max)
    router._table._nodes_max = bounds.get("nodes", router._table._nodes_max)
    return router


def crowd(count: int, first: int = 100) -> list[Signer]:
    return [Signer(number.to_bytes(32, "big")) for number in range(first, first + count)]


@pytest.mark.parametrize("bounds", [{"weight": 36}, {"nodes": 12}])
def test_who_floods_the_table_fills_its_own_share_of_it(bounds):
    """What an honest peer brought stays, and what the flooding one says of itself."""
    alice = small_table(**bounds)
    says(alice, BOB, signed(BOB, ALICE), *(signed(key, BOB) for key in crowd(3)))
    says(alice, MALLORY, signed(MALLORY, ALICE))
    with pytest.raises(PeerError, match="has its share"):
        says(alice, MALLORY, *(signed(key, MALLORY) for key in crowd(40, 1_000)))
    assert alice._table.weight <= alice._table._weight_max
    assert len(alice.graph) <= alice._table._nodes_max
    assert {key.address for key in (BOB, MALLORY, *crowd(3))} <= alice.graph.keys()


def test_what_is_not_understood_takes_room_as_well():
    """Fields of a later version, or ballast."""
    alice = small_table(weight=500)
    fields = msgspec.to_builtins(statement(HUB, ALICE), builtin_types=(bytes,))
    body = msgspec.msgpack.encode([*fields, bytes(BODY_BYTES_MAX - 200)])
    refused(alice, HUB, Signed(body, HUB.sign(statement_hash(NETWORK, body))), why="has its share")


def test_a_forged_statement_is_not_looked_for_room_for():
    """The signature comes first: making room costs the more the more there is."""
    alice = small_table(nodes=10)
    with pytest.raises(PeerError, match="has its share"):
        says(alice, MALLORY, *(signed(key, MALLORY) for key in crowd(20)))
    forged = sign_statement(statement(BOB, ALICE), NETWORK, MALLORY)
    with pytest.raises(PeerError, match="is signed by"):
        says(alice, MALLORY, forged)


def test_a_peer_with_less_takes_room_from_the_one_with_most():
    alice = small_table(nodes=10)
    flood = crowd(20)
    with pytest.raises(PeerError, match="has its share"):
        says(alice, MALLORY, *(signed(key, MALLORY) for key in flood))
    assert len(alice.graph) == 10
    brought = crowd(5, 1_000)
    says(alice, BOB, signed(BOB, ALICE), *(signed(key, BOB) for key in brought[:4]))
    assert {key.address for key in (BOB, *brought[:4])} <= alice.graph.keys()
    assert len(alice.graph) == 10
    with pytest.raises(PeerError, match="has its share"):
        says(alice, BOB, signed(brought[4], BOB))
    assert flood[0].address not in alice.graph, "the oldest went first"


def test_answers_are_bounded_and_go_on_when_asked_again(monkeypatch):
    monkeypatch.setattr(gossip, "ANSWER_MAX", 5)
    hub = node(HUB, ALICE, BOB)
    keys = crowd(12)
    says(hub, BOB, *(signed(key, BOB) for key in keys))
    hub.on_link(ALICE.address, True)
    alice, at, asked = node(ALICE, HUB), NOW, 0
    while len(alice.graph) < len(keys) and asked < 10:
        for send in alice.tick(at):
            hub.on_message(ALICE.address, send.message, at)
            asked += 1
        answers = [send.message for send in hub.tick(at) if send.peer == ALICE.address]
        statements = [message for message in answers if isinstance(message, Statements)]
        assert sum(len(message.statements) for message in statements) <= 5
        for message in statements:
            alice.on_message(HUB.address, message, at)
        at += gossip.ASK_AGAIN_MS
    assert (len(alice.graph), asked) == (12, 3)


def test_who_asks_too_often_gets_no_answer():
    alice = node(ALICE, HUB)
    question = Known(bytes(20), b"\xff" * 20, ())
    for _ in range(32):
        alice.on_message(HUB.address, question, NOW)
    with pytest.raises(PeerError, match="too often"):
        alice.on_message(HUB.address, question, NOW)
    alice.on_message(HUB.address, question, NOW + gossip.PAGE_MS)


def test_a_table_of_many_pages_is_asked_for_page_by_page(monkeypatch):
    monkeypatch.setattr(gossip, "KNOWN_MAX", 4)
    alice = node(ALICE, HUB)
    says(alice, HUB, *(signed(key, HUB) for key in crowd(10)))
    pages = []
    for second in range(4):
        pages += [s.message for s in alice.tick(NOW + second * gossip.PAGE_MS) if isinstance(s.message, Known)]
    assert [len(page.known) for page in pages] == [4, 4, 2]
    assert (pages[0].first, pages[-1].last) == (bytes(20), b"\xff" * 20)
    told = [origin for page in pages for origin, _ in page.known]
    assert told == sorted(key.address for key in crowd(10))


def test_every_message_fits_into_the_smallest_frame():
    """Statements as long as they may be, and a full page of what is known."""
    big = Signed(bytes(BODY_BYTES_MAX), bytes(65))
    for packet in gossip._packed([big, big, Signed(bytes(9_000), bytes(65))]):
        assert len(encode_message(packet)) < 65_000
    assert len(encode_message(Known(bytes(20), bytes(20), ((b"\xff" * 20, 2**63 - 1),) * 1_024))) < 65_000
    longest = b"\xff" * 32
    terms = Terms(b"\xff" * 20, longest, 10**6, longest, longest)
    ledger = Ledger(b"\xff" * 20, (Room(b"\xff" * 20, 256),))
    full = Statement(HUB.address, 2**62, 2**62, 2**32 - 1, 2**32 - 1, (terms,) * 16, (ledger,) * 512)
    assert len(msgspec.msgpack.encode(full)) <= BODY_BYTES_MAX
