"""Conformance runner for Nitro vectors: `python -m tests.spec.nitro_vectors FILE`.

Prints one line for each section of `generated`, each kind in `known`, the scenarios of `onchain`, and both parts of
`goLedger`: `SECTION passed failed skipped`, the reason behind it where something is skipped. A
section that the file does not have counts 0. Reasons of failures go to standard error. Exit status: 0 when nothing
failed, 1 when something did, 2 when the file cannot be read as vectors. The checks stand in `nitro_checks.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.spec import ledger_checks, nitro_checks

LATER_KINDS = {
    "consensusChannelJSON": "go-nitro's record of a ledger; its states and proposals are checked in goLedger",
    "channelJSON": "how go-nitro stores a channel; scapp stores events of its own",
    "messageJSON": "go-nitro's message envelope is not part of scapp",
    "rpcRequestJSON": "go-nitro's RPC is not part of scapp",
    "rpcResponses": "go-nitro's RPC is not part of scapp",
    "voucherManager": "a story in words, which tests/unit/test_vouchers.py plays",
    "stateStatusNotifications": "what go-nitro's RPC tells its clients; it is not part of scapp",
    "deployedAddresses": "a list of addresses, nothing to compute",
    "anvilKeys": "a list of keys without results, nothing to compute",
    "gas": "figures of the published contracts; `make gas` measures ours beside them",
}


@dataclass
class Tally:
    """Counts of one section."""

    section: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reason: str = ""

    def line(self) -> str:
        return f"{self.section} {self.passed} {self.failed} {self.skipped}" + (
            f" ({self.reason})" if self.reason else ""
        )


def _check(tally: Tally, check: Callable[[Any], None], entry: Any, index: int, complain: Callable[[str], None]) -> None:
    try:
        check(entry)
    except Exception as error:  # a malformed entry is a failed one, whatever it breaks
        tally.failed += 1
        kind = "differs" if isinstance(error, AssertionError) else f"is malformed or refused, {type(error).__name__}"
        complain(f"{tally.section}[{index}] {kind}: {str(error)[:500]}")
    else:
        tally.passed += 1


def _entries(value: Any, tally: Tally, complain: Callable[[str], None]) -> list[Any]:
    if isinstance(value, list):
        return value
    tally.failed += 1
    complain(f"{tally.section} is no list")
    return []


def run_generated(generated: Any, complain: Callable[[str], None]) -> Iterable[Tally]:
    """One tally for each section known here, and one for each other section in the file."""
    if not isinstance(generated, dict):
        complain("generated is no object")
        yield Tally("generated", failed=1)
        generated = {}
    checks = nitro_checks.generated_checks(generated)
    for section, check in checks.items():
        tally = Tally(section)
        entries = _entries(generated.get(section, []), tally, complain)
        if section == "stateHash" and not generated.get("stateEncoding") and entries:
            # Its entries name states of that section instead of containing them.
            yield Tally(section, skipped=len(entries), reason="the file has no stateEncoding to compute it from")
            continue
        for index, entry in enumerate(entries):
            _check(tally, check, entry, index, complain)
        yield tally
    for section, value in generated.items():
        if section not in checks:
            yield Tally(section, skipped=len(value) if isinstance(value, list) else 1, reason="unknown section")


def run_known(known: Any, complain: Callable[[str], None]) -> Iterable[Tally]:
    """One tally for each kind, those known here first; an entry counts once, whatever number of cases it has."""
    tallies = {kind: Tally(f"known.{kind}") for kind in nitro_checks.KNOWN_CHECKS}
    broken = Tally("known")
    for index, entry in enumerate(_entries(known, broken, complain)):
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(kind, str):
            broken.failed += 1
            complain(f"known[{index}] has no kind")
            continue
        tally = tallies.setdefault(kind, Tally(f"known.{kind}", reason=LATER_KINDS.get(kind, "unknown kind")))
        if kind in nitro_checks.KNOWN_CHECKS:
            _check(tally, nitro_checks.KNOWN_CHECKS[kind], entry, index, complain)
        else:
            tally.skipped += 1
    yield from tallies.values()
    if broken.failed:
        yield broken


def run_onchain(onchain: Any, complain: Callable[[str], None]) -> Tally:
    """Replays the scenarios, all on one chain and in their order, with the project's contracts."""
    from tests.chain.replay import Replay  # an EVM: nothing to load when the file has no scenarios

    tally = Tally("onchain")
    scenarios = _entries(onchain.get("scenarios") if isinstance(onchain, dict) else None, tally, complain)
    try:
        replay = Replay(onchain)
    except Exception as error:
        tally.failed += len(scenarios)
        complain(f"onchain cannot be replayed, {type(error).__name__}: {str(error)[:500]}")
        return tally
    for index, scenario in enumerate(scenarios):
        _check(tally, replay.scenario, scenario, index, complain)
    return tally


def run_ledgers(found: Any, complain: Callable[[str], None]) -> Iterable[Tally]:
    """go-nitro's ledgers, each with all its updates, and its errors."""
    for part, check in (("ledgers", ledger_checks.check_ledger), ("errors", ledger_checks.check_error)):
        tally = Tally(f"goLedger.{part}")
        entries = _entries(found.get(part) if isinstance(found, dict) else None, tally, complain)
        for index, entry in enumerate(entries):
            _check(tally, check, entry, index, complain)
        yield tally


def run(document: dict[str, Any], complain: Callable[[str], None]) -> list[Tally]:
    """All tallies of a parsed vectors file; `complain` gets a line for each failure."""
    return [
        *run_generated(document.get("generated", {}), complain),
        *run_known(document.get("known", []), complain),
        run_onchain(document["onchain"], complain) if "onchain" in document else Tally("onchain"),
        *run_ledgers(document.get("goLedger", {"ledgers": [], "errors": []}), complain),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.spec.nitro_vectors", description="Check Nitro vectors.")
    parser.add_argument("file", type=Path, metavar="FILE")
    path: Path = parser.parse_args(arguments).file
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        print(f"{path} cannot be read as JSON: {error}", file=sys.stderr)
        return 2
    if not isinstance(document, dict):
        print(f"{path} holds no JSON object, so no vectors", file=sys.stderr)
        return 2
    tallies = run(document, lambda line: print(line, file=sys.stderr))
    for tally in tallies:
        print(tally.line())
    return 1 if any(tally.failed for tally in tallies) else 0


if __name__ == "__main__":
    raise SystemExit(main())
