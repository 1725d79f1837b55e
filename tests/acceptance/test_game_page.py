"""The game's page in real Chromium, against real nodes: what two and three people see and do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from scapp.game import BotPlayer, commitment
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.client import Client
from scapp.runtime.documents import ChannelView, SlotView
from tests.support.accessibility import axe_core, complaints
from tests.support.browser import SHOTS, Tab, address_of, chromium, chromium_path, page_cluster
from tests.support.cluster import Cluster, environment, eventually
from tests.support.folders import open_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
expect.set_options(timeout=30_000)
HASH = re.compile(r"#/match/(0x[0-9a-f]{64})$")


BOTH_WAYS = """async id => {
    const [{ readMatch, matchOfKernel }, { channelOf, node }, { LocalRun }] = await Promise.all(
        ["/app/goofspiel/game.js", "/app/goofspiel/session.js", "/app/scapp/verify.js"].map(name => import(name)));
    const run = await LocalRun.of(node, channelOf(id));
    await run.go(run.turns.length);
    const both = [await readMatch(channelOf(id)), matchOfKernel(run.kernel)];
    const same = both.map(({ phase, round, pot, moveMs, deadlineMs, players, rounds, bids, chat }) =>
        JSON.stringify([phase, round, pot, moveMs, deadlineMs, players, rounds, bids,
                        chat.map(line => [line.sequence, line.seat, line.text, line.saidMs])]));
    return [same[0] === same[1], both[1].players.length, both[1].bids.length];
}"""
"""The tables by SQL and by the reducer in the browser: whether they are the same, and how many rows there are."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def three(browser: Browser) -> Iterator[Cluster]:
    with page_cluster(3) as found:
        yield found


@pytest.fixture
def tabs(browser: Browser, three: Cluster) -> Iterator[dict[str, Tab]]:
    """A page for each of alice, bob and carol; none of them may complain."""
    found = {name: Tab(browser, address_of(three, name)) for name in three.names}
    yield found
    for tab in found.values():
        tab.context.close()
    assert {name: tab.problems for name, tab in found.items()} == {name: [] for name in found}


def open_match(tabs: dict[str, Tab], *players: str, cards: int = 3) -> str:
    """The first challenges the others in the lobby, who accept there; returns the channel."""
    first, *others = players
    page = tabs[first].page
    for name in others:
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("slider", name="Cards in hand").fill(str(cards))
    page.get_by_role("button", name="Challenge").click()
    for name in others:
        page_of = tabs[name].page
        page_of.get_by_role("region", name="Challenges").get_by_role("button", name="Play", exact=True).click()
    for name in players:
        tabs[name].heading("Round 1 of")
    found = HASH.search(page.url)
    assert found, page.url
    return found.group(1)


def accept(nodes: Cluster, name: str, channel: str, wait_s: float = 10) -> ChannelView:
    """Once the proposal is there."""
    node = nodes.client(name)
    eventually(lambda: channel in [found.channel_id for found in node.channels()] or None, lambda: f"{name}: {channel}")
    return node.accept(channel, wait_s=wait_s)


def open_with_stakes(nodes: Cluster, first: str, other: str, move_ms: int) -> str:
    """A match of three cards for one ether each, a quarter of it as bond, with a clock that no person would choose."""
    ether, pool = "0x" + "00" * 20, "0x" + "00" * 19 + "01"
    slots = [
        SlotView(asset=ether, destination=destination, amount=amount)
        for destination, amount in (
            (nodes.addresses[first], str(10**18)),
            (nodes.addresses[other], str(10**18)),
            (pool, "0"),
        )
    ]
    params = {"cards": 3, "move_ms": move_ms, "bond_percent": 25}
    channel = nodes.client(first).open_channel([other], "goofspiel", params=params, slots=slots).channel_id
    assert accept(nodes, other, channel).phase == "running"
    return channel


def prizes(nodes: Cluster, name: str, channel: str) -> list[int]:
    rows = nodes.rows(
        name, "select prize from goofspiel.round where channel_id = $1::bytea order by round", "\\x" + channel[2:]
    )
    return [prize for (prize,) in rows]


def test_three_browsers_play_a_match_and_see_each_other_move(three: Cluster, tabs: dict[str, Tab]) -> None:
    """Challenge and accept in the lobby; hidden cards appear live; the end, verified and replayed in every browser."""
    channel = open_match(tabs, "alice", "bob", "carol")
    bids = {"alice": [3, 2, 1], "bob": [1, 3, 2], "carol": [2, 1, 3]}
    assert [r.status for r in three.client("carol").send(channel, {"chat": {"text": "ünïcode ♠"}})] == ["accepted"]
    for number in range(3):
        tabs["alice"].heading(f"Round {number + 1} of 3")
        tabs["alice"].choose(bids["alice"][number])
        # Nothing but that a card is there reaches the others.
        expect(tabs["bob"].page.get_by_role("img", name="alice: hidden card")).to_be_visible()
        expect(tabs["carol"].page.get_by_role("img", name="alice: hidden card")).to_be_visible()
        expect(tabs["alice"].page.get_by_role("img", name=f"You: hidden {bids['alice'][number]}")).to_be_visible()
        tabs["bob"].choose(bids["bob"][number])
        tabs["carol"].choose(bids["carol"][number])
        expect(tabs["bob"].page.locator(".last")).to_contain_text(f"Round {number + 1}, prize")
    in_order = prizes(three, "alice", channel)
    expected = {"alice": in_order[0], "bob": in_order[1], "carol": in_order[2]}
    winner = max(expected, key=lambda name: expected[name])
    for name, tab in tabs.items():
        tab.heading("Match over")
        expect(tab.page.locator(".head .wait")).to_have_text("You win" if name == winner else f"{winner} wins")
        tab.page.get_by_role("button", name="Verify in this browser").click()
        expect(tab.page.locator(".verdict")).to_contain_text(": 20 entries run here")
    page = tabs["bob"].page
    page.get_by_role("link", name="Replay").click()
    slider = page.get_by_role("slider", name="Turn")
    expect(page.locator(".caption")).to_contain_text("equal to what all signed")
    slider.fill("1")
    expect(page.locator(".caption")).to_contain_text("The match was opened")
    slider.fill("8")
    expect(page.locator(".caption")).to_contain_text("equal to what all signed")
    assert page.evaluate(BOTH_WAYS, channel) == [True, 3, 9]
    tabs["carol"].page.get_by_role("link", name="Scores").click()
    row = tabs["carol"].page.get_by_role("row", name=re.compile(winner if winner != "carol" else "You"))
    expect(row.get_by_role("cell").nth(1)).to_have_text("1")


def test_a_reload_and_a_restart_between_hiding_and_showing_lose_nothing(
    browser: Browser, three: Cluster, tabs: dict[str, Tab]
) -> None:
    """Alice hides a card; her page is loaded again, her node restarted, at last another browser takes over."""
    open_match(tabs, "alice", "bob")
    alice, bob = tabs["alice"], tabs["bob"]
    alice.choose(3)
    expect(bob.page.get_by_role("img", name="alice: hidden card")).to_be_visible()
    alice.page.reload()
    expect(alice.page.get_by_role("img", name="You: hidden 3")).to_be_visible()
    bob.choose(1)
    expect(alice.page.locator(".last")).to_contain_text("You take")

    alice.heading("Round 2 of 3")
    alice.choose(1)
    expect(bob.page.get_by_role("img", name="alice: hidden card")).to_be_visible()
    three.kill_node("alice")
    expect(alice.page.get_by_text("Your node is away")).to_be_visible()
    bob.choose(2)
    three.start("alice")
    expect(alice.page.get_by_text(re.compile("Your node ·"))).to_be_visible()
    for tab in (alice, bob):
        tab.heading("Round 3 of 3")
    alice.problems.clear()  # the browser's own complaints about the node that was away
    other = Tab(browser, address_of(three, "alice"))
    alice.choose(2)
    hash_ = "#/match/" + HASH.search(alice.page.url).group(1)  # type: ignore[union-attr]
    alice.page.close()
    bob.choose(3)
    other.go(hash_)
    other.heading("Match over")
    bob.heading("Match over")
    other.context.close()


def test_a_cheater_is_refused_and_told_why(three: Cluster, tabs: dict[str, Tab]) -> None:
    """Bob, past his page's rules: another card than the hidden one, a second commitment, a card he does not hold."""
    channel = open_match(tabs, "alice", "bob")
    bob = three.client("bob")
    tabs["alice"].choose(1)
    author = bytes.fromhex(three.addresses["bob"][2:])
    salt = bytes(31) + b"\x01"
    hidden = {"commit": {"hash": "0x" + commitment(salt, bytes.fromhex(channel[2:]), author, 1, 2).hex()}}
    tabs["bob"].go("#/")  # his page would notice a commitment that is not its own
    assert [r.status for r in bob.send(channel, hidden)] == ["accepted"]
    (twice,) = bob.send(channel, hidden)
    assert twice.status == "refused"
    for card in (3, 9):
        (receipt,) = bob.send(channel, {"reveal": {"card": card, "salt": "0x" + salt.hex()}})
        assert receipt.status == "refused", receipt
        assert "committed was" in receipt.reason or "allowed are" in receipt.reason
    assert bob.send(channel, {"reveal": {"card": 2, "salt": "0x" + salt.hex()}})[0].status == "accepted"
    tabs["alice"].heading("Round 2 of 3")
    tabs["alice"].page.get_by_role("button", name="Verify in this browser").click()
    expect(tabs["alice"].page.locator(".verdict")).to_contain_text("Equal")


def test_who_stalls_but_signs_forfeits(three: Cluster, tabs: dict[str, Tab]) -> None:
    """Bob's node goes on signing and Bob does not move: Alice's page calls time, and she takes what is left, his bond
    included. What the latest signed state pays is shown all along."""
    channel = open_with_stakes(three, "alice", "bob", move_ms=6_000)
    for tab in (tabs["alice"], tabs["bob"]):
        tab.go(f"#/match/{channel}")
    owed = tabs["alice"].page.locator(".owed")
    expect(owed).to_have_text(["owed 1 ETH", "owed 1 ETH"])
    tabs["alice"].choose(2)
    expect(owed).to_have_text(["owed 0.75 ETH", "owed 0.75 ETH"])
    tabs["alice"].heading("Match over")
    expect(tabs["alice"].page.locator(".head .wait")).to_have_text("You win")
    expect(tabs["bob"].page.locator(".standings")).to_contain_text("forfeited")
    expect(owed).to_have_text(["owed 0 ETH", "owed 2 ETH"])  # Bob sits opposite
    assert three.client("bob").channel(channel).amounts == [str(2 * 10**18), "0", "0"]
    sql = "select score, status from goofspiel.player where channel_id = $1::bytea order by seat"
    assert three.rows("bob", sql, "\\x" + channel[2:]) == [[6, "finished"], [0, "forfeited"]]
    tabs["alice"].page.get_by_role("button", name="Verify in this browser").click()
    expect(tabs["alice"].page.locator(".verdict")).to_contain_text("Equal")


def test_a_spectator_sees_everything_and_moves_nothing(browser: Browser, three: Cluster, tabs: dict[str, Tab]) -> None:
    """A page with a token that only reads: no hand, no chat, and the node would refuse a move. A browser without
    WebAssembly says so and runs the plain check."""
    channel = open_match(tabs, "bob", "carol")
    watcher = Tab(browser, address_of(three, "bob", watch=True))
    expect(watcher.page.get_by_role("button", name="Challenge")).to_have_count(0)
    watcher.go(f"#/match/{channel}")
    tabs["bob"].choose(1)
    expect(watcher.page.get_by_role("img", name="Host: hidden card")).to_be_visible()
    expect(watcher.page.get_by_text("You are watching.")).to_be_visible()
    expect(watcher.page.get_by_role("textbox", name="Message")).not_to_be_visible()
    move = """async channel => {
        const headers = {"Content-Type": "application/json"};
        headers.Authorization = `Bearer ${sessionStorage["scapp.goofspiel.token"]}`;
        const options = {method: "POST", body: '{"tick": true}', headers};
        return (await fetch(`/v1/channels/${channel}/messages`, options)).status;
    }"""
    status = watcher.page.evaluate(move, channel)
    assert status == 403
    assert watcher.problems == ["error: Failed to load resource: the server responded with a status of 403 (Forbidden)"]

    watcher.page.add_init_script("delete globalThis.WebAssembly")
    watcher.page.reload()
    watcher.page.get_by_role("button", name="Verify in this browser").click()
    plain = "runs no WebAssembly). Plain check: the log has the signed root; your node finds its tables equal."
    expect(watcher.page.locator(".verdict")).to_contain_text(plain)
    watcher.context.close()


def test_players_talk_and_the_keyboard_plays(three: Cluster, tabs: dict[str, Tab]) -> None:
    """Chat goes both ways; cards are chosen with arrows and played with Enter; nothing typed is ever markup."""
    open_match(tabs, "carol", "alice")
    carol, alice = tabs["carol"].page, tabs["alice"].page
    carol.get_by_role("textbox", name="Message").fill("<img src=x onerror=alert(1)> luck")
    carol.get_by_role("button", name="Send").click()
    expect(alice.get_by_text("<img src=x onerror=alert(1)> luck")).to_be_visible()
    carol.get_by_role("radio", name="Card 1").focus()
    carol.keyboard.press("ArrowRight")
    carol.keyboard.press("Enter")
    expect(carol.get_by_role("img", name="You: hidden 2")).to_be_visible()
    expect(alice.get_by_role("img", name="carol: hidden card")).to_be_visible()


def test_the_page_keeps_its_token_and_loads_nothing_from_elsewhere(three: Cluster, tabs: dict[str, Tab]) -> None:
    """The token leaves the address at once; every request went to the node; an injected script does not run."""
    page = tabs["alice"].page
    assert "token" not in page.url
    origin = page.evaluate("location.origin")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded
    assert all(name.startswith(origin) for name in loaded), loaded
    blocked = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch (error) { return error.name } }"
    )
    assert blocked == "TypeError"
    tabs["alice"].problems.clear()  # the browser reports what it has just blocked


def test_a_link_plants_neither_token_nor_secret(browser: Browser, three: Cluster, tabs: dict[str, Tab]) -> None:
    """Whoever knew the secret could open hidden cards: it comes with a token that may play, or not at all."""
    page = tabs["alice"].page
    base = page.url.partition("#")[0]
    kept = "[localStorage['scapp.goofspiel.token'], localStorage['scapp.goofspiel.secret']]"
    before = page.evaluate(kept)
    assert before[0].startswith("scapp_")
    assert re.fullmatch("0x[0-9a-f]{64}", before[1])
    watching = re.search(r"token=([^&]+)", address_of(three, "alice", watch=True))
    assert watching
    planted = "0x" + "11" * 32
    for fragment in (
        f"secret={planted}",
        f"token=scapp_wrong&secret={planted}",
        f"token={watching[1]}&secret={planted}",
    ):
        page.goto("about:blank")
        page.goto(f"{base}#{fragment}")
        page.wait_for_selector(".lobby")
        assert page.evaluate(kept) == before
        assert "#" not in page.url.removesuffix("#/")
    assert page.get_by_role("button", name="Challenge").count() == 0, "the token that may look counts in its tab"
    tabs["alice"].problems.clear()  # the browser reports the answer 401


@pytest.mark.timeout(120)
def test_two_who_do_not_know_each_other_meet_by_an_invitation(browser: Browser) -> None:
    """Alice's invitation, opened at Bob's page, makes her node known to his and brings her a challenge; what she is
    typing meanwhile stays."""
    with page_cluster(2, introduced=False) as two:
        alice, bob = (Tab(browser, address_of(two, name)) for name in two.names)
        alice.context.grant_permissions(["clipboard-read", "clipboard-write"])
        alice.page.get_by_role("textbox", name="Your name").fill("alice")
        alice.page.get_by_role("button", name="Copy my invitation").click()
        alice.page.get_by_text("Copied.").wait_for()
        link = alice.page.evaluate("navigator.clipboard.readText()")
        assert two.addresses["alice"] in link
        assert "token" not in link
        assert "secret" not in link
        half_typed = alice.page.get_by_role("textbox", name="An invitation")
        half_typed.fill("half typed")
        alice.page.get_by_role("slider", name="Cards in hand").fill("9")
        bob.page.goto("about:blank")
        bob.page.goto(address_of(two, "bob").partition("#")[0] + link[link.index("#") :])
        bob.page.get_by_role("heading", name="alice invites you").wait_for()
        bob.page.get_by_role("button", name="Play a match").click()
        alice.page.get_by_role("checkbox", name=re.compile("0x")).wait_for()  # who came changes no form on the way
        expect(half_typed).to_have_value("half typed")
        expect(alice.page.get_by_role("slider", name="Cards in hand")).to_have_value("9")
        alice.page.get_by_role("region", name="Challenges").get_by_role("button", name="Play", exact=True).click()
        for tab in (alice, bob):
            tab.heading("Round 1 of 7")
        alice.choose(4)
        expect(bob.page.get_by_role("img", name="alice: hidden card")).to_be_visible()
        assert alice.problems == bob.problems == []
        for tab in (alice, bob):
            tab.context.close()


def bots(nodes: Cluster, **strengths: str) -> list[BotPlayer]:
    found = [BotPlayer(nodes.nodes[name].client, strength=strength) for name, strength in strengths.items()]
    for bot in found:
        bot.start()
    return found


def accepted(nodes: Cluster, first: str, *others: str, cards: int) -> str:
    """A match of the first with the others, whose nodes accept."""
    channel = nodes.client(first).open_channel(others, "goofspiel", params={"cards": cards}).channel_id
    for name in others:
        accept(nodes, name, channel, wait_s=0)  # nobody waits for those who come after
    eventually(lambda: nodes.client(first).channel(channel).phase == "running" or None, lambda: channel)
    return channel


def wait_over(nodes: Cluster, name: str, channel: str) -> None:
    sql = "select phase from goofspiel.game where channel_id = $1::bytea"
    eventually(
        lambda: nodes.rows(name, sql, "\\x" + channel[2:]) == [["over"]] or None, lambda: nodes.state(name, channel)
    )


def test_a_bot_calls_time_and_outlives_a_match_closed_under_it(three: Cluster) -> None:
    """Bob's bot moves, Alice does not; another match is closed while the bot is in it, and it plays on."""
    closed = accepted(three, "alice", "bob", "carol", cards=3)
    (bot,) = bots(three, bob="sensible")
    three.client("carol").close_channel(closed, wait_s=20)
    late = open_with_stakes(three, "alice", "bob", move_ms=2_000)
    wait_over(three, "alice", late)
    assert three.client("alice").channel(late).amounts == ["0", str(2 * 10**18), "0"]
    bot.leave()
    bot.join(30)
    assert bot.failure is None


def test_pictures_of_lobby_match_end_and_scores(browser: Browser, three: Cluster) -> None:
    """What the documentation shows: `make screenshots` names the folder they go to."""
    if not SHOTS:
        pytest.skip("SCAPP_SCREENSHOTS names no folder for the pictures")
    earlier = bots(three, alice="sensible", bob="random", carol="sensible")
    for cards in (5, 3, 7):
        wait_over(three, "alice", accepted(three, "alice", "bob", "carol", cards=cards))
    for bot in earlier:
        bot.leave()
    going = accepted(three, "bob", "alice", cards=7)
    desk = Tab(browser, address_of(three, "alice"), viewport={"width": 1180, "height": 760}, color_scheme="light")
    desk.page.get_by_role("link", name="Open").wait_for()
    waiting = three.client("carol").open_channel(["alice", "bob"], "goofspiel", params={"cards": 9}).channel_id
    desk.page.get_by_role("heading", name="You are challenged").wait_for()
    desk.page.get_by_role("checkbox", name="bob").check()
    desk.shot("lobby")

    three.client("alice").reject(waiting)
    three.client("bob").close_channel(going, wait_s=20)
    playing = bots(three, bob="random", carol="sensible")
    channel = accepted(three, "alice", "bob", "carol", cards=7)
    phone = Tab(
        browser, address_of(three, "alice"), viewport={"width": 390, "height": 844}, device_scale_factor=1.5,
        is_mobile=True, has_touch=True, color_scheme="dark",
    )  # fmt: skip
    for tab in (desk, phone):
        tab.go(f"#/match/{channel}")
    desk.page.get_by_role("textbox", name="Message").fill("good luck!")
    desk.page.get_by_role("button", name="Send").click()
    for number, card in enumerate((2, 5, 1, 6, 3, 7, 4)):
        desk.heading(f"Round {number + 1} of 7")
        if number == 3:
            for tab in (desk, phone):
                tab.page.get_by_role("img", name="bob: hidden card").wait_for()
                tab.page.get_by_role("img", name="carol: hidden card").wait_for()
                tab.page.locator(".head .wait", has_text="Choose a card").wait_for()
                tab.page.locator(".pickable", has_text="6").click()
            desk.page.get_by_role("button", name="Verify in this browser").click()
            desk.page.locator(".verdict.good").wait_for()
            desk.shot("match")
            phone.shot("phone")
        desk.choose(card)
    desk.heading("Match over")
    for bot in playing:
        bot.leave()
    desk.page.get_by_role("img", name="Final").wait_for()  # the last round has been shown
    desk.page.get_by_role("button", name="Verify in this browser").click()
    desk.page.locator(".verdict.good").wait_for()
    desk.shot("end")
    assert desk.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    desk.page.get_by_role("link", name="Scores").click()
    desk.page.get_by_role("row", name=re.compile("You")).wait_for()
    desk.shot("scores")
    assert desk.problems == phone.problems == []
    for tab in (desk, phone):
        tab.context.close()


def wait_announced(home: Path, bot: str) -> None:
    """Until the node there knows a way to the bot, whose ledger with the other one is the last to run."""
    with Client.at_home(home) as node:
        stakes = {COIN: (10**17, 10**17)}
        eventually(lambda: node.routes(bot, stakes) or None, lambda: str(node.ledgers()))


@pytest.mark.parametrize(
    ("money", "bot"), [("", "sage"), ("on chain", "sage"), ("in the ledgers", "robin")],
    ids=["for-nothing", "for-stakes", "through-the-other-bot"],
)  # fmt: skip
def test_scapp_game_plays_against_its_bots(browser: Browser, money: str, bot: str) -> None:
    """The one command: nodes, bots, page, with money a chain, and a bot that is a hub; a whole match on a phone's
    screen, touched and not clicked."""
    chromium_path()
    folder = open_folder("scapp-game-")
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "--json", "game", "--bots", "2", "--no-open"]
    game = subprocess.Popen(
        [*command, "--dir", str(folder / "play"), *(["--money"] if money else [])],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert game.stdout is not None
        address = json.loads(game.stdout.readline())["pages"]["you"]
        phone = Tab(browser, address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        phone.page.get_by_role("checkbox", name=bot).check()
        phone.page.get_by_role("slider", name="Cards in hand").fill("3")
        if money:
            phone.page.get_by_role("textbox", name="Stake of each").fill("0.25")
        if money == "in the ledgers":
            phone.page.get_by_role("combobox", name="Put up").select_option("through sage, no transaction")
            wait_announced(folder / "play" / "funded" / "you", bot)
        phone.page.get_by_role("button", name="Challenge").tap()
        for number in range(3):
            phone.heading(f"Round {number + 1} of 3")
            phone.page.locator("fieldset:not(:disabled) > .pickable").first.tap()
            phone.page.get_by_role("button", name="Play hidden").tap()
        phone.heading("Match over")
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "the page is wider than the phone"
        )
        phone.page.get_by_role("button", name="Close the channel").tap()
        expect(phone.page.get_by_role("button", name="Close the channel")).to_have_count(0)
        if money:
            done = "Paid out:" if money == "on chain" else "Moved in the ledgers:"
            expect(phone.page.get_by_role("status", name="Money")).to_contain_text(done)
        assert phone.problems == []
        phone.context.close()
    finally:
        game.send_signal(signal.SIGTERM)
        game.wait(60)
        assert game.stdout is not None
        game.stdout.close()


SALT = bytes(31) + b"\x01"
"""Hides the cards of those who play without a page; it need not be secret here."""


def hide(nodes: Cluster, name: str, channel: str, number: int, card: int) -> None:
    author = bytes.fromhex(nodes.addresses[name][2:])
    hashed = commitment(SALT, bytes.fromhex(channel[2:]), author, number, card)
    (receipt,) = nodes.client(name).send(channel, {"commit": {"hash": "0x" + hashed.hex()}})
    assert receipt.status == "accepted", receipt


def play(nodes: Cluster, channel: str, bids: dict[str, list[int]]) -> None:
    """A whole match without a page."""
    for number, cards in enumerate(zip(*bids.values(), strict=True), 1):
        for name, card in zip(bids, cards, strict=True):
            hide(nodes, name, channel, number, card)
        for name, card in zip(bids, cards, strict=True):
            (receipt,) = nodes.client(name).send(channel, {"reveal": {"card": card, "salt": "0x" + SALT.hex()}})
            assert receipt.status == "accepted", receipt
    wait_over(nodes, next(iter(bids)), channel)


def test_every_view_is_accessible(browser: Browser, three: Cluster) -> None:
    """axe-core finds nothing, in light and dark, on a desk and on a narrow phone; rings, outlines and edges stand out
    from their ground as well."""
    axe = axe_core()
    over = accepted(three, "alice", "bob", "carol", cards=3)
    play(three, over, {"alice": [3, 1, 2], "bob": [1, 3, 2], "carol": [2, 3, 1]})  # one round is won, two are tied
    left = open_with_stakes(three, "alice", "bob", move_ms=2_000)
    hide(three, "alice", left, 1, 1)
    going = accepted(three, "alice", "bob", "carol", cards=7)
    asked = three.client("carol").open_channel(["alice", "bob"], "goofspiel", params={"cards": 9}).channel_id
    tab = Tab(browser, address_of(three, "alice"))
    page = tab.page
    found = {}

    base = page.url.partition("#")[0]
    page.goto("about:blank")
    page.goto(f"{base}#join=0x{'ab' * 20}@192.0.2.1:9735&name=dave")
    page.get_by_role("heading", name="dave invites you").wait_for()
    page.get_by_role("heading", name="You are challenged").wait_for()
    page.get_by_role("link", name="Open").first.wait_for()
    fields = {"input[type=text]": "borderTopColor", "select": "borderTopColor"}
    found["lobby"] = complaints(page, axe, fields)

    three.client("alice").reject(asked)
    three.client("carol").send(going, {"chat": {"text": "hello"}})
    hide(three, "bob", going, 1, 3)
    tab.go(f"#/match/{going}")
    page.get_by_role("img", name="bob: hidden card").wait_for()
    page.get_by_text("hello").wait_for()
    page.get_by_role("radio", name="Card 2").check()
    marks = {".pickable:has(:checked)": "boxShadow", ".track .current": "outlineColor", ".card.empty": "borderTopColor"}
    found["choosing"] = complaints(page, axe, marks)

    page.get_by_role("button", name="Play hidden").click()
    page.get_by_role("img", name="You: hidden 2").wait_for()
    found["hidden"] = complaints(page, axe, {".pickable.chosen": "boxShadow"})

    hide(three, "carol", going, 1, 1)
    page.get_by_role("img", name="You: 2").wait_for()  # bob and carol do not show theirs
    found["shown"] = complaints(page, axe)

    tab.go(f"#/match/{over}")
    tab.heading("Match over")
    page.get_by_role("button", name="Verify in this browser").click()
    page.locator(".verdict.good").wait_for()
    found["end and verification"] = complaints(page, axe, {".winner .card": "boxShadow"})

    tick = three.client("alice").tick
    eventually(lambda: tick(left)[0].status == "accepted" or None, lambda: left)  # bob is late
    tab.go(f"#/match/{left}")
    page.locator(".standings", has_text="forfeited").wait_for()
    found["forfeited"] = complaints(page, axe, {".place.out .card": "borderTopColor"})

    page.get_by_role("link", name="Scores").click()
    page.get_by_role("row", name=re.compile("You")).wait_for()
    found["leaderboard"] = complaints(page, axe)

    tab.go(f"#/replay/{over}")
    page.locator(".caption .good").wait_for()
    found["replay"] = complaints(page, axe)
    assert {view: lines for view, lines in found.items() if lines} == {}
    assert tab.problems == []
    tab.context.close()
    three.client("bob").close_channel(going, wait_s=20)
