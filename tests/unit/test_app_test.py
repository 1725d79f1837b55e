"""Tests of reducers from files: what fails says so with a diff, wrong files are named, hidden state is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scapp.channels.crypto import keccak256
from scapp.reducers import library
from scapp.runtime.app_document import BadTest, load_test
from scapp.runtime.app_test import Report, run_test
from tests.support.reducer_driver import checked

LEDGER = library.wasm_bytes("ledger")
GOLDEN = Path(__file__).parents[1] / "golden"
BACKED = """
participants = ["alice", "bob"]
slots = [{ to = "@alice", amount = 10 }, { to = "@bob", amount = "5" }]

[[step]]
from = "alice"
send = { transfer = { to = "@bob", amount = 3 } }
outcome = [7, 8]
events = [{ topic = "transfer", data = { sender = "@alice", recipient = "@bob", amount = 3 } }]

[[step]]
from = "bob"
after_ms = 1500
send = { transfer = ["@alice", "99"] }
rejected = "is 8, 99 are needed"

[tables]
transfer = [{ sequence = 1, sender = "@alice", recipient = "@bob", amount = "3", at = 1800000000000 }]
token = [{ id = 1, supply = 15, backed = true }]
"""


def played(text: str, tmp_path: Path, wasm: bytes = LEDGER) -> Report:
    path = tmp_path / "case.toml"
    path.write_text(text)
    return run_test(checked(wasm), load_test(path))


def test_rows_refusals_events_and_outcome_as_expected_pass(tmp_path: Path) -> None:
    report = played(BACKED, tmp_path)
    assert report.failures == []
    assert (report.steps, report.messages) == (2, {"transfer"})


@pytest.mark.parametrize(
    ("old", "new", "failure"),
    [
        ("outcome = [7, 8]", "outcome = [8, 7]", r"another outcome\n.*\n    - \[8, 7\]\n    \+ \[7, 8\]"),
        ("is 8, 99", "is 9, 99", r"refused for another reason\n.*\n    - is 9, 99 are needed\n    \+ balance of"),
        ('rejected = "is 8, 99 are needed"', "", r"step 2 \(bob: .*\) was refused \(rejected\): balance of"),
        ("outcome = [7", 'rejected = "no"\noutcome = [7', "step 1 .* was accepted; it should be refused with 'no'"),
        ('topic = "transfer"', 'topic = "mint"', r"other events\n.*\n    - mint .*\n    \+ transfer"),
        ("supply = 15", "supply = 16", r'(?s)table token: 1 rows, .* - .*"supply": 16.* \+ .*"supply": 15'),
        ("at = 1800000000000", "at = 1800000000001", "table transfer: 1 rows, not as expected"),
        ("token = [", "account = []\ntoken = [", "table account: 2 rows, not as expected"),
    ],
)
def test_each_difference_is_shown(old: str, new: str, failure: str, tmp_path: Path) -> None:
    """Expected lines with -, found ones with +."""
    assert old in BACKED
    (found,) = played(BACKED.replace(old, new), tmp_path).failures
    assert re.search(failure, found), found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('from = "bob"', 'from = "eve"', r"step 2 is from 'eve'; participants are alice, bob"),
        ("after_ms = 1500", "tick = true", "step 2 needs exactly one of send"),
        ("after_ms", "after", "unknown field `after`"),
        ('to = "@bob"', 'to = "@eve"', "'@eve'; participants are @alice, @bob"),
        ("token = [", "coin = [", "no table 'coin'; the app has account, transfer, token, payee"),
        ("supply = 15", "suply = 15", "table token has no column 'suply'; it has id, issuer, supply, backed"),
        ("amount = 3", f"amount = {2**64}", "holds a number above 64 bits; write it as text"),
        ("participants = [", "participants = ", "case.toml: "),
    ],
)
def test_a_wrong_test_file_is_named(old: str, new: str, problem: str, tmp_path: Path) -> None:
    """Nothing in a test file is silently ignored."""
    assert old in BACKED
    with pytest.raises(BadTest, match=problem):
        played(BACKED.replace(old, new), tmp_path)


def test_a_refused_opening_can_be_expected(tmp_path: Path) -> None:
    text = 'participants = ["a"]\nparams = { issuer = "@a" }\nslots = [{ to = "@a", amount = 1 }]\n'
    (failure,) = played(text, tmp_path).failures
    assert failure.startswith("the opening was refused (rejected): a ledger backed by a deposit cannot have an issuer")
    assert played(text + 'rejected = "cannot have an issuer"\n', tmp_path).failures == []


HIDDEN = """
#include "scapp.h"
static u32 calls;
SCAPP_TABLE(seen, KEY((i64, sequence)), (i64, calls))
SCAPP_PARAMS()
SCAPP_MESSAGE(go)
static scapp_result on_open(const scapp_context *, const scapp_opening *) { return SCAPP_OK; }
static scapp_result on_go(const scapp_context *ctx, const go_message *) {
    seen_put((seen){ (i64)ctx->sequence, ++calls });
    return SCAPP_OK;
}
SCAPP_APP("hidden", "1", TABLES(seen), INDEXES(), VIEWS(), MESSAGES(go))
"""


def test_state_outside_tables_is_found(tmp_path: Path) -> None:
    """A counter in a variable starts anew in each batch, so one batch ends elsewhere than two."""
    pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")
    from scapp.reducers.build import build_reducer

    source, out = tmp_path / "hidden.c", tmp_path / "hidden.wasm"
    source.write_text(HIDDEN)
    build_reducer(source, out)
    steps = '[[step]]\nfrom = "a"\nsend = "go"\n' * 2
    (failure,) = played(f'participants = ["a"]\n{steps}', tmp_path, out.read_bytes()).failures
    assert "the reducer keeps state outside its tables" in failure


def test_a_commitment_is_written_as_what_it_hides(tmp_path: Path) -> None:
    """The same bytes that the SDKs compute; wrong ones are named."""
    salt, opening = "0x" + "07" * 32, 'participants = ["a", "b"]\nparams = { greeting = "x" }\n'
    hide = f'[[step]]\nfrom = "b"\nsend = {{ hide = {{ salt = "{salt}", round = 3, value = "0x00ff" }} }}\n'
    wasm = (GOLDEN / "conformance.wasm").read_bytes()
    told = '[[step]]\nfrom = "b"\nsend = { hash_both = { data = { "$commitment" = %s } } }\n'
    given = f'{{ by = "b", salt = "{salt}", round = 3, value = "0x00ff" }}'
    rows = "[tables]\nresult = []\n"
    failure = played(opening + hide + told % given + rows, tmp_path, wasm).failures[0]
    sdk = re.search(r'"sequence": 1, "text": "(0x\w{64})"', failure)
    assert sdk is not None
    hashed = f'"sequence": 2, "text": "0x{keccak256(bytes.fromhex(sdk[1][2:])).hex()} '
    assert hashed in failure
    for bad, problem in (
        (given.replace('"b"', '"c"'), "by 'c'; participants are a, b"),
        (given.replace(salt, "0x07"), "salt of 1 bytes: 32 are needed"),
        (given.replace("round = 3", "round = -1"), "negative"),
        ('{ by = "b" }', "missing required field `salt`"),
    ):
        with pytest.raises(BadTest, match=problem):
            played(opening + told % bad, tmp_path, wasm)
