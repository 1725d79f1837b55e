"""G3: ABI encoding of a state and of every other supported tuple, each beside `eth_abi.encode`; the weakest counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

GOAL = 30
REPEAT = 100
EXIT = "(address,(uint8,bytes),(bytes32,uint256,uint8,bytes)[])[]"
Pair = tuple[str, Callable[[], bytes], Callable[[], bytes]]


def pairs() -> list[Pair]:
    """(name, our encoding, eth_abi's encoding) of each supported tuple; both sides give the same bytes."""
    from eth_abi.abi import encode

    from scapp.channels import outcome as outcomes
    from scapp.channels import state as states
    from scapp.channels.abi import StateHasher
    from scapp.channels.adjudicator_status import encode_fingerprint
    from scapp.channels.app_data import encode_app_data

    channel: Any = b"\x11" * 32
    other: Any = b"\x22" * 32
    asset: Any = b"\x33" * 20
    alice: Any = bytes(12) + b"\xaa" * 20
    bob: Any = bytes(12) + b"\xbb" * 20
    signature: Any = channel + other + b"\x1b"
    app_data = bytes(range(64))
    ledger = [(alice, 10**18, 0, b""), (bob, 2 * 10**18, 0, b"")]
    guarantees = [*ledger, (other, 5, 2, alice + bob)]

    def plain(*lists: list[Any]) -> list[Any]:
        return [(asset, (0, b""), items) for items in lists]

    def ours(value: list[Any]) -> outcomes.Outcome:
        return tuple(
            outcomes.SingleAssetExit(asset_, tuple(outcomes.Allocation(*item) for item in items))
            for asset_, _, items in value
        )

    simple, locked, big = plain(ledger), plain(guarantees), plain(*[ledger * 5] * 3)
    variable = {id(value): states.VariablePart(ours(value), app_data, 7, False) for value in (simple, locked, big)}
    fixed = states.FixedPart((asset, alice[12:]), 37140676580, bob[12:], 60)
    hasher = StateHasher(channel, [(asset, alice, 0), (asset, bob, 0)])
    amounts = [(10**18 + n, 2 * 10**18 - n) for n in range(2)]

    def state_pair(name: str, value: list[Any]) -> Pair:
        types, part = ["bytes32", "bytes", EXIT, "uint48", "bool"], variable[id(value)]
        return (
            name,
            lambda: states.encode_state(channel, part),
            lambda: encode(types, [channel, app_data, value, 7, False]),
        )

    def prepared() -> bytes:
        # Other amounts on every call, so that the outcome is encoded every time.
        amounts.reverse()
        return hasher.encode(app_data, amounts[0], 7, False)

    state_types = ["bytes32", "bytes", EXIT, "uint48", "bool"]
    return [
        state_pair("state", simple),
        state_pair("state with a guarantee", locked),
        state_pair("state of 3 assets with 10 allocations each", big),
        ("state, prepared", prepared,
         lambda: encode(state_types, [channel, app_data, plain(
             [(alice, amounts[0][0], 0, b""), (bob, amounts[0][1], 0, b"")]), 7, False])),
        ("outcome", lambda: outcomes.encode_outcome(variable[id(simple)].outcome),
         lambda: encode([EXIT], [simple])),
        ("fixed part", lambda: states.encode_fixed_part(fixed),
         lambda: encode(["address[]", "uint64", "address", "uint48"],
                                [fixed.participants, fixed.nonce, fixed.app_definition, 60])),
        ("app data", lambda: encode_app_data(channel, 9, other, channel, 1_700_000_000_000),
         lambda: encode(["uint8", "bytes32", "uint64", "bytes32", "bytes32", "uint64"],
                                [1, channel, 9, other, channel, 1_700_000_000_000])),
        ("voucher", lambda: states.encode_voucher(channel, 10**18),
         lambda: encode(["bytes32", "uint256"], [channel, 10**18])),
        ("redemption", lambda: states.encode_redemption(10**18, signature),
         lambda: encode(["uint256", "(uint8,bytes32,bytes32)"], [10**18, (27, channel, other)])),
        ("challenge message", lambda: states.encode_challenge_message(channel),
         lambda: encode(["bytes32", "string"], [channel, "forceMove"])),
        ("fingerprint", lambda: encode_fingerprint(channel, other),
         lambda: encode(["bytes32", "bytes32"], [channel, other])),
        ("guarantee metadata", lambda: outcomes.guarantee_metadata(alice, bob),
         lambda: encode(["(bytes32,bytes32)"], [(alice, bob)])),
    ]  # fmt: skip


def repeated(call: Callable[[], bytes]) -> Side:
    """A side that keeps the cost of the measuring loop small beside a call of half a microsecond."""

    def many() -> None:
        for _ in range(REPEAT):
            call()

    return Side(many, REPEAT)


def run() -> Result:
    """The ratio is that of the weakest tuple; the value is the plain state's rate."""
    ratios, notes, rate = [], [], 0.0
    for name, ours, theirs in pairs():
        first = ours()
        if first != theirs():
            raise AssertionError(f"{name}: the two encodings differ")
        outcome = compare(repeated(ours), repeated(theirs), slot_seconds=0.01)
        ratios.append(outcome.ratio)
        rate = rate or outcome.rate
        notes.append(f"{name}: {outcome.ratio:.0f} times, {1e6 / outcome.rate:.2f} us for {len(first)} bytes")
    return Result(rate, "states/s", min(ratios), tuple(notes))


MEASURES = [Measure("G3", "ABI encoding, weakest of all supported tuples, against eth_abi.encode", GOAL, run)]
