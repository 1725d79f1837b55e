"""`verify` finds every kind of tampering, names the row, and finds nothing where there is nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.runtime.database import binary
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.rows import encode_row
from scapp.runtime.schema import AppSchema, ensure_deployment, prepare_database, register_channel
from scapp.runtime.verify import NothingDerived, VerifyReport, copied_tuples, verify_channel
from tests.support.postgres import (
    DEPLOYMENT,
    NODE,
    SHOP,
    TAGS,
    Emit,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    put,
    worker_for,
)

ONE = channel(1)


@pytest.fixture
def log(embedded: EmbeddedBackend) -> SignedLog:
    """A log that the database is derived from."""
    log = SignedLog(ONE, channel(2))
    log.append(ONE, [account(1, 1, "one")], [account(2, 2), Emit("paid", b"2")])
    log.append(ONE, [put(TAGS, "x", 1), Emit("tagged", b"")])
    worker = worker_for(log, embedded)
    worker.run_once()
    worker.stop()
    return log


def verify(backend: EmbeddedBackend, log: SignedLog) -> VerifyReport:
    return verify_channel(backend, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE))


def test_an_untouched_channel_is_right(embedded: EmbeddedBackend, log: SignedLog) -> None:
    report = verify(embedded, log)
    assert report == VerifyReport(
        True, 4, 2, log.batches_of[ONE.channel_id][-1].state_root, report.expected_root, 3, ()
    )


_OWNER_1, _OWNER_2 = f"0x{'00' * 19}01", f"0x{'00' * 19}02"
_CHANNEL = f"decode('{ONE.channel_id.hex()}', 'hex')"


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (
            "UPDATE shop.account SET balance = 1000 WHERE balance = 1",
            f"table account: row (owner {_OWNER_1}) was changed",
        ),
        ("UPDATE shop.account SET balance = 1.50 WHERE balance = 1", "a row that no reducer can have written"),
        ("UPDATE shop.account SET note = NULL WHERE balance = 1", f"table account: row (owner {_OWNER_1}) was changed"),
        ("DELETE FROM shop.account WHERE balance = 2", f"table account: row (owner {_OWNER_2}) is missing"),
        (f"INSERT INTO shop.tag VALUES ({_CHANNEL}, 'y', 2)", "table tag: row (name y, number 2) is too many"),
        ("UPDATE shop.tag SET number = 7", "table tag: row (name x, number 1) is missing"),
        ("UPDATE scapp.events SET data = 'z' WHERE sequence = 2", "scapp.events: event 0 of entry 2 is changed"),
        ("DELETE FROM scapp.events WHERE sequence = 3", "scapp.events: event 0 of entry 3 is missing"),
        (
            f"INSERT INTO scapp.events VALUES ({_CHANNEL}, 3, 1, 't', '')",
            "scapp.events: event 1 of entry 3 is too many",
        ),
        ("UPDATE scapp.messages SET payload = '' WHERE sequence = 2", "scapp.messages: entry 2 was changed"),
        ("UPDATE scapp.messages SET kind = 300 WHERE sequence = 2", "scapp.messages, entry 2 cannot be an entry"),
        ("DELETE FROM scapp.messages WHERE sequence = 2", "scapp.messages has no entry 2: the next one there is 3"),
        ("DELETE FROM scapp.messages WHERE sequence = 3", "scapp.messages has 3 entries, signed are 4"),
        ("UPDATE scapp.cursors SET amounts = '{0,0}'", "scapp.cursors has amounts (0, 0), signed is"),
        ("UPDATE scapp.cursors SET sequence = 3", "scapp.cursors has sequence 3, signed is 4"),
        ("UPDATE scapp.cursors SET turn = 77", "the database is at turn 77, which is not in this node's log"),
    ],
)
def test_tampering_is_named(embedded: EmbeddedBackend, log: SignedLog, tampering: str, problem: str) -> None:
    """Whatever somebody changes by hand is found, and the place is named."""
    with embedded.connect() as connection:
        connection.execute(tampering.encode())
    report = verify(embedded, log)
    assert not report.ok
    assert any(problem in found for found in report.problems), report.problems


def test_another_channels_rows_do_not_matter(embedded: EmbeddedBackend, log: SignedLog) -> None:
    with embedded.connect() as connection:
        connection.execute("INSERT INTO shop.tag VALUES (%s, 'y', 2)", [bytes(channel(2).channel_id)])
    assert verify(embedded, log).ok


def test_a_channel_with_nothing_derived_is_said_so(embedded: EmbeddedBackend) -> None:
    prepare_database(embedded, NODE)
    ensure_deployment(embedded, DEPLOYMENT, SHOP)
    with pytest.raises(NothingDerived, match=f"0x{ONE.channel_id.hex()}"):
        verify(embedded, SignedLog(ONE))
    with embedded.connect() as connection:
        register_channel(connection, ONE)
    with pytest.raises(NothingDerived):
        verify(embedded, SignedLog(ONE))


@given(st.lists(st.text(max_size=20).filter(lambda text: "\0" not in text)), st.integers())
def test_a_copy_stream_is_read_however_it_is_cut(names: list[str], seed: int) -> None:
    rows = [encode_row(TAGS, [name.encode("utf-8", "replace").decode(), 1]) for name in names]
    stream = binary.COPY_HEADER + b"".join(rows) + binary.COPY_TRAILER
    draw = random.Random(seed)
    blocks = []
    while stream:
        size = draw.randint(1, 40)
        blocks.append(stream[:size])
        stream = stream[size:]
    assert list(copied_tuples(blocks)) == rows
