"""One life of nodes with ledgers between them, played from its plan: faults and hostile words, then everything heals,
all channels and ledgers end, and everybody must have been paid what it is owed.

`net.py` has the nodes, `checks.py` what must hold at every step, `hostile.py` what Mallory does.
"""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels import node as node_module
from scapp.channels.books.info import LedgerRequest, PaymentChannelRequest, VirtualInfo
from scapp.channels.service import OpenRequest
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.simulation.hubs.checks import Checks
from tests.simulation.hubs.ending import Ending
from tests.simulation.hubs.hostile import Mallory
from tests.simulation.hubs.locked import SETTINGS, Paying
from tests.simulation.hubs.net import CHALLENGE_S, HubNet, HubNode
from tests.simulation.hubs.plan import HubPlan, draw_hub_plan
from tests.simulation.plan import Act
from tests.support.disk import SimDisk
from tests.support.node_cast import DEPLOYMENT, START_MS
from tests.support.virtual_loop import VirtualLoop, run

FUNDS = 1_000
TICK_S = 5.0
OVER = frozenset(("released", "rejected", "failed"))


class HubLife(Ending):
    """`told` hears of each act before it happens."""

    def __init__(self, plan: HubPlan, told: Callable[[Act], None] | None = None) -> None:
        self.plan = plan
        self.told = told
        self.watched: Callable[[HubNet], Checks] = Checks
        self.begun: Callable[[HubNet], None] = lambda net: None
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
        net.locks = SETTINGS
        self.paying = Paying(net, plan.hostile)
        self.honest = [node for node in net.nodes if node.index != plan.hostile]
        self.backups: dict[int, SimDisk] = {}
        self.promised: dict[ChannelId, int] = {}
        self.seen_by_payee: dict[ChannelId, int] = {}
        self.overridden = False
        self.mallory: Mallory | None = None
        if plan.hostile >= 0:
            self.checks.hostile = plan.hostile
            self.mallory = Mallory(net, net.nodes[plan.hostile], self.checks)
        self.begun(net)
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
        return LedgerRequest(peer=peer.address, funds=((ZERO_ADDRESS, FUNDS, FUNDS),), challenge_duration_s=CHALLENGE_S)

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
            case "lane":
                self.paying.open_lane(node, net.nodes[act.number])
            case "invoice":
                self.paying.pay_invoice(act.number)
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
            case "ledger":  # with a node that may have one already
                other = draw.choice([each for each in self.net.nodes if each is not node])
                other.policy.answers.clear()
                if draw.random() < 0.5:
                    other.policy.answers["ledger"] = ("reject", "no")
                self.net.spawn(books.open_ledger(self._ledger_request(other)))
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
        slots = tuple((bytes(ZERO_ADDRESS), bytes(12) + each.address, amount) for each in (first, last))
        request_app = OpenRequest(
            peers=(last.address,), deployment=DEPLOYMENT, slots=slots, challenge_duration=CHALLENGE_S, fund="virtual",
            via=via, fees=fees,
        )  # fmt: skip
        await first.process.open_channel(request_app)

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
            self.net.saw(
                "hubs: a payment was made over a hub" if hubs == 1 else "hubs: a payment was made over two hubs"
            )

    def _say(self, node: HubNode) -> bool:
        running = [each.channel_id for each in node.process.channels() if each.phase == "running"]
        if running:
            draw = self.net.random
            payload = draw.choice([b"hello", b"bad", b"move:0:1:1", b"move:1:0:2"])
            self.net.spawn(node.process.submit(draw.choice(running), [payload], timeout=20))
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


def play_hubs(seed: int) -> set[str]:
    """One life from its seed."""
    return HubLife(draw_hub_plan(seed)).play()
