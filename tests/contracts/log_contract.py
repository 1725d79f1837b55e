"""What every `EventLog` must do; `test_log_memory.py` and `test_log_rocks.py` run it over their adapters."""

from __future__ import annotations

import threading
from typing import Protocol

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.log.port import (
    NODE_STREAM,
    Append,
    EventLog,
    LogClosed,
    Page,
    Snapshot,
    StreamWrite,
    VersionConflict,
)

A = b"\x0a" * 32
B = b"\x0b" * 32


class Harness(Protocol):
    """How the contract makes logs of one adapter."""

    def open(self) -> EventLog:
        """A new, empty log."""
        ...

    def reopen(self, log: EventLog) -> EventLog:
        """Close the log and open the same data again."""
        ...

    def crash(self, log: EventLog) -> EventLog:
        """A log with what is left if the process of `log` dies now, without a close."""
        ...


def write(stream: bytes, version: int, *events: bytes) -> Append:
    return Append((StreamWrite(stream, version, events),))


def events_of(log: EventLog, stream: bytes, from_version: int = 0) -> list[bytes]:
    """All events from a version on; asserts that the pages have no gap."""
    found: list[bytes] = []
    for page in log.read(stream, from_version):
        assert page.first_version == from_version + len(found)
        assert page.events
        found.extend(page.events)
    return found


def contents(log: EventLog) -> tuple[dict[bytes, list[bytes]], list[tuple[bytes, bytes]]]:
    """Everything a reader can see, snapshots apart."""
    return {stream: events_of(log, stream) for stream in log.streams()}, log.outbox()


class LogContract:
    """The adapter's test class inherits this and has a fixture `harness`."""

    @pytest.fixture
    def log(self, harness: Harness):
        log = harness.open()
        yield log
        log.close()

    # -- appends ---------------------------------------------------------------------------------------------

    def test_a_new_log_is_empty(self, log: EventLog) -> None:
        """A new log is empty."""
        assert log.version(A) == 0
        assert log.streams() == []
        assert list(log.read(A)) == []
        assert log.outbox() == []
        assert log.load_snapshot(A) is None

    def test_one_append_writes_all_its_streams_and_the_outbox(self, log: EventLog) -> None:
        """One append writes all its streams and the outbox."""
        log.append(Append((StreamWrite(A, 0, (b"a0", b"a1")), StreamWrite(B, 0, (b"b0",))), {b"k": b"v"}))
        assert contents(log) == ({A: [b"a0", b"a1"], B: [b"b0"]}, [(b"k", b"v")])
        assert (log.version(A), log.version(B)) == (2, 1)

    @pytest.mark.parametrize("expected", [0, 1, 3, 100])
    def test_a_wrong_expected_version_writes_nothing_of_the_append(self, log: EventLog, expected: int) -> None:
        """A wrong expected version writes nothing of the append."""
        log.append(write(A, 0, b"a0", b"a1"))
        before = contents(log)
        refused = Append((StreamWrite(B, 0, (b"b0",)), StreamWrite(A, expected, (b"x",))), {b"k": b"v"})
        with pytest.raises(VersionConflict, match=f"{A.hex()}: expected version {expected}, found 2"):
            log.append(refused)
        assert contents(log) == before
        log.append(write(A, 2, b"a2"))
        assert events_of(log, A) == [b"a0", b"a1", b"a2"]

    def test_a_write_without_events_checks_the_version_and_adds_no_page(self, log: EventLog) -> None:
        """A write without events checks the version and adds no page."""
        log.append(Append((StreamWrite(A, 0, ()),), {b"k": b"v"}))
        assert (log.version(A), log.streams(), log.outbox()) == (0, [], [(b"k", b"v")])
        with pytest.raises(VersionConflict):
            log.append(Append((StreamWrite(A, 1, ()),), {b"k": None}))
        assert log.outbox() == [(b"k", b"v")]

    def test_an_append_of_nothing_is_fine(self, log: EventLog) -> None:
        """An append of nothing is fine."""
        log.append(Append(()))
        assert contents(log) == ({}, [])

    def test_events_may_be_empty_or_large(self, log: EventLog) -> None:
        """Events may be empty or large."""
        large = bytes(range(256)) * 40_000
        log.append(write(A, 0, b"", large, b""))
        log.append(write(A, 3, b""))
        assert events_of(log, A) == [b"", large, b"", b""]
        assert events_of(log, A, 2) == [b"", b""]

    def test_lists_are_taken_and_copied(self, log: EventLog) -> None:
        """Lists are taken and copied."""
        events = [b"a0"]
        log.append(Append([StreamWrite(A, 0, events)]))
        events.append(b"later")
        assert events_of(log, A) == [b"a0"]

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (write(b"short", 0, b"x"), "exactly 32 bytes"),
            (write(A + b"x", 0, b"x"), "exactly 32 bytes"),
            (write(A, -1, b"x"), "expected version -1: must be"),
            (Append((StreamWrite(A, 0, (b"x", "text")),)), "contain str: must all be bytes"),  # type: ignore[arg-type]
            (Append((StreamWrite(A, 0, b"not a list"),)), "bytes: must be tuple or list"),  # type: ignore[arg-type]
            (Append((StreamWrite(A, 0, (b"x",)), StreamWrite(A, 1, (b"y",)))), "named twice"),
            (Append((), {b"": b"v"}), "at least one"),
            (Append((), {b"k": "v"}), "value of 6b is str"),  # type: ignore[dict-item]
        ],
    )
    def test_a_malformed_append_is_refused_and_takes_its_whole_group_with_it(
        self, log: EventLog, bad: Append, message: str
    ) -> None:
        """A malformed append is refused and takes its whole group with it."""
        with pytest.raises(LocalError, match=message):
            log.append(bad)
        with pytest.raises(LocalError, match=message):
            log.append_group([write(A, 0, b"good"), bad])
        assert contents(log) == ({}, [])

    # -- groups ----------------------------------------------------------------------------------------------

    def test_a_group_is_applied_in_order_and_each_sees_those_before(self, log: EventLog) -> None:
        """A group is applied in order and each sees those before."""
        group = [write(A, 0, b"a0"), write(A, 1, b"a1"), write(B, 0, b"b0"), write(A, 2, b"a2", b"a3")]
        assert log.append_group(group) == [None] * 4
        assert contents(log)[0] == {A: [b"a0", b"a1", b"a2", b"a3"], B: [b"b0"]}

    def test_a_conflict_inside_a_group_hurts_no_neighbour(self, log: EventLog) -> None:
        """A conflict inside a group hurts no neighbour."""
        two_streams = Append((StreamWrite(B, 0, (b"lost",)), StreamWrite(A, 0, (b"lost",))), {b"k": b"lost"})
        outcomes = log.append_group([write(A, 0, b"a0"), two_streams, write(B, 0, b"b0"), write(A, 1, b"a1")])
        assert [type(outcome) for outcome in outcomes] == [type(None), VersionConflict, type(None), type(None)]
        assert contents(log) == ({A: [b"a0", b"a1"], B: [b"b0"]}, [])

    def test_a_group_of_conflicts_and_an_empty_group_write_nothing(self, log: EventLog) -> None:
        """A group of conflicts, and an empty one, write nothing."""
        assert log.append_group([]) == []
        assert all(log.append_group([write(A, 1, b"x"), write(B, 7, b"x")]))
        assert contents(log) == ({}, [])

    def test_later_outbox_changes_of_a_group_win(self, log: EventLog) -> None:
        """Later outbox changes of a group win."""
        log.append_group([Append((), {b"k": b"1", b"l": b"1"}), Append((), {b"k": None}), Append((), {b"l": b"2"})])
        assert log.outbox() == [(b"l", b"2")]

    # -- reads -----------------------------------------------------------------------------------------------

    def test_a_page_is_what_one_append_wrote(self, log: EventLog) -> None:
        """A page is what one append wrote."""
        log.append(write(A, 0, b"0", b"1", b"2"))
        log.append(write(A, 3, b"3"))
        assert list(log.read(A)) == [Page(0, (b"0", b"1", b"2")), Page(3, (b"3",))]

    @pytest.mark.parametrize("page_size", [1, 3, 7, 100])
    def test_a_read_starts_at_exactly_the_version_asked_for(self, log: EventLog, page_size: int) -> None:
        """A read starts at exactly the version asked for."""
        everything = [b"%d" % number for number in range(100)]
        for start in range(0, 100, page_size):
            log.append(write(A, start, *everything[start : start + page_size]), durable=False)
        for version in (0, 1, 2, 3, 50, 98, 99, 100, 101, 10_000):
            assert events_of(log, A, version) == everything[version:]

    def test_a_negative_start_is_refused(self, log: EventLog) -> None:
        """A negative start is refused."""
        with pytest.raises(LocalError, match="version -1"):
            log.read(A, -1)

    def test_a_read_shows_the_stream_as_it_was_at_the_call(self, log: EventLog) -> None:
        """A read shows the stream as it was at the call."""
        log.append(write(A, 0, b"0", b"1"))
        reading = log.read(A)
        log.append(write(A, 2, b"2"))
        assert [event for page in reading for event in page.events] == [b"0", b"1"]

    def test_streams_with_adjacent_ids_do_not_leak_into_each_other(self, log: EventLog) -> None:
        """Streams with adjacent ids do not leak into each other."""
        ids = [NODE_STREAM, bytes(31) + b"\x01", b"\x0a" * 31 + b"\x09", A, b"\x0a" * 31 + b"\x0b", b"\xff" * 32]
        ids += [bytes(31) + b"\xff", b"\xff" * 31 + b"\xfe", bytes(30) + b"\x01\x00"]
        for number, stream in enumerate(ids):
            log.append(write(stream, 0, b"%d.0" % number, b"%d.1" % number), durable=False)
            log.append(write(stream, 2, b"%d.2" % number), durable=False)
        assert log.streams() == sorted(ids)
        for number, stream in enumerate(ids):
            own = [b"%d.%d" % (number, index) for index in range(3)]
            assert [events_of(log, stream, start) for start in range(5)] == [own[start:] for start in range(5)]
            assert log.version(stream) == 3
            assert log.load_snapshot(stream) is None

    def test_the_last_event_of_a_stream_is_its_own(self, log: EventLog) -> None:
        """Of a page with several events the last one; none of a stream that is not there, whatever its neighbours."""
        log.append(write(A, 0, b"a0"))
        log.append(write(A, 1, b"a1", b"a2"))
        log.append(write(bytes([0x0A] * 31 + [0x0C]), 0, b"c0"))
        other, absent = bytes([0x0A] * 31 + [0x0C]), (bytes([0x0A] * 31 + [0x0B]), b"\x00" * 32)
        assert log.last_events([A, *absent, other]) == {A: b"a2", other: b"c0"}
        assert log.last_events(absent) == log.last_events(()) == {}

    def test_a_stream_that_is_forgotten_is_read_again(self, harness: Harness) -> None:
        """It goes on where it ended, and everything of it is there after reopening."""
        log = harness.open()
        for version in range(70):
            log.append(write(A, version, b"%d" % version))
        log.forget(A)
        log.forget(B)
        assert (log.version(A), log.version(B)) == (70, 0)
        log.forget(A)
        with pytest.raises(VersionConflict):
            log.append(write(A, 69, b"x"))
        log.append(write(A, 70, b"70"))
        log.forget(A)
        log = harness.reopen(log)
        assert events_of(log, A) == [b"%d" % version for version in range(71)]
        log.close()

    def test_an_unknown_neighbour_of_a_stream_is_empty(self, log: EventLog) -> None:
        """An unknown neighbour of a stream is empty."""
        log.append(write(A, 0, b"0"))
        for neighbour in (b"\x0a" * 31 + b"\x09", b"\x0a" * 31 + b"\x0b"):
            assert (log.version(neighbour), list(log.read(neighbour))) == (0, [])

    # -- outbox ----------------------------------------------------------------------------------------------

    def test_outbox_rows_come_in_key_order_and_can_be_replaced_and_removed(self, log: EventLog) -> None:
        """Outbox rows come in key order and can be replaced and removed."""
        log.append(Append((), {b"b": b"2", b"a\xff": b"1", b"a": b"0", b"\xff": b"", b"c": b"9"}))
        log.append(Append((), {b"b": b"3", b"c": None, b"absent": None}))
        assert log.outbox() == [(b"a", b"0"), (b"a\xff", b"1"), (b"b", b"3"), (b"\xff", b"")]

    # -- snapshots -------------------------------------------------------------------------------------------

    def test_the_newest_snapshot_is_loaded(self, log: EventLog) -> None:
        """The newest snapshot is loaded."""
        log.append(write(A, 0, b"0", b"1", b"2"))
        log.append(write(B, 0, b"0"))
        log.save_snapshot(A, Snapshot(1, b"one"))
        log.save_snapshot(A, Snapshot(3, b"three"))
        log.save_snapshot(A, Snapshot(2, b"two"))
        assert log.load_snapshot(A) == Snapshot(3, b"three")
        assert log.load_snapshot(B) is None
        log.save_snapshot(A, Snapshot(3, b"three again"))
        assert log.load_snapshot(A) == Snapshot(3, b"three again")

    def test_snapshots_of_different_kinds_do_not_see_each_other(self, log: EventLog) -> None:
        """The newest two of each kind are kept."""
        log.append(write(A, 0, b"0", b"1", b"2"))
        log.save_snapshot(A, Snapshot(1, b"tables"))
        for version in (1, 2, 3):
            log.save_snapshot(A, Snapshot(version, b"state %d" % version), "channel")
        assert log.load_snapshot(A, "admission") == Snapshot(1, b"tables")
        assert log.load_snapshot(A, "channel") == Snapshot(3, b"state 3")

    def test_a_snapshot_may_stand_at_zero_and_inside_a_page(self, log: EventLog) -> None:
        """A snapshot may stand at zero and inside a page."""
        log.save_snapshot(A, Snapshot(0, b"start"))
        assert log.load_snapshot(A) == Snapshot(0, b"start")
        log.append(write(A, 0, b"0", b"1", b"2"))
        log.save_snapshot(A, Snapshot(2, b"middle"))
        log.append(write(A, 3, b"3"))
        assert log.load_snapshot(A) == Snapshot(2, b"middle")

    @pytest.mark.parametrize("version", [-1, 2, 1000])
    def test_a_snapshot_of_events_that_do_not_exist_is_refused(self, log: EventLog, version: int) -> None:
        """A snapshot of events that do not exist is refused."""
        log.append(write(A, 0, b"0"))
        log.save_snapshot(A, Snapshot(1, b"good"))
        with pytest.raises(LocalError, match=f"snapshot at version {version} .* has 1 events"):
            log.save_snapshot(A, Snapshot(version, b"bad"))
        assert log.load_snapshot(A) == Snapshot(1, b"good")

    # -- durability ------------------------------------------------------------------------------------------

    def test_everything_is_there_after_reopening(self, harness: Harness) -> None:
        """Everything is there after reopening."""
        log = harness.open()
        log.append(Append((StreamWrite(A, 0, (b"0", b"1")), StreamWrite(B, 0, (b"0",))), {b"k": b"v", b"l": b"w"}))
        log.append(Append((StreamWrite(A, 2, (b"2",)),), {b"l": None}), durable=False)
        log.save_snapshot(A, Snapshot(2, b"two"))
        before = contents(log)
        reopened = harness.reopen(log)
        assert contents(reopened) == before
        assert reopened.load_snapshot(A) == Snapshot(2, b"two")
        with pytest.raises(VersionConflict):
            reopened.append(write(A, 2, b"x"))
        reopened.append(write(A, 3, b"3"))
        assert events_of(reopened, A, 1) == [b"1", b"2", b"3"]
        reopened.close()

    def test_what_is_acknowledged_as_durable_survives_a_crash(self, harness: Harness) -> None:
        """What is acknowledged as durable survives a crash."""
        log = harness.open()
        log.append(write(A, 0, b"0"), durable=False)
        log.append(Append((StreamWrite(B, 0, (b"0",)),), {b"k": b"v"}))
        after = harness.crash(log)
        assert contents(after) == ({A: [b"0"], B: [b"0"]}, [(b"k", b"v")])
        after.close()
        log.append(write(A, 1, b"1"), durable=False)
        log.flush()
        after = harness.crash(log)
        assert events_of(after, A) == [b"0", b"1"]
        after.close()
        log.close()

    def test_what_a_crash_leaves_is_a_prefix_of_what_was_appended(self, harness: Harness) -> None:
        """What a crash leaves is a prefix of what was appended."""
        log = harness.open()
        log.append(write(A, 0, b"0"))
        for number in range(5):
            log.append(
                Append((StreamWrite(A, 1 + number, (b"x",)), StreamWrite(B, number, (b"y",))), {b"n": b"%d" % number}),
                durable=False,
            )
        after = harness.crash(log)
        survived = after.version(B)
        assert after.version(A) == 1 + survived
        assert after.outbox() == ([(b"n", b"%d" % (survived - 1))] if survived else [])
        after.append(write(B, survived, b"goes on"))
        after.close()
        log.close()

    # -- closing ---------------------------------------------------------------------------------------------

    def test_a_closed_log_refuses_everything(self, harness: Harness) -> None:
        """A closed log refuses everything."""
        log = harness.open()
        log.append(write(A, 0, *[b"0"] * 3))
        log.append(write(A, 3, b"3"))
        reading = log.read(A)
        next(reading)
        log.close()
        log.close()
        for call in (
            lambda: log.append(write(A, 4, b"x")),
            lambda: log.append_group([]),
            lambda: log.version(A),
            lambda: log.version(B),
            log.streams,
            lambda: list(log.read(A)),
            lambda: next(reading),
            lambda: log.last_events([A]),
            log.outbox,
            lambda: log.save_snapshot(A, Snapshot(1, b"")),
            lambda: log.load_snapshot(A),
            log.flush,
        ):
            with pytest.raises(LogClosed, match="closed"):
                call()

    # -- threads ---------------------------------------------------------------------------------------------

    def test_concurrent_appenders_neither_lose_nor_double_events(self, log: EventLog) -> None:
        """Four threads write to a stream each and race for a common one; a reader watches."""
        streams = [bytes([number]) * 32 for number in range(1, 5)]
        failures: list[BaseException] = []
        won: list[bytes] = []

        def appender(stream: bytes) -> None:
            try:
                for number in range(25):
                    log.append(write(stream, number, b"%d" % number), durable=False)
                    claim = stream[:1] + b"%d" % number
                    try:
                        log.append(write(A, log.version(A), claim), durable=False)
                    except VersionConflict:
                        continue
                    won.append(claim)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=appender, args=(stream,)) for stream in streams]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            seen = events_of(log, A)
            assert len(seen) <= log.version(A)
        for thread in threads:
            thread.join()
        assert failures == []
        for stream in streams:
            assert events_of(log, stream) == [b"%d" % number for number in range(25)]
        assert sorted(events_of(log, A)) == sorted(won)
        assert won
