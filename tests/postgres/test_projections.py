"""Projections: a reducer of one's own over the same log, its skipped entries, its halts, and its upgrades."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scapp.channels.admission import ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.entries import extend_log_root
from scapp.channels.errors import LocalError
from scapp.channels.reading import Archived, SupportedBatch
from scapp.channels.types import ZERO_HASH, ChannelId
from scapp.reducers.manifest import encode_manifest
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.modules import Modules
from scapp.runtime.projections import Projections
from scapp.runtime.rows import encode_row
from scapp.runtime.schema import prepare_database, rename_schema, schema_exists
from scapp.runtime.worker_status import State
from tests.support import wat
from tests.support.cluster import eventually
from tests.support.postgres import NODE, rows_of
from tests.support.wat import IMPORTS, MANIFEST, MEMORY, SCORE, SCRIPT, message, op

SCORES = MANIFEST.tables[SCORE]
LIVE = "scapp_projection_stats"


def score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def version(number: str, *parts: str, history: bool = False) -> bytes:
    """The scripted reducer under another version number, or another body."""
    tables = tuple(msgspec.structs.replace(table, history=history) for table in MANIFEST.tables)
    manifest = encode_manifest(msgspec.structs.replace(MANIFEST, version=number, tables=tables))
    return wat.module(IMPORTS, MEMORY, *(parts or (wat.ALLOC, SCRIPT)), manifest=manifest)


ACCEPTS_NOTHING = '(func (export "scapp_reduce") (param i32 i32) (result i32) (i32.const 1))'
NO_INSTANCE = '(func (export "scapp_reduce") (param i32 i32) (result i32) (loop $ever (br $ever)) (i32.const 1))'


class ScriptLog:
    """Batches of scripts; their roots are nobody's, for a projection has none to compare with."""

    def __init__(self, *contexts: ChannelContext) -> None:
        self._contexts = list(contexts)
        self.batches_of: dict[ChannelId, list[SupportedBatch]] = {c.channel_id: [] for c in contexts}
        for context in contexts:
            self.append(context, wat.open_entry())

    def append(self, context: ChannelContext, *entries: bytes) -> None:
        batches = self.batches_of[context.channel_id]
        last = batches[-1] if batches else None
        batches.append(
            SupportedBatch(
                turn=len(batches),
                first_sequence=last.end_sequence if last else 0,
                entries=entries,
                log_root=extend_log_root(last.log_root if last else ZERO_HASH, entries),
                state_root=keccak256(b"somebody's"),
                amounts=(60, 40),
                time_ms=5_000,
                is_final=False,
                position=len(batches) + 1,
            )
        )

    def contexts(self) -> list[ChannelContext]:
        return list(self._contexts)

    def archived(self) -> dict[ChannelId, Archived]:
        return {}

    def archive_version(self) -> int:
        return 0

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        return next((each for each in self.contexts() if each.channel_id == channel_id), None)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        yield from self.batches_of[channel_id][position:]

    def signed_state(self, channel_id: ChannelId, position: int) -> None:
        return None


class Setting:
    """Everything a node has around its projections; `opened` starts them, as often as wanted."""

    def __init__(self, folder: Path, backend: EmbeddedBackend) -> None:
        self.folder = folder
        self.backend = backend
        self.apps = Modules(folder / "deployments", folder / "modules").store
        self.app = self.apps.add(wat.scripted_wasm())
        slots = wat.SLOTS
        self.one, self.two = (
            ChannelContext(ChannelId(bytes([n]) * 32), (wat.ALICE, wat.BOB), self.app.deployment, slots) for n in (1, 2)
        )
        other = msgspec.structs.replace(self.app.deployment, abi="other")
        self.log = ScriptLog(
            self.one, self.two, ChannelContext(ChannelId(b"\x03" * 32), (wat.ALICE, wat.BOB), other, slots)
        )

    @contextmanager
    def opened(self) -> Iterator[Projections]:
        projections = Projections(
            self.folder / "projections", self.folder / "modules", self.apps, self.log, self.backend, NODE
        )
        projections.start()
        try:
            yield projections
        finally:
            projections.stop()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.backend.connect() as connection:
            return rows_of(connection, query)

    def has(self, schema: str) -> bool:
        with self.backend.connect() as connection:
            return schema_exists(connection, schema)

    def end(self, context: ChannelContext) -> int:
        return self.log.batches_of[context.channel_id][-1].end_sequence


@pytest.fixture
def setting(embedded: EmbeddedBackend, tmp_path: Path) -> Setting:
    prepare_database(embedded, NODE)
    return Setting(tmp_path, embedded)


def until(projections: Projections, happened: Callable[[], bool]) -> None:
    projections.notify()
    eventually(lambda: happened() or None, lambda: str(projections.all()))


def caught_up(projections: Projections, setting: Setting) -> bool:
    found = projections.status("stats").channels
    at = {each.channel_id: each.cursor.sequence for each in found if each.cursor is not None}
    return at == {context.channel_id: setting.end(context) for context in (setting.one, setting.two)}


def test_a_projection_follows_its_apps_channels(setting: Setting) -> None:
    """All of them from the beginning, no other app's, and what comes later; its events are its own."""
    setting.log.append(setting.one, message(score("a", 1), op(wat.EMIT, b"hi")))
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("p"))
        setting.log.append(setting.two, message(score("b", 2)))
        until(projections, lambda: caught_up(projections, setting))
        assert setting.rows(f"SELECT player, points FROM {LIVE}.score ORDER BY player") == [("a", 1), ("b", 2)]
        assert setting.rows(f"SELECT sequence, data FROM {LIVE}.scapp_events") == [(1, b"hi")]
        assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_messages") == [(0,)]
        assert setting.rows("SELECT count(*) FROM scapp.cursors") == [(0,)], "it moves no cursor but its own"
    setting.log.append(setting.one, message(score("a", 10)))
    with setting.opened() as projections:
        until(projections, lambda: caught_up(projections, setting))
        assert setting.rows(f"SELECT points FROM {LIVE}.score WHERE player = 'a'") == [(10,)]


SKIPPED = [
    (op(wat.REJECT, b"not this"), "rejected", "not this"),
    (op(wat.RETURN, arg=7), "rejected", "scapp_reduce returned 7"),
    (op(wat.TRAP), "fault", "unreachable"),
    (op(wat.STORE_OUTSIDE), "fault", "out of bounds"),
    (op(wat.PUT, b"\x00\x07", SCORE), "fault", "7 columns"),
]


@pytest.mark.parametrize(("instruction", "code", "reason"), SKIPPED)
def test_what_it_rejects_or_traps_on_is_skipped_whole_and_recorded(
    setting: Setting, instruction: bytes, code: str, reason: str
) -> None:
    """The entries around it count at their own sequences, in one batch with it and in others."""
    setting.log.append(
        setting.one,
        message(score("before", 1), op(wat.EMIT, b"1")),
        message(score("half", 2), op(wat.EMIT, b"2"), instruction),
        message(score("after", 3), op(wat.EMIT, b"3")),
    )
    setting.log.append(setting.one, message(score("later", 4)))
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("p"))
        until(projections, lambda: caught_up(projections, setting))
    found = setting.rows(f"SELECT player FROM {LIVE}.score ORDER BY points")
    assert found == [("before",), ("after",), ("later",)]
    assert setting.rows(f"SELECT sequence, data FROM {LIVE}.scapp_events ORDER BY sequence") == [(1, b"1"), (3, b"3")]
    ((sequence, turn, found_code, found_reason),) = setting.rows(
        f"SELECT sequence, turn, code, reason FROM {LIVE}.scapp_skipped"
    )
    assert (sequence, turn, found_code) == (2, 1, code)
    assert reason in found_reason
    setting.log.append(setting.one, message(op(wat.EMIT, b"end")))
    with setting.opened() as projections:  # from the tables, skipped entries and all
        until(projections, lambda: caught_up(projections, setting))
    assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(1,)]


def test_one_that_rejects_everything_still_catches_up(setting: Setting) -> None:
    """Every entry counts as derived, the opening one included."""
    setting.log.append(setting.one, *[message(counter=n) for n in range(30)])
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("no", wat.ALLOC, ACCEPTS_NOTHING))
        until(projections, lambda: caught_up(projections, setting))
    assert setting.rows(f"SELECT count(*), min(sequence), max(sequence) FROM {LIVE}.scapp_skipped") == [(32, 0, 30)]


@pytest.mark.parametrize("instruction", [op(wat.LOOP), op(wat.RECURSE), op(wat.BURN)])
def test_what_depends_on_the_machine_halts_that_projection_only(setting: Setting, instruction: bytes) -> None:
    """Fuel and stack: nothing of the batch is written, and another projection over the same log goes on."""
    setting.log.append(setting.one, message(score("right", 1)))
    with setting.opened() as projections:
        limits = msgspec.structs.replace(setting.app.deployment.limits, fuel_per_message=200_000)
        projections.add("stats", setting.app, version("p"), limits)
        until(projections, lambda: caught_up(projections, setting))
        setting.log.append(setting.one, message(score("half", 2)), message(instruction))
        projections.add("calm", setting.app, version("calm", wat.ALLOC, wat.ACCEPT))

        def halted() -> bool:
            return any(each.state is State.HALTED for each in projections.status("stats").channels)

        until(projections, halted)
        (found,) = (each for each in projections.status("stats").channels if each.state is State.HALTED)
        assert "entry 3 cannot be decided here" in found.detail
        until(projections, lambda: sum(c.cursor.sequence for c in projections.status("calm").channels if c.cursor) == 5)
    assert setting.rows(f"SELECT player FROM {LIVE}.score") == [("right",)]
    assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(0,)]


def test_outcomes_are_ignored(setting: Setting) -> None:
    """Even ones that a co-signed reducer could not set: the entry is not skipped."""
    setting.log.append(
        setting.one,
        message(op(wat.SET_OUTCOME, wat.amounts(1, 2, 3)), score("a", 1)),
        message(op(wat.SET_OUTCOME, wat.amounts(0, 100)), score("b", 2)),
    )
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("p"))
        until(projections, lambda: caught_up(projections, setting))
    assert setting.rows(f"SELECT count(*) FROM {LIVE}.score") == [(2,)]
    assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(0,)]


def test_an_upgrade_takes_over_once_it_has_caught_up(setting: Setting) -> None:
    """Beside the live version, then in its place; afterwards it follows what comes."""
    setting.log.append(setting.one, message(score("a", 1)), message(op(wat.REJECT, b"no")))
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))
        until(projections, lambda: caught_up(projections, setting))
        before = projections.status("stats").record.live
        with pytest.raises(LocalError, match="runs this module already"):
            projections.upgrade("stats", version("1"))
        projections.upgrade("stats", version("2", wat.ALLOC, ACCEPTS_NOTHING))
        until(projections, lambda: projections.status("stats").record.following is None)
        assert projections.status("stats").record.live != before
        until(projections, lambda: caught_up(projections, setting))
        assert setting.rows(f"SELECT count(*) FROM {LIVE}.score") == [(0,)]
        assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(4,)]
        assert not setting.has("scapp_building_stats")
        setting.log.append(setting.two, message())
        until(projections, lambda: caught_up(projections, setting))
        assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(5,)]
    with setting.opened() as projections:
        until(projections, lambda: caught_up(projections, setting))


def test_a_projection_may_keep_history_which_its_upgrade_derives_anew(setting: Setting) -> None:
    """Of a channel whose own app keeps none; what was skipped left no version, and the function moves along."""
    setting.log.append(
        setting.one, message(score("a", 1)), message(score("a", 2), op(wat.REJECT, b"no")), message(score("a", 3))
    )
    channel = f"decode('{setting.one.channel_id.hex()}', 'hex')"
    points = f"SELECT points FROM {LIVE}.scapp_as_of_score({channel}, %d)"
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))
        until(projections, lambda: caught_up(projections, setting))
        projections.upgrade("stats", version("2", history=True))
        until(projections, lambda: projections.status("stats").record.following is None)
        setting.log.append(setting.one, message(score("a", 4)))
        until(projections, lambda: caught_up(projections, setting))
        assert [setting.rows(points % sequence) for sequence in range(5)] == [[], [(1,)], [(1,)], [(3,)], [(4,)]]


def test_an_upgrade_that_halts_leaves_the_live_version(setting: Setting) -> None:
    """It is shown, and another upgrade takes its place."""
    setting.log.append(setting.one, message(score("a", 1)))
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))
        limits = msgspec.structs.replace(setting.app.deployment.limits, fuel_per_message=100_000)
        projections.upgrade("stats", version("2", wat.ALLOC, NO_INSTANCE), limits)

        def halted() -> bool:
            upgrade = projections.status("stats").upgrade or []
            return any(each.state is State.HALTED for each in upgrade)

        until(projections, halted)
        until(projections, lambda: caught_up(projections, setting))
        assert setting.rows(f"SELECT player FROM {LIVE}.score") == [("a",)]
        projections.upgrade("stats", version("3"))
        until(projections, lambda: projections.status("stats").record.following is None)
        until(projections, lambda: caught_up(projections, setting))
        assert not setting.has("scapp_building_stats")


@pytest.mark.parametrize("renamed", [False, True], ids=["before the rename", "after it"])
def test_an_upgrade_that_was_killed_goes_on(setting: Setting, renamed: bool) -> None:
    """Whatever moment the process ended at: the new version is live in the end, and derived once."""
    setting.log.append(setting.one, message(score("a", 1)))
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))
        until(projections, lambda: caught_up(projections, setting))
        path = setting.folder / "projections" / "stats.json"
        before = path.read_bytes()
        projections.upgrade("stats", version("2", wat.ALLOC, ACCEPTS_NOTHING))
        until(projections, lambda: projections.status("stats").record.following is None)
        new = projections.status("stats").record.live
    # What the disk has when the process ends between the renaming and the note of it, or before both.
    record = msgspec.json.decode(before)
    path.write_bytes(msgspec.json.encode(record | {"following": msgspec.to_builtins(new)}))
    if not renamed:
        with setting.backend.connect() as connection:
            rename_schema(connection, LIVE, "scapp_building_stats")
    with setting.opened() as projections:
        until(projections, lambda: projections.status("stats").record.following is None)
        until(projections, lambda: caught_up(projections, setting))
        assert projections.status("stats").record.live == new
    assert setting.rows(f"SELECT count(*) FROM {LIVE}.scapp_skipped") == [(3,)]
    assert not setting.has("scapp_building_stats")


def test_a_removed_projection_leaves_nothing(setting: Setting) -> None:
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))
        projections.upgrade("stats", version("2", wat.ALLOC, NO_INSTANCE))
        projections.remove("stats")
        assert projections.all() == []
        with pytest.raises(LocalError, match="no projection 'stats'"):
            projections.status("stats")
    assert not setting.has(LIVE)
    assert not setting.has("scapp_building_stats")
    with setting.opened() as projections:
        assert projections.all() == []


@pytest.mark.parametrize("name", ["", "A", "a-b", "x" * 33, "1a", 'a"'])
def test_names_that_are_none_are_refused(setting: Setting, name: str) -> None:
    with setting.opened() as projections, pytest.raises(LocalError, match="is no name for a projection"):
        projections.add(name, setting.app, version("1"))


def test_a_module_that_is_none_and_a_name_that_is_taken_are_refused(setting: Setting) -> None:
    """Nothing is kept of either."""
    with setting.opened() as projections:
        with pytest.raises(Exception, match="module"):
            projections.add("stats", setting.app, b"\0asm")
        assert projections.all() == []
        projections.add("stats", setting.app, version("1"))
        with pytest.raises(LocalError, match="there is a projection stats already"):
            projections.add("stats", setting.app, version("2"))


def test_somebody_elses_schema_is_not_written_to(setting: Setting) -> None:
    """A schema of the name with another comment blocks the projection, and says so."""
    with setting.backend.connect() as connection:
        connection.execute(f"CREATE SCHEMA {LIVE}".encode())
    with setting.opened() as projections:
        projections.add("stats", setting.app, version("1"))

        def blocked() -> bool:
            return any(each.state is State.BLOCKED for each in projections.status("stats").channels)

        until(projections, blocked)
        assert "belongs to nobody" in projections.status("stats").channels[0].detail


def test_without_a_database_there_are_none(setting: Setting) -> None:
    projections = Projections(setting.folder / "p", setting.folder / "m", setting.apps, setting.log, None, NODE)
    projections.start()
    with pytest.raises(LocalError, match="projections need a database"):
        projections.add("stats", setting.app, version("1"))
    projections.stop()
