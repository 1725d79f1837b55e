"""A channel's constants, checked once: who, by which rules, with which outcome slots. `model.py` has what changes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TypeVar

from scapp.channels.admission import ChannelContext
from scapp.channels.backing import HUBS_MAX, VirtualTerms
from scapp.channels.channel.events import ChannelCreated, SuccessorCreated, VirtualCreated
from scapp.channels.channel.redirect import Redirect, fault, outcome_with, redirect_of
from scapp.channels.channel.shares import Shares, check_virtual, shares_of
from scapp.channels.channel.state_hash import AppStateHasher
from scapp.channels.deployment import Deployment, Limits, decode_deployment, deployment_id
from scapp.channels.entries import HEADER_BYTES
from scapp.channels.errors import LocalError
from scapp.channels.outcome import Outcome
from scapp.channels.signing import Verifier
from scapp.channels.state import FixedPart, check_fixed_part
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash, Signature

SLOTS_MAX = 256
PARTICIPANTS_MAX = 255
Send = TypeVar("Send")


class SetupError(LocalError):
    """The parameters of a channel are not allowed."""


class Setup:
    """Constants of one channel and what follows from them. Raises SetupError for parameters that are not allowed."""

    def __init__(self, created: ChannelCreated) -> None:
        self.my_index = created.my_index
        self.participants = tuple(Address(p) for p in created.participants)
        self.count = len(self.participants)
        self.deployment: Deployment = _deployment(created.deployment)
        self.limits = self.deployment.limits
        self.deployment_id = deployment_id(self.deployment)
        self.slots = tuple((a, d, int.from_bytes(v, "big")) for a, d, v in created.slots)
        self.virtual = isinstance(created, VirtualCreated)
        self.hubs, self.fees = _hubs(created) if isinstance(created, VirtualCreated) else ((), ())
        # Of a successor: the channel that it renews, and the turn of that channel's state with which it begins.
        self.renews = (ChannelId(created.renews), created.base_turn) if isinstance(created, SuccessorCreated) else None
        _check(created)
        _check_limits(self.limits)
        self.fixed = FixedPart(
            participants=(*self.participants[:1], *self.hubs, *self.participants[1:]),
            nonce=created.nonce,
            app_definition=Address(created.app_definition),
            challenge_duration=created.challenge_duration,
        )
        try:
            self.channel_id: ChannelId = check_fixed_part(self.fixed)
        except ValueError as error:
            raise SetupError(str(error)) from error
        self.shares: Shares | None = _shares(self)  # None unless everybody deposits on a chain
        self.funded = self.shares is not None or self.virtual
        if self.renews is not None and self.shares is None:
            raise SetupError("a successor channel is funded on a chain, as the channel that it renews")
        self.start_amounts = tuple(v for _, _, v in self.slots)
        self._start_blob = pack_amounts(self.start_amounts)
        self.others = tuple(i for i in range(self.count) if i != self.my_index)  # indices of everyone else
        self.unsigned: tuple[bytes, ...] = (b"",) * self.count  # signatures of a state that nobody has signed
        self.hasher = AppStateHasher(self.channel_id, self.deployment_id, self.slots)
        self.hash = self.hasher.hash
        self._verifiers = tuple(Verifier(p) for p in self.participants)
        # Per participant: did it sign the hash? Its v is not looked at: `completed` finds the right one.
        self.signed: tuple[Callable[[Hash, bytes], bool], ...] = tuple(one.signed for one in self._verifiers)

    @functools.cached_property
    def context(self) -> ChannelContext:
        """What derivation may know of the channel."""
        return ChannelContext(self.channel_id, self.participants, self.deployment, self.slots)

    @functools.cached_property
    def virtual_terms(self) -> VirtualTerms:
        """Of a virtual channel: what is asked of the ledgers."""
        return VirtualTerms(self.channel_id, self.fixed.participants, self.fees, self.slots)

    def to_others(self, send: Callable[[int, int], Send], turn: int) -> tuple[Send, ...]:
        """One send about the turn to everyone else."""
        others = self.others
        return (send(others[0], turn),) if len(others) == 1 else tuple(map(send, others, itertools.repeat(turn)))

    def verify(self, index: int, state_hash: Hash, signature: bytes) -> bool:
        """Is this participant `index`'s signature under the hash, with the v that the contracts need?"""
        return self._verifiers[index].matches(state_hash, signature)

    def signed_at(self, position: int, state_hash: Hash, signature: bytes) -> bool:
        """As `signed`, for the participant at a position of the fixed part, hubs included."""
        return self._fixed_verifiers[position].signed(state_hash, signature)

    def in_place(self, signatures: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """One signature per participant of the fixed part: the app's participants' where they belong, hubs' empty."""
        return (*signatures[:1], *(b"",) * len(self.hubs), *signatures[1:])

    def completed_at(self, state_hash: Hash, signatures: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """As `completed`, for one signature per participant of the fixed part; those that are missing stay empty."""
        pairs = zip(self._fixed_verifiers, signatures, strict=True)
        return tuple(verifier.completed(state_hash, signature) if signature else b"" for verifier, signature in pairs)

    @functools.cached_property
    def _fixed_verifiers(self) -> tuple[Verifier, ...]:
        return tuple(map(Verifier, self.fixed.participants))

    def completed(self, state_hash: Hash, signatures: tuple[bytes, ...]) -> tuple[Signature, ...]:
        """A full set of signatures that were `signed`, as the contracts take it; one recovery per participant."""
        pairs = zip(self._verifiers, signatures, strict=True)
        return tuple(verifier.completed(state_hash, signature) for verifier, signature in pairs)

    def unpack(self, amounts: bytes) -> tuple[int, ...]:
        """Amounts from their blob, without the tail of a redirect; the caller has checked its length."""
        if amounts == self._start_blob:
            return self.start_amounts
        return _amounts_of(amounts[: len(self._start_blob)])

    def redirect(self, amounts: bytes) -> Redirect | None:
        """What a final state with this blob passes on to a successor channel; None in any other."""
        return redirect_of(amounts, len(self.slots)) if len(amounts) > len(self._start_blob) else None

    def outcome(self, amounts: bytes) -> Outcome:
        """The outcome that a state with this blob has on chain."""
        return outcome_with(self.slots, self.unpack(amounts), self.redirect(amounts))

    def pack(self, amounts: tuple[int, ...]) -> bytes:
        """The blob of the amounts."""
        return self._start_blob if amounts == self.start_amounts else pack_amounts(amounts)

    def amounts_fault(self, amounts: bytes) -> str:
        """Why the blob is no outcome of this channel, or an empty string: one amount per slot, sums per asset kept, and
        no more moving on than there is."""
        if amounts == self._start_blob:
            return ""
        redirect = self.redirect(amounts) if self.shares is not None else None
        if len(amounts) != len(self._start_blob) and redirect is None:
            return f"outcome has {len(amounts)} bytes for {len(self.slots)} slots"
        unpacked = self.unpack(amounts)
        return self._sum_fault(unpacked) or ("" if redirect is None else fault(redirect, unpacked))

    def _sum_fault(self, amounts: tuple[int, ...]) -> str:
        before: dict[bytes, int] = {}
        after: dict[bytes, int] = {}
        for (asset, _, start), now in zip(self.slots, amounts, strict=True):
            before[asset] = before.get(asset, 0) + start
            after[asset] = after.get(asset, 0) + now
        for asset, total in before.items():
            if after[asset] != total:
                return f"outcome pays {after[asset]} of asset 0x{asset.hex()}, the channel holds {total}"
        return ""


def _amounts_of(blob: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(blob[i : i + 32], "big") for i in range(0, len(blob), 32))


def pack_amounts(amounts: tuple[int, ...]) -> bytes:
    """One blob of 32-byte big-endian integers."""
    return b"".join(amount.to_bytes(32, "big") for amount in amounts)


def _shares(setup: Setup) -> Shares | None:
    if setup.fixed.app_definition == ZERO_ADDRESS and not setup.virtual:
        return None
    try:
        if setup.virtual:
            check_virtual(setup.slots)
            return None
        return shares_of(setup.slots, setup.count)
    except ValueError as error:
        raise SetupError(str(error)) from error


def _hubs(created: VirtualCreated) -> tuple[tuple[Address, ...], tuple[int, ...]]:
    if len(created.participants) != 2:
        raise SetupError(f"{len(created.participants)} app parties: a virtual channel has 2")
    if len(created.hubs) > HUBS_MAX:
        raise SetupError(f"{len(created.hubs)} hubs: a virtual channel has {HUBS_MAX} at most")
    if len(created.fees) != len(created.hubs):
        raise SetupError(f"{len(created.fees)} fees for {len(created.hubs)} hubs")
    fees = tuple(int.from_bytes(fee, "big") for fee in created.fees)
    in_first = (amount for asset, _, amount in created.slots if asset == created.slots[0][0])
    if sum(fees) + sum(int.from_bytes(amount, "big") for amount in in_first) >= 2**256:
        raise SetupError("the fees and the amounts of the first asset sum to 2^256 or more")
    if created.app_definition == ZERO_ADDRESS:
        raise SetupError("a virtual channel has the chain's app for two parties, not none")
    return tuple(map(Address, created.hubs)), fees


def _deployment(data: bytes) -> Deployment:
    try:
        return decode_deployment(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise SetupError(f"deployment cannot be read: {error}") from error


def _check(created: ChannelCreated) -> None:
    count = len(created.participants)
    if not 2 <= count <= PARTICIPANTS_MAX:
        raise SetupError(f"{count} participants: a channel has 2 to {PARTICIPANTS_MAX}")
    if len(set(created.participants)) != count:
        raise SetupError("a participant is named twice")
    if not 0 <= created.my_index < count:
        raise SetupError("this node is not a participant")
    if created.challenge_duration < 1:
        raise SetupError("challenge duration 0: a dispute could not be answered")
    if len(created.slots) > SLOTS_MAX:
        raise SetupError(f"{len(created.slots)} outcome slots: at most {SLOTS_MAX}")
    _check_slots(created.slots)


def _check_limits(limits: Limits) -> None:
    """Limits under which ordering would stand still: no entry fits a batch, or no clock is good enough."""
    if not 0 <= limits.payload_bytes_max <= limits.batch_bytes_max - HEADER_BYTES:
        raise SetupError(
            f"payloads of up to {limits.payload_bytes_max} bytes in batches of up to {limits.batch_bytes_max}: "
            f"an entry is its payload and {HEADER_BYTES} bytes, and must fit"
        )
    if not 1 <= limits.batch_entries_max < 2**32:
        raise SetupError(f"{limits.batch_entries_max} entries per batch: 1 to {2**32 - 1} are allowed")
    if not 0 <= limits.time_tolerance_ms < 2**48:
        raise SetupError(f"time tolerance {limits.time_tolerance_ms} ms: 0 to {2**48 - 1} are allowed")


def _check_slots(slots: tuple[tuple[bytes, bytes, bytes], ...]) -> None:
    assets = [asset for asset, _, _ in slots]
    runs = [a for i, a in enumerate(assets) if i == 0 or assets[i - 1] != a]
    if len(set(runs)) != len(runs):
        raise SetupError("outcome slots of one asset must stand together")
    totals: dict[bytes, int] = {}
    for asset, _, amount in slots:
        totals[asset] = totals.get(asset, 0) + int.from_bytes(amount, "big")
        if totals[asset] >= 2**256:
            raise SetupError(f"the amounts of asset 0x{asset.hex()} sum to 2^256 or more")
