"""What the chain shows of a ledger and of a virtual channel, as facts of the books; checked before they are stored.

Both records keep the newest of them in a field `chain`. A view comes from outside and the candidate in it from a
stranger: nothing of it is believed beyond what its fingerprint proves. `seen_ledger` and `seen_virtual` make the
facts, `settling.py` of both packages reads them.
"""

from __future__ import annotations

import msgspec

from scapp.channels.adjudicator_status import Mode, Status
from scapp.channels.reading import SignedState


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The channel in one block, as `onchain.ChannelOnChain` says it. `holdings` are 32 bytes each, one per asset, none
    for a virtual channel.

    `registered` is the state whose fingerprint the status has, or that a checkpoint recorded, with the channel's fixed
    part put in and signatures in the participants' order, empty where missing; `proof` are the states that it was
    shown with. None where the status tells of no state or that state is not known."""

    block: int
    block_hash: bytes
    holdings: tuple[bytes, ...]
    status: Status
    registered: SignedState | None = None
    proof: tuple[SignedState, ...] = ()


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What ledger and virtual channel have in common. Good news counts from `confirmed`, bad news from `latest`."""

    latest: Shown
    confirmed: Shown
    time_s: int  # the newest block's timestamp when the fact was stored

    @property
    def disputed(self) -> bool:
        """Does a challenge stand or is the channel finalized, or is the end of that not confirmed?"""
        now = self.latest.status
        return now.finalizes_at != 0 or now != self.confirmed.status

    def finalized(self, head_time_s: int) -> bool:
        """Does the newest block have it finalized?"""
        return self.latest.status.mode(head_time_s) is Mode.FINALIZED

    def finalized_for_good(self, head_time_s: int) -> bool:
        """Is that confirmed as well, with the same outcome?"""
        same = self.latest.status == self.confirmed.status
        return same and self.confirmed.status.mode(head_time_s) is Mode.FINALIZED


class LedgerSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:chain.1"):
    """The chain shows the ledger so; stored when anything but the block has changed.

    `ended` is what was concluded from this view and those before: the ledger was finalized, or its money paid out.
    `held` is what it held before that, in the form of `holdings`."""

    channel: bytes
    seen: Seen
    ended: bool
    held: tuple[bytes, ...]

    @property
    def disputed(self) -> bool:
        """No update is signed meanwhile (`Seen.disputed`), nor after the end."""
        return self.ended or self.seen.disputed

    @property
    def settled(self) -> bool:
        """Is everything paid out that can be, for good?"""
        latest, confirmed = self.seen.latest, self.seen.confirmed
        if not self.ended or latest.status != confirmed.status or latest.holdings != confirmed.holdings:
            return False
        return not latest.status.finalizes_at or not any(map(any, latest.holdings))


class VirtualSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:chain.1"):
    """The chain shows the virtual channel so; stored when anything but the block has changed."""

    channel: bytes
    seen: Seen

    @property
    def disputed(self) -> bool:
        """Is it being settled on chain: from here on by `virtual.settling` only?"""
        return self.seen.disputed


class LedgerExitStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:exit.1"):
    """This node leaves the ledger by a challenge: from here on it signs nothing but a final state."""

    channel: bytes
    reason: str
