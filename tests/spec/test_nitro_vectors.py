"""The golden vectors pass in full, and the runner notices anything that is wrong in a file."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec import nitro_vectors

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "nitro-vectors.json"
GENERATED = {
    "channelId": 43, "outcomeEncoding": 40, "stateEncoding": 64, "signature": 181, "challengeMessage": 40,
    "status": 40, "voucher": 48, "guaranteeMetadata": 40, "external": 4, "transferEffects": 40,
    "reclaimEffects": 40, "stateHash": 64,
}  # fmt: skip
KNOWN = {
    "keys": 2, "state": 1, "signedStateJSON": 1, "outcomeEncoding": 1, "guaranteeMetadata": 2,
    "externalDestination": 1, "convertBytes32ToAddress": 1, "signedByBitmask": 1, "depositSafetyThreshold": 1,
    "affords": 1, "divertToGuarantee": 1, "transferEffects": 1, "reclaimEffects": 1, "transferTable": 1,
    "voucherJSON": 1, "voucherManagerSigned": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    """The golden file, parsed; tests change copies."""
    return json.loads(GOLDEN.read_bytes())


def counts(document):
    """Section to (passed, failed, skipped), and the complaints."""
    complaints: list[str] = []
    tallies = nitro_vectors.run(document, complaints.append)
    return {tally.section: (tally.passed, tally.failed, tally.skipped) for tally in tallies}, complaints


def test_every_golden_vector_passes(golden):
    """All of `generated`, all kinds of `known` that sections 1 to 3 cover, and nothing fails."""
    found, complaints = counts(golden)
    assert complaints == []
    assert {name: found[name] for name in GENERATED} == {name: (count, 0, 0) for name, count in GENERATED.items()}
    assert {name: found[f"known.{name}"] for name in KNOWN} == {name: (count, 0, 0) for name, count in KNOWN.items()}
    assert not any(failed for _, failed, _ in found.values())
    assert sum(sum(figures) for name, figures in found.items() if name.startswith("known.")) == len(golden["known"])
    assert found["onchain"] == (15, 0, 0)
    assert found["goLedger.ledgers"] == (14, 0, 0)
    assert found["goLedger.errors"] == (18, 0, 0)


def test_skips_give_their_reason(golden):
    """What belongs to later features is counted and says why."""
    tallies = {tally.section: tally for tally in nitro_vectors.run(golden, lambda _: None)}
    for tally in tallies.values():
        assert bool(tally.skipped) == bool(tally.reason)


def corrupted(value):
    """Another value of the same form: a digit, number or flag changed, an item left out."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value.startswith("0x") and len(value) > 2:
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    if isinstance(value, str) and value.isdecimal():
        return str(int(value) + 1)
    if isinstance(value, list):
        return value[1:] if value else [0]
    return None


FREE_TEXT = {"note", "channelNonceHex"}


@pytest.mark.parametrize("section", GENERATED)
def test_a_change_in_any_field_of_a_vector_is_noticed(golden, section):
    """Field by field: the first entry is corrupted, and the section must count a failure for it. Of each section four
    entries are there, which others may refer to."""
    some = {name: entries[:4] for name, entries in golden["generated"].items()}
    entry = some[section][0]
    for name in entry.keys() - FREE_TEXT:
        changed = copy.deepcopy(entry)
        # Nested fields: corrupt the first one inside.
        place, key = changed, name
        while isinstance(place[key], dict):
            place, key = place[key], next(inner for inner in place[key] if inner not in FREE_TEXT)
        place[key] = corrupted(place[key])
        found, complaints = counts({"generated": {**some, section: [changed, *some[section][1:]]}})
        assert found[section][1] >= 1, f"{section}: nobody noticed the change of {name}"
        assert found[section][0] + found[section][1] == 4
        assert any(line.startswith(f"{section}[0]") for line in complaints)


@pytest.mark.parametrize("kind", KNOWN)
def test_a_change_in_a_known_vector_is_noticed(golden, kind):
    """The last computed figure of each kind is changed."""
    entry = copy.deepcopy(next(item for item in golden["known"] if item["kind"] == kind))
    RESULTS[kind](entry)
    found, complaints = counts({"known": [entry]})
    assert found[f"known.{kind}"] == (0, 1, 0)
    assert len(complaints) == 1


def changing(*path):
    """A function that corrupts the value at a path."""

    def change(entry):
        place = entry
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = corrupted(place[path[-1]])

    return change


def replacing(name, old, new):
    """A function that changes text."""

    def change(entry):
        assert old in entry[name]
        entry[name] = entry[name].replace(old, new)

    return change


RESULTS = {
    "keys": changing("actors", 3, "address"),
    "state": changing("stateHash"),
    "signedStateJSON": replacing("json", "TurnNum", "TurnNumber"),
    "outcomeEncoding": changing("encoded"),
    "guaranteeMetadata": changing("encoded"),
    "externalDestination": changing("cases", -1, 1),
    "convertBytes32ToAddress": changing("cases", -1, 1),
    "signedByBitmask": changing("indices", -1, 1),
    "depositSafetyThreshold": changing("totals", "0x7b00000000000000000000000000000000000000"),
    "affords": changing("cases", -1, 2),
    "divertToGuarantee": changing("cases", -1, "after", -1, 1),
    "transferEffects": changing("exitAllocations", 0, 1),
    "reclaimEffects": changing("newSourceAllocations", 1, 1),
    "transferTable": lambda entry: entry["rows"][14].__setitem__(8, "{A: 1, C: 1}"),
    "voucherJSON": replacing("json", '"Amount":2', '"Amount":2.0'),
    "voucherManagerSigned": changing("vouchers", -1, "compact"),
}

STEP = ("scenarios", 0, "steps", 0)
ONCHAIN = {
    "calldata": (*STEP, "calldata"),
    "revert reason": ("scenarios", 0, "steps", 1, "revertReason"),
    "success": (*STEP, "ok"),
    "event data": (*STEP, "events", 0, "data"),
    "event topic": (*STEP, "events", 0, "topics", 1),
    "missing event": (*STEP, "events"),
    "status word": ("scenarios", 0, "statusAfterReplay"),
    "holdings": ("scenarios", 0, "holdingsBefore"),
    "address": ("deploy", "NitroAdjudicator", "address"),
}


@pytest.mark.parametrize("name", ONCHAIN)
def test_a_change_in_a_scenario_is_noticed(golden, name):
    """What a step sends, what it did, and what was there afterwards: each is compared."""
    onchain = copy.deepcopy(golden["onchain"])
    onchain["scenarios"] = onchain["scenarios"][:1]
    place, *path = onchain, *ONCHAIN[name]
    for key in path[:-1]:
        place = place[key]
    last = place[path[-1]]
    place[path[-1]] = "held" if name == "revert reason" else corrupted(last)
    found, complaints = counts({"onchain": onchain})
    assert found["onchain"] == (0, 1, 0)
    assert len(complaints) == 1


@pytest.mark.parametrize("onchain", [5, {}, {"scenarios": [None, {}]}, {"scenarios": 5, "deploy": {}}])
def test_malformed_scenarios_fail(onchain):
    """Never a crash, whatever is missing."""
    found, complaints = counts({"onchain": onchain})
    assert found["onchain"][0] == 0
    assert found["onchain"][1] >= 1
    assert complaints


MALFORMED = [None, 5, "text", [], {}, {"note": {}}, [[]]]


@pytest.mark.parametrize("section", GENERATED)
def test_malformed_entries_fail_and_the_rest_is_still_checked(golden, section):
    """Entries of any form are failures with a message, never a crash."""
    document = {"generated": {**golden["generated"], section: [*MALFORMED, golden["generated"][section][-1]]}}
    found, complaints = counts(document)
    assert found[section] == (1, len(MALFORMED), 0)
    assert len([line for line in complaints if line.startswith(f"{section}[")]) >= len(MALFORMED)


def test_malformed_known_entries_fail():
    """Also when the kind is there and nothing else, or not even that."""
    found, complaints = counts({"known": [*MALFORMED, *({"kind": kind} for kind in KNOWN), {"kind": 5}]})
    assert found["known"] == (0, len(MALFORMED) + 1, 0)
    assert all(found[f"known.{kind}"] == (0, 1, 0) for kind in KNOWN)
    assert len(complaints) == len(MALFORMED) + 1 + len(KNOWN)


@pytest.mark.parametrize("document", [{"generated": 5}, {"generated": []}, {"generated": {"status": 5}}, {"known": {}}])
def test_parts_of_the_wrong_type_fail(document):
    """A section that is no list is no missing section."""
    found, complaints = counts(document)
    assert sum(failed for _, failed, _ in found.values()) == 1
    assert len(complaints) == 1


def test_missing_sections_count_zero():
    """An empty file has nothing that could fail."""
    found, complaints = counts({})
    assert {"onchain", "goLedger.ledgers", "known.keys", "channelId"} <= set(found)
    assert {name: found[name] for name in GENERATED} == dict.fromkeys(GENERATED, (0, 0, 0))
    assert complaints == []


def test_state_hashes_without_states_are_skipped(golden):
    """They cannot be computed; with other states in the file, one that is not found is a failure."""
    found, _ = counts({"generated": {"stateHash": golden["generated"]["stateHash"]}})
    assert found["stateHash"] == (0, 0, 64)
    one = {name: golden["generated"][name][:1] for name in ("stateEncoding", "stateHash")}
    assert counts({"generated": one})[0]["stateHash"] == (1, 0, 0)
    one["stateHash"] = golden["generated"]["stateHash"][1:2]
    assert counts({"generated": one})[0]["stateHash"] == (0, 1, 0)


def test_unknown_sections_and_kinds_are_skipped():
    """Files of the same format may hold more."""
    found, _ = counts({"generated": {"newSection": [1, 2]}, "known": [{"kind": "newKind"}]})
    assert found["newSection"] == (0, 0, 2)
    assert found["known.newKind"] == (0, 0, 1)


def command(path):
    """The command line as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.spec.nitro_vectors", str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_prints_counts_and_succeeds():
    """From the repository root, as documented."""
    done = command(GOLDEN)
    assert done.returncode == 0, done.stderr
    assert "signature 181 0 0\n" in done.stdout
    assert "onchain 15 0 0\n" in done.stdout


def test_the_command_fails_on_a_corrupted_file(tmp_path):
    """Status 1 and the place on standard error."""
    text = GOLDEN.read_text()
    good = "0x8e20f2e5f2cd3b3d4805eb3b98d2cf2945631042f4cb69fc629425dd28efe184"
    assert good in text
    (tmp_path / "bad.json").write_text(text.replace(good, good[:-1] + "5"))
    done = command(tmp_path / "bad.json")
    assert done.returncode == 1
    assert "stateEncoding 63 1 0\n" in done.stdout
    assert "stateEncoding[0] differs: stateHash" in done.stderr


@pytest.mark.parametrize("content", ["", "no json", "[]", "[" * 200_000])
def test_a_file_that_holds_no_vectors_is_told(tmp_path, content):
    """Status 2, one line, no traceback."""
    (tmp_path / "none.json").write_text(content)
    done = command(tmp_path / "none.json")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert command(tmp_path / "absent.json").returncode == 2
