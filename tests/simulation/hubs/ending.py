"""How a life of nodes with ledgers ends: everything heals, all channels and ledgers end, everybody is paid out.

`life.py` plays what comes before, and uses the blocks and the waking here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels.books import wishes
from scapp.channels.books.engine import Books
from scapp.channels.books.info import LedgerInfo, VirtualInfo
from scapp.channels.ledger import asking
from scapp.channels.ledger.proposals import Expand, Retract, Transfer
from scapp.channels.ledger.updating import AGAIN
from scapp.channels.types import Address, ChannelId
from tests.simulation.hubs.checks import Checks
from tests.simulation.hubs.hostile import Mallory
from tests.simulation.hubs.locked import Paying
from tests.simulation.hubs.net import HubNet, HubNode
from tests.simulation.hubs.plan import HubPlan
from tests.support.checkers import Broken, require
from tests.support.plain_chain import account_of

AWAKE_S = 600
"""That long before a challenge ends everybody honest is there: what an exit presumes (docs/reference/simulation.md)."""


class Ending:
    """The second half of `life.HubLife`."""

    plan: HubPlan
    net: HubNet
    checks: Checks
    honest: list[HubNode]
    mallory: Mallory | None
    promised: dict[ChannelId, int]
    seen_by_payee: dict[ChannelId, int]
    overridden: bool
    paying: Paying
    died: bool = False  # somebody, of a fault, while all was to end

    def _look(self) -> None:
        """What the watch found may have been taken by a node for an error of its own."""
        if self.checks.broken is not None:
            raise self.checks.broken
        for node in self.honest:
            require(not node.count("books_bugs"), f"11: {node.name} has met a bug")
        if self.net.loop.faults:
            raise Broken(f"11: nobody took {self.net.loop.faults[0]!r}")

    # Chain

    async def _block(self, seconds: int, *, keep_out: bool = False) -> None:
        ends = self._ends_s()
        if ends and self.net.chain.chain.head.time_s + seconds > ends - AWAKE_S:
            await self._awake(ends)
            return
        self.net.mine(seconds, keep_out=keep_out)
        await self.net.pass_time(0.2)
        self._note()

    def _ends_s(self) -> int:
        """When the first challenge or lock ends that somebody honest has to answer; 0 without any."""
        ends = (self.net.challenge_ends_s(), self.checks.lock_ends_s(self.net.chain.chain.head.time_s))
        return min((end for end in ends if end), default=0)

    async def _awake(self, ends: int) -> None:
        """A challenge or a lock is about to end: everybody honest is there until it is over."""
        while (now_ends := self._ends_s()) and now_ends <= ends:
            for node in self.honest:
                await self._wake(node)
            self.net.network.heal()
            self.net.mine(60)
            await self.net.pass_time(2)
            self._note()
            self._look()
            ends = max(ends, now_ends)

    async def _wake(self, node: HubNode) -> None:
        node.crash_in = 0
        node.disk.slow_ms = 0
        if node.disk.failing and node.up:
            node.crash()
        node.disk.failing = ""
        await node.start()
        if node.up and node.service.blind:
            node.service.blind = False
            node.service.look()

    def _reorganise(self, depth: int) -> None:
        chain = self.net.chain.chain
        depth = min(depth, len(chain.blocks) - 1)
        ends = self._ends_s()
        if depth < 1 or (ends and ends - chain.head.time_s < AWAKE_S):
            return
        world = chain.blocks[-depth - 1].world
        near = [world.status_of(channel).finalizes_at for channel in world.status]
        if any(end and abs(end - chain.head.time_s) < AWAKE_S for end in near):
            return
        chain.reorganise(depth, drop=self.net.random.random() < 0.5)
        self.net.saw("hubs: the chain was reorganised")
        self.net.look()

    def _note(self) -> None:
        names = {type(log.event).__name__ for block in self.net.chain.chain.blocks[-2:] for log in block.logs}
        if "Reclaimed" in names:
            self.net.saw("hubs: a guarantee was reclaimed on chain")
        for node in self.honest:
            books = self._engine(node)
            if books is None:
                continue
            for record in books.state.virtuals.values():
                if record.disputed:
                    self.net.saw("hubs: a channel was disputed")
                if record.on_chain is not None and record.agreement.kind == "payment" and record.on_chain[0][1]:
                    self.net.saw("hubs: a voucher was redeemed on chain")

    @staticmethod
    def _engine(node: HubNode) -> Books | None:
        return node.books._open_books() if node.up else None

    # The end

    async def _heal(self) -> None:
        """Everybody is there and sees everything; what was asked for has been answered."""
        net = self.net
        if self.mallory is not None:
            self.mallory.repent()
        net.network.drops = net.network.duplicate_rate = 0.0
        net.network.delay_ms = 0
        net.network.heal()
        for node in net.nodes:
            node.clock_offset_ms = self.plan.skew_ms if node is net.nodes[-1] else 0
            await self._wake(node)
        for node in net.nodes:
            require(node.up, f"11: {node.name} does not start: {node.fault}")
        for _ in range(12):
            await net.pass_time(12)
            await self._block(12)
            self._look()
        await self._revive()
        await self._override()
        for node in self.honest:
            self._conditions(node)

    async def _override(self) -> None:
        """Restored nodes that wait for each other say that only their operators can help; then the operators do."""
        for node in self.honest:
            if not node.restores:
                continue
            for ledger in node.books.ledgers():
                if "scapp ledger recover" in ledger.waiting_for:
                    self.overridden = True
                    await node.books.recover_ledger(ledger.channel_id)
                if AGAIN in ledger.waiting_for and not self._is_mallory(ledger.peer):
                    self.overridden = True
                    await self._request_again(node, ledger.channel_id)
            for channel in node.books.virtuals():
                if "scapp ledger recover" in channel.waiting_for:
                    self.overridden = True
                    self.net.spawn(node.books.recover_ledger(ChannelId(bytes.fromhex(_named(channel.waiting_for)))))
                if "scapp payments recover" in channel.waiting_for:
                    self.overridden = True
                    await node.books.recover_payments(channel.channel_id)
            for app in node.process.channels():
                if "scapp channel recover" in app.waiting_for:
                    self.overridden = True
                    await node.process.recover(app.channel_id)
        if self.overridden:
            self.net.saw("hubs: an operator ended a recovery")
            for _ in range(8):
                await self.net.pass_time(12)
                await self._block(12)

    async def _request_again(self, node: HubNode, channel: ChannelId) -> None:
        """What an honest leader proposes was requested, though a restored follower has forgotten it."""
        books = node.books._open_books()
        head = asking.forgotten(wishes.ledger_of(books, channel), books.session(channel))
        match head.proposal if head is not None else None:
            case Transfer(asset, amount):
                await node.books.transfer(channel, asset, amount)
            case Expand(asset, amount):
                await node.books.top_up(channel, asset, amount)
            case Retract(asset):
                await node.books.cancel_top_up(channel, asset)

    def _conditions(self, node: HubNode) -> None:
        books = self._engine(node)
        if books is None:
            return
        if node.count("messages_refused") and self.mallory is not None:
            self.net.saw("hubs: an honest node refused a peer's message")
        phases = {each.phase for each in node.books.virtuals()}
        if "failed" in phases:
            self.net.saw("hubs: a channel was not funded")
        for record in books.state.virtuals.values():
            if record.is_hub and record.agreement.kind == "app" and record.funded:
                self.net.saw("hubs: an app channel ran over a hub")

    async def _end(self) -> None:
        """All channels and ledgers end: with everybody's help among honest nodes, on chain where Mallory is in it."""
        await self._revive()
        await self._end_channels()
        for _ in range(2):  # again where a node died before it had stored that it was asked
            for node in self.honest:
                for ledger in node.books.ledgers():
                    if ledger.phase == "disputed":
                        self.net.saw("hubs: a ledger was disputed")
                    if ledger.phase in ("running", "funding", "opening"):
                        self.net.spawn(self._close(node, ledger))
            await self._until(self._settled, blocks=20)
            if not self.died:
                break
        for node in self.honest:
            for ledger in node.books.ledgers():
                # A backup may not know the whole ledger; Mallory signs no end of one that was being closed before.
                alone = bool(self.plan.restored) or self._is_mallory(ledger.peer)
                if alone and ledger.phase in ("closing", "funding", "opening"):
                    self.net.spawn(node.books.challenge_ledger(ledger.channel_id))
        await self._until(self._settled, blocks=60)
        if len(self.plan.restored) > 1 and self._forgotten_by_both():
            self.net.saw("hubs: two backups in a row forgot a channel")
            return
        self._settled_or_raise()
        self._verdict()

    def _forgotten_by_both(self) -> bool:
        """A guarantee whose channel neither party knows any more stays where it is, and both say so."""
        texts = [each.waiting_for for node in self.honest for each in node.books.ledgers()]
        return sum("no backup of this node knows" in text for text in texts) > 1

    async def _end_channels(self) -> None:
        for attempt in range(3):
            for node in self.honest:
                for channel in self._open_channels(node):
                    hostile = self.mallory is not None and self.mallory.node.address in channel.participants
                    party = channel.kind == "app" and channel.role == "party"
                    if hostile or (attempt and party and self._app_is_lost(channel)):
                        self.net.spawn(node.books.challenge_virtual(channel.channel_id))
                    else:
                        self.net.spawn(self._end_channel(node, channel))
            await self._until(self._no_channels, blocks=16 if self.plan.locks else 8)
        if self.mallory is None and not self.overridden:
            left = [(n.name, c.phase, c.waiting_for) for n in self.honest for c in self._open_channels(n)]
            disputed = any(each.phase == "disputed" for n in self.honest for each in n.books.ledgers())
            require(disputed or not left, f"channels do not end: {left}")

    def _app_is_lost(self, channel: VirtualInfo) -> bool:
        """Does a party's log not hold it any more? Then the other one ends it on chain, as that one's node says."""
        ends = [self.net.by_address[channel.participants[at]] for at in (0, -1)]
        waiting = [
            each.waiting_for for node in ends for each in node.books.virtuals() if each.channel_id == channel.channel_id
        ]
        return any("does not hold its app channel" in text for text in waiting)

    async def _end_channel(self, node: HubNode, channel: VirtualInfo) -> None:
        if channel.kind == "app" and channel.role == "party":
            await node.process.close_channel(channel.channel_id)
        else:
            await node.books.close_virtual(channel.channel_id)

    def _is_mallory(self, peer: Address) -> bool:
        return self.mallory is not None and peer == self.mallory.node.address

    async def _close(self, node: HubNode, ledger: LedgerInfo) -> None:
        if self._is_mallory(ledger.peer) or self._open_channels(node):
            await node.books.challenge_ledger(ledger.channel_id)
        else:
            await node.books.close_ledger(ledger.channel_id)

    async def _until(self, happened: Callable[[], bool], *, blocks: int) -> None:
        for _ in range(blocks):
            if happened():
                return
            await self.net.pass_time(6)
            await self._block(120)
            await self._revive()
            self._look()

    async def _revive(self) -> None:
        """Whoever has died of a fault at the end is started again."""
        for node in self.honest:
            if not node.up:
                self.died = True
                await node.start()

    def _no_channels(self) -> bool:
        return not any(self._open_channels(node) for node in self.honest)

    def _open_channels(self, node: HubNode) -> list[VirtualInfo]:
        """Those that are not over: one that is being given up is not either."""
        books = self._engine(node)
        assert books is not None
        return [each for each in node.books.virtuals() if not books.state.virtuals[each.channel_id].over]

    def _settled(self) -> bool:
        return all(_is_over(each) for node in self.honest for each in node.books.ledgers())

    def _settled_or_raise(self) -> None:
        left = [
            (node.name, each.phase, each.waiting_for, each.reason)
            for node in self.honest
            for each in node.books.ledgers()
            if not _is_over(each)
        ]
        require(not left, f"ledgers do not end: {left}")

    def _verdict(self) -> None:
        """Everybody has what it is owed, and nothing is left."""
        net = self.net
        world = net.chain.chain.world
        gains = {node.index: self._gain(node) for node in net.nodes}
        for node in self.honest:
            self.checks.logs(node)
            owed = self.checks.owed(node)
            lost = bool(node.restores) and self.overridden
            require(lost or gains[node.index] >= owed, f"7: {node.name} has gained {gains[node.index]}, {owed} is due")
            for info in node.books.virtuals():
                if info.phase == "released":
                    net.saw("hubs: a channel was released")
            for ledger in node.books.ledgers():
                if ledger.phase == "settled":
                    net.saw("hubs: a ledger was closed")
        if self.mallory is None:
            held = sum(world.holdings.values())
            require(not held, f"7: {held} is left in the contracts")
            require(sum(gains.values()) == 0, f"7: {gains} was gained")
            if not self.overridden:
                self._promises()
        if not self.overridden:
            self.paying.verdict(self.honest, {index: kept.locks for index, kept in self.checks.of.items()})

    def _gain(self, node: HubNode) -> int:
        """Paid out to its channel address, less all that its account has brought."""
        return self.net.chain.chain.world.balances.get(node.address, 0) + self.net.chain.gain(account_of(node.address))

    def _promises(self) -> None:
        """A payment that was told as made is made: if the payee saw it, always; else unless the payer lost its disk, or
        the payee was leaving and has refused it."""
        for channel, total in self.seen_by_payee.items():
            require(self._paid(channel) >= total, f"1: {total} was paid and seen, {self._paid(channel)} came of it")
        for channel, total in self.promised.items():
            payer = self.net.by_address[self._record(channel).agreement.participants[0]]
            if not payer.restores and not self._payee_left(channel):
                require(self._paid(channel) >= total, f"1: {total} was paid, {self._paid(channel)} came of it")

    def _payee_left(self, channel: ChannelId) -> bool:
        """Has the payee itself taken the channel, or its ledger, to the chain?"""
        payee = self.net.by_address[self._record(channel).agreement.participants[-1]]
        kept = self.checks.of[payee.index]
        record = kept.virtuals[channel]
        ledgers = (kept.books.ledgers.get(ChannelId(side.ledger)) for _, side in record.sides)
        return bool(record.exit_reason) or any(each is not None and each.exit_reason for each in ledgers)

    def _record(self, channel: ChannelId) -> Any:
        return next(kept.virtuals[channel] for kept in self.checks.of.values() if channel in kept.virtuals)

    def _paid(self, channel: ChannelId) -> int:
        """What the payee has got for it in the end."""
        record = self._record(channel)
        payee = self.net.by_address[record.agreement.participants[-1]]
        now = self.checks.of[payee.index].virtuals[channel]
        if now.on_chain is not None:
            return int(now.on_chain[0][1])
        return int(now.ended.amounts[0][1]) if now.ended is not None else 0


def _is_over(ledger: LedgerInfo) -> bool:
    return ledger.phase in ("settled", "rejected")


def _named(hint: str) -> str:
    """The ledger that a hint for an operator is about."""
    return hint.partition("recover 0x")[2].partition(" ")[0]
