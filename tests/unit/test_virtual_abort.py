"""Virtual channels given up before they are funded: by anybody, at any moment, and nobody has lost anything."""

from __future__ import annotations

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from scapp.channels.virtual import defunding, opening
from scapp.channels.virtual.backing import backing
from tests.support.virtual_net import APPS, TOKEN, Net, Party, describe

FEES = {0: (), 1: (7,), 2: (7, 11)}
STEP = {0: 1, 1: 1, 2: 4}  # how many messages apart the moments are


def end(net: Net, party: Party, channel: ChannelId) -> bool:
    """Give it up, if this party knows of it and may."""
    record = party.records.get(channel)
    if record is None or record.over or record.ended is not None or (record.is_app_party and record.funded):
        return False
    party.take(defunding.end(record, "changed its mind"))
    party.settle()
    net.flush()
    return True


def undone(net: Net, channel: ChannelId, fees: tuple[int, ...]) -> str:
    """Checks that everybody is at the same end, with what belongs to it; says which."""
    phases = set(net.phases(channel))
    assert net.guarantees() == 0, describe(net)
    if phases == {"released"}:
        assert net.gains() == [-sum(fees), *fees, 0]
        return "released"
    assert phases <= {"rejected", "failed"}
    assert all(record.over for party in net.parties for record in party.records.values())
    assert set(net.gains()) == {0}
    return "failed" if "failed" in phases else "rejected"


@pytest.mark.parametrize("kind", ["payment", "app"])
@pytest.mark.parametrize("hubs", [0, 1, 2])
def test_whoever_gives_it_up_and_whenever_all_deposits_and_fees_come_back(hubs: int, kind: str) -> None:
    """After each number of messages, each participant; over a network that delivers in order."""
    ends = set()
    for who in range(hubs + 2):
        for after in range(0, 60, STEP[hubs]):
            net = Net(hubs + 2, f"{who}/{after}")
            channel = net.open(net.agreement(kind, ((60, 0 if kind == "payment" else 40),), fees=FEES[hubs]))
            net.run(lambda net=net, after=after: net.delivered >= after)
            if net.phases(channel) == ["running"] * (hubs + 2) and not net.bag:
                break
            if end(net, net.parties[who], channel):
                net.run()
                if "running" in net.phases(channel):  # an app's hub may ask, its parties decide
                    assert kind == "app"
                else:
                    ends.add(undone(net, channel, FEES[hubs]))
    assert "failed" in ends


@pytest.mark.parametrize("number", range(30))
def test_it_can_be_given_up_by_several_at_once_over_a_bad_network(number: int, seed: str) -> None:
    given_up_by_several(f"{seed}/{number}", number)


@pytest.mark.parametrize("kept", ["353/x/23", "563/x/23"])
def test_a_question_reaches_who_refused_before_it_knew_of_the_complete_prefund_state(kept: str) -> None:
    """The hub between them waits for nothing any more, and what it had told that one was lost."""
    given_up_by_several(kept, 23)


def given_up_by_several(seed: str, number: int) -> None:
    hubs = 1 + number % 2
    net = Net(hubs + 2, seed, lossy=True)
    for party in net.parties:
        party.crashing = True
    channel = net.open(net.agreement(fees=FEES[hubs]))
    ended = 0
    for _ in range(3):
        moment = net.delivered + net.random.randrange(40)
        net.run(lambda moment=moment: net.delivered >= moment)
        ended += end(net, net.random.choice(net.parties), channel)
    net.run(rounds=400)
    if ended:
        undone(net, channel, FEES[hubs])


@pytest.mark.parametrize("number", range(15))
def test_an_app_that_is_given_up_is_funded_for_both_its_parties_or_for_none(number: int, seed: str) -> None:
    """What the two engines have been told never contradicts: one of them uses the channel only if it is complete."""
    hubs = number % 3
    net = Net(hubs + 2, f"{seed}/{number}", lossy=True)
    for party in net.parties:
        party.crashing = True
    channel = net.open(net.agreement("app", ((60, 40),), fees=FEES[hubs]))
    moment = net.random.randrange(40)
    net.run(lambda: net.delivered >= moment)
    asks = net.random.choice(net.parties)
    end(net, asks, channel)
    net.run(rounds=400)
    ends = [net.parties[0].records[channel], net.parties[-1].records[channel]]
    if net.phases(channel) == ["running"] * (hubs + 2):
        assert [backing(record).stage for record in ends] == ["complete"] * 2
    else:
        assert [backing(record).stage for record in ends] == ["failed"] * 2
        undone(net, channel, FEES[hubs])


@pytest.mark.parametrize("number", range(20))
def test_what_is_not_funded_in_time_is_given_up_and_late_messages_do_not_change_that(number: int, seed: str) -> None:
    hubs = 1 + number % 2
    net = Net(hubs + 2, f"{seed}/{number}", lossy=True)
    channel = net.open(net.agreement(fees=FEES[hubs]))
    moment = net.random.randrange(40)
    net.run(lambda: net.delivered >= moment)
    late, net.bag = net.bag, []
    net.pass_time(61)
    net.bag += late
    net.run(rounds=400)
    if set(net.phases(channel)) != {"running"}:
        undone(net, channel, FEES[hubs])


@pytest.mark.parametrize("left_leads", [True, False])
@pytest.mark.parametrize("poor", [0, 1])
def test_a_ledger_without_the_funds_undoes_it(poor: int, left_leads: bool) -> None:
    """1,000 in each ledger balance: the second channel does not fit into the ledger that the first has emptied."""
    net = Net(3, leads=[left_leads] * 2)
    path = net.parties[poor : poor + 2]
    first = net.open(net.agreement(amounts=((950, 0),), fees=(), path=path))
    net.run(lambda: all(party.records[first].funded for party in path))
    second = net.open(net.agreement(fees=(7,)))
    net.run()
    assert set(net.phases(second)) == {"failed"}
    assert all(party.records[second].cleared for party in net.parties)
    assert net.phases(first) == ["running"] * 2


def test_whom_policy_turns_down_leaves_nothing_behind() -> None:
    net = Net(4)
    net.parties[2].decide = lambda request: "too small a fee" if request.fee < 10 else ""
    channel = net.open(net.agreement(fees=(1, 1)))
    net.run()
    assert [len(party.records) for party in net.parties] == [1, 1, 0, 0]
    assert net.phases(channel) == ["rejected"] * 2
    assert net.parties[0].records[channel].reason == "too small a fee"
    dearer = net.open(net.agreement(fees=(1, 10)))
    net.run()
    assert net.phases(dearer) == ["running"] * 4


def test_fees_go_back_in_the_order_in_which_no_hub_advances_them(seed: str) -> None:
    """Four ledgers, given up when most hold the guarantee: `check` sees every hub's worth on the way."""
    net = Net(5, seed, assets=(ZERO_ADDRESS, TOKEN))
    fees = (50, 60, 70)
    channel = net.open(net.agreement(fees=fees))
    net.run(lambda: channel in net.parties[3].records and net.parties[3].records[channel].prefund.complete)
    net.silent.add(net.parties[4].address)
    net.run(lambda: net.parties[2].records[channel].guaranteed)
    net.silent.clear()
    assert net.gains()[1:3] == [50, 60]
    net.lossy = True
    end(net, net.parties[3], channel)
    net.run(rounds=400)
    assert undone(net, channel, fees) == "failed"


def test_what_has_ended_is_not_ended_twice() -> None:
    net = Net(3)
    channel = net.open(net.agreement())
    end(net, net.parties[0], channel)
    with pytest.raises(LocalError, match="has ended"):
        defunding.end(net.parties[0].records[channel], "again")


@pytest.mark.parametrize("left_leads", [True, False])
@pytest.mark.parametrize("hubs", [0, 1, 2])
def test_nobody_waits_for_ever_for_a_party_whose_node_never_took_it_up(hubs: int, left_leads: bool, seed: str) -> None:
    """It signed the prefund state in its app channel; its node has no ledger for it, and signs no end. All others hear
    that. They wait only for what their own ledgers hold, which may need the chain, and afterwards for nothing."""
    net = Net(hubs + 2, seed, leads=[left_leads] * (hubs + 1), lossy=True)
    *others, gone = net.parties
    gone.decide = lambda _: "there is no ledger"
    agreement = net.agreement("app", ((60, 40),), fees=FEES[hubs])
    signatures = net.app_signatures(agreement, "prefund")
    first, right = net.parties[0], net.parties[0].side(net.parties[1].address)
    first.take(opening.propose(agreement, None, right, APPS, first.context, signatures))
    net.run()
    records = [record for party in others for record in party.records.values()]
    assert len(records) == len(others)
    assert not gone.records
    assert all(record.aborting and record.refusers == (hubs + 1,) for record in records), describe(net)
    for party, record in zip(others, records, strict=True):
        for at, _ in record.sides:
            party.take(defunding.ledger_settled(party.records[record.channel_id], at))
    assert all(party.records[records[0].channel_id].over for party in others), describe(net)


@pytest.mark.parametrize("left_leads", [True, False])
@pytest.mark.parametrize("hubs", [0, 1, 2])
def test_a_party_whose_ledger_ends_gives_up_what_it_has_signed_with_the_others(
    hubs: int, left_leads: bool, seed: str
) -> None:
    """It signed the prefund state in its app channel; the ledger that its node would need takes nothing new, but is
    there. Everybody ends the channel without the chain, and no ledger waits for a guarantee."""
    for by_its_app in (True, False):  # or by its neighbour's proposal
        net = Net(hubs + 2, f"{seed}/{by_its_app}", leads=[left_leads] * (hubs + 1), lossy=True)
        first, last = net.parties[0], net.parties[-1]
        last.decide, last.gives_up = (lambda _: "the ledger ends"), True
        agreement = net.agreement("app", ((60, 40),), fees=FEES[hubs])
        signatures = net.app_signatures(agreement, "prefund")
        right, left = first.side(net.parties[1].address), last.side(net.parties[-2].address)
        if by_its_app:
            step = opening.propose(agreement, left, None, APPS, last.context, signatures)
            last.take(opening.give_up(step, "the ledger ends"))
            last.settle()
        first.take(opening.propose(agreement, None, right, APPS, first.context, signatures))
        first.settle()
        net.flush()
        net.run(rounds=400)
        (channel,) = last.records
        assert len(net.phases(channel)) >= hubs + 1, describe(net)
        assert undone(net, channel, FEES[hubs]) in ("failed", "rejected")
        assert not any(ledger.queue for party in net.parties for ledger in party.ledgers.values()), describe(net)
