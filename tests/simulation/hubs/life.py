"""One life of nodes with ledgers between them, played from its plan: faults and hostile words, then everything heals,
all channels and ledgers end, and everybody must have been paid what it is owed.

`net.py` has the nodes, `checks.py` what must hold at every step, `hostile.py` what Mallory does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels import node as node_module
from scapp.channels.books.engine import Books
from scapp.channels.books.info import LedgerInfo, LedgerRequest, PaymentChannelRequest, VirtualInfo
from scapp.channels.errors import ScappError
from scapp.channels.service import OpenRequest
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.simulation.hubs.checks import Checks
from tests.simulation.hubs.hostile import Mallory
from tests.simulation.hubs.net import CHALLENGE_S, NAMES, HubNet, HubNode
from tests.simulation.hubs.plan import HubPlan, draw_hub_plan
from tests.simulation.plan import Act
from tests.support.checkers import Broken, require
from tests.support.disk import SimDisk
from tests.support.node_cast import DEPLOYMENT, START_MS
from tests.support.virtual_loop import VirtualLoop, run

FUNDS = 1_000
TICK_S = 5.0
AWAKE_S = 600
"""That long before a challenge ends everybody honest is there: what an exit presumes (docs/reference/simulation.md)."""
OVER = frozenset(("released", "rejected", "failed"))


class HubLife:
    """`told` hears of each act before it happens."""

    def __init__(self, plan: HubPlan, told: Callable[[Act], None] | None = None) -> None:
        self.plan = plan
        self.told = told
        self.watched: Callable[[HubNet], Checks] = Checks
        self.net: HubNet
        self.seconds = 0.0
        self.messages = 0

    def play(self) -> set[str]:
        """The conditions reached. Raises AssertionError when it was not safe, or did not recover."""
        before, node_module.TICK_SECONDS = node_module.TICK_SECONDS, TICK_S
        try:
            return run(self._play)
        finally:
            node_module.TICK_SECONDS = before

    async def _play(self, loop: VirtualLoop) -> set[str]:
        plan = self.plan
        self.net = net = HubNet(loop, plan.count, plan.seed, self.watched)
        assert isinstance(net.watch, Checks)
        self.checks = net.watch
        self.honest = [node for node in net.nodes if node.index != plan.hostile]
        self.backups: dict[int, SimDisk] = {}
        self.promised: dict[ChannelId, int] = {}
        self.seen_by_payee: dict[ChannelId, int] = {}
        self.overridden = False
        self.mallory: Mallory | None = None
        if plan.hostile >= 0:
            self.checks.hostile = plan.hostile
            self.mallory = Mallory(net, net.nodes[plan.hostile], self.checks)
        try:
            await self._live()
        finally:
            self.seconds = (net.now_ms - START_MS) / 1_000
            self.messages = net.messages
        return net.seen

    async def _live(self) -> None:
        net, plan = self.net, self.plan
        net.nodes[-1].clock_offset_ms = plan.skew_ms
        if not plan.calm:
            self._weather()
        for node in net.nodes:
            await node.start()
        await self._open_ledgers()
        self._weather()
        for act in plan.acts:
            if self.told is not None:
                self.told(act)
            net.random.seed(act.draw)
            await self._act(net.nodes[act.node], act)
            await net.pass_time(net.random.choice([0, 0, 0.05, 0.5]))
            self._look()
        net.random.seed(plan.seed)
        await self._heal()
        await self._end()

    def _weather(self) -> None:
        network = self.net.network
        network.drops, network.duplicate_rate = self.plan.drops, self.plan.duplicate
        network.delay_ms = self.plan.delay_ms

    def _look(self) -> None:
        """What the watch found may have been taken by a node for an error of its own."""
        if self.checks.broken is not None:
            raise self.checks.broken
        for node in self.honest:
            require(not node.count("books_bugs"), f"11: {node.name} has met a bug")
        if self.net.loop.faults:
            raise Broken(f"11: nobody took {self.net.loop.faults[0]!r}")

    # Beginning

    async def _open_ledgers(self) -> None:
        for left, right in zip(self.net.nodes, self.net.nodes[1:], strict=False):
            leads = self.plan.leads[left.index]
            leader, follower = (left, right) if leads else (right, left)
            self.net.spawn(leader.books.open_ledger(self._ledger_request(follower)))
        for _ in range(12):
            await self.net.pass_time(0.5)
            self.net.mine()

    @staticmethod
    def _ledger_request(peer: HubNode) -> LedgerRequest:
        return LedgerRequest(
            peer=peer.address, funds=((ZERO_ADDRESS, FUNDS, FUNDS),), challenge_duration_s=CHALLENGE_S
        )

    # Acts

    async def _act(self, node: HubNode, act: Act) -> None:
        draw, net = self.net.random, self.net
        match act.kind:
            case "wait":
                await net.pass_time(act.number)
            case "block":
                await self._block(12, keep_out=act.number == 0)
            case "later":
                await self._block(act.number * 20)
            case "reorganisation":
                self._reorganise(1 + act.number % 2)
            case "blind":
                if node.up:
                    node.service.blind = not node.service.blind
                    node.service.look()
            case "crash soon":
                node.crash_in, node.crash_where = act.number, draw.choice(["before", "after"])
            case "crash or start":
                if node.up:
                    node.crash()
                else:
                    await node.start()
            case "stop":
                await node.stop()
                await node.start()
            case "part":
                others = [each.address for each in net.nodes if each is not node]
                net.network.partition([node.address], others)
            case "well":  # a good moment: everybody is there and hears everybody
                net.network.heal()
                for each in net.nodes:
                    await self._wake(each)
                await net.pass_time(5)
            case "reset":
                other = net.nodes[(node.index + 1) % len(net.nodes)]
                net.network.drop_link(node.address, other.address)
            case "slow disk":
                node.disk.slow_ms = 0 if node.disk.slow_ms else 3_000
            case "disk full" | "sync fails":
                node.disk.failing = "full" if act.kind == "disk full" else "sync"
                net.saw("hubs: a disk was full")
            case "clock":
                node.clock_offset_ms += draw.choice([-90_000, -5_000, 5_000, 90_000])
            case "backup":
                if self.plan.restored:
                    chosen = net.nodes[self.plan.restored[act.number % len(self.plan.restored)]]
                    self.backups[chosen.index] = chosen.disk.copy()
            case "restore":
                await self._restore(act.number)
            case "mallory":
                assert self.mallory is not None
                await self.mallory.act(act)
            case _:
                up = [each for each in net.nodes[act.node :] + net.nodes[: act.node] if each.up]
                for each in up if act.kind in ("pay", "end", "say") else up[:1]:
                    if self._ask(each, act):
                        break

    def _ask(self, node: HubNode, act: Act) -> bool:
        """Something that the node's owner wants; False when there is nothing to want it of."""
        draw, books = self.net.random, node.books
        mine = [each for each in books.virtuals() if each.phase not in OVER]
        running = [each for each in books.ledgers() if each.phase == "running"]
        match act.kind:
            case "open" | "app":
                path = self._path(node)
                if path:
                    self.net.spawn(self._open(path, act.number, app=act.kind == "app"))
            case "open routed":
                self.net.spawn(self._open_routed(node, act.number))
            case "pay":
                payable = [each for each in mine if each.role == "payer" and each.phase == "running"]
                if not payable:
                    return False
                for _ in range(act.number):
                    self.net.spawn(self._pay(node, draw.choice(payable)))
            case "end" if mine:
                self.net.spawn(self._end_channel(node, draw.choice(mine)))
            case "say":
                return self._say(node)
            case "transfer" if running:
                self.net.spawn(books.transfer(draw.choice(running).channel_id, ZERO_ADDRESS, act.number))
            case "top up" if running:
                self.net.spawn(books.top_up(draw.choice(running).channel_id, ZERO_ADDRESS, act.number))
            case "close" if running and draw.random() < 0.3:
                self.net.spawn(books.close_ledger(draw.choice(running).channel_id))
            case "leave" if draw.random() < 0.3 and (mine or running):
                if mine and draw.random() < 0.5:
                    self.net.spawn(books.challenge_virtual(draw.choice(mine).channel_id))
                elif running:
                    self.net.spawn(books.challenge_ledger(draw.choice(running).channel_id))
            case _:
                return False
        return True

    def _path(self, node: HubNode) -> list[HubNode]:
        """From the node to another one, over those between."""
        others = [each for each in self.net.nodes if each is not node]
        end = self.net.random.choice(others)
        step = 1 if end.index > node.index else -1
        return [self.net.nodes[index] for index in range(node.index, end.index + step, step)]

    async def _open(self, path: list[HubNode], amount: int, *, app: bool) -> None:
        first, *hubs, last = path
        via = tuple(each.address for each in hubs)
        fees = tuple(self.net.random.randrange(3) for _ in hubs)
        if not app:
            request = PaymentChannelRequest(
                payee=last.address, amount=amount, via=via, fees=fees, challenge_duration_s=CHALLENGE_S
            )
            await first.books.open_payments(request)
            return
        assert first.node is not None
        slots = tuple((bytes(ZERO_ADDRESS), bytes(12) + each.address, amount) for each in (first, last))
        request_app = OpenRequest(
            peers=(last.address,), deployment=DEPLOYMENT, slots=slots, challenge_duration=CHALLENGE_S, fund="virtual",
            via=via, fees=fees,
        )  # fmt: skip
        await first.node.open_channel(request_app)

    async def _open_routed(self, node: HubNode, amount: int) -> None:
        others = [each for each in self.net.nodes if abs(each.index - node.index) > 1]
        if not others:
            return
        request = PaymentChannelRequest(
            payee=self.net.random.choice(others).address, amount=amount, challenge_duration_s=CHALLENGE_S
        )
        await node.books.open_payments_routed(request, 50, 30)
        self.net.saw("hubs: a payment channel found its route itself")

    async def _pay(self, node: HubNode, channel: VirtualInfo) -> None:
        amount = self.net.random.randint(1, max(1, channel.assets[0].first // 3))
        wait_s = self.net.random.choice([0, 0, 2])
        receipt = await node.books.pay(channel.channel_id, amount, wait_s)
        self.promised[channel.channel_id] = max(self.promised.get(channel.channel_id, 0), receipt.paid)
        if receipt.seen:
            self.seen_by_payee[channel.channel_id] = max(self.seen_by_payee.get(channel.channel_id, 0), receipt.paid)
        hubs = len(channel.participants) - 2
        if hubs:
            self.net.saw("hubs: a payment was made over a hub" if hubs == 1 else "hubs: a payment was made over two hubs")

    async def _end_channel(self, node: HubNode, channel: VirtualInfo) -> None:
        assert node.node is not None
        if channel.kind == "app" and channel.role == "party":
            await node.node.close_channel(channel.channel_id)
        else:
            await node.books.close_virtual(channel.channel_id)

    def _say(self, node: HubNode) -> bool:
        assert node.node is not None
        running = [each.channel_id for each in node.node.channels() if each.phase == "running"]
        if running:
            draw = self.net.random
            payload = draw.choice([b"hello", b"bad", b"move:0:1:1", b"move:1:0:2"])
            self.net.spawn(node.node.submit(draw.choice(running), [payload], timeout=20))
        return bool(running)

    async def _restore(self, number: int) -> None:
        if not self.plan.restored:
            return
        node = self.net.nodes[self.plan.restored[number % len(self.plan.restored)]]
        backup = self.backups.get(node.index)
        if backup is None:
            return
        if sum(map(len, backup.truth.values())) < sum(map(len, node.disk.truth.values())):
            self.net.saw("hubs: a node came back from a stale backup")
        await node.restore(backup)

    # Chain

    async def _block(self, seconds: int, *, keep_out: bool = False) -> None:
        ends = self.net.challenge_ends_s()
        if ends and self.net.chain.chain.head.time_s + seconds > ends - AWAKE_S:
            await self._awake(ends)
            return
        self.net.mine(seconds, keep_out=keep_out)
        await self.net.pass_time(0.2)
        self._note()

    async def _awake(self, ends: int) -> None:
        """A challenge is about to end: everybody honest is there until it is over."""
        while (now_ends := self.net.challenge_ends_s()) and now_ends <= ends:
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
        ends = self.net.challenge_ends_s()
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
            for channel in node.books.virtuals():
                if "scapp ledger recover" in channel.waiting_for:
                    self.overridden = True
                    self.net.spawn(node.books.recover_ledger(ChannelId(bytes.fromhex(_named(channel.waiting_for)))))
                if "scapp payments recover" in channel.waiting_for:
                    self.overridden = True
                    await node.books.recover_payments(channel.channel_id)
            assert node.node is not None
            for app in node.node.channels():
                if "scapp channel recover" in app.waiting_for:
                    self.overridden = True
                    await node.node.recover(app.channel_id)
        if self.overridden:
            self.net.saw("hubs: an operator ended a recovery")
            for _ in range(8):
                await self.net.pass_time(12)
                await self._block(12)

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
        await self._end_channels()
        for node in self.honest:
            for ledger in node.books.ledgers():
                if ledger.phase == "disputed":
                    self.net.saw("hubs: a ledger was disputed")
                if ledger.phase in ("running", "funding", "opening"):
                    self.net.spawn(self._close(node, ledger))
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
                    if attempt and channel.kind == "app" and channel.role == "party" and self._app_is_lost(channel):
                        self.net.spawn(node.books.challenge_virtual(channel.channel_id))
                    elif self.mallory is not None and self.mallory.node.address in channel.participants:
                        self.net.spawn(node.books.challenge_virtual(channel.channel_id))
                    else:
                        self.net.spawn(self._end_channel(node, channel))
            await self._until(self._no_channels, blocks=8)
        if self.mallory is None and not self.overridden:
            left = [(n.name, c.phase, c.waiting_for) for n in self.honest for c in self._open_channels(n)]
            disputed = any(each.phase == "disputed" for n in self.honest for each in n.books.ledgers())
            require(disputed or not left, f"channels do not end: {left}")

    def _app_is_lost(self, channel: VirtualInfo) -> bool:
        """Does a party's log not hold it any more? Then the other one ends it on chain, as that one's node says."""
        ends = [self.net.by_address[channel.participants[at]] for at in (0, -1)]
        waiting = [each.waiting_for for node in ends for each in node.books.virtuals() if each.channel_id == channel.channel_id]
        return any("does not hold its app channel" in text for text in waiting)

    async def _close(self, node: HubNode, ledger: LedgerInfo) -> None:
        hostile = self.mallory is not None and ledger.peer == self.mallory.node.address
        if hostile or self._open_channels(node):
            await node.books.challenge_ledger(ledger.channel_id)
        else:
            await node.books.close_ledger(ledger.channel_id)

    async def _until(self, happened: Callable[[], bool], *, blocks: int) -> None:
        for _ in range(blocks):
            if happened():
                return
            await self.net.pass_time(6)
            await self._block(120)
            self._look()

    def _no_channels(self) -> bool:
        return not any(self._open_channels(node) for node in self.honest)

    def _open_channels(self, node: HubNode) -> list[VirtualInfo]:
        """Those that are not over: one that is being given up is not either."""
        books = self._engine(node)
        assert books is not None
        return [each for each in node.books.virtuals() if not books.state.virtuals[each.channel_id].over]

    def _settled(self) -> bool:
        return all(each.phase in ("settled", "rejected") for node in self.honest for each in node.books.ledgers())

    def _settled_or_raise(self) -> None:
        left = [
            (node.name, each.phase, each.waiting_for, each.reason)
            for node in self.honest
            for each in node.books.ledgers()
            if each.phase not in ("settled", "rejected")
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

    def _gain(self, node: HubNode) -> int:
        """Paid out to its channel address, less all that its account has brought."""
        from tests.support.plain_chain import account_of

        return self.net.chain.chain.world.balances.get(node.address, 0) + self.net.chain.gain(account_of(node.address))

    def _promises(self) -> None:
        """A payment that was told as made is made: if the payee saw it, always; else unless the payer lost its disk."""
        for channel, total in self.seen_by_payee.items():
            require(self._paid(channel) >= total, f"1: {total} was paid and seen, {self._paid(channel)} came of it")
        for channel, total in self.promised.items():
            payer = self.net.by_address[self._record(channel).agreement.participants[0]]
            if not payer.restores:
                require(self._paid(channel) >= total, f"1: {total} was paid, {self._paid(channel)} came of it")

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


def _named(hint: str) -> str:
    """The ledger that a hint for an operator is about."""
    return hint.partition("recover 0x")[2].partition(" ")[0]


def play_hubs(seed: int) -> set[str]:
    """One life from its seed."""
    return HubLife(draw_hub_plan(seed)).play()


__all__ = ["NAMES", "HubLife", "play_hubs"]
