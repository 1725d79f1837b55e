"""Ledger proposals in go-nitro's JSON (docs/reference/nitro.md section 14): one asset, which the text does not name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scapp.channels.abi import InvalidValue
from scapp.channels.ledger.consensus import SignedProposal
from scapp.channels.ledger.proposals import Add, Part, Remove
from scapp.channels.nitro_values import (
    compact,
    fixed_bytes,
    get,
    hexed,
    number,
    object_in,
    parse,
    signature,
    signature_text,
)
from scapp.channels.types import U48_MAX, U256_MAX, ZERO_HASH, Address, ChannelId, Destination


def write_signed_proposal(signed: SignedProposal) -> str:
    """One entry of a message's LedgerProposals. Raises InvalidValue for a proposal that go-nitro does not know."""
    proposal = signed.proposal
    if not isinstance(proposal, Add | Remove):
        raise InvalidValue(f"go-nitro's ledgers add and remove guarantees, this is a {type(proposal).__name__}")
    if proposal.fee if isinstance(proposal, Add) else proposal.refund:
        raise InvalidValue("go-nitro's ledgers know no fees")
    if len(proposal.parts) != 1:
        raise InvalidValue(f"go-nitro's ledgers have one asset, this proposal names {len(proposal.parts)}")
    part = proposal.parts[0]
    add = proposal if isinstance(proposal, Add) else None
    remove = proposal if isinstance(proposal, Remove) else None
    guarantee = {
        "Amount": part.amount if add else None,
        "Target": hexed(add.target if add else ZERO_HASH),
        "Left": hexed(add.left if add else ZERO_HASH),
        "Right": hexed(add.right if add else ZERO_HASH),
    }
    to_remove = {
        "Target": hexed(remove.target if remove else ZERO_HASH),
        "LeftAmount": part.left_amount if remove else None,
    }
    return compact(
        {
            "Signature": signature_text(signed.signature),
            "Proposal": {
                "LedgerID": hexed(signed.ledger),
                "ToAdd": {"Guarantee": guarantee, "LeftDeposit": part.left_amount if add else None},
                "ToRemove": to_remove,
            },
            "TurnNum": signed.turn,
        }
    )


def read_signed_proposal(text: str | bytes, asset: Address, amounts: Mapping[ChannelId, int]) -> SignedProposal:
    """Inverse of `write_signed_proposal` for a ledger of that asset. go-nitro's removals do not repeat the guarantee's
    amount: `amounts` gives it by target. Raises InvalidValue."""
    whole = parse(text)
    proposal = object_in(whole, "Proposal")
    added, removed = object_in(proposal, "ToAdd"), object_in(proposal, "ToRemove")
    adds, removes = (value is not None for value in (get(added, "LeftDeposit"), get(removed, "LeftAmount")))
    if adds == removes:
        raise InvalidValue("a proposal adds or removes: exactly one of ToAdd and ToRemove has amounts")
    return SignedProposal(
        ChannelId(fixed_bytes(get(proposal, "LedgerID"), 32, "LedgerID")),
        _add(added, asset) if adds else _remove(removed, asset, amounts),
        number(whole, "TurnNum", U48_MAX),
        signature(get(whole, "Signature")),
    )


def _add(value: Any, asset: Address) -> Add:
    guarantee = object_in(value, "Guarantee")
    amount = number(guarantee, "Amount", U256_MAX)
    return Add(
        ChannelId(fixed_bytes(get(guarantee, "Target"), 32, "Target")),
        Destination(fixed_bytes(get(guarantee, "Left"), 32, "Left")),
        Destination(fixed_bytes(get(guarantee, "Right"), 32, "Right")),
        (Part(asset, amount, number(value, "LeftDeposit", U256_MAX)),),
    )


def _remove(value: Any, asset: Address, amounts: Mapping[ChannelId, int]) -> Remove:
    target = ChannelId(fixed_bytes(get(value, "Target"), 32, "Target"))
    if target not in amounts:
        raise InvalidValue(f"no guarantee for channel 0x{target.hex()}")
    return Remove(target, (Part(asset, amounts[target], number(value, "LeftAmount", U256_MAX)),))
