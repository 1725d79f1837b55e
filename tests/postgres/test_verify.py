"""`verify` finds every kind of tampering, names the row, and finds nothing where there is nothing."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.runtime.database import binary
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.progress import Meter
from scapp.runtime.rows import encode_row
from scapp.runtime.schema import AppSchema, ensure_deployment, prepare_database, register_channel
from scapp.runtime.stored import copied_tuples
from scapp.runtime.verify import NothingDerived, VerifyReport, verify_channel
from scapp.runtime.verify_kept import DIFFERENCES_MAX
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
            f"shop.account (owner {_OWNER_1}) is changed: balance is 1000, not 1",
        ),
        (
            "UPDATE shop.account SET balance = 1.50 WHERE balance = 1",
            f"shop.account (owner {_OWNER_1}) is changed: balance is 1.5, not 1",
        ),
        (
            "UPDATE shop.account SET note = NULL WHERE balance = 1",
            f"shop.account (owner {_OWNER_1}) is changed: note is NULL, not one",
        ),
        (
            "DELETE FROM shop.account WHERE balance = 2",
            f"shop.account (owner {_OWNER_2}) is missing; the log gives owner {_OWNER_2}, balance 2, note NULL",
        ),
        (f"INSERT INTO shop.tag VALUES ({_CHANNEL}, 'y', 2)", "shop.tag (name y, number 2) is extra: name y, number 2"),
        ("UPDATE shop.tag SET number = 7", "shop.tag (name x, number 1) is missing"),
        ("UPDATE shop.tag SET number = 7", "shop.tag (name x, number 7) is extra"),
        (
            "UPDATE scapp.events SET data = 'z' WHERE sequence = 2",
            "scapp.events (sequence 2, index 0) is changed: data is 0x7a, not 0x32",
        ),
        ("DELETE FROM scapp.events WHERE sequence = 3", "scapp.events (sequence 3, index 0) is missing"),
        (
            f"INSERT INTO scapp.events VALUES ({_CHANNEL}, 3, 1, 't', '')",
            "scapp.events (sequence 3, index 1) is extra: topic t, data 0x",
        ),
        (
            "UPDATE scapp.messages SET payload = '' WHERE sequence = 2",
            "scapp.messages (sequence 2) is changed: payload",
        ),
        ("UPDATE scapp.messages SET turn = 2 WHERE sequence = 1", "(sequence 1) is changed: turn is 2, not 1"),
        ("UPDATE scapp.messages SET kind = 300 WHERE sequence = 2", "scapp.messages (sequence 2) is changed"),
        ("UPDATE scapp.messages SET kind = 7 WHERE sequence = 2", "(sequence 2) is changed: kind is 7, not message"),
        ("UPDATE scapp.messages SET counter = 1.5 WHERE sequence = 2", "scapp.messages (sequence 2) is changed"),
        (
            "DELETE FROM scapp.messages WHERE sequence = 2",
            "(sequence 2) is missing; the log gives turn 1",
        ),
        ("DELETE FROM scapp.messages WHERE sequence = 3", "scapp.messages (sequence 3) is missing"),
        (
            f"INSERT INTO scapp.messages VALUES ({_CHANNEL}, 4, 3, 1, 0, 1, 1, '')",
            "scapp.messages (sequence 4) is extra: turn 3",
        ),
        ("UPDATE scapp.cursors SET amounts = '{0,0}'", ") is changed: amounts is [0, 0], not [10, '1157"),
        ("UPDATE scapp.cursors SET sequence = 3", ") is changed: sequence is 3, not 4"),
        ("UPDATE scapp.cursors SET time_ms = 1", ") is changed: time_ms is 1, not 3003"),
        ("UPDATE scapp.cursors SET is_final = true", ") is changed: is_final is True, not False"),
        ("UPDATE scapp.cursors SET position = 0", ") is changed: position is 0, not 3"),
        (
            "UPDATE scapp.cursors SET state_root = decode(repeat('00', 32), 'hex')",
            f"scapp.cursors (channel_id 0x{ONE.channel_id.hex()}) is changed: state_root is 0x00",
        ),
        ("UPDATE scapp.cursors SET turn = 77", "the database is at turn 77, which is not in this node's log"),
        ("UPDATE scapp.channels SET participants = participants[1:1]", "scapp.channels (channel_id 0x"),
        ("UPDATE scapp.deployments SET app = 'bank'", ") is changed: app is bank, not shop"),
        ("UPDATE scapp.deployments SET manifest = '{}'", ") is changed: manifest is {}, not {"),
    ],
)
def test_tampering_is_named(embedded: EmbeddedBackend, log: SignedLog, tampering: str, problem: str) -> None:
    """Whatever somebody changes by hand is found: the place, what stands there, and what the log gives."""
    with embedded.connect() as connection:
        connection.execute(tampering.encode())
    report = verify(embedded, log)
    assert not report.ok
    assert any(problem in found for found in report.problems), report.problems


@pytest.mark.parametrize(
    ("change", "tampering", "problem"),
    [
        ("ALTER TABLE shop.tag ALTER number TYPE int4", "", "shop.tag (name x, number 1) is missing"),
        (
            "ALTER TABLE shop.account ALTER owner TYPE bytea",
            "UPDATE shop.account SET owner = '' WHERE balance = 1",
            f"shop.account (owner {_OWNER_1}) is missing",
        ),
        (
            "ALTER TABLE shop.tag DROP CONSTRAINT scapp_key_tag",
            "INSERT INTO shop.tag SELECT * FROM shop.tag",
            "shop.tag (name x, number 1) is extra",
        ),
        (
            "ALTER TABLE shop.tag DROP CONSTRAINT scapp_key_tag, ALTER number DROP NOT NULL",
            "UPDATE shop.tag SET number = NULL",
            "shop.tag (name x, number NULL) is extra",
        ),
        ("DROP TABLE shop.account", "", 'lacks what scapp made in it: relation "shop.account" does not exist'),
        ("ALTER TABLE scapp.messages DROP payload", "", 'column "payload" does not exist'),
    ],
)
def test_tables_of_another_shape_are_named_too(
    embedded: EmbeddedBackend, log: SignedLog, change: str, tampering: str, problem: str
) -> None:
    """Somebody who may alter tables gets a difference as well, not an error."""
    with embedded.connect() as connection:
        for statement in filter(None, (change, tampering)):
            connection.execute(statement.encode())
    report = verify(embedded, log)
    assert not report.ok
    assert any(problem in found for found in report.problems), report.problems


def test_many_differences_are_counted_and_the_first_are_named(embedded: EmbeddedBackend, log: SignedLog) -> None:
    with embedded.connect() as connection:
        connection.execute(
            "INSERT INTO shop.tag SELECT %s, 'n' || n, n FROM generate_series(1, 500) n", [bytes(ONE.channel_id)]
        )
    report = verify(embedded, log)
    assert report.difference_count == 500
    assert len(report.differences) == DIFFERENCES_MAX
    assert f"and {500 - DIFFERENCES_MAX} more differences" in report.problems


def test_a_log_that_contradicts_its_signatures_is_said_so(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """The difference is then the log's, and no row is accused."""
    batches = log.batches_of[ONE.channel_id]
    batches[-1] = msgspec.structs.replace(batches[-1], state_root=bytes(32))
    report = verify(embedded, log)
    assert not report.ok
    assert any("the log cannot be run again here" in note for note in report.notes), report.problems
    assert all(found.table == "scapp.cursors" for found in report.differences)


def test_progress_is_told(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Each stage is counted while it goes on."""
    with embedded.connect() as connection:
        connection.execute("DELETE FROM shop.tag")
    meter = Meter("verify", "one")
    verify_channel(embedded, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE), meter)
    last = meter.read()
    assert (last.work, last.stage, last.done) == ("verify", "comparing rows", 2)


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
