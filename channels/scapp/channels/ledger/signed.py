"""The states of a ledger as the chain takes them, and the checks of signatures under them."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.ledger.balances import Balances
from scapp.channels.ledger.consensus import verifier
from scapp.channels.ledger.record import LedgerRecord, Pair
from scapp.channels.ledger.setup import POSTFUND, PREFUND, LedgerSetup
from scapp.channels.reading import SignedState
from scapp.channels.types import Hash

TURN_LEAD_MAX = 2**16
"""A party may leave out that many turns; more would use up the numbers that there are."""


def signed_state(setup: LedgerSetup, balances: Balances, signatures: Pair, *, is_final: bool = False) -> SignedState:
    """The state of these balances, under both signatures."""
    fixed = setup.fixed
    return SignedState(
        participants=fixed.participants,
        nonce=fixed.nonce,
        app_definition=fixed.app_definition,
        challenge_duration=fixed.challenge_duration,
        app_data=b"",
        outcome=balances.encode_outcome(),
        turn=balances.turn,
        is_final=is_final,
        signatures=signatures,
    )


def newest_enforceable(record: LedgerRecord) -> SignedState | None:
    """The newest state under both signatures: the final one, that of the newest update, or the prefund state."""
    setup = record.setup
    if record.final is not None and record.final.complete:
        return signed_state(setup, record.final.balances, record.final.signatures, is_final=True)
    if record.ledger is not None:
        return signed_state(setup, record.ledger.current, record.ledger.signatures)
    if b"" not in record.prefund:
        return signed_state(setup, setup.stage(PREFUND), record.prefund)
    return None


def last_turn(record: LedgerRecord) -> int:
    """The turn after which the next new state comes, as far as this record tells."""
    return record.ledger.proposed.turn if record.ledger is not None else max(POSTFUND, record.floor)


def stage_hash(setup: LedgerSetup, turn: int) -> Hash:
    """Of the prefund (0) or postfund state (1)."""
    return setup.stage(turn).state_hash(setup.channel_id)


def final_hash(record: LedgerRecord, turn: int) -> Hash:
    """Of the final state with that turn: the newest balances that both have signed."""
    return msgspec.structs.replace(record.balances, turn=turn).state_hash(record.channel, is_final=True)


def check_signature(setup: LedgerSetup, index: int, state_hash: Hash, signature: bytes, what: str) -> None:
    """Raises PeerError, naming `what`, unless party `index` has signed."""
    if not verifier(setup.fixed.participants[index]).matches(state_hash, signature):
        raise PeerError(f"wrong signature of 0x{setup.fixed.participants[index].hex()} under {what}")
