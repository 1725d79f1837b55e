"""Proof documents: made from the log, checked by us and by the standalone checker, and nobody can bend one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.admission import AdmissionError
from scapp.channels.crypto import keccak256
from scapp.channels.errors import CorruptionError
from scapp.channels.signing import Signer
from scapp.channels.state import FixedPart, channel_id, encode_state_of_outcome
from scapp.channels.types import Address, Hash
from scapp.reducers.manifest import Table
from scapp.runtime.cli.main import scapp
from scapp.runtime.proof_documents import ProofRefused, check, make_document, read_document
from scapp.runtime.proof_format import ProofDocument
from scapp.runtime.prover import NotProvable, Prover
from scapp.runtime.row_json import key_from_json
from scapp.runtime.rows import TableCodec
from scapp.runtime.state_documents import parts_of, signed_state
from tests.support.cosigned import SIGNERS, CosignedLog, cosigned_channel
from tests.support.postgres import ACCOUNT, DEPLOYMENT, KEYWORDS, SHOP, TAGS, ScriptedKernel, account, delete, put

CHECKER = Path(__file__).parents[2] / "examples" / "check_proof.py"
_spec = importlib.util.spec_from_file_location("check_proof", CHECKER)
assert _spec is not None
assert _spec.loader is not None
standalone = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(standalone)

ONE, TWO = cosigned_channel(1), cosigned_channel(2)
OWNER = "0x" + "00" * 19 + "07"


def a_log() -> CosignedLog:
    log = CosignedLog(ONE, TWO)
    log.append(ONE, [account(number, number) for number in range(20)], [put(TAGS, "x", -1)])
    log.append(ONE, [account(7, 700, "seven"), delete(ACCOUNT, bytes(20))])
    log.append(TWO, [account(7, 8)])
    return log


def prover(log: CosignedLog, **options: Any) -> Prover:
    return Prover(log, lambda context: ScriptedKernel(SHOP, context), **options)


def proved(
    table: Table = ACCOUNT, key: tuple[Any, ...] = (OWNER,), turn: int | None = None, context: Any = ONE
) -> ProofDocument:
    encoded = TableCodec(table).read_key(key_from_json(table, key))
    position = SHOP.tables.index(table)
    return make_document(DEPLOYMENT, position, table, encoded, prover(a_log()).prove(context, position, encoded, turn))


def plain(document: ProofDocument) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(document))
    return found


def both_refuse(document: dict[str, Any]) -> str:
    """Neither checker takes the document; our reason."""
    with pytest.raises((Exception, SystemExit)):
        standalone.check(document)
    with pytest.raises(ProofRefused) as refused:
        check(read_document(json.dumps(document).encode()))
    return str(refused.value)


@pytest.mark.parametrize(
    ("table", "key", "turn", "values"),
    [
        (ACCOUNT, (OWNER,), None, {"owner": OWNER, "balance": "700", "note": "seven"}),
        (ACCOUNT, (OWNER,), 1, {"owner": OWNER, "balance": "7", "note": None}),
        (ACCOUNT, (OWNER,), 0, None),
        (ACCOUNT, ("0x" + "00" * 20,), None, None),
        (ACCOUNT, ("0x" + "00" * 20,), 1, {"owner": "0x" + "00" * 20, "balance": "0", "note": None}),
        (ACCOUNT, ("0x" + "ff" * 20,), None, None),
        (TAGS, ("x", "-1"), None, {"name": "x", "number": -1}),
        (TAGS, ("x", -2), None, None),
        (KEYWORDS, ("nobody", 1), None, None),
    ],
)
def test_a_row_and_its_absence_are_proved_at_any_turn(
    table: Table, key: tuple[Any, ...], turn: int | None, values: dict[str, Any] | None
) -> None:
    """Both checkers agree with what the tables held then."""
    document = proved(table, key, turn)
    checked = check(read_document(msgspec.json.encode(document)))
    assert checked.values == values
    assert (checked.row is None) == (values is None)
    assert checked.cosigned.channel_id == ONE.channel_id
    assert checked.cosigned.turn == (2 if turn is None else turn)
    assert standalone.check(plain(document)) == (ONE.channel_id, checked.cosigned.turn, checked.row)


def test_an_absence_by_another_leaf_is_among_those_proved() -> None:
    """The tables above have both forms of absence."""
    forms = {proved(ACCOUNT, (f"0x{n:040x}",)).other is None for n in range(100, 130)}
    assert forms == {True, False}


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def _foreign_signature(document: dict[str, Any]) -> None:
    document["state"]["signatures"][1] = document["state"]["signatures"][0]


def _twin_signature(document: dict[str, Any]) -> None:
    """The other form of the same signature: n - s and the other v."""
    raw = bytes.fromhex(document["state"]["signatures"][0][2:])
    s = standalone.N - int.from_bytes(raw[32:64], "big")
    document["state"]["signatures"][0] = "0x" + (raw[:32] + s.to_bytes(32, "big") + bytes([55 - raw[64]])).hex()


def _truncated(document: dict[str, Any]) -> None:
    document["siblings"].pop()


def _longer(document: dict[str, Any]) -> None:
    document["siblings"].append("0x" + "00" * 32)


def _swapped(document: dict[str, Any]) -> None:
    document["siblings"].reverse()


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (_set("row", value=None), "the key is absent does not follow"),
        (_set("row", value="0x0003"), "the row is there does not follow"),
        (_set("key", value="0x" + "00" * 19 + "08"), "does not follow from state root"),
        (_set("table", "position", value=1), "does not follow from state root"),
        (_truncated, "does not follow"),
        (_longer, "does not follow"),
        (_swapped, "does not follow"),
        (_set("siblings", value=[]), "does not follow"),
        (_set("siblings", 0, value="0x00"), "not a proof document"),
        (_set("other", value={"path": "0x" + "11" * 32, "row_hash": "0x" + "22" * 32}), "does not follow"),
        (_set("state", "turn", value=1), "signature 0 is not by participant"),
        (_set("state", "turn", value=2**48), "turn is"),
        (_set("state", "is_final", value=True), "signature 0 is not by participant"),
        (_set("state", "app_data", value="0x" + "00" * 192), "app data of version"),
        (_set("state", "outcome", value="0x"), "does not begin as abi.encode"),
        (_set("state", "signatures", value=[]), "0 signatures for 2 participants"),
        (_foreign_signature, "signature 1 is not by participant"),
        (_twin_signature, "signature 0 is not by participant"),
        (_set("channel", "nonce", value="2"), "signature 0 is not by participant"),
        (_set("channel", "nonce", value="99999999999999999999"), "channel nonce is"),
        (_set("channel", "participants", value=[]), "0 participants"),
        (_set("channel", "participants", 0, value="0x" + "11" * 20), "signature 0 is not by participant"),
        (_set("deployment", value="0x93"), "deployment cannot be read"),
        (_set("format", value="scapp-proof-2"), "not a proof document"),
    ],
)
def test_a_bent_document_proves_nothing(bend: Callable[[dict[str, Any]], None], reason: str) -> None:
    """Whatever is changed, both checkers refuse, and ours says which step fails."""
    document = plain(proved())
    bend(document)
    assert reason in both_refuse(document)


@pytest.mark.parametrize("part", ["channel", "state", "siblings"])
@pytest.mark.parametrize("other", ["turn", "channel"])
def test_parts_of_another_proof_do_not_fit(part: str, other: str) -> None:
    """Nothing of a valid proof of another turn or channel can be put in."""
    document = plain(proved())
    foreign = plain(proved(turn=1) if other == "turn" else proved(context=TWO))
    if document[part] == foreign[part]:
        assert (part, other) == ("channel", "turn"), "the fixed part is one for all turns"
        return
    document[part] = foreign[part]
    both_refuse(document)


def test_an_absence_cannot_be_claimed_with_a_leaf_from_elsewhere() -> None:
    """The leaf of another row lies under the same root, but not in the asked row's place."""
    document, other = plain(proved()), plain(proved(TAGS, ("x", -1)))
    path = keccak256(b"\x02\x00\x02" + bytes.fromhex(other["key"][2:]))
    document |= {
        "row": None,
        "siblings": other["siblings"],
        "other": {"path": "0x" + path.hex(), "row_hash": "0x" + keccak256(bytes.fromhex(other["row"][2:])).hex()},
    }
    both_refuse(document)


@given(st.binary(max_size=600))
def test_the_checkers_own_hash_is_keccak256(data: bytes) -> None:
    assert standalone.keccak(data) == keccak256(data)


@pytest.mark.parametrize("size", [0, 135, 136, 137, 271, 272])
def test_the_checkers_own_hash_pads_right(size: int) -> None:
    """At the block's edges."""
    assert standalone.keccak(bytes(size)) == keccak256(bytes(size))


@given(st.integers(1, 2**200), st.binary(min_size=32, max_size=32))
def test_the_checkers_own_curve_finds_the_signer(secret: int, state_hash: bytes) -> None:
    signer = Signer(secret.to_bytes(32, "big"))
    assert standalone.signer(state_hash, signer.sign(state_hash)) == signer.address  # type: ignore[arg-type]


def test_the_checker_runs_alone(tmp_path: Path) -> None:
    """In an interpreter that sees no installed package."""
    file = tmp_path / "proof.json"
    file.write_bytes(msgspec.json.encode(proved()))
    done = subprocess.run([sys.executable, "-I", "-S", CHECKER, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"channel 0x{ONE.channel_id.hex()}, turn 2: 0003")
    file.write_text('{"format": "scapp-proof-1", "channel": 5}')
    done = subprocess.run([sys.executable, "-I", "-S", CHECKER, file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("proves nothing: no proof document, KeyError: ")


# -- the prover -------------------------------------------------------------------------------------------------------


def test_an_unknown_turn_is_refused() -> None:
    with pytest.raises(NotProvable, match="turn 9 is not in this node's log, which ends at turn 2"):
        prover(a_log()).prove(ONE, 0, bytes(20), 9)


def test_tables_go_forwards_and_start_over_for_an_earlier_turn() -> None:
    """A kernel is kept; only an earlier turn than it stands at needs another."""
    log = a_log()
    made: list[ScriptedKernel] = []

    def kernel_for(context: Any) -> ScriptedKernel:
        made.append(ScriptedKernel(SHOP, context))
        return made[-1]

    asked = Prover(log, kernel_for)
    key = bytes(19) + b"\x07"
    assert [asked.prove(ONE, 0, key, turn).signed.turn for turn in (1, 2, None)] == [1, 2, 2]
    log.append(ONE, [account(7, 1)])
    assert asked.prove(ONE, 0, key).signed.turn == 3
    assert len(made) == 1
    assert asked.prove(ONE, 0, key, 1).signed.turn == 1
    assert [kernel.closed for kernel in made] == [True, False]
    asked.close()
    assert all(kernel.closed for kernel in made)


def test_kernels_beyond_the_bound_are_freed() -> None:
    made: list[ScriptedKernel] = []

    def kernel_for(context: Any) -> ScriptedKernel:
        made.append(ScriptedKernel(SHOP, context))
        return made[-1]

    asked = Prover(a_log(), kernel_for, kernels_max=1)
    for context in (ONE, TWO, ONE):
        asked.prove(context, 0, bytes(20))
    assert [kernel.closed for kernel in made] == [True, True, False]


def test_a_log_that_contradicts_its_signatures_proves_nothing() -> None:
    """A wrong root on the way is found before anything is handed out."""
    log = a_log()
    batches = log.batches_of[ONE.channel_id]
    batches[1] = msgspec.structs.replace(batches[1], state_root=bytes(32))
    with pytest.raises(NotProvable, match="corrupt: state root after turn 1"):
        prover(log).prove(ONE, 0, bytes(20))
    batches[2] = msgspec.structs.replace(batches[2], turn=7)
    with pytest.raises((NotProvable, CorruptionError)):
        prover(log).prove(ONE, 0, bytes(20))


def test_an_app_that_cannot_run_here_is_said_so() -> None:
    def kernel_for(context: Any) -> ScriptedKernel:
        raise AdmissionError("no module")

    with pytest.raises(AdmissionError, match="no module"):
        Prover(a_log(), kernel_for).prove(ONE, 0, bytes(20))


# -- the command ------------------------------------------------------------------------------------------------------


def checked(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(scapp, ["check-proof", *arguments], input=text)


def test_check_proof_prints_what_is_proved(tmp_path: Path) -> None:
    """From a file or standard input; names are marked as the document's own words."""
    text = msgspec.json.encode(proved()).decode()
    (tmp_path / "p.json").write_text(text)
    result = checked(str(tmp_path / "p.json"))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "proved")
    assert f"values        owner {OWNER}, balance 700, note seven" in result.stdout
    assert "--module" in result.stderr
    facts = json.loads(checked("-", "--json", text=text).stdout)
    assert (facts["turn"], facts["values"]["balance"], facts["names_proved"]) == (2, "700", False)
    absent = msgspec.json.encode(proved(turn=0)).decode()
    assert "row           absent" in checked("-", text=absent).stdout


def test_check_proof_refuses_with_its_own_exit_code(tmp_path: Path) -> None:
    """5 for what proves nothing or something else; names of columns cannot break it."""
    document = plain(proved())
    text = json.dumps(document)
    other = checked("-", "--channel", "0x" + TWO.channel_id.hex(), text=text)
    assert (other.exit_code, "it is about channel" in other.stderr) == (5, True)
    assert checked("-", "--channel", "0x" + ONE.channel_id.hex(), text=text).exit_code == 0
    for wrong in ("", "[]", "{", text.replace("700", "701")[:-1], text.replace('"turn": 2', '"turn": 1')):
        result = checked("-", "--json", text=wrong)
        assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (5, "bad_proof")
    (tmp_path / "no.wasm").write_bytes(b"\0asm")
    assert checked("-", "--module", str(tmp_path / "no.wasm"), text=text).exit_code == 5
    for columns in ([], [{"name": "a\x1b[2J", "type": "json", "key": True, "nullable": False}] * 3):
        document["table"]["columns"] = columns
        result = checked("-", text=json.dumps(document))
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
        assert "balance" not in result.stdout


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        (ACCOUNT, (), "0 key values; the key has 1: owner"),
        (ACCOUNT, ("0x00", "1"), "2 key values"),
        (ACCOUNT, ("0x00",), "allowed are 20 bytes"),
        (ACCOUNT, ("00" * 20,), "is no address"),
        (ACCOUNT, (7,), "is no address"),
        (TAGS, ("x", "1.5"), "is no int8"),
        (TAGS, ("x", True), "is no int8"),
        (TAGS, (1, 1), "is no text"),
        (TAGS, ("x", 2**63), "allowed are integers from"),
    ],
)
def test_keys_that_are_none_are_refused(table: Table, key: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        key_from_json(table, key)


TWO_PARTY_APP = Address(b"\x2a" * 20)
HUB = Signer(b"\x03" * 32)


def through_a_hub(*, signed_by: tuple[bool, bool, bool] = (True, False, True)) -> dict[str, Any]:
    """The same proof from a virtual channel through a hub; who has signed it, in the participants' order."""
    document = proved()
    signers = (SIGNERS[0], HUB, SIGNERS[1])
    old = signed_state(document.channel, document.state)
    new = msgspec.structs.replace(
        old, participants=tuple(signer.address for signer in signers), app_definition=TWO_PARTY_APP
    )
    fixed = FixedPart(tuple(map(Address, new.participants)), new.nonce, TWO_PARTY_APP, new.challenge_duration)
    encoded = encode_state_of_outcome(channel_id(fixed), new.app_data, new.outcome, new.turn, is_final=new.is_final)
    digest = Hash(keccak256(encoded))
    signatures = tuple(signer.sign(digest) if has else b"" for signer, has in zip(signers, signed_by, strict=True))
    channel, state = parts_of(msgspec.structs.replace(new, signatures=signatures))
    return plain(msgspec.structs.replace(document, channel=channel, state=state))


@pytest.mark.parametrize("hub_too", [False, True])
def test_a_virtual_channels_row_is_proved_by_its_two_app_parties(hub_too: bool) -> None:
    """Who knows the app for two parties takes it, and is told who has signed."""
    document = through_a_hub(signed_by=(True, hub_too, True))
    checked = check(read_document(json.dumps(document).encode()), TWO_PARTY_APP)
    assert checked.cosigned.signers == tuple(
        Address(participant) for participant in checked.participants if hub_too or participant != HUB.address
    )
    assert standalone.check(document, TWO_PARTY_APP)[0] == checked.cosigned.channel_id


def test_without_knowing_the_app_every_participant_must_have_signed() -> None:
    """Two of three could else speak for a channel in which all decide."""
    assert "signature 1 is missing" in both_refuse(through_a_hub())


@pytest.mark.parametrize("signed_by", [(True, True, False), (False, True, True), (True, False, False)])
def test_a_hub_does_not_stand_in_for_an_app_party(signed_by: tuple[bool, bool, bool]) -> None:
    document = through_a_hub(signed_by=signed_by)
    with pytest.raises(ProofRefused, match="is missing"):
        check(read_document(json.dumps(document).encode()), TWO_PARTY_APP)
    with pytest.raises((Exception, SystemExit)):
        standalone.check(document, TWO_PARTY_APP)


def test_the_command_takes_the_app_for_two_parties(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(through_a_hub()))
    app = "0x" + TWO_PARTY_APP.hex()
    found = CliRunner().invoke(scapp, ["check-proof", str(file), "--two-party-app", app, "--json"])
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)["signed_by"]) == 2
    assert CliRunner().invoke(scapp, ["check-proof", str(file)]).exit_code == 5
