"""The game's page for money: real Chromium, real nodes, a real EVM. Stakes by a form, and a player's node that dies."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from scapp.game import commitment
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.documents import SlotView
from tests.support.accessibility import axe_core, complaints
from tests.support.browser import SHOTS, Tab, address_of, chromium
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
expect.set_options(timeout=60_000)
ETHER = 10**18
NOBODY = "0x" + "00" * 18 + "dead"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def two() -> Iterator[FundedCluster]:
    from scapp.game import wasm_bytes, web_folder

    page = f'\n[policy]\naccept = "none"\n\n[web]\ngoofspiel = "{web_folder()}"\n'
    with quick_chain() as chain, funded_cluster(2, chain, more=page, backend="embedded") as found:
        found.deploy(wasm_bytes())
        yield found


@pytest.fixture
def tabs(browser: Browser, two: FundedCluster) -> Iterator[dict[str, Tab]]:
    found = {name: Tab(browser, address_of(two, name, funds=True)) for name in two.names}
    yield found
    for tab in found.values():
        tab.context.close()
    assert {name: tab.problems for name, tab in found.items()} == {name: [] for name in found}


def paid(nodes: FundedCluster) -> dict[str, int]:
    """What the players' addresses, to which the game pays, have on the chain."""
    return {name: nodes.balance(address) for name, address in nodes.addresses.items()}


def test_a_match_for_stakes_from_the_form_to_the_payout(two: FundedCluster, tabs: dict[str, Tab]) -> None:
    """Both deposit half an ether, play, close; the chain pays what the last step said, and the pages show it: also to
    those who do not see it, while the match runs and at its end."""
    alice, bob = tabs["alice"].page, tabs["bob"].page
    before = paid(two)
    alice.get_by_role("checkbox", name="bob").check()
    alice.get_by_role("slider", name="Cards in hand").fill("3")
    expect(alice.get_by_role("combobox", name="Bond")).to_be_hidden()
    stake = alice.get_by_role("textbox", name="Stake of each")
    stake.fill("half")
    alice.get_by_role("button", name="Challenge").click()
    expect(alice.get_by_role("alert")).to_contain_text("is no amount of ETH")
    stake.fill("0.5")
    expect(alice.get_by_role("combobox", name="Bond")).to_be_visible()
    tabs["alice"].problems.clear()  # the console has the error that was shown
    alice.get_by_role("button", name="Challenge").click()
    challenges = bob.get_by_role("region", name="Challenges")
    expect(challenges).to_contain_text("for 0.5 ETH each")
    challenges.get_by_role("button", name="Play", exact=True).click()
    for name, card in (("alice", 3), ("bob", 1)):
        tabs[name].heading("Round 1 of 3")
        tabs[name].choose(card)
    money = alice.get_by_role("status", name="Money on the chain")
    expect(money).to_contain_text("The chain holds 1 ETH of 1 ETH.")
    expect(alice.locator(".track .current")).to_have_count(1)
    found = {"running": complaints(alice, axe_core(), {".track .current": "outlineColor"})}
    for number, cards in ((2, {"alice": 2, "bob": 3}), (3, {"alice": 1, "bob": 2})):
        for name, card in cards.items():
            tabs[name].heading(f"Round {number} of 3")
            tabs[name].choose(card)
    tabs["alice"].heading("Match over")
    expect(alice.locator(".track .current")).to_have_count(0)  # there is nothing to play for
    if SHOTS:
        tabs["alice"].shot("stakes")
    match = re.search(r"#/match/(0x[0-9a-f]{64})$", alice.url)
    assert match
    alice.get_by_role("button", name="Close the channel").click()
    for page in (alice, bob):
        expect(page.get_by_role("status", name="Money on the chain")).to_contain_text("Paid out:")
    found["paid out"] = complaints(alice, axe_core())
    assert {view: lines for view, lines in found.items() if lines} == {}
    amounts = [int(amount) for amount in two.client("bob").channel(match[1]).amounts]
    assert sum(amounts) == ETHER
    assert amounts[2] == 0, "the bonds came back at the end"
    after = paid(two)
    assert [after[name] - before[name] for name in two.names] == amounts[:2]
    assert two.held(match[1]) == 0


def test_the_form_for_stakes_is_accessible(tabs: dict[str, Tab]) -> None:
    """Its fields, also those that a stake makes appear."""
    page = tabs["alice"].page
    page.get_by_role("textbox", name="Stake of each").fill("0.5")
    expect(page.get_by_role("combobox", name="Bond")).to_be_visible()
    assert complaints(page, axe_core(), {"form select": "borderTopColor"}) == []


def test_a_node_killed_after_commit_and_before_reveal_gains_nothing(two: FundedCluster, tabs: dict[str, Tab]) -> None:
    """Bob hides a card, Alice hides and shows hers, Bob's node dies. She leaves by a challenge, and the chain pays what
    both signed last: Bob has lost his bond, and she gains nothing by it either."""
    before = paid(two)
    slots = [
        SlotView(asset=COIN, destination=destination, amount=str(amount))
        for destination, amount in ((two.addresses["alice"], ETHER), (two.addresses["bob"], ETHER), (NOBODY, 0))
    ]
    alice, bob = two.client("alice"), two.client("bob")
    params = {"cards": 3, "bond_percent": 25}
    opened = alice.open_channel(["bob"], "goofspiel", params=params, slots=slots, fund="direct", challenge_duration_s=8)
    channel = opened.channel_id
    eventually(lambda: channel in [found.channel_id for found in bob.channels()] or None, lambda: channel)
    assert bob.accept(channel, wait_s=60).phase == "running"
    tabs["alice"].go(f"#/match/{channel}")
    tabs["alice"].heading("Round 1 of 3")
    author = bytes.fromhex(two.addresses["bob"][2:])
    hidden = commitment(bytes(32), bytes.fromhex(channel[2:]), author, 1, 2)
    assert [r.status for r in bob.send(channel, {"commit": {"hash": "0x" + hidden.hex()}})] == ["accepted"]
    tabs["alice"].choose(3)
    expect(tabs["alice"].page.get_by_role("img", name="You: 3")).to_be_visible()
    two.kill_node("bob")
    tabs["bob"].page.close()
    tabs["bob"].problems.clear()  # the browser's own complaints about the node that is away
    owed = [int(amount) for amount in alice.channel(channel).amounts]
    assert owed[2] == ETHER // 2, "both bonds lie where neither gets them before the round ends"
    alice.challenge(channel)
    money = tabs["alice"].page.get_by_role("status", name="Money on the chain")
    expect(money).to_contain_text("A challenge runs until")
    expect(money).to_contain_text("Paid out:")
    after = paid(two)
    gained = [after[name] - before[name] for name in two.names]
    assert gained == owed[:2]
    assert all(amount < ETHER for amount in gained), "neither has more than was staked"
    two.start("bob")
    eventually(lambda: two.client("bob").channel(channel).phase == "settled" or None, lambda: two.state("bob", channel))
