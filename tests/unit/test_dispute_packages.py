"""Packages for a watchtower: only co-signed states of this chain, the newest counts, answers only what it refutes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status
from scapp.channels.app_data import encode_app_data
from scapp.channels.channel.redirect import Redirect, outcome_with
from scapp.channels.cosigned import encode_slots_outcome
from scapp.channels.crypto import keccak256
from scapp.channels.onchain import ChainView, ChannelOnChain, Checkpoint, Conclude
from scapp.channels.outcome import encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.state import FixedPart, channel_id, encode_state_of_outcome
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from scapp.runtime.disputes.packages import (
    PACKAGE_BYTES_MAX,
    Defence,
    PackageRefused,
    PackageStore,
    answer_to,
    encode_package,
    make_package,
    read_package,
)
from tests.support.cosigned import SIGNERS

CHAIN_ID, ADJUDICATOR, APP = 1337, Address(b"\xad" * 20), Address(b"\xca" * 20)
PARTICIPANTS = tuple(signer.address for signer in SIGNERS)
NOW_S = 1_000_000


def signed(
    turn: int,
    *,
    is_final: bool = False,
    app: Address = APP,
    nonce: int = 1,
    more_slots: int = 0,
    redirect: Redirect | None = None,
) -> SignedState:
    fixed = FixedPart(PARTICIPANTS, nonce, app, 3_600)
    slots = tuple((bytes(20), bytes(12) + participant, 5) for participant in PARTICIPANTS)
    slots += slots[:1] * more_slots
    app_data = encode_app_data(bytes(32), 3, bytes(32), bytes(32), 7)
    amounts = (7, 3, *(0,) * more_slots)
    outcome = encode_slots_outcome(slots, amounts)
    if redirect is not None:
        outcome = encode_outcome(outcome_with(slots, amounts, redirect))
    encoded = encode_state_of_outcome(channel_id(fixed), app_data, outcome, turn, is_final=is_final)
    signatures = tuple(signer.sign(Hash(keccak256(encoded))) for signer in SIGNERS)
    return SignedState(PARTICIPANTS, nonce, app, 3_600, app_data, outcome, turn, is_final, signatures)


def package(state: SignedState, chain_id: int = CHAIN_ID) -> bytes:
    return encode_package(make_package(chain_id, ADJUDICATOR, state))


def challenged(turn: int, finalizes_at: int = NOW_S + 60) -> ChainView:
    there = ChannelOnChain(9, bytes(32), (10,), Status(turn, finalizes_at, bytes(20)))
    return ChainView(latest=there, confirmed=ChannelOnChain(5, bytes(32), (10,), Status(0, 0, bytes(20))))


def defence_of(state: SignedState) -> Defence:
    return read_package(package(state), CHAIN_ID, ADJUDICATOR)


def refused(data: bytes, says: str) -> None:
    with pytest.raises(PackageRefused, match=says):
        read_package(data, CHAIN_ID, ADJUDICATOR)


def test_what_is_made_is_read() -> None:
    state = signed(5)
    assert read_package(package(state), CHAIN_ID, ADJUDICATOR).state == state


def test_a_final_state_that_moves_money_into_a_successor_is_concluded() -> None:
    state = signed(9, is_final=True, redirect=Redirect(ChannelId(b"\x66" * 32), (5, 3)))
    assert answer_to(defence_of(state), challenged(4), NOW_S) == (Conclude(state),)


def test_what_is_no_package() -> None:
    """Bytes of anybody, of another chain, of an unfunded channel: each with its reason."""
    refused(b"\xff\x00", "not a dispute package")
    refused(b"[" * 200_000, "not a dispute package")
    refused(b" " * (PACKAGE_BYTES_MAX + 1), "at most")
    refused(package(signed(5), chain_id=1), "on chain 1; this is")
    refused(package(signed(5, app=ZERO_ADDRESS)), "unfunded")


def test_a_state_that_no_transaction_can_hold() -> None:
    """It would cost the tower its fees, and a nonce that all others wait for."""
    refused(package(signed(5, more_slots=900)), "a transaction has 131072")


@pytest.mark.parametrize("change", ["turn", "outcome", "signatures", "missing"])
def test_a_state_that_not_everybody_signed(change: str) -> None:
    state = signed(5)
    changed = {
        "turn": {"turn": 6},
        "outcome": {"outcome": state.outcome[:-1] + b"\x01"},
        "signatures": {"signatures": (state.signatures[1], state.signatures[0])},
        "missing": {"signatures": state.signatures[:1]},
    }[change]
    refused(package(msgspec.structs.replace(state, **changed)), "not co-signed")


def test_only_a_running_challenge_that_the_state_refutes_is_answered() -> None:
    state, final = signed(5), signed(9, is_final=True)
    assert answer_to(defence_of(state), challenged(4), NOW_S) == (Checkpoint(state),)
    assert answer_to(defence_of(state), challenged(5), NOW_S) == ()
    assert answer_to(defence_of(state), challenged(8), NOW_S) == ()
    assert answer_to(defence_of(state), challenged(4, finalizes_at=0), NOW_S) == ()
    assert answer_to(defence_of(state), challenged(4, finalizes_at=NOW_S), NOW_S) == ()  # too late: finalized
    assert answer_to(defence_of(final), challenged(12), NOW_S) == (Conclude(final),)  # conclude asks no turn record


def test_the_newest_counts_and_survives(tmp_path: Path) -> None:
    store = PackageStore(tmp_path / "packages", CHAIN_ID, ADJUDICATOR, packages_max=2)
    store.load()
    first = store.keep(package(signed(5)))
    assert first is not None
    assert store.keep(package(signed(5))) is None
    assert store.keep(package(signed(4))) is None
    assert store.keep(package(signed(6))) is not None
    again = PackageStore(tmp_path / "packages", CHAIN_ID, ADJUDICATOR, packages_max=2)
    again.load()
    assert [d.state.turn for d in again.defences.values()] == [6]
    again.drop(first[1].channel)
    again.load()
    assert again.defences == {}


def test_a_final_state_is_never_replaced_by_another(tmp_path: Path) -> None:
    store = PackageStore(tmp_path, CHAIN_ID, ADJUDICATOR, packages_max=2)
    store.keep(package(signed(7, is_final=True)))
    assert store.keep(package(signed(9))) is None


def test_too_many_channels_and_files_that_are_no_packages(tmp_path: Path) -> None:
    store = PackageStore(tmp_path, CHAIN_ID, ADJUDICATOR, packages_max=1)
    store.keep(package(signed(5)))
    with pytest.raises(PackageRefused, match="packages_max"):
        store.keep(package(signed(5, nonce=2)))
    (tmp_path / "broken.json").write_text("{")
    store.load()
    assert list(store.refused) == ["broken.json"]
    assert len(store.defences) == 1
