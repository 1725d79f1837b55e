"""What the chain shows of a ledger, as stored facts, in the shape of an app channel's (`channel/events.py`)."""

from __future__ import annotations

import msgspec

from scapp.channels.adjudicator_status import Status
from scapp.channels.reading import SignedState


class LedgerInBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ledger in one block, as `onchain.ChannelOnChain` says it; `holdings` are 32 bytes each, in the order of the
    ledger's assets."""

    block: int
    block_hash: bytes
    holdings: tuple[bytes, ...]
    status: Status
    registered: SignedState | None = None


class LedgerChainSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:chain.1"):
    """The chain shows the ledger so; stored when anything but the block has changed. `time_s` is the newest block's
    timestamp. `ended` is what was concluded from this view and those before: the ledger was finalized there, or its
    money paid out. `held` is what it held before that, in the form of `holdings`."""

    channel: bytes
    latest: LedgerInBlock
    confirmed: LedgerInBlock
    time_s: int
    ended: bool
    held: tuple[bytes, ...]

    @property
    def disputed(self) -> bool:
        """Does a challenge stand or is the ledger finalized, or is the end of that not confirmed?"""
        now = self.latest.status
        return now.finalizes_at != 0 or now != self.confirmed.status

    @property
    def settled(self) -> bool:
        """Is everything paid out that can be, for good?"""
        latest, confirmed = self.latest, self.confirmed
        if not self.ended or latest.status != confirmed.status or latest.holdings != confirmed.holdings:
            return False
        return not latest.status.finalizes_at or not any(map(any, latest.holdings))


class LedgerExitStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:exit.1"):
    """This node leaves the ledger by a challenge: from here on it signs nothing but a final state."""

    channel: bytes
    reason: str
