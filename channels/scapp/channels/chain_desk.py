"""What a node's chain service tells and is told, sorted by channel: views that were not taken yet, wants that stand.

`chain_link.py` uses it for app channels, `books/link.py` for ledgers and the channels that they fund. Nothing is kept
here that a restart would miss: channels are watched again, their views read again, their wants computed again
(ADR 0044).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from scapp.channels.chain.client import Unavailable
from scapp.channels.chain.port import REVEAL_GAS, ChainService
from scapp.channels.errors import LocalError
from scapp.channels.onchain import ChainView, Protection, Revealed, Transaction
from scapp.channels.types import Address, ChannelId

ANSWER_S = 3.0
"""So long somebody who asks for something waits for what the chain says of it."""
UNDER_WAY = frozenset(("waiting", "pending", "included"))


class ChainDesk:
    """Belongs to the node's event loop. `on_head` hears of each new block's timestamp."""

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain
        self._shows: dict[ChannelId, Callable[[], None]] = {}
        self._wants: dict[ChannelId, tuple[Transaction, ...]] = {}
        self._views: dict[ChannelId, ChainView] = {}  # newest one that its channel has not taken yet
        self._unanswered: set[ChannelId] = set()  # channels that have taken a view since their last wants
        self.on_head: list[Callable[[int], None]] = []

    @property
    def head_time_s(self) -> int:
        """Timestamp of the chain's newest block, 0 until it is known."""
        return self._chain.head_time_s or 0

    @property
    def followed_ms(self) -> int | None:
        """When the newest look at the chain of which everything was told began; None before."""
        return self._chain.followed_ms

    @property
    def chain_id(self) -> int:
        return self._chain.chain_id

    @property
    def adjudicator(self) -> Address:
        return self._chain.adjudicator

    @property
    def consensus_app(self) -> Address:
        """The app of channels in which everybody signs everything."""
        return self._chain.consensus_app

    @property
    def confirming_s(self) -> int | None:
        """See `ChainService.confirming_s`."""
        return self._chain.confirming_s

    @property
    def reveal_cost(self) -> int:
        """What it costs now to reveal one preimage on chain, in wei; 0 until that is known."""
        return REVEAL_GAS * self._chain.gas_price

    @property
    def protection(self) -> Protection | None:
        """See `ChainService.protection`."""
        return self._chain.protection

    async def start(self) -> None:
        """Raises LocalError for a wrong chain."""
        await self._chain.start(self._on_view, self._head)

    async def stop(self) -> None:
        await self._chain.stop()

    async def funds(self, asset: Address) -> int | None:
        """What the account has of an asset; None when the chain does not tell soon. Raises LocalError for what is no
        token."""
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                return await self._chain.funds(asset)
        return None

    def watch(
        self,
        channel: ChannelId,
        assets: Sequence[Address],
        since_block: int,
        show: Callable[[], None],
        fed_by: ChannelId | None = None,
    ) -> None:
        """Follow a channel, as `ChainService.watch` does; `show` is called when there is a view to take, until it is
        taken."""
        if channel not in self._shows:
            self._shows[channel] = show
            self._chain.watch(channel, assets, since_block, fed_by)

    def forget(self, channel: ChannelId) -> None:
        """The channel needs the chain no longer."""
        if self._shows.pop(channel, None) is not None:
            self._wants.pop(channel, None)
            self._views.pop(channel, None)
            self._unanswered.discard(channel)
            self._chain.want(channel, ())
            self._chain.unwatch(channel)

    def view(self, channel: ChannelId) -> ChainView | None:
        """The newest one that was not taken yet."""
        return self._views.get(channel)

    def taken(self, channel: ChannelId) -> None:
        """The channel has decided on its newest view: its next wants answer it."""
        del self._views[channel]
        self._unanswered.add(channel)

    def want(self, channel: ChannelId, wants: tuple[Transaction, ...]) -> None:
        """All that a channel wants done now; those that do not know the newest view are no answer to it."""
        if channel in self._views or channel not in self._shows:
            return
        if channel in self._unanswered or wants != self._wants.get(channel):
            self._unanswered.discard(channel)
            self._wants[channel] = wants
            self._chain.want(channel, wants)

    async def is_depositing(self, channel: ChannelId, asset: Address) -> bool:
        """Was a deposit of that asset signed that is in no block yet? To be asked once it is wanted no longer. Raises
        LocalError when nobody knows."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._chain.quiet()
        except TimeoutError:
            raise LocalError(
                f"the chain has not answered for {ANSWER_S:g} s, so nobody knows whether the deposit was sent; nothing "
                "has changed, try again once `scapp chain status` shows no fault"
            ) from None
        found = self._chain.transactions(channel)
        return any(
            each.status == "pending" and each.purpose.kind == "deposit" and each.purpose.subject == asset
            for each in found
        )

    def is_under_way(self, channel: ChannelId) -> bool:
        """A deposit that was sent before the channel ended may still arrive."""
        return any(info.status in UNDER_WAY for info in self._chain.transactions(channel))

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        """See `ChainService`."""
        return await self._chain.revealed(hashes)

    def _on_view(self, channel: ChannelId, view: ChainView) -> None:
        self._views[channel] = view
        show = self._shows.get(channel)
        if show is not None:
            show()

    def _head(self, head_time_s: int) -> None:
        for channel, show in list(self._shows.items()):
            if channel in self._views:  # an inbox was full
                show()
        for listener in self.on_head:
            listener(head_time_s)
