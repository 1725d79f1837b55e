"""The books' engine: steps are folded whole or not at all, records do not hold up each other, what an input costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books import engine
from scapp.channels.books.engine import Books
from scapp.channels.books.events import decode_event, encode_event
from scapp.channels.books.messages import encode_message, prefix_of
from scapp.channels.books.retries import FIRST_MS, LONGEST_MS, Retries
from scapp.channels.books.step import Note, Step
from scapp.channels.channel.messages import Rejected
from scapp.channels.errors import CorruptionError, LocalError, PeerError
from scapp.channels.ledger.events import CloseRequested, RequestDropped
from scapp.channels.ledger.messages import AskClose
from scapp.channels.payments.messages import VoucherWanted
from scapp.channels.payments.resending import Resending
from scapp.channels.types import ChannelId
from scapp.channels.virtual.messages import Refused
from tests.support.ledger_scene import LedgerScene
from tests.support.tree import ROOT

ALICE, HUB = 0, 1


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(2).start()
    try:
        yield made
    finally:
        await made.end()


def books_of(scene: LedgerScene, index: int) -> Books:
    runner = scene.books(index)._runner
    assert runner is not None
    return runner.books


async def test_a_step_is_folded_whole_or_not_at_all(scene: LedgerScene) -> None:
    """Its second event cannot follow: the first one is taken back, and nothing of it is stored or said."""
    ledger = await scene.ledger(ALICE, HUB)
    books = books_of(scene, ALICE)
    record, version = books.state.ledgers[ledger], books.state.version
    step = Step((CloseRequested(ledger, 0), RequestDropped(ChannelId(b"\x77" * 32), 1, "")), (), (Note(ledger, "x"),))
    with pytest.raises(CorruptionError, match="which is not here"):
        books.decide(lambda _: step)
    assert (books.state.ledgers[ledger], books.state.version) == (record, version)
    books.crank()
    assert books.take() == (Step(), ())


async def test_a_record_whose_crank_fails_holds_up_nobody(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is told, the other record goes on; with the next input the first one does as well."""
    ledger = await scene.ledger(ALICE, HUB)
    channel = await scene.payments((ALICE, HUB), 10, fees=())
    crank = engine.virtual_crank.crank

    def broken(*given: object) -> Step:
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine.virtual_crank, "crank", broken)
    await scene.books(ALICE).close_virtual(channel)
    await scene.books(ALICE).transfer(ledger, bytes(20), 5)  # type: ignore[arg-type]
    await scene.until(lambda: scene.money(HUB, ledger)[0] == 1_005)
    assert scene.nodes[ALICE].counters()["books_bugs"] > 0
    monkeypatch.setattr(engine.virtual_crank, "crank", crank)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB)))


async def test_a_transfer_of_more_than_there_is(scene: LedgerScene) -> None:
    """Either party hears at once what it has; nothing is asked of the other."""
    ledger = await scene.ledger(ALICE, HUB)
    for each in (ALICE, HUB):
        with pytest.raises(LocalError, match="a transfer of 1001; this node has 1000 wei free in the ledger"):
            await scene.books(each).transfer(ledger, bytes(20), 1_001)  # type: ignore[arg-type]


async def test_a_refused_input_changes_nothing_for_the_others(scene: LedgerScene) -> None:
    """One batch with a wish that is refused between two that are granted."""
    ledger = await scene.ledger(ALICE, HUB)
    runner = scene.books(ALICE)._runner
    assert runner is not None
    await runner.input(lambda _: Step())  # whatever the chain has shown last is stored by then
    before = scene.nodes[ALICE].counters()["books_appends"]
    granted = [runner.input(lambda _: Step((), (), (Note(ledger, "hello"),))) for _ in range(2)]

    def refuse(_: Books) -> Step:
        raise LocalError("no")

    results = await asyncio.gather(granted[0], runner.input(refuse), granted[1], return_exceptions=True)
    assert [str(each) for each in results] == ["None", "no", "None"]
    assert scene.nodes[ALICE].counters()["books_appends"] == before, "nothing was to be stored"


async def test_what_peers_cause_takes_no_log_line_from_what_a_node_finds(
    scene: LedgerScene, caplog: pytest.LogCaptureFixture
) -> None:
    """A process limits the lines of each text: faults of records have three."""
    runner = scene.books(ALICE)._runner
    assert runner is not None
    record = ChannelId(b"\x77" * 32)

    def fail(books: Books) -> Step:
        books.faults += [(record, error) for error in (PeerError("theirs"), LocalError("ours"), ValueError("a bug"))]
        return Step()

    await runner.input(fail)
    found = [(each.levelname, each.msg) for each in caplog.records if record.hex() in each.getMessage()]
    assert found == [
        ("WARNING", "0x%s: refused: %s"),
        ("WARNING", "0x%s stands still: %s"),
        ("ERROR", "0x%s stands still because of a bug"),
    ]


async def test_what_an_input_costs_does_not_grow_with_the_channels(scene: LedgerScene) -> None:
    """As many cranks for the last of 40 payment channels as for the second; time passing turns none of them."""
    await scene.ledger(ALICE, HUB)
    books = books_of(scene, HUB)
    counts: list[int] = []
    cranked: list[ChannelId] = []
    crank = books._crank
    books._crank = lambda channel: (cranked.append(channel), crank(channel))[1]  # type: ignore[method-assign]
    for _ in range(40):
        cranked.clear()
        await scene.payments((ALICE, HUB), 10, fees=())
        counts.append(len(cranked))
    assert min(counts[-3:]) <= 2 * min(counts[1:4])  # what arrives together is cranked once, what does not more often
    cranked.clear()
    books.decide(lambda books: books.tick())
    books.crank()
    assert cranked == []


def test_pauses_double_up_to_a_bound_and_begin_anew() -> None:
    """What changes is said soon again; what is over is not asked for."""
    retries, one, two = Retries(), ChannelId(b"\x01" * 32), ChannelId(b"\x02" * 32)
    retries.begin(one, 0)
    retries.begin(two, 0)
    assert list(retries.due(FIRST_MS - 1)) == []
    assert set(retries.due(FIRST_MS)) == {one, two}
    retries.end(two)
    now, pauses, last = FIRST_MS, [], FIRST_MS
    while len(pauses) < 6:
        now += 500
        if list(retries.due(now)):
            pauses.append(now - last)
            last = now
    assert pauses == [4_000, 8_000, 16_000, LONGEST_MS, LONGEST_MS, LONGEST_MS]
    retries.begin(one, now)
    assert list(retries.due(now + FIRST_MS)) == [one]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it() -> None:
    """What was to be said again in two seconds is, by the new clock."""
    retries, channel, hour_ms = Retries(), ChannelId(b"\x01" * 32), 3_600_000
    retries.begin(channel, hour_ms)
    assert list(retries.due(hour_ms)) == []
    assert list(retries.due(0)) == []
    assert list(retries.due(FIRST_MS)) == [channel]
    resending = Resending()
    resending.said(channel, hour_ms)
    assert resending.due(0) == [channel]


@pytest.mark.parametrize("kind", ["ledger", "virtual"])
def test_one_decoder_reads_the_facts_of_both_kinds(kind: str) -> None:
    """From the golden bytes, and writes them so; what is unknown is never skipped."""
    golden: dict[str, str] = json.loads((ROOT / "tests" / "golden" / f"{kind}-forms.json").read_text())
    facts = {name: bytes.fromhex(text) for name, text in golden.items() if re.fullmatch(r"[lv]:[a-z-]+\.\d+", name)}
    assert len(facts) > 5
    for name, data in facts.items():
        assert encode_event(decode_event(data)) == data, name
    with pytest.raises(CorruptionError, match="cannot be read"):
        decode_event(b"\x91\xabl:created.9")


@pytest.mark.parametrize(
    ("message", "prefix"),
    [
        (AskClose(b"\x01" * 32), b"l:"),
        (Refused(b"\x01" * 32, 1, "no"), b"v:"),
        (VoucherWanted(b"\x01" * 32, bytes(16)), b"p:"),
        (Rejected(b"\x01" * 32, "no"), b"re"),
    ],
)
def test_a_message_is_told_by_the_beginning_of_its_tag(message: object, prefix: bytes) -> None:
    """Also where the array is a long one, and for bytes that are no message."""
    data = encode_message(message)
    assert prefix_of(data) == prefix
    assert prefix_of(b"\xdc\x00" + bytes((len(msgspec.msgpack.decode(data)),)) + data[1:]) == prefix
    assert [prefix_of(data) for data in (b"", b"\x91", b"\x91\xa1")] == [b"", b"", b""]
