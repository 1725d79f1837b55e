"""What a virtual channel is: who, for how much, for which fees; and the states that its participants sign.

Participants are [first, hubs …, last]; the outcome has two simple allocations per asset, the first participant's and
the last one's. The hubs' ledgers guarantee the whole of it, so any outcome within the sums leaves a hub what it had.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.backing import ASSETS_MAX, HUBS_MAX
from scapp.channels.books.wire import from_wire_amount, is_amount, to_wire_amount
from scapp.channels.outcome import Allocation, Outcome, SingleAssetExit, is_external
from scapp.channels.state import FixedPart, VariablePart, check_fixed_part
from scapp.channels.types import Address, ChannelId, Destination
from scapp.channels.virtual.events import Agreed, Milestone
from scapp.channels.virtual.messages import APP_DATA_MAX, Proposed

Kind = Literal["payment", "app"]
Amounts = tuple[tuple[int, int], ...]
"""Per asset, in the agreement's order: the first participant's and the last one's, in the smallest unit."""

FINAL_TURN = 2  # of payment channels, and of every channel that is aborted; an app's final state has any turn from 2 on
ABORTED_MARK = b"scapp: not funded".ljust(32, b"\0")
"""App data of the state that ends a channel which was never funded as a whole. No other final state has it, so both
parties of a ledger know from the state alone that fees go back."""
_NONCE_RANDOM_BITS = 22


class Asset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What first and last participant bring in of one asset."""

    asset: Address
    first: int
    last: int

    @property
    def total(self) -> int:
        """What each ledger on the path guarantees."""
        return self.first + self.last


class Agreement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`destinations` of the first and the last participant, the same in every asset; `fees` one per hub, in the first
    asset; `app_data` of the prefund state."""

    kind: Kind
    fixed: FixedPart
    destinations: tuple[Destination, Destination]
    assets: tuple[Asset, ...]
    app_data: bytes
    fees: tuple[int, ...]

    @property
    def participants(self) -> tuple[Address, ...]:
        return self.fixed.participants

    @property
    def count(self) -> int:
        return len(self.fixed.participants)

    @property
    def start(self) -> Amounts:
        """The amounts of prefund, postfund and aborted state."""
        return tuple((each.first, each.last) for each in self.assets)

    def fee_in(self, ledger: int) -> int:
        """What participant `ledger` pays participant `ledger + 1` for the guarantee between them: the fees of all hubs
        from there on."""
        return sum(self.fees[ledger:])

    def outcome(self, amounts: Amounts) -> Outcome:
        """The outcome with these amounts. Raises InvalidValue when their number is another than the assets'."""
        if len(amounts) != len(self.assets):
            raise InvalidValue(f"{len(amounts)} pairs of amounts for {len(self.assets)} assets")
        first, last = self.destinations
        return tuple(
            SingleAssetExit(each.asset, (Allocation(first, mine), Allocation(last, theirs)))
            for each, (mine, theirs) in zip(self.assets, amounts, strict=True)
        )


def state_of(agreement: Agreement, milestone: Milestone, turn: int, amounts: Amounts, app_data: bytes) -> VariablePart:
    """The state that is signed at a milestone."""
    return VariablePart(agreement.outcome(amounts), app_data, turn, milestone in ("final", "aborted"))


def check_agreement(agreement: Agreement, app_definition: Address) -> ChannelId:
    """The channel's id. Raises InvalidValue for an agreement that cannot work; `app_definition` is that of its kind on
    the chain of the node's ledgers."""
    channel = check_fixed_part(agreement.fixed)
    hubs = agreement.count - 2
    if not 0 <= hubs <= HUBS_MAX:
        raise InvalidValue(f"{agreement.count} participants; allowed are 2 to {HUBS_MAX + 2}")
    if agreement.fixed.app_definition != app_definition:
        found = agreement.fixed.app_definition.hex()
        raise InvalidValue(f"app definition 0x{found}; {agreement.kind} channels have 0x{app_definition.hex()}")
    if agreement.fixed.challenge_duration < 1:
        raise InvalidValue("challenge duration 0: a dispute could not be answered")
    first, last = agreement.destinations
    if first == last or not (is_external(first) and is_external(last)):
        raise InvalidValue("first and last participant are paid at two different addresses, not into channels")
    if len(agreement.app_data) > APP_DATA_MAX:
        raise InvalidValue(f"app data of {len(agreement.app_data)} bytes; allowed are {APP_DATA_MAX}")
    if len(agreement.fees) != hubs:
        raise InvalidValue(f"{len(agreement.fees)} fees for {hubs} hubs")
    _check_assets(agreement)
    if agreement.kind == "payment":
        _check_payment(agreement)
    return channel


def _check_assets(agreement: Agreement) -> None:
    assets = agreement.assets
    if not 1 <= len(assets) <= ASSETS_MAX or len({each.asset for each in assets}) != len(assets):
        raise InvalidValue(f"{len(assets)} assets; allowed are 1 to {ASSETS_MAX} different ones")
    for each in assets:
        if not (is_amount(each.first) and is_amount(each.last) and each.total >= 1 and is_amount(each.total)):
            raise InvalidValue(
                f"{each.first} and {each.last} of asset 0x{each.asset.hex()}; together 1 to 2^256-1 are allowed"
            )
    if any(not is_amount(fee) for fee in agreement.fees) or not is_amount(assets[0].total + agreement.fee_in(0)):
        raise InvalidValue("fees and amounts come to more than 2^256-1, or a fee is negative")


def _check_payment(agreement: Agreement) -> None:
    if len(agreement.assets) != 1 or agreement.app_data:
        raise InvalidValue("a payment channel has one asset and no app data")
    if agreement.assets[0].last:
        # The contract wants the payee's amount to equal the voucher (docs/reference/nitro.md section 5).
        raise InvalidValue(f"the payee of a payment channel begins with 0, not with {agreement.assets[0].last}")


def nonce_at(now_ms: int, randomness: int) -> int:
    """A nonce that says when the channel was opened, so that a restored node refuses channels from before its restore:
    it may have signed their states. `randomness` is any number, of which 22 bits are used."""
    return (now_ms << _NONCE_RANDOM_BITS | randomness % (1 << _NONCE_RANDOM_BITS)) % (1 << 64)


def opened_ms(nonce: int) -> int:
    """When a channel was opened, by the clock of whoever made its nonce."""
    return nonce >> _NONCE_RANDOM_BITS


@lru_cache(maxsize=512)  # the same few go through every message and event of a channel
def pack_amounts(amounts: Amounts) -> bytes:
    """One blob, 64 bytes per asset."""
    return b"".join(to_wire_amount(amount) for pair in amounts for amount in pair)


@lru_cache(maxsize=512)
def unpack_amounts(data: bytes) -> Amounts:
    """Inverse of `pack_amounts`. Raises InvalidValue for a length that is no multiple of 64."""
    if len(data) % 64:
        raise InvalidValue(f"amounts of {len(data)} bytes; 64 per asset are expected")
    return tuple(
        (from_wire_amount(data[at : at + 32]), from_wire_amount(data[at + 32 : at + 64]))
        for at in range(0, len(data), 64)
    )


def to_event(agreement: Agreement) -> Agreed:
    """As it is stored."""
    fixed = agreement.fixed
    return Agreed(
        agreement.kind,
        fixed.participants,
        fixed.nonce,
        fixed.app_definition,
        fixed.challenge_duration,
        agreement.destinations,
        tuple((each.asset, pack_amounts(((each.first, each.last),))) for each in agreement.assets),
        agreement.app_data,
        b"".join(map(to_wire_amount, agreement.fees)),
    )


def from_event(agreed: Agreed) -> Agreement:
    """Inverse of `to_event`."""
    fees = tuple(from_wire_amount(agreed.fees[at : at + 32]) for at in range(0, len(agreed.fees), 32))
    return _agreement(agreed, fees)


def to_message(channel: ChannelId, agreement: Agreement, prefund: tuple[bytes, ...]) -> Proposed:
    """As it is proposed, with the signatures under the prefund state that are known."""
    agreed = to_event(agreement)
    return Proposed(
        channel,
        agreed.kind,
        agreed.participants,
        agreed.nonce,
        agreed.app_definition,
        agreed.challenge_duration,
        agreed.destinations,
        agreed.assets,
        agreed.app_data,
        tuple(map(to_wire_amount, agreement.fees)),
        prefund,
    )


def from_message(message: Proposed) -> Agreement:
    """What is proposed; nothing of it is checked."""
    return _agreement(message, tuple(map(from_wire_amount, message.fees)))


def _agreement(source: Agreed | Proposed, fees: tuple[int, ...]) -> Agreement:
    first, last = source.destinations
    return Agreement(
        source.kind,
        FixedPart(
            tuple(map(Address, source.participants)),
            source.nonce,
            Address(source.app_definition),
            source.challenge_duration,
        ),
        (Destination(first), Destination(last)),
        tuple(Asset(Address(asset), *unpack_amounts(amounts)[0]) for asset, amounts in source.assets),
        source.app_data,
        fees,
    )
