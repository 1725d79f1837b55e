"""The game's page over a hub: real Chromium, real nodes, a real EVM. Bob is the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from scapp.game import commitment
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.documents import SlotView
from tests.support.accessibility import axe_core, complaints
from tests.support.browser import Tab, address_of, chromium
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import open_ledger, sent, settle, wait_virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
expect.set_options(timeout=60_000)
ETHER = 10**18
STAKE = ETHER // 5
FEE = 2 * STAKE // 1_000
"""The hub's price for a channel that locks both stakes."""
PLAYERS = ("alice", "carol")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def three() -> Iterator[FundedCluster]:
    from scapp.game import wasm_bytes, web_folder

    page = f'\n[policy]\naccept = "none"\n\n[web]\ngoofspiel = "{web_folder()}"\n'
    with quick_chain() as chain, funded_cluster(3, chain, more=page, backend="embedded") as found:
        ask_a_fee(found)
        for name in PLAYERS:
            found.client(name).deploy(wasm_bytes())
        yield found


def ask_a_fee(nodes: FundedCluster) -> None:
    """Restart the hub with a price."""
    nodes.kill_node("bob")
    config = nodes.nodes["bob"].home / "scapp.toml"
    config.write_text(config.read_text().replace("[hub]\n", "[hub]\nfee_ppm = 1000\n"))
    nodes.start("bob")


@pytest.fixture
def tabs(browser: Browser, three: FundedCluster) -> Iterator[dict[str, Tab]]:
    found = {name: Tab(browser, address_of(three, name, funds=True)) for name in PLAYERS}
    yield found
    for tab in found.values():
        tab.context.close()
    assert {name: tab.problems for name, tab in found.items()} == {name: [] for name in found}


def test_a_match_over_a_hub_from_the_form_to_the_ledgers_payout(three: FundedCluster, tabs: dict[str, Tab]) -> None:
    """The form offers the hub as soon as there is a ledger with it. The match is played without a transaction, moves
    in the ledgers, and is paid out when they are closed; both pages say so."""
    nodes, alice, carol = three, tabs["alice"].page, tabs["carol"].page
    before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
    alice.get_by_role("textbox", name="Stake of each").fill("0.2")
    expect(alice.get_by_role("combobox", name="Bond")).to_be_visible()
    expect(alice.get_by_role("combobox", name="Put up")).to_have_count(0)
    ledgers = {name: open_ledger(nodes, name, "bob", amount=ETHER) for name in PLAYERS}
    transactions = sent(nodes)
    alice.get_by_role("combobox", name="Put up").select_option("through bob, no transaction")
    expect(alice.get_by_role("combobox", name="Bond")).to_be_hidden()
    alice.get_by_role("slider", name="Cards in hand").fill("3")
    for name in ("bob", "carol"):
        alice.get_by_role("checkbox", name=name).check()
    alice.get_by_role("button", name="Challenge").click()
    expect(alice.get_by_role("alert")).to_contain_text("Over ledgers two play")
    tabs["alice"].problems.clear()  # the console has the error that was shown
    alice.get_by_role("checkbox", name="bob").uncheck()
    eventually(lambda: announced(nodes) or None, lambda: "the hub announces its price")
    alice.get_by_role("button", name="Challenge").click()
    challenges = carol.get_by_role("region", name="Challenges")
    expect(challenges).to_contain_text("for 0.2 ETH each, through bob")
    challenges.get_by_role("button", name="Play", exact=True).click()
    tabs["alice"].heading("Round 1 of 3")
    money = {name: tabs[name].page.get_by_role("status", name="Money in the ledgers") for name in PLAYERS}
    expect(money["alice"]).to_contain_text("0.4 ETH is locked through bob; no transaction was needed.")
    expect(money["alice"]).to_contain_text("bob gets 0.0004 ETH from you.")
    expect(money["carol"]).to_contain_text("You have 0.8 ETH in your ledger with bob.")
    assert complaints(alice, axe_core()) == []
    for number, cards in enumerate(((3, 1), (2, 3), (1, 2)), 1):
        for name, card in zip(PLAYERS, cards, strict=True):
            tabs[name].heading(f"Round {number} of 3")
            tabs[name].choose(card)
    tabs["alice"].heading("Match over")
    match = re.search(r"#/match/(0x[0-9a-f]{64})$", alice.url)
    assert match
    rematch(nodes, tabs)
    tabs["carol"].go(f"#/match/{match[1]}")
    carol.get_by_role("button", name="Close the channel").click()
    tabs["alice"].go(f"#/match/{match[1]}")
    for name in PLAYERS:
        expect(money[name]).to_contain_text("Moved in the ledgers:")
    wait_virtual(nodes, nodes.names, match[1], lambda now: now.phase == "released")
    assert sent(nodes) == transactions
    won = dict(zip(PLAYERS, map(int, nodes.client("carol").channel(match[1]).amounts), strict=True))
    assert sum(won.values()) == 2 * STAKE
    for name, ledger in ledgers.items():
        settle(nodes, ledger, name, "bob")
        expect(money[name]).to_contain_text("Your ledger with bob is closed: the chain has paid you")
    gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
    assert gained == {
        "alice": ETHER - FEE - STAKE + won["alice"],
        "bob": 2 * ETHER + 2 * FEE,
        "carol": ETHER - FEE - STAKE + won["carol"],
    }


def opened(nodes: FundedCluster) -> str:
    """A match of three cards over the hub, whose challenges are short."""
    slots = [SlotView(asset=COIN, destination=nodes.addresses[name], amount=str(STAKE)) for name in PLAYERS]
    alice, carol = (nodes.client(name) for name in PLAYERS)
    channel = alice.open_channel(
        ["carol"], "goofspiel", params={"cards": 3}, slots=slots, fund="virtual", via=["bob"], fees=[FEE],
        challenge_duration_s=8,
    ).channel_id  # fmt: skip
    eventually(lambda: channel in [found.channel_id for found in carol.channels()] or None, lambda: channel)
    assert carol.accept(channel, wait_s=60).phase == "running"
    return channel


def test_a_player_who_goes_away_is_named_and_can_be_left(
    browser: Browser, three: FundedCluster, tabs: dict[str, Tab]
) -> None:
    """Carol hides a card and her node dies. Alice's page says who is away and how to leave, then what the chain and the
    ledgers do, in names; no card can be played any more. Carol's page tells the same when she is back."""
    nodes, alice = three, tabs["alice"]
    ledgers = {name: open_ledger(nodes, name, "bob", amount=ETHER) for name in PLAYERS}
    channel = opened(nodes)
    alice.go(f"#/match/{channel}")
    alice.heading("Round 1 of 3")
    author = bytes.fromhex(nodes.addresses["carol"][2:])
    hidden = commitment(bytes(32), bytes.fromhex(channel[2:]), author, 1, 2)
    (receipt,) = nodes.client("carol").send(channel, {"commit": {"hash": "0x" + hidden.hex()}})
    assert receipt.status == "accepted"
    expect(alice.page.get_by_role("img", name="carol: hidden card")).to_be_visible()
    nodes.kill_node("carol")
    tabs["carol"].page.close()
    tabs["carol"].problems.clear()  # the browser's own complaints about the node that is away
    wait, money = alice.page.locator(".head .wait"), alice.page.get_by_role("status", name="Money in the ledgers")
    expect(wait).to_have_text("carol is away")
    expect(alice.page.locator(".state").first).to_have_text("away")
    alice.choose(3)
    expect(money).to_contain_text(f"scapp channel challenge {channel[:10]}")
    expect(money).to_contain_text("Waits for the signature of carol under turn 3.")
    alice.shot("away")
    nodes.client("alice").challenge(channel)
    expect(money).to_contain_text("The chain is to settle this match.")
    expect(wait).to_have_text("Left before the last round")
    expect(alice.page.get_by_text("No card is played any more")).to_be_visible()
    expect(money).to_contain_text("Moved in the ledgers: You 0.2 ETH, carol 0.2 ETH.")
    expect(wait).to_have_text("Ended before the last round")
    expect(money).not_to_contain_text("leaves")
    alice.shot("left")
    nodes.start("carol")
    carol = Tab(browser, address_of(nodes, "carol", funds=True))
    carol.go(f"#/match/{channel}")
    expect(carol.page.locator(".head .wait")).to_have_text("Ended before the last round")
    expect(carol.page.get_by_role("status", name="Money in the ledgers")).to_contain_text(
        "You have 1 ETH in your ledger"
    )
    assert carol.problems == []
    carol.context.close()
    for name, ledger in ledgers.items():
        settle(nodes, ledger, name, "bob")


def test_the_page_tells_that_the_hub_is_away_when_a_match_ends(three: FundedCluster, tabs: dict[str, Tab]) -> None:
    """Nobody notices it while cards are played. The end waits for the hub, by its name, and moves once it is back."""
    nodes = three
    ledgers = {name: open_ledger(nodes, name, "bob", amount=ETHER) for name in PLAYERS}
    channel = opened(nodes)
    for tab in tabs.values():
        tab.go(f"#/match/{channel}")
        tab.heading("Round 1 of 3")
    nodes.kill_node("bob")
    for number, cards in enumerate(((3, 1), (2, 3), (1, 2)), 1):
        for name, card in zip(PLAYERS, cards, strict=True):
            tabs[name].heading(f"Round {number} of 3")
            tabs[name].choose(card)
    page = tabs["alice"].page
    tabs["alice"].heading("Match over")
    page.get_by_role("button", name="Close the channel").click()
    money = page.get_by_role("status", name="Money in the ledgers")
    expect(money).to_contain_text("Both have signed the end; the ledgers take it over.")
    expect(money).to_contain_text(re.compile(r"Waits for the signature of bob under turn \d+\."))
    tabs["alice"].shot("hub_away")
    nodes.start("bob")
    for tab in tabs.values():
        expect(tab.page.get_by_role("status", name="Money in the ledgers")).to_contain_text("Moved in the ledgers:")
    for name, ledger in ledgers.items():
        settle(nodes, ledger, name, "bob")


def announced(nodes: FundedCluster) -> bool:
    """Whether Alice knows a way to Carol; a moment after the ledgers run she does."""
    return bool(nodes.client("alice").routes("carol", {COIN: (STAKE, STAKE)}))


def rematch(nodes: FundedCluster, tabs: dict[str, Tab]) -> None:
    """Carol wants one on the same terms, so she pays the hub; it is closed before a card is played."""
    tabs["carol"].page.get_by_role("button", name="Rematch").click()
    tabs["alice"].go("#/")
    challenges = tabs["alice"].page.get_by_role("region", name="Challenges")
    expect(challenges).to_contain_text("for 0.2 ETH each, through bob")
    challenges.get_by_role("button", name="Play", exact=True).click()
    tabs["carol"].heading("Round 1 of 3")
    found = re.search(r"#/match/(0x[0-9a-f]{64})$", tabs["carol"].page.url)
    assert found
    nodes.client("alice").close_channel(found[1])
    wait_virtual(nodes, nodes.names, found[1], lambda now: now.phase == "released")
