"""What the chain shows of a ledger and of a virtual channel, as facts of the books; checked before they are stored.

Both records keep the newest of them in a field `chain`. `chain_view.py` of both packages makes them out of views, and
`settling.py` of both reads them.
"""

from __future__ import annotations

import msgspec

from scapp.channels.adjudicator_status import Mode, Status
from scapp.channels.reading import SignedState


class Enforceable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A state that the channel's app supports with its proof: what a challenge or checkpoint takes."""

    candidate: SignedState
    proof: tuple[SignedState, ...] = ()

    @property
    def turn(self) -> int:
        return self.candidate.turn


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The channel in one block, as `onchain.ChannelOnChain` says it. `holdings` are 32 bytes each, one per asset, none
    for a virtual channel.

    `registered` is the state that was challenged or checkpointed with, as its signatures or its fingerprint prove, with
    the channel's fixed part put in and the participants' signatures in their order, empty where missing. None where
    the status tells of no state or that state is not known."""

    block: int
    block_hash: bytes
    holdings: tuple[bytes, ...]
    status: Status
    registered: Enforceable | None = None


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
    `held` is what it held before that, in the form of `holdings`; in a ledger that goes on also what this node does not
    deposit again (`ended.given_up`). `owed` is the outcome of a finalized ledger in the
    newest block, with the hash of the state behind it (zero after a conclusion); None while it is not known."""

    channel: bytes
    seen: Seen
    ended: bool
    held: tuple[bytes, ...]
    owed: tuple[bytes, bytes] | None = None  # state hash, abi.encode(Exit[])

    @property
    def latest(self) -> Shown:
        return self.seen.latest

    @property
    def confirmed(self) -> Shown:
        return self.seen.confirmed

    @property
    def disputed(self) -> bool:
        """No update is signed meanwhile (`Seen.disputed`), nor after the end."""
        return self.ended or self.seen.disputed

    @property
    def settled(self) -> bool:
        """Is everything paid out that can be, for good?"""
        if not self.ended:
            return False
        latest, confirmed = self.seen.latest, self.seen.confirmed
        if latest.status != confirmed.status or latest.holdings != confirmed.holdings:
            return False
        return not latest.status.finalizes_at or not any(map(any, latest.holdings))


class VirtualSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:chain.1"):
    """The chain shows the virtual channel so; stored when anything but the block has changed.

    `newest` is the newest state that anybody has ever shown there, which anybody can show again."""

    channel: bytes
    seen: Seen
    newest: Enforceable | None = None

    @property
    def disputed(self) -> bool:
        """Is it being settled on chain: from here on by `virtual.settling` only?"""
        return self.seen.disputed


class VirtualExitStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:exit.1"):
    """This node wants the virtual channel settled on chain, whatever its ledgers do: a voucher is to be redeemed, or
    the others do not answer. No payment is made or taken in it any more."""

    channel: bytes
    reason: str


class LedgerExitStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:exit.1"):
    """This node leaves the ledger by a challenge: from here on it signs nothing but a final state."""

    channel: bytes
    reason: str
