"""Recorded logs of channels as tests: what was signed is what comes out, and everything else is said."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from scapp.channels.admission import ChannelContext
from scapp.channels.channel.opening import opening_entry
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, decode_entry, encode_entry
from scapp.channels.types import ChannelId
from scapp.reducers import library
from scapp.runtime.app_document import BadTest
from scapp.runtime.app_log import RecordedLog, load_log, run_log
from scapp.runtime.cli.main import scapp
from scapp.runtime.documents import EntryView
from scapp.runtime.kernel import Budget
from scapp.runtime.module import check_module
from scapp.runtime.native.kernel import NativeKernel

MODULE = check_module(library.wasm_bytes("ledger"))
PEOPLE = (b"\xaa" * 20, b"\xbb" * 20)
SLOTS = tuple((bytes(20), bytes(12) + person, (100).to_bytes(32, "big")) for person in PEOPLE)
CHANNEL = b"\x07" * 32
CONTEXT = ChannelContext(ChannelId(CHANNEL), PEOPLE, MODULE.deployment, tuple((a, d, 100) for a, d, _ in SLOTS))


def transfer(author: int, counter: int, amount: int) -> bytes:
    said = {"transfer": {"to": PEOPLE[1 - author], "amount": amount}}
    return encode_entry(Kind.MESSAGE, author, counter, 2_000 + counter, msgspec.msgpack.encode(said))


TURNS = (
    (0, (opening_entry(PEOPLE, SLOTS, None, 1_000),)),
    (2, (transfer(0, 1, 30), transfer(1, 1, 10))),
    (3, (transfer(1, 2, 50),)),
    (4, (encode_entry(Kind.CLOSE, 0, 2, 3_000, b""),)),
)


def recorded() -> RecordedLog:
    """As a node would write it."""
    kernel = NativeKernel(MODULE, CONTEXT, track=False)
    views: list[EntryView] = []
    for turn, entries in TURNS:
        root = kernel.run(len(views), entries, budget=Budget.ORDER).state_root
        kernel.commit(turn)
        views += [view(len(views) + at, turn, data, root) for at, data in enumerate(entries)]
    kernel.close()
    return RecordedLog("0x" + CHANNEL.hex(), views)


def view(sequence: int, turn: int, data: bytes, root: bytes) -> EntryView:
    entry = decode_entry(data)
    message = entry.kind == Kind.MESSAGE
    return EntryView(
        sequence=sequence,
        turn=turn,
        kind=entry.kind.name.lower(),
        author=entry.author,
        author_address="0x" + PEOPLE[entry.author].hex(),
        counter=entry.counter,
        time_ms=entry.time_ms,
        payload={"transfer": {"amount": 1}} if message else None,
        payload_base64=base64.b64encode(entry.payload).decode(),
        hash="0x" + keccak256(data).hex(),
        state_root="0x" + root.hex(),
    )


def changed(log: RecordedLog, at: int, **fields: object) -> RecordedLog:
    entries = list(log.entries)
    entries[at] = msgspec.structs.replace(entries[at], **fields)
    return RecordedLog(log.channel, entries)


def test_what_was_signed_comes_out_again_and_shows_what_silence_pays() -> None:
    report = run_log(MODULE, recorded(), determinism=True)
    assert report.failures == []
    assert (report.steps, report.messages) == (5, {"transfer"})
    (coin,) = report.stalls
    assert [moment.entries for moment in coin.moments] == [1, 3, 4, 5]
    assert [list(moment.paid.values()) for moment in coin.moments] == [[100, 100], [80, 120], [130, 70], [130, 70]]
    assert coin.moments[1].stallers["1 0xbbbbbb"].over_next == 50


def test_a_root_that_was_not_signed_is_named_with_its_turn() -> None:
    wrong = "0x" + "11" * 32
    report = run_log(MODULE, changed(recorded(), 3, state_root=wrong))
    (failure,) = report.failures
    assert failure.startswith("turn 3, from entry 3: root 0x")
    assert wrong in failure


def test_a_signed_entry_that_this_module_refuses_is_a_failure() -> None:
    log = recorded()
    data = transfer(0, 1, 1_000)
    report = run_log(
        MODULE, changed(log, 1, payload_base64=base64.b64encode(data[18:]).decode(), hash="0x" + keccak256(data).hex())
    )
    (failure,) = report.failures
    assert "entry 1 was signed and is refused here" in failure


def test_an_entry_that_was_changed_is_no_log() -> None:
    log = recorded()
    for fields in (
        {"time_ms": 5},
        {"payload_base64": "AA=="},
        {"payload_base64": "no base64"},
        {"kind": "odd"},
        {"author": 300},
    ):
        with pytest.raises(BadTest, match="entry 2"):
            run_log(MODULE, changed(log, 2, **fields))


def test_an_author_who_does_not_take_part_is_refused() -> None:
    data = encode_entry(Kind.MESSAGE, 9, 1, 2_001, b"")
    log = changed(recorded(), 1, author=9, payload_base64="", hash="0x" + keccak256(data).hex())
    with pytest.raises(BadTest, match="author 9, who does not take part"):
        run_log(MODULE, log)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no log as"),
        ('{"channel": "0x00", "entries": []}', "must be whole"),
        ('{"channel": "0x00"}', "is no log as"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(BadTest, match=said):
        load_log(tmp_path / "log.json")


def test_a_part_of_a_log_or_another_channels_id_is_refused() -> None:
    log = recorded()
    with pytest.raises(BadTest, match="no channel id"):
        run_log(MODULE, RecordedLog("0x07", log.entries))
    with pytest.raises(BadTest, match="begin with the opening"):
        run_log(MODULE, RecordedLog(log.channel, log.entries[1:]))


def test_the_command_takes_a_log_beside_tests(tmp_path: Path) -> None:
    module, log = tmp_path / "ledger.wasm", tmp_path / "match.json"
    module.write_bytes(library.wasm_bytes("ledger"))
    log.write_bytes(msgspec.json.encode(recorded()))
    done = CliRunner().invoke(scapp, ["test", str(module), str(log), "--stall"])
    assert done.exit_code == 0, done.output
    assert "match.json  5 steps" in done.output
    assert "70 +" not in done.output
    assert "turn 3 (1 0xbbbbbb:" in done.output
    log.write_bytes(msgspec.json.encode(changed(recorded(), 3, state_root="0x" + "11" * 32)))
    done = CliRunner().invoke(scapp, ["test", str(module), str(log)])
    assert done.exit_code != 0
    assert "FAILED  match.json" in done.output
