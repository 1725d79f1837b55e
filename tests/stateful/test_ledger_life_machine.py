"""The whole life of a ledger under lost, doubled and reordered messages, restarts and restores, on a simulated chain.

What the harness checks on the way: no turn is signed twice, not even across a restore; no signature leaves before it is
stored; the fold of the log is the record; a refused message changes nothing. At the end everything arrives, and both
agree, close the ledger, and are paid what it says.
"""

from __future__ import annotations

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scapp.channels.errors import LocalError
from scapp.channels.ledger.asking import forgotten
from scapp.channels.ledger.balances import Balances
from scapp.channels.ledger.consensus import LEADER
from scapp.channels.ledger.proposals import Add, Expand, Part, Proposal, Remove, Transfer
from scapp.channels.types import ChannelId
from tests.support.ledger_pair import COIN, FUNDS, LedgerPair, Party
from tests.support.plain_chain import CONFIRMATIONS, TOKEN, account_of

WHO = st.integers(0, 1)
TARGETS = [ChannelId(bytes((255, number)) * 16) for number in range(6)]
ASSETS = st.sampled_from([COIN, TOKEN])


class LedgerLife(RuleBasedStateMachine):
    """`known` says what each party's virtual channels want by now: "add", later "remove"."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = LedgerPair()
        self.plans: dict[ChannelId, tuple[Add, Remove]] = {}
        self.known: list[dict[ChannelId, str]] = [{}, {}]
        self.restores = 0
        self.ends = False

    @initialize(waits=st.integers(0, 5))
    def begin(self, waits: int) -> None:
        if waits:
            self.pair.run()

    # What the network does

    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        if self.pair.bag:
            self.pair.deliver(data.draw(st.integers(0, len(self.pair.bag) - 1)), keep=keep)
            self._follow()

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.pair.bag:
            self.pair.bag.pop(data.draw(st.integers(0, len(self.pair.bag) - 1)))

    @rule()
    def deliver_all(self) -> None:
        while self.pair.bag:
            self.pair.deliver()
            self._follow()

    @rule(who=WHO)
    def say_again(self, who: int) -> None:
        self.pair.parties[who].say_again()
        self.pair.collect()

    @rule(who=WHO)
    def restart(self, who: int) -> None:
        if self.pair.parties[who].record is not None:
            self.pair.parties[who].restart()
            self._follow()

    @precondition(lambda self: not any(p.record is not None and p.it.recovering for p in self.pair.parties))
    @rule(who=WHO, data=st.data(), sure=st.integers(0, 3))
    def restore(self, who: int, data: st.DataObject, sure: int) -> None:
        party = self.pair.parties[who]
        if party.record is None or sure:
            return
        self.restores += 1
        party.restore(data.draw(st.integers(1, len(party.log))), self.restores.to_bytes(16, "big"))
        self._follow()

    @rule(first=WHO)
    def block(self, first: int) -> None:
        """A block; only one of the two has seen it at first."""
        for party in self.pair.parties:
            party.act()
        head = self.pair.chain.chain.mine()
        for party in self.pair.parties:
            party.now_ms = head.time_s * 1_000
        self.pair.parties[first].see()
        self._follow()

    @rule(depth=st.integers(1, CONFIRMATIONS - 1), drop=st.booleans())
    def reorganise(self, depth: int, drop: bool) -> None:
        """Blocks that nobody takes for confirmed are replaced, with or without their transactions."""
        chain = self.pair.chain.chain
        if len(chain.blocks) > depth:
            chain.reorganise(depth, drop=drop)
            for party in self.pair.parties:
                party.see()
            self._follow()

    # What people and virtual channels want

    @rule(channel=st.sampled_from(TARGETS), part=st.tuples(ASSETS, st.integers(0, 40), st.integers(0, 40)),
          fee=st.integers(0, 3), left=WHO, share=st.integers(0, 80))  # fmt: skip
    def plan(self, channel: ChannelId, part: tuple[bytes, int, int], fee: int, left: int, share: int) -> None:
        if channel in self.plans:
            return
        parties = self.pair.leader.it.setup.opening.parties
        asset, mine, theirs = part
        amount = mine + theirs
        add = Add(channel, parties.of(left), parties.of(1 - left), (Part(asset, amount, mine),), fee)  # type: ignore[arg-type]
        self.plans[channel] = add, Remove(channel, (Part(asset, amount, min(share, amount)),))  # type: ignore[arg-type]

    @rule(who=WHO, channel=st.sampled_from(TARGETS))
    def learn(self, who: int, channel: ChannelId) -> None:
        if channel in self.plans:
            known = self.known[who].get(channel)
            self.known[who][channel] = "add" if known is None else "remove"
            self._follow()

    @rule(who=WHO, amount=st.integers(1, 60), asset=ASSETS, pays=st.booleans())
    def request(self, who: int, amount: int, asset: bytes, pays: bool) -> None:
        party = self.pair.parties[who]
        if party.record is None:
            return
        change = Transfer(asset, amount, who) if pays else Expand(asset, amount, who)  # type: ignore[arg-type]
        with contextlib.suppress(LocalError):
            party.request(change)
        self._follow()

    @rule(who=WHO, sure=st.integers(0, 9))
    def close(self, who: int, sure: int) -> None:
        if not sure and self.pair.parties[who].record is not None:
            with contextlib.suppress(LocalError):
                self.pair.parties[who].close()
            self._follow()

    def _wants(self, party: Party) -> list[Proposal]:
        found: list[Proposal] = []
        for target, known in self.known[party.index].items():
            add, remove = self.plans[target]
            stands = party.record is not None and party.it.holds(target)
            if not stands and (known == "add" or (party.index == 1 and known == "remove")):
                found.append(add)
            if known == "remove":
                found.append(remove)
        return found

    def _follow(self) -> None:
        """Both look at what they want. What the leader finds impossible is given up by both."""
        for party in self.pair.parties:
            if party.record is None:
                continue
            if party.it.phase == "proposed":
                with contextlib.suppress(LocalError):
                    party.accept()
            party.wants = self._wants(party)
            party.settle()
            for each in party.impossible:
                for known in self.known:
                    known[each.want.target] = "remove"
            party.impossible.clear()
        self.pair.collect()

    @invariant()
    def nothing_is_lost(self) -> None:
        """A ledger's money is what was deposited first and what was merged since, and the chain holds it until one
        of the two can conclude."""
        if any(party.record is not None and party.it.final is not None for party in self.pair.parties):
            self.ends = True
        for party in self.pair.parties:
            if party.record is None or party.it.ledger is None or self.ends:
                continue
            ledger = party.it.ledger
            for balances in (ledger.current, ledger.proposed):
                for each, (asset, leader, follower) in zip(balances.assets, FUNDS, strict=True):
                    assert each.asset == asset
                    assert leader + follower <= each.total <= self.pair.chain.held(self.pair.channel, asset)
                    assert each.leader >= 0
                    assert each.follower >= 0

    def teardown(self) -> None:
        self._heal()
        leader, follower = self.pair.parties
        assert leader.it.balances == follower.it.balances
        for known in self.known:
            known.update(dict.fromkeys(self.plans, "remove"))
        self._heal()
        for party in self.pair.parties:
            if party.it.phase == "running":
                assert not party.it.has_guarantees
                party.close()
        self._heal()
        final = leader.it.final
        assert final is not None
        assert follower.it.final is not None
        assert final.balances == follower.it.final.balances
        # The leader may be paid out before it hears the follower's signature, and has nothing to ask for then.
        assert final.signatures[LEADER] == follower.it.final.signatures[LEADER]
        assert follower.it.final.complete
        assert [party.it.phase for party in self.pair.parties] == ["settled", "settled"]
        self._paid(final.balances)

    def _paid(self, balances: Balances) -> None:
        for at, (asset, *_) in enumerate(FUNDS):
            gains = [self.pair.chain.gain(account_of(party.address), asset) for party in self.pair.parties]
            assert sum(gains) == 0
            each = balances.assets[at]
            if not each.trailing:
                brought = each.leader - gains[0], each.follower - gains[1]
                assert sum(brought) == each.total
                assert min(brought) >= 0

    def _heal(self) -> None:
        """Until nothing changes any more for as long as the chain needs to confirm."""
        still = 0
        for _ in range(60):
            before = [party.record for party in self.pair.parties]
            for party in self.pair.parties:
                party.say_again()
            self.pair.collect()
            self.deliver_all()
            self._remember()
            self.block(0)
            self.pair.parties[1].see()
            self._follow()
            still = still + 1 if before == [party.record for party in self.pair.parties] else 0
            if still > CONFIRMATIONS + 1:
                return
        raise AssertionError("the two do not come to rest")

    def _remember(self) -> None:
        """The follower's operator stands by what a restore has made the node forget: only people can know whether it
        asked for that, so the ledger waits until they make the same request again, and says so."""
        follower = self.pair.follower
        while (unknown := forgotten(follower.it, follower.session)) is not None:
            follower.request(unknown.proposal)
        self.pair.collect()


TestLedgerLife = LedgerLife.TestCase
TestLedgerLife.settings = settings(stateful_step_count=40)


# Lives that were found by thousands of examples. `Drawn` has what a rule draws.


class Drawn:
    def __init__(self, *values: int) -> None:
        self._values = iter(values)

    def draw(self, _strategy: object) -> int:
        return next(self._values)


def test_a_forgotten_deposit_is_requested_again_before_the_ledger_ends() -> None:
    life = LedgerLife()
    life.begin(1)
    life.request(1, 1, COIN, pays=False)
    life.deliver(Drawn(0), keep=False)
    life.lose(Drawn(0))
    life.restore(1, Drawn(1), 0)
    life.teardown()


def test_a_forgotten_deposit_is_requested_again_before_a_guarantee_ends() -> None:
    life = LedgerLife()
    life.begin(1)
    life.plan(TARGETS[0], (COIN, 18, 28), 0, 0, 46)
    for who in (0, 1):
        life.learn(who, TARGETS[0])
    life.deliver_all()
    life.request(1, 56, COIN, pays=False)
    life.deliver(Drawn(0), keep=False)
    life.lose(Drawn(0))
    life.restore(1, Drawn(len(life.pair.follower.log) - 1), 0)
    life.teardown()


def ended_in_silence() -> LedgerLife:
    """The follower has signed the end and concludes it; the leader has not heard of that."""
    life = LedgerLife()
    life.begin(1)
    life.close(0, 0)
    life.deliver(Drawn(0), keep=False)
    life.lose(Drawn(0))
    for first in (1, 0, 0, 1):
        life.block(first)
    return life


def test_a_leader_is_paid_out_before_it_hears_that_the_follower_has_signed_the_end() -> None:
    life = ended_in_silence()
    for first in (0, 1, 0, 1):
        life.block(first)
    life.teardown()


def test_the_follower_that_has_concluded_such_an_end_is_restored() -> None:
    life = ended_in_silence()
    life.restore(1, Drawn(6), 0)
    life.reorganise(2, drop=False)
    life.block(0)
    life.teardown()


def test_a_leader_is_restored_to_an_end_that_never_arrived() -> None:
    life = LedgerLife()
    life.begin(1)
    life.close(0, 0)
    life.restore(0, Drawn(11), 0)
    life.lose(Drawn(0))
    life.teardown()
