"""What stands behind a virtual app channel, as its engine hears it from the node's ledgers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId

HUBS_MAX = 8
ASSETS_MAX = 16
Stage = Literal["none", "guaranteed", "complete", "releasing", "released", "failed", "disputed"]


class Backing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`guaranteed`: this node's own ledger holds the guarantee. `complete`: everybody, hubs included, has signed the
    postfund state. `releasing`: the final state goes round. `released`: the guarantee is gone again, settled in the
    ledgers. `failed`: it will never be funded; `detail` says why. `disputed`: it is being settled on chain.

    `settled` is, once it is released by way of the chain, the state that the chain has finalized.

    `signatures` holds (turn, one signature per participant of the fixed part, empty where unknown) of the prefund,
    postfund and final state."""

    stage: Stage
    detail: str = ""
    signatures: tuple[tuple[int, tuple[bytes, ...]], ...] = ()
    settled: SignedState | None = None


class VirtualTerms(msgspec.Struct, frozen=True, gc=False):
    """A virtual channel as its two app parties agreed on it. `participants` are all of the fixed part, hubs between the
    first and the last; `slots` are (asset, destination, amount), the first participant's and the last one's."""

    channel: ChannelId
    participants: tuple[Address, ...]
    fees: tuple[int, ...]  # one per hub, of the first asset
    slots: tuple[tuple[bytes, bytes, int], ...]


class BackingSource(Protocol):
    """The node's ledgers, as its virtual app channels use them. Every method returns at once, may be called again with
    the same at any time (a restarted node does), and its answer is what `on_backing` hears.

    A state counts as the app parties' once both have signed it: its `signatures` have one item per participant, the
    hubs' empty where they are not known here."""

    @property
    def app_definition(self) -> Address:
        """The TwoPartyApp of the chain on which the ledgers stand."""
        ...

    def start(self, on_backing: Callable[[ChannelId, Backing], None]) -> None:
        """From here on `on_backing` hears of every change, and of what stands now for each channel that is opened."""
        ...

    def fault(self, terms: VirtualTerms) -> str:
        """Why this node's ledgers cannot back such a channel, or an empty string. It promises nothing."""
        ...

    def open(self, terms: VirtualTerms, states: tuple[SignedState, ...]) -> None:
        """Fund the channel; the first of `states` is its prefund state."""
        ...

    def offer(self, channel: ChannelId, states: tuple[SignedState, ...]) -> None:
        """What both app parties have signed of turns 0 and 1 and of the final state. With a final state the channel is
        to be defunded."""
        ...

    def give_up(self, channel: ChannelId, reason: str) -> None:
        """This node has signed nothing above turn 1 and never will: the channel may end with what it began with."""
        ...

    def dispute(self, channel: ChannelId, reason: str) -> None:
        """This node leaves the channel without the others; `NodeService.enforceable_stack` has its newest state."""
        ...
